# SPDX-License-Identifier: GPL-3.0-or-later
"""`gwstream model` on the shipped network: what it says, that windows, streams and the plain reference agree, arrays in
and out as numpy and h5py have them; and one clear line for every wrong file and word."""

import hashlib
import json
import pathlib
import re
import struct

import h5py
import numpy as np

from flow import MODEL, check, finish, folder, run


def ok(name, *args):
    status, out, err = run("model", *args)
    check(status == 0 and not err, f"{name}: exit {status} {err.strip()}")
    return out


def refused(name, *args, words=()):
    status, out, err = run("model", *args)
    check(status == 2 and err.count("\n") == 1 and all(w in err for w in words) and len(err) < 1200,
          f"{name}: exit {status}: {err.strip()[:200]}")


def worst(a, b):
    return float(np.max(np.abs(a - b))) if a.shape == b.shape and a.size else float("inf")


def show():
    text = ok("show", "show", MODEL)
    size = pathlib.Path(MODEL).stat().st_size
    check(hashlib.sha256(pathlib.Path(MODEL).read_bytes()).hexdigest() in text and f"{size} bytes" in text,
          "show: size and hash are those of the file")
    for words in ("strain", "float32 [1, 2, 3072]", "logit", "[1, 1]", "arrival", "[1, 2, 192]", "engine      planned",
                  "stream      yes: frames of 64 samples, look-ahead 0", "gwstream.sample_rate", "2048"):
        check(words in text, f"show: says '{words}'")
    weights = int(re.search(r"weights +(\d+)", text).group(1))
    check(weights == 233427, f"show: {weights} weights (those that both detectors share are in the file twice)")
    sees = int(re.search(r"one value, sees (\d+) samples of 3072", text).group(1))
    check(sees == 1832 + 15 * 64, f"show: the logit sees {sees} samples, as training/network.py has it")
    plain = ok("show --nodes", "show", MODEL, "--nodes")
    check("node by node" in plain and plain.count(" Conv ") >= 15, "show --nodes: the file's own layers")
    check("good" in ok("check", "check", MODEL), "check: one line")


def agree(work):
    """Windows, the stream, the interpreter, plain C: the same logits."""
    random = np.random.default_rng(5)
    x = random.standard_normal((2, 3072 + 64 * 40)).astype(np.float32)
    np.save(f"{work}/x.npy", x)
    files = ["--in", f"{work}/x.npy", "--hop", "64"]

    def logits(name, *more):
        said = ok(name, "run", MODEL, *files, "--out", f"logit={work}/l.npy", "--out", f"arrival={work}/a.npy", *more)
        return np.load(f"{work}/l.npy"), np.load(f"{work}/a.npy"), said

    cut, arrival, said = logits("run, windows")
    check(cut.shape == (41, 1) and arrival.shape == (41, 2, 192) and "planned" in said, f"windows: {cut.shape}, {said!r}")
    for name, more in (("plain C", ("--level", "ref")), ("node by node", ("--nodes",)),
                       ("node by node in plain C", ("--nodes", "--level", "ref"))):
        other, other_arrival, said = logits(f"run, {name}", *more)
        check(worst(cut, other) < 1e-5 and worst(arrival, other_arrival) < 1e-4,
              f"{name}: logits within {worst(cut, other):.1e}, arrival scores within {worst(arrival, other_arrival):.1e}")
    for hop in ("64", "256"):
        files[3] = hop
        stream, stream_arrival, said = logits(f"run, stream, hops of {hop}", "--stream")
        n = min(41, stream.shape[1] - 47)
        check(n >= 38 and worst(stream[0, 47:47 + n], cut[:n, 0]) < 1e-5,
              f"stream, hops of {hop}: {n} logits within {worst(stream[0, 47:47 + n], cut[:n, 0]):.1e} of the windows'")
        # The last 4 columns of a window's arrival scores are those of its last 64 samples.
        late = stream_arrival[:, 47 * 4:].reshape(2, -1, 4).transpose(1, 0, 2)[:n]
        check(worst(late, arrival[:n, :, -4:]) < 1e-4, f"stream, hops of {hop}: and its arrival scores")


