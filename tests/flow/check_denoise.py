#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stage denoise end to end against offline arithmetic in numpy and PyTorch: the same networks over whole arrays, with
scipy's resampling, to 1e-5; any block length to the bit; names, sums and what is written down; witnesses that fail, and
what does not fit. Exit 0 all hold, 1 something does not, 77 nothing was compared."""
import hashlib

import numpy as np
from flow import check, finish, folder, run, skip

try:
    import h5py
    import onnx
    import torch
    from onnx import TensorProto, helper, numpy_helper
    from scipy import signal as sig
except ImportError as e:
    skip(f"no {e.name}")

T0, SECONDS, RATE = 1400000000, 14, 4096
OPEN = 8  # s after the start at which every gate is open for certain
rng = np.random.default_rng(20260601)


# ---- networks ----

def write_network(path, layers, names, rate, **meta):
    """layers: (kind, weight, bias, stride); tanh between them."""
    nodes, tensors, x = [], [], "x"
    for i, (kind, w, b, stride) in enumerate(layers):
        tensors += [numpy_helper.from_array(w, f"w{i}"), numpy_helper.from_array(b, f"b{i}")]
        pad = w.shape[2] // 2
        more = {"output_padding": [1]} if kind == "ConvTranspose" else {}
        nodes.append(helper.make_node(kind, [x, f"w{i}", f"b{i}"], [f"c{i}"], kernel_shape=[w.shape[2]], strides=[stride],
                                      pads=[pad, pad], **more))
        x = f"c{i}"
        if i + 1 < len(layers):
            nodes.append(helper.make_node("Tanh", [x], [f"t{i}"]))
            x = f"t{i}"
    n = meta.pop("channels", len(names))
    graph = helper.make_graph(nodes, "cleaning", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, n, 1024])],
                              [helper.make_tensor_value_info(x, TensorProto.FLOAT, [1, 1, 1024])], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 7
    keys = {"format": "1", "kind": "denoise", "name": "test-net", "sample_rate": str(rate), "witnesses": ",".join(names),
            "means": ",".join(["0"] * len(names)), "scales": ",".join(["1"] * len(names)), "output_scale": "1e-21",
            "bands": "20-60", "shift_samples": "0", "strain": "H1:STRAIN"}
    keys.update(meta)
    helper.set_model_props(model, {"gwstream." + k: v for k, v in keys.items() if v is not None})
    onnx.save(model, path)
    return path


def weights(out, into, k=7):
    return (rng.standard_normal((out, into, k)) / np.sqrt(into * k)).astype("f4"), (0.1 * rng.standard_normal(out)).astype("f4")


def deepclean(c):
    layers = [("Conv", *weights(c, c), 1)]
    widths = [c, 8, 16, 32, 64]
    layers += [("Conv", *weights(b, a), 2) for a, b in zip(widths, widths[1:])]
    widths = [64, 32, 16, 8, c]
    for a, b in zip(widths, widths[1:]):
        w, bias = weights(a, b)
        layers.append(("ConvTranspose", w * 1.5, bias[:1].repeat(b), 2))
    return layers + [("Conv", *weights(1, c), 1)]


def offline(layers, x):
    y = torch.tensor(x.astype("f4")[None]).double()
    for i, (kind, w, b, stride) in enumerate(layers):
        w, b = torch.tensor(w).double(), torch.tensor(b).double()
        pad = w.shape[2] // 2
        if kind == "Conv":
            y = torch.nn.functional.conv1d(y, w, b, stride=stride, padding=pad)
        else:
            y = torch.nn.functional.conv_transpose1d(y, w, b, stride=stride, padding=pad, output_padding=1)
        if i + 1 < len(layers):
            y = torch.tanh(y)
    return y[0, 0].numpy()


# ---- kernels/fir.h, by its formula ----

def short(factor):
    t = np.arange(-5 * factor, 5 * factor + 1) / factor
    h = np.sinc(t) * np.i0(7.75 * np.sqrt(np.maximum(0, 1 - (t / 5)**2)))
    return h / h.sum()


def triangle(factor):
    return (1 - np.abs(np.arange(-factor, factor + 1)) / factor) / factor


def to_rate(x, have, want):
    if have == want:
        return x
    if have > want:
        h = short(have // want)
        return sig.upfirdn(h, x, down=1)[len(h) // 2:][:len(x)][::have // want]
    factor = want // have
    h = (triangle if have < 256 else short)(factor)
    return sig.upfirdn(h * factor, x, up=factor)[len(h) // 2:][:len(x) * factor]


# ---- data and graphs ----

def coloured(rate, low, high, seconds=SECONDS):
    x = np.random.default_rng(int(rate + low)).standard_normal(rate * seconds)
    return sig.sosfiltfilt(sig.butter(4, [low, high], "bandpass", fs=rate, output="sos"), x)


def scaled(x, scale, mean):
    return x / np.std(x) * scale + mean


data = {"H1:STRAIN": (RATE, rng.standard_normal(RATE * SECONDS) * 1e-21),
        "H1:FAST": (4096, scaled(coloured(4096, 15, 60), 3.0, 100.0)),
        "H1:MID_1": (512, scaled(coloured(512, 20, 50), 1e-3, 0.0)),
        "H1:MID_2": (512, scaled(coloured(512, 10, 60), 20.0, -5.0)),
        "H1:SLOW": (16, scaled(rng.standard_normal(16 * SECONDS), 1.0, 2.0)),
        "H1:ODD": (1000, rng.standard_normal(1000 * SECONDS))}
scale = {"H1:FAST": (100.0, 3.0), "H1:MID_1": (0.0, 1e-3), "H1:MID_2": (-5.0, 20.0), "H1:SLOW": (2.0, 1.0)}


def record(path, changed=None):
    with h5py.File(path, "w") as f:
        for name, (rate, x) in data.items():
            x = (changed or {}).get(name, x)
            f.create_dataset(name, data=x).attrs.update({"t0": float(T0), "sample_rate": float(rate)})


def graph(work, couplings, block="1/16s", extra="gate: always", source="in.hdf5", out="out.hdf5", end="", odd=""):
    text = "sources:\n"
    if odd:
        text += f"  odd: {{kind: replay, files: [{work}/{source}], channels: [\"H1:ODD\"], block: 1/8s}}\n"
    for name, channels in (("sky", "H1:STRAIN"), ("fast", "H1:FAST"), ("mid", "H1:MID_1, H1:MID_2"), ("slow", "H1:SLOW")):
        quoted = ", ".join(f'"{c}"' for c in channels.split(", "))
        b = "1/16s" if name == "slow" and block == "1/64s" else block
        text += f"  {name}: {{kind: replay, files: [{work}/{source}], channels: [{quoted}], block: {b}{end}}}\n"
    text += f"stages:\n  clean: {{kind: denoise, from: [sky.H1, fast.H1, mid.H1, slow.H1{odd}], {extra}, couplings: [{couplings}]}}\n"
    text += f"sinks:\n  disk: {{kind: record, from: [sky.H1, clean], path: {work}/{out}, layout: gwpy, overwrite: true}}\n"
    path = f"{work}/graph.yaml"
    with open(path, "w") as f:
        f.write(text)
    return path


def outputs(work, couplings, want=0, **more):
    status, out, err = run("run", "--quiet", graph(work, couplings, **more))
    if status != want:
        check(False, f"exit status {status}, want {want}: {err.strip()[:300]}")
        finish()
    with h5py.File(f"{work}/{more.get('out', 'out.hdf5')}") as f:
        r = {k: (f[k].attrs["x0"] - T0, f[k][:]) for k in f if k.startswith("H1:")}
        r["cleaning"] = f["gwstream/clean.H1"].attrs.get("cleaning", b"") if "gwstream/clean.H1" in f else b""
    r["text"] = err
    return r


def span(r, name, a, b, rate=RATE):
    start, x = r[name]
    i = round((a - start) * rate)
    return x[i:i + round((b - a) * rate)]


def rms(x):
    return np.sqrt(np.mean(x**2))


def refused(text, path, *words):
    status, out, err = run("check", "--quiet", path)
    lines = err.strip().splitlines()
    check(status == 2 and len(lines) == 1 and all(w in err for w in words), f"{text}: {err.strip()[:230]}")


with folder() as work:
    record(f"{work}/in.hdf5")
    wide_names, narrow_names = ["H1:FAST", "H1:MID_1", "H1:MID_2"], ["H1:SLOW", "H1:MID_2", "H1:MID_1", "H1:FAST"]
    texts = {n: {"means": ",".join(str(scale[w][0]) for w in n_list), "scales": ",".join(str(scale[w][1]) for w in n_list)}
             for n, n_list in (("wide", wide_names), ("narrow", narrow_names))}
    wide_layers, narrow_layers = deepclean(3), [("Conv", *weights(1, 4, 31), 1)]
    wide = write_network(f"{work}/wide.onnx", wide_layers, wide_names, 512, name="wide-net", output_scale="2e-20", **texts["wide"])
    narrow = write_network(f"{work}/narrow.onnx", narrow_layers, narrow_names, 1024, name="narrow-net", output_scale="1e-20",
                           shift_samples="4", bands="20-40,50-60", **texts["narrow"])
    both = f"{{name: wide, model: {wide}}}, {{name: narrow, model: {narrow}}}"

    # offline: whole arrays
    def inputs(names, rate):
        return np.array([to_rate((data[n][1] - 0) * 1.0, data[n][0], rate) - scale[n][0] for n in names]) / \
            np.array([[scale[n][1]] for n in names])

    def predict(layers, names, rate, first, factor, shift):
        y = offline(layers, inputs(names, rate)[:, first:]) * factor
        p = np.zeros(rate * SECONDS + 64)
        p[first + shift:first + shift + len(y)] = y[:len(p) - first - shift]
        return to_rate(p[:rate * SECONDS], rate, RATE)

    # frames of 16 begin 5 samples (the look-ahead of the witnesses' filters) before a hop
    p_wide = predict(wide_layers, wide_names, 512, 11, 2e-20, 0)
    p_narrow = predict(narrow_layers, narrow_names, 1024, 0, 1e-20, 4)
    r = outputs(work, both)
    a, b = OPEN, SECONDS - 1
    for name, c, p in (("wide", f"{{name: wide, model: {wide}}}", p_wide), ("narrow", f"{{name: narrow, model: {narrow}}}", p_narrow),
                       ("both", both, p_wide + p_narrow)):
        one = r if name == "both" else outputs(work, c)
        alone = one if name == "narrow" else None if name == "wide" else alone
        got, want = span(one, "H1:STRAIN_NOISE", a, b), p[a * RATE:b * RATE]
        error = rms(got - want) / rms(want)
        check(error < 1e-5, f"{name}: streaming against offline, {rms(want):.1e} of noise: {error:.1e} of it")
        if name == "wide":
            floor = np.sqrt(1e-42 / (RATE / 2))
            f, s = sig.welch(got - want, RATE, nperseg=2 * RATE)
            check(np.sqrt(s.max()) < 0.01 * floor, f"no comb: their difference is {np.sqrt(s.max()) / floor:.1e} of the floor in the worst bin")
    strain, clean, noise = (span(r, n, 0.5, b) for n in ("H1:STRAIN", "H1:STRAIN_CLEANED", "H1:STRAIN_NOISE"))
    check(np.array_equal(strain - noise, clean), "cleaned is strain minus noise, to the bit")
    check(not span(r, "H1:STRAIN_NOISE", 0.2, 1.5).any(), "nothing is subtracted before the gates open")
    sums = {n: hashlib.sha256(open(p, "rb").read()).hexdigest() for n, p in (("wide", wide), ("narrow", narrow))}
    want = f"wide:wide-net:{sums['wide'][:16]}:20-60; narrow:narrow-net:{sums['narrow'][:16]}:20-40,50-60"
    text = r["cleaning"].decode() if isinstance(r["cleaning"], bytes) else str(r["cleaning"])
    check(text == want, f"the recording says what cleaned it: {text}")
    numbers = {f"H1:STRAIN_{w}" for c in ("wide", "narrow") for w in
               (f"ASDR-{c}", f"ASDR-{c}_INTEGRATED", f"ASDR-{c}_OUT", f"GATE-{c}", f"MODEL-{c}")}
    check(numbers <= set(r), f"and how well: {len(numbers)} channels, once a second")
    check(span(r, "H1:STRAIN_MODEL-wide", 4, 5, 1)[0] == int(sums["wide"][:13], 16), "with the first 52 bits of the model's SHA-256")
    check(span(r, "H1:STRAIN_GATE-narrow", b - 2, b - 1, 1)[0] == 1, "an open gate says 1")

    # DeepClean's own rate: with the hop, at most 100 ms
    fast = write_network(f"{work}/other.onnx", wide_layers, wide_names, 4096)
    status, out, err = run("check", graph(work, f"{{name: fast, model: {fast}}}"))
    look = [float(line.split("look-ahead")[1].split()[0]) for line in out.splitlines() if line.startswith("clean ")]
    check(status == 0 and 0 < look[0] + 62.5 <= 100, f"a network at 4096 Hz: {look[0]} ms of look-ahead and a hop of 62.5 ms")

    # blocks, and a start elsewhere
    for block in ("1/64s", "1s"):
        o = outputs(work, both, block=block)
        same = all(np.array_equal(span(o, n, 1, b), span(r, n, 1, b)) for n in ("H1:STRAIN_CLEANED", "H1:STRAIN_NOISE"))
        check(same, f"blocks of {block}: the same to the bit")
    o = outputs(work, both, end=f", start: {T0 + 2}.25")
    error = rms(span(o, "H1:STRAIN_NOISE", b - 3, b) - span(r, "H1:STRAIN_NOISE", b - 3, b)) / rms(span(r, "H1:STRAIN_NOISE", b - 3, b))
    check(error < 1e-6, f"started 2.25 s later: the same once the gates are open ({error:.1e})")

    # a witness with a hole: strain goes on, cleaned is raw, and only where the witness is needed
    x = data["H1:FAST"][1].copy()
    x[int(9.3 * 4096):int(9.9 * 4096)] = np.nan
    record(f"{work}/nan.hdf5", {"H1:FAST": x})
    o = outputs(work, both, source="nan.hdf5")
    n = span(o, "H1:STRAIN_NOISE", 0.5, b)
    check(len(n) == round((b - 0.5) * RATE) and np.isfinite(n).all() and np.isfinite(span(o, "H1:STRAIN_CLEANED", 0.5, b)).all(),
          "a witness with a hole of NaN: no sample of strain is lost")
    check(not span(o, "H1:STRAIN_NOISE", 9.7, 10.8).any(), "cleaned is raw while it is away")
    check("H1:FAST" in o["text"] and "absent" in o["text"], "said in one line: " +
          next((line for line in o["text"].splitlines() if "fades out" in line), "(nothing)"))
    y = span(o, "H1:STRAIN_NOISE", 9.0, 9.8)
    steep = np.abs(np.diff(y)).max() / np.abs(np.diff(span(r, "H1:STRAIN_NOISE", 8, 9))).max()
    check(steep < 1.5, f"without a step (the steepest place is {steep:.2f} of what the noise itself has)")
    for what, change, word in (("all zero", lambda x: x * 0, "dead"), ("clipped", lambda x: np.clip(x, 98.5, 101.5), "clipped"),
                               ("of an impossible value", lambda x: x + 1e9, "impossible")):
        record(f"{work}/bad.hdf5", {"H1:FAST": change(data["H1:FAST"][1])})
        o = outputs(work, both, source="bad.hdf5")
        check(not span(o, "H1:STRAIN_NOISE", 5, b).any() and word in o["text"] and len(o["H1:STRAIN_CLEANED"][1]) > 13 * RATE,
              f"a witness that is {what}: cleaned is raw: " + next((s for s in o["text"].splitlines() if "fades out" in s), "(nothing)"))

    # what does not fit: `check` refuses, `run` goes on without the coupling
    def listed(names):
        return f"{{name: wide, model: {wide}, witnesses: [{', '.join(chr(34) + n + chr(34) for n in names)}]}}"
    typo = listed(["H1:FAST", "H1:MID_l", "H1:MID_2"])
    refused("a typo in the list", graph(work, typo), "H1:MID_l", "H1:MID_1")
    o = outputs(work, typo + f", {{name: narrow, model: {narrow}}}", want=2)
    error = rms(span(o, "H1:STRAIN_NOISE", a, b) - p_narrow[a * RATE:b * RATE]) / rms(p_narrow[a * RATE:b * RATE])
    check(error < 1e-5 and "coupling wide is off" in o["text"], "and the other coupling cleans")
    refused("a model with another number of channels", graph(work, listed(["H1:FAST", "H1:MID_1"])), "2 witnesses", "3 channels")
    other = write_network(f"{work}/other.onnx", [("Conv", *weights(1, 5, 7), 1)], wide_names, 512, channels=5)
    refused("metadata of other witnesses than the graph's", graph(work, f"{{name: wide, model: {other}}}"), "5 channels", "3 witnesses")
    other = write_network(f"{work}/other.onnx", [("Conv", *weights(1, 3, 7), 1)], wide_names, 768)
    refused("a model of an impossible rate", graph(work, f"{{name: wide, model: {other}}}"), "768 Hz", "4096 Hz")
    odd = listed(["H1:ODD", "H1:MID_1", "H1:MID_2"]) + f", {{name: narrow, model: {narrow}}}"
    refused("a witness at an impossible rate", graph(work, odd, odd=", odd.H1"), "1000 Hz", "512 Hz")
    o = outputs(work, odd, want=2, odd=", odd.H1")
    check(np.array_equal(span(o, "H1:STRAIN_NOISE", a, b), span(alone, "H1:STRAIN_NOISE", a, b)), "then the other coupling cleans")
    o = outputs(work, f"{{name: wide, model: {other}}}", want=2)
    check(np.array_equal(span(o, "H1:STRAIN_CLEANED", 1, b), span(o, "H1:STRAIN", 1, b)), "then cleaned is raw")
    for key in ("kind", "bands"):
        other = write_network(f"{work}/other.onnx", [("Conv", *weights(1, 3, 7), 1)], wide_names, 512, **{key: None})
        refused(f"no metadata {key}", graph(work, f"{{name: wide, model: {other}}}"), f"gwstream.{key}", "other.onnx")
    other = write_network(f"{work}/other.onnx", [("Conv", *weights(1, 3, 7), 1)], wide_names, 512, strain="L1:STRAIN")
    refused("a network for another detector", graph(work, f"{{name: wide, model: {other}}}"), "L1:STRAIN", "H1:STRAIN")
    refused("no model", graph(work, f"{{name: wide, model: {work}/none.onnx}}"), "none.onnx")
    refused("an unknown key", graph(work, f"{{name: wide, modle: {wide}}}"), "graph.yaml", "model")
    refused("a name twice", graph(work, f"{{name: wide, model: {wide}}}, {{name: wide, model: {wide}}}"), "wide")
    refused("a hop that is no whole part of a second", graph(work, both, extra="hop: 3/16s"), "hop")
    refused("a hop too short for a slow witness", graph(work, f"{{name: narrow, model: {narrow}}}", extra="hop: 1/64s"), "16 Hz", "hop")
    with open(f"{work}/list.txt", "w") as f:
        f.write("# witnesses\nH1:FAST\n  H1:MID_1 # first\n\nH1:MID_2\n")
    o = outputs(work, f"{{name: wide, model: {wide}, witnesses: {work}/list.txt}}")
    error = rms(span(o, "H1:STRAIN_NOISE", a, b) - p_wide[a * RATE:b * RATE]) / rms(p_wide[a * RATE:b * RATE])
    check(error < 1e-5, "witnesses from a file")
    o = outputs(work, f'{{name: wide, model: {wide}, witnesses: ["H1:FA*", "H1:MID_?"]}}')
    error = rms(span(o, "H1:STRAIN_NOISE", a, b) - p_wide[a * RATE:b * RATE]) / rms(p_wide[a * RATE:b * RATE])
    check(error < 1e-5, "and by patterns")
    refused("a pattern that meets none", graph(work, f'{{name: wide, model: {wide}, witnesses: ["H1:XX*"]}}'), "H1:XX*")
finish()
