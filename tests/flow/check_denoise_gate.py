# SPDX-License-Identifier: GPL-3.0-or-later
"""What decides how much of a prediction is subtracted, end to end: a network that makes things worse never comes in,
one that helps does and goes out while a witness is missing; a better network replaces the one in use, a worse one does
not, and one that turns worse goes again. None of it leaves a step in what is subtracted."""

import hashlib
import json

import h5py
import numpy as np
import onnx
import scipy.signal as sig
from onnx import TensorProto, helper

from flow import check, finish, folder, run

RATE, SLOW, START, SECONDS = 4096, 512, 1400000000, 100
SIGMA = 1e-21    # of strain's noise, which is white
HEIGHT = 0.7     # of the line, in that sigma: 25 times the floor in segments of 2 s
GRAPH = """
sources:
  sky: {{kind: replay, files: ["{sky}"], channels: ["H1:STRAIN"], block: {block}}}
  aux: {{kind: replay, files: ["{sky}"], channels: ["H1:MAINS"], block: {block}}}
  low: {{kind: replay, files: ["{sky}"], channels: ["H1:JITTER"], block: {block}}}
stages:
  clean: {{kind: denoise, from: [sky, aux, low], gate: {gate}, couplings: [{couplings}]}}
sinks: {{disk: {{kind: record, from: clean, path: "{out}", layout: gwpy, overwrite: true, on_full: wait}}}}
"""


def network(path, gain, witness="H1:MAINS", bands="59-61"):
    """strain = gain x witness, as a convolution of 7 taps."""
    w = np.zeros((1, 1, 7), np.float32)
    w[0, 0, 3] = gain
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"], kernel_shape=[7], pads=[3, 3])], "gain",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 512])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, 512])],
        [helper.make_tensor("w", TensorProto.FLOAT, w.shape, w.ravel())])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    for key, value in {"format": 1, "kind": "denoise", "name": f"gain{gain:g}", "sample_rate": SLOW,
                       "witnesses": witness, "means": 0, "scales": 1, "output_scale": HEIGHT * SIGMA,
                       "bands": bands, "shift_samples": 0, "strain": "H1:STRAIN"}.items():
        model.metadata_props.add(key=f"gwstream.{key}", value=str(value))
    onnx.save(model, path)
    return hashlib.sha256(open(path, "rb").read()).hexdigest()