def arrays(work):
    """What comes in and goes out, in either format and in every form that numpy writes."""
    x = np.random.default_rng(6).standard_normal((3, 2, 3072)).astype(np.float32)
    np.save(f"{work}/x.npy", x)

    def run_to(out, source):
        ok(f"run from {pathlib.Path(source).name} to {pathlib.Path(out).name}", "run", MODEL, "--in", source, "--out", out)
        return np.load(out) if out.endswith(".npy") else None

    want = run_to(f"{work}/y.npy", f"{work}/x.npy")
    check(want.shape == (3, 1) and want.dtype == np.float32, f"a batch of three: {want.shape}")
    np.save(f"{work}/double.npy", x.astype(np.float64))
    check((run_to(f"{work}/y.npy", f"{work}/double.npy") == want).all(), "float64 does for float32")
    for version in ((1, 0), (2, 0), (3, 0)):
        with open(f"{work}/v.npy", "wb") as f:
            np.lib.format.write_array(f, x, version=version)
        check((run_to(f"{work}/y.npy", f"{work}/v.npy") == want).all(), f".npy version {version[0]}")
    with h5py.File(f"{work}/x.h5", "w") as f:
        f.create_dataset("some/group/x", data=x, chunks=(1, 1, 512), compression="gzip")
        f["double"], f["text"], f["one"] = x.astype(">f8"), "no numbers", x[1]
    run_to(f"{work}/y.h5:/out/logit", f"{work}/x.h5:/some/group/x")
    run_to(f"{work}/y.h5:/double", f"{work}/x.h5:/double")
    run_to(f"{work}/y.h5:/one", f"{work}/x.h5:/one")
    with h5py.File(f"{work}/y.h5") as f:
        check((f["out/logit"][:] == want).all() and (f["double"][:] == want).all() and (f["one"][:] == want[1:2]).all(),
              "HDF5 in and out: chunked, compressed, float64 of the other endianness, one window: the same numbers")
    refused("a dataset that is there already", "run", MODEL, "--in", f"{work}/x.npy", "--out", f"{work}/y.h5:/one",
            words=("y.h5", "/one"))
    for name, words in (("x.h5:/none", ("/none",)), ("x.h5:/text", ("x.h5",)), ("x.h5:/some", ("/some",)), ("x.h5", ("x.h5",)),
                        ("none.h5:/x", ("none.h5",)), ("x.npy:/x", ("x.npy", "HDF5"))):
        refused(f"input {name}", "run", MODEL, "--in", f"{work}/{name}", "--out", f"{work}/y.npy", words=words)


def wrong_npy(work):
    good = np.zeros((1, 2, 3072), np.float32)
    np.save(f"{work}/good.npy", good)
    raw = pathlib.Path(f"{work}/good.npy").read_bytes()

    def bad(name, data, *words):
        pathlib.Path(f"{work}/bad.npy").write_bytes(data)
        refused(f".npy, {name}", "run", MODEL, "--in", f"{work}/bad.npy", "--out", f"{work}/y.npy", words=("bad.npy", *words))

    def header(text):
        return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + good.tobytes()

    bad("empty", b"")
    bad("text", b"1 2 3\n" * 100)
    bad("cut in its header", raw[:40])
    bad("cut in its samples", raw[:-4], "24572")
    bad("too long", raw + b"\0", "24577")
    bad("of another version", raw[:6] + b"\x07" + raw[7:], "7")
    bad("a header of 60,000 bytes", header(" " * 60000), "header")
    bad("no shape", header("{'descr': '<f4', 'fortran_order': False, }"), "shape")
    bad("a shape of words", header("{'descr': '<f4', 'fortran_order': False, 'shape': (a, b), }"), "shape")
    bad("a shape without end", header("{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2"), "shape")
    bad("a negative shape", header("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 2, 3072), }"), "shape")
    bad("a shape beyond all memory",
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296, 16), }"))
    bad("a number beyond 64 bits", header("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,), }"))
    bad("nine dimensions", header("{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,1), }"), "8")
    for name, array, word in (("column-major", np.asfortranarray(np.zeros((2, 3072), np.float32)), "contiguous"),
                              ("big-endian", good.astype(">f4"), "float32"), ("float16", good.astype("<f2"), "float32"),
                              ("complex", good.astype("c8"), "float32"), ("int32", good.astype("<i4"), "int32"),
                              ("objects", np.array([None]), "|O"), ("another shape", np.zeros((1, 3, 3072), "<f4"), "[1, 3, 3072]"),
                              ("a scalar", np.float32(1), "[]"), ("too short", np.zeros((2, 3000), "<f4"), "3000")):
        np.save(f"{work}/bad.npy", array, allow_pickle=True)
        refused(f".npy, {name}", "run", MODEL, "--in", f"{work}/bad.npy", "--out", f"{work}/y.npy", words=("bad.npy", word))
    refused(".npy, a folder", "run", MODEL, "--in", work, "--out", f"{work}/y.npy", words=(work,))


def wrong_words(work):
    x = f"{work}/good.npy"
    for name, words, *args in (
            ("no verb", ("show", "--help")), ("an unknown verb", ("draw",), "draw", MODEL),
            ("no file", ("FILE",), "show"), ("two files", ("FILE",), "show", MODEL, MODEL),
            ("no such option", ("--fast",), "show", MODEL, "--fast"),
            ("no input", ("--in", "strain"), "run", MODEL, "--out", f"{work}/y.npy"),
            ("no output", ("--out", "logit"), "run", MODEL, "--in", x),
            ("an input by another name", ("noise", "strain"), "run", MODEL, "--in", f"noise={x}", "--out", f"{work}/y.npy"),
            ("too many inputs", ("strain",), "run", MODEL, "--in", x, "--in", x, "--out", f"{work}/y.npy"),
            ("a folder that is not there", ("none",), "run", MODEL, "--in", x, "--out", f"{work}/none/y.npy"),
            ("an output that is no array", ("y.txt",), "run", MODEL, "--in", x, "--out", f"{work}/y.txt"),
            ("a batch of nothing", ("--batch", "'0'"), "bench", MODEL, "--batch", "0"),
            ("a batch of words", ("many",), "bench", MODEL, "--batch", "1,many"),
            ("no time", ("--seconds",), "bench", MODEL, "--seconds", "-1"),
            ("a level", ("fpga", "ref"), "check", MODEL, "--level", "fpga"),
            ("a dimension", ("--dim",), "check", MODEL, "--dim", "batch"),
            ("a hop that does not fit", ("64",), "run", MODEL, "--in", x, "--out", f"{work}/y.npy", "--stream", "--hop", "100"),
            ("a stream node by node", ("--nodes",), "run", MODEL, "--in", x, "--out", f"{work}/y.npy", "--stream", "--nodes")):
        refused(name, *args, words=words)


def wrong_models(work):
    model = pathlib.Path(MODEL).read_bytes()
    for name, data in (("empty", b""), ("text", b"no network\n" * 20), ("cut", model[:len(model) // 2]),
                       ("nothing but zeros", bytes(4096))):
        pathlib.Path(f"{work}/bad.onnx").write_bytes(data)
        for verb in ("show", "check", "bench"):
            refused(f"{verb} of a model, {name}", verb, f"{work}/bad.onnx", words=("bad.onnx",))
    refused("no such model", "check", f"{work}/none.onnx", words=("none.onnx",))
    refused("a model that is a folder", "check", work, words=(work,))


def bench():
    fast = []
    for args in (("--batch", "1,4"), ("--stream", "--hop", "256"), ("--pairs", "--batch", "4"), ("--nodes",)):
        out = ok(f"bench {' '.join(args)}", "bench", MODEL, "--seconds", "0.05", "--json", *args)
        fast += [json.loads(line) for line in out.splitlines()]
    check(len(fast) == 5 and all(r["inferences_per_s"] > 0 and r["share_of_peak"] > 0 and r["p99_us"] >= r["p50_us"] > 0
                                 for r in fast), "bench: five measurements that make sense")
    check("GFLOP/s" in ok("bench for people", "bench", MODEL, "--seconds", "0.05"), "bench: a table")


show()
bench()
with folder() as work:
    agree(work)
    arrays(work)
    wrong_npy(work)
    wrong_words(work)
    wrong_models(work)
finish()