def sky(path, coupling=lambda t: np.ones_like(t), lost=(0, 0), low_lost=(0, 0), hole=(0, 0)):
    """White noise, a line that wanders and noise from 10 to 30 Hz; a witness sees the line alone, another that noise
    alone. They, or strain, are missing for a while (s)."""
    rng = np.random.default_rng(5)
    t = np.arange(SECONDS * RATE) / RATE
    phase = 2 * np.pi * (60 * t + 0.02 * np.sin(2 * np.pi * 0.05 * t))
    jitter = sig.sosfilt(sig.butter(4, [10, 30], "band", fs=SLOW, output="sos"), rng.standard_normal(SECONDS * SLOW))
    near = sig.resample_poly(jitter, RATE // SLOW, 1, window=("kaiser", 14.0))
    s = SIGMA * (rng.standard_normal(len(t)) + HEIGHT * (coupling(t) * np.sin(phase) + near))
    x = np.sin(phase)[::RATE // SLOW].astype(np.float32)
    jitter = jitter.astype(np.float32)
    s[hole[0] * RATE:hole[1] * RATE] = np.nan
    x[lost[0] * SLOW:lost[1] * SLOW] = np.nan
    jitter[int(low_lost[0] * SLOW):int(low_lost[1] * SLOW)] = np.nan
    with h5py.File(path, "w") as f:
        for name, rate, data in (("H1:STRAIN", RATE, s), ("H1:MAINS", SLOW, x), ("H1:JITTER", SLOW, jitter)):
            f.create_dataset(f"{name[3:]}/{name}", data=data).attrs.update({"t0": float(START), "sample_rate": float(rate)})
    return s


def clean(work, couplings, gate="{}", block="1/16s", status=0):
    """Channels of the recording by name: (seconds since START of each sample, values)."""
    out = f"{work}/out.hdf5"
    with open(f"{work}/graph.yaml", "w") as f:
        f.write(GRAPH.format(sky=f"{work}/sky.hdf5", out=out, block=block, gate=gate, couplings=couplings))
    code, _, err = run("run", "--quiet", f"{work}/graph.yaml")
    if code != status:
        check(False, f"{couplings}: status {code}: {err}")
        finish()
    x = {}
    with h5py.File(out) as f:
        for name in f:
            if name.startswith("H1:"):
                d = f[name]
                first = 0 if "ASDR" in name else int(np.argmax(np.isfinite(d)))  # a hole as long as the delay
                t = d.attrs["x0"] - START + np.arange(len(d)) * d.attrs["dx"]
                x[name[len("H1:STRAIN_"):]] = t[first:], d[first:]
        rows = f["gwstream/clean.H1/dq"][()]
        x["networks"] = rows["sample0"] / RATE - START, rows["networks"]
    return x, err


def when(series):
    """[(second, value)] where a series once a second changes."""
    t, y = series
    at = np.nonzero(np.diff(y))[0]
    return [(int(round(t[i + 1])), float(y[i + 1])) for i in at]


def steps(noise):
    """The largest of what is subtracted above 150 Hz, in sigma: what is predicted has nothing there."""
    t, p = noise
    high = sig.sosfiltfilt(sig.butter(6, 150, "high", fs=RATE, output="sos"), p)
    return np.max(np.abs(high[RATE // 4:-RATE // 4])) / SIGMA


with folder() as work:
    for gain in (-1, -0.5, 0.5, 0.9, 1):
        network(f"{work}/{gain:g}.onnx", gain)

    network(f"{work}/low.onnx", 1, "H1:JITTER", "10-30")

    # a network that helps, one that harms, and five seconds without a witness; another loses its own for a moment
    s = sky(f"{work}/sky.hdf5", lost=(50, 55), low_lost=(72.125, 72.5))
    three = ", ".join(f"{{name: {name}, model: {work}/{file}.onnx}}" for name, file in (("good", 0.9), ("harm", -0.5), ("low", "low")))
    x, err = clean(work, three)
    t, gate = x["GATE-good"]
    known, ratio = x["ASDR-good"]
    first = known[np.isfinite(ratio)][0]
    check(first in (7, 8), f"the ratio is known from the second {first:g} on")
    up = t[gate > 0][0]
    check(up - first in (16, 17), f"good comes in 16 s later, at {up:g} s (ratio {np.nanmedian(ratio):.3f})")
    check(np.all(x["GATE-harm"][1] == 0), f"harm never comes in (ratio {np.nanmedian(x['ASDR-harm'][1]):.3f})")
    out = t[(t > up + 2) & (gate < 1)]
    check(out[0] == 50 and 57 <= out[-1] <= 59, f"the witness is lost from 50 to 55 s: out from {out[0]:g} to {out[-1]:g} s")
    low = x["GATE-low"][1]
    out = t[(t > up + 2) & (low < 1)]
    check(out[0] == 72 and 74 <= out[-1] <= 76, f"another is missing for 0.4 s at 72 s: its coupling is out from {out[0]:g} to {out[-1]:g} s (ratio {np.nanmedian(x['ASDR-low'][1]):.3f})")
    check(np.all(low[(t > up + 2) & (t < 70)] == 1) and np.all(gate[t > 60] == 1), "each leaves the other alone")
    check(np.isfinite(x["CLEANED"][1]).all() and len(x["CLEANED"][1]) > (SECONDS - 1) * RATE, "the strain goes on all the time")
    p = x["NOISE"][1]
    begin = int(round(x["NOISE"][0][0] * RATE))
    rest = s[begin:begin + len(p)] - p - x["CLEANED"][1]
    check(np.max(np.abs(rest)) < 1e-15 * SIGMA * 10, "strain minus noise is the cleaned strain")
    line = [sig.welch(p[(x["NOISE"][0] > a) & (x["NOISE"][0] < a + 4)], RATE, nperseg=2 * RATE)[1][120] for a in (40, 50.5)]
    check(line[1] < 1e-3 * line[0], "and nothing is subtracted at 60 Hz while its witness is lost")
    rise = steps((x["NOISE"][0], p))
    check(rise < 1e-3, f"no step: {rise:.1e} sigma above 150 Hz while it came, went and came again")
    y, _ = clean(work, three, block="1/4s")
    same = all(np.array_equal(x[name][1][:len(y[name][1])], y[name][1][:len(x[name][1])], equal_nan=True) for name in x)
    check(same and x.keys() == y.keys(), "blocks of 1/4 s: the same bits")

    # a coupling that turns: the network harms from 60 s on
    sky(f"{work}/sky.hdf5", coupling=lambda t: np.where(t < 60, 1.0, -1.0))
    x, err = clean(work, f"{{name: good, model: {work}/0.9.onnx}}")
    t, gate = x["GATE-good"]
    out = t[(t > 40) & (gate < 1)]
    check(63 <= out[0] <= 68 and np.all(gate[t > out[0] + 1] == 0), f"a coupling that turns at 60 s: out at {out[0]:g} s, and stays out")
    rise = steps((x["NOISE"][0], x["NOISE"][1]))
    check(rise < 1e-3, f"no step: {rise:.1e} sigma")

    # a hole in strain itself
    sky(f"{work}/sky.hdf5", hole=(60, 62))
    x, err = clean(work, f"{{name: good, model: {work}/0.9.onnx}}")
    (t, p), (seconds, gate) = x["NOISE"], x["GATE-good"]
    there = np.isfinite(p)
    lost = t[~there]
    check(59.5 < lost[0] <= 60 and 62 <= lost[-1] < 62.5, f"a hole in strain from 60 to 62 s: from {lost[0]:.3f} to {lost[-1]:.3f} s")
    again = seconds[(seconds > 62) & (gate == 1)][0]
    check(64 <= again <= 67 and np.all(p[(t > lost[-1]) & (t < 64)] == 0), f"in again at {again:g} s, from nothing")
    rise = [steps((t[part], p[part])) for part in (t < lost[0], t > lost[-1])]
    check(max(rise) < 1e-3, f"no step before it and after it: {rise[0]:.1e}, {rise[1]:.1e} sigma")

    # canaries
    sky(f"{work}/sky.hdf5")
    production = f"{{name: mains, model: {work}/0.5.onnx, canary: {{path: {work}/next.onnx, over: 20s, watch: 20s}}}}"
    plain, _ = clean(work, f"{{name: mains, model: {work}/0.5.onnx}}", gate="{start: in}")
    for name, gain, what in (("bad", -1, "rejected"), ("hardly better", 0.5, "rejected")):
        network(f"{work}/next.onnx", gain)
        x, err = clean(work, production, gate="{start: in}")
        verdict = json.load(open(f"{work}/next.onnx.verdict"))
        check(verdict["verdict"] == what and verdict["final"], f"a {name} canary is {verdict['verdict']} ({verdict['canary']:.3f} against {verdict['production']:.3f})")
        check(all(np.array_equal(x[n][1], plain[n][1], equal_nan=True) for n in plain), "and nothing notices, to the bit")
    sha = network(f"{work}/next.onnx", 1)
    x, err = clean(work, production, gate="{start: in}")
    verdict = json.load(open(f"{work}/next.onnx.verdict"))
    check(verdict["verdict"] == "kept" and verdict["sha256"] == sha, f"a better canary is promoted and {verdict['verdict']} ({verdict['canary']:.3f} against {verdict['production']:.3f})")
    change = when(x["MODEL-mains"])
    check(len(change) == 1 and change[0][1] == int(sha[:13], 16), f"the model's number changes, at {change[0][0] if change else None} s")
    t, used = x["networks"]
    before = int(hashlib.sha256(open(f"{work}/0.5.onnx", "rb").read()).hexdigest()[:16], 16)
    at = [t[i] for i in range(1, len(used)) if used[i] != used[i - 1]]
    check(set(used[used != 0]) == {before, int(sha[:16], 16)} and len(at) <= 2 and change and abs(at[-1] - change[0][0]) < 1.2,
          f"the cleaned stream names the network that cleaned it: another from {at[-1] if at else None} s on")
    left = x["ASDR-mains"][1]
    check(np.nanmedian(left[60:]) < 0.5 * np.nanmedian(left[10:20]), f"the ratio falls from {np.nanmedian(left[10:20]):.3f} to {np.nanmedian(left[60:]):.3f}")
    check(np.all(np.diff(x["CLEANED"][0]) > 0) and len(x["CLEANED"][1]) == len(plain["CLEANED"][1]) and np.isfinite(x["CLEANED"][1]).all(), "no sample is lost")
    rise = steps((x["NOISE"][0], x["NOISE"][1]))
    check(rise < 1e-3, f"no step: {rise:.1e} sigma")

    # better while it is tried, worse afterwards
    sky(f"{work}/sky.hdf5", coupling=lambda t: np.where(t < 40, 1.0, 0.45))
    x, err = clean(work, production.replace("watch: 20s", "watch: 60s"), gate="{start: in}")
    verdict = json.load(open(f"{work}/next.onnx.verdict"))
    check(verdict["verdict"] == "rolled back" and len(when(x["MODEL-mains"])) == 2, f"a canary that turns worse is {verdict['verdict']}")
    rise = steps((x["NOISE"][0], x["NOISE"][1]))
    check(rise < 1e-3, f"no step: {rise:.1e} sigma")

    # cleaned strain recorded beside the raw: ranking takes the raw, and what cleaning made for no witness
    sky(f"{work}/sky.hdf5")
    with open(f"{work}/graph.yaml", "w") as f:
        f.write(GRAPH.format(sky=f"{work}/sky.hdf5", out=f"{work}/both.hdf5", block="1/16s", gate="{start: in}",
                             couplings=f"{{name: mains, model: {work}/0.9.onnx}}").replace("from: clean,", "from: [sky, aux, clean],"))
    code, _, err = run("run", "--quiet", f"{work}/graph.yaml")
    check(code == 0, f"raw and cleaned strain in one recording {err}")
    code, _, err = run("witness", "rank", "--quiet", "--strain", "H1:STRAIN", "--bands", "59-61", "--json", f"{work}/rank.json", f"{work}/both.hdf5")
    check(code == 0, f"it can be ranked {err}")
    verdict = {c["channel"]: c["verdict"] for c in json.load(open(f"{work}/rank.json"))["channels"]} if code == 0 else {}
    check(verdict.get("H1:MAINS") == "chosen" and verdict.get("H1:STRAIN_NOISE") == "listed" and verdict.get("H1:STRAIN_CLEANED") == "listed",
          f"and what was subtracted is no witness: {verdict}")

    # what cannot be a canary
    sky(f"{work}/sky.hdf5")
    open(f"{work}/next.onnx", "wb").write(b"no network at all")
    x, err = clean(work, production, gate="{start: in}")
    verdict = json.load(open(f"{work}/next.onnx.verdict"))
    check(verdict["verdict"] == "refused" and "next.onnx" in verdict["reason"], f"refused: {verdict['reason']}")
    check(all(np.array_equal(x[n][1], plain[n][1], equal_nan=True) for n in plain), "and nothing notices, to the bit")

finish()
