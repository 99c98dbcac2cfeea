#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Archived layouts through the program and back: h5py makes files, `gwstream run` replays and records them,
h5py reads the recording. usage: check_layouts.py PATH-OF-GWSTREAM. Exit 0 / 1 / 77 (no program, no h5py)."""
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

try:
    import h5py
    import numpy as np
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)

GWSTREAM = sys.argv[1] if len(sys.argv) > 1 else "build/gwstream"
if not os.access(GWSTREAM, os.X_OK):
    print(f"skipped: no program at {GWSTREAM}")
    sys.exit(77)
DATA = os.environ.get("GWSTREAM_DATA", os.path.join(os.path.dirname(__file__), "../../../shared/data"))
FOLDER = tempfile.TemporaryDirectory(prefix="gwstream-layouts-")
RNG = np.random.default_rng(20150914)
GPS = 1126259446
failures = 0


def path(name):
    return os.path.join(FOLDER.name, name)


def check(what, good, detail=""):
    global failures
    failures += not good
    print(f"{'ok' if good else 'FAILED'}: {what}{'' if good else ' ' + str(detail)}")


def yaml(files, out, more="", sink=""):
    text = f"sources:\n  arch: {{kind: replay, files: [{', '.join(files)}]{more}}}\n"
    text += f"sinks:\n  keep: {{kind: record, from: arch, path: {out}, overwrite: true{sink}}}\n"
    name = path("graph.yaml")
    with open(name, "w") as f:
        f.write(text)
    return name


def run(files, more=""):
    """The exit status, the complaint, and the recording by dataset name."""
    out = path("out.hdf5")
    if os.path.exists(out):
        os.unlink(out)
    done = subprocess.run([GWSTREAM, "run", yaml(files, out, more)], capture_output=True, text=True, timeout=60)
    recorded = {}
    if done.returncode == 0 or os.path.exists(out):
        with h5py.File(out, "r") as f:
            f.visititems(lambda n, d: recorded.update({n: (d[:], dict(d.attrs))})
                         if isinstance(d, h5py.Dataset) and not n.startswith("gwstream") else None)
    return done.returncode, done.stderr, recorded


def gwosc(name, detector, x, rate, dq=None, start=GPS, fixed=False):
    seconds = len(x) // rate
    with h5py.File(path(name), "w") as f:
        d = f.create_dataset("strain/Strain", data=x, chunks=(rate // 2,), compression="gzip", compression_opts=1,
                             fletcher32=True)
        d.attrs.update({"Npoints": len(x), "Xstart": start, "Xspacing": 1.0 / rate, "Xunits": "second", "Yunits": ""})
        f["meta/Detector"] = np.bytes_(detector) if fixed else detector
        f["meta/UTCstart"] = "2001-01-01T00:00:00"
        f["quality/simple/DQmask"] = np.full(seconds, 127, "u4") if dq is None else np.asarray(dq, "u4")
        names = [b"DATA", b"CBC_CAT1", b"CBC_CAT2", b"CBC_CAT3", b"BURST_CAT1", b"BURST_CAT2", b"BURST_CAT3"]
        f["quality/simple/DQShortnames"] = np.array(names) if fixed else np.array(names, dtype=h5py.string_dtype())
    return path(name)


def same(a, b):
    return a.shape == b.shape and np.array_equal(a, b, equal_nan=True)


def layouts():
    n, rate = 4096 * 4, 4096
    strain = {d: RNG.normal(size=n) * 1e-21 for d in ("H1", "L1")}
    for fixed in (False, True):
        files = [gwosc(f"{d[0]}-{d}_X-{GPS}-4.hdf5", d, x, rate, fixed=fixed) for d, x in strain.items()]
        code, _, out = run(files)
        kind = "fixed" if fixed else "variable"
        check(f"GWOSC, {kind}-length strings", code == 0 and sorted(out) == ["H1:STRAIN", "L1:STRAIN"] and
              all(same(out[d + ":STRAIN"][0], x) for d, x in strain.items()), (code, list(out)))
        check(f"GWOSC, {kind}-length strings: GPS from Xstart", all(a["x0"] == GPS for _, a in out.values()))

    with h5py.File(path("gwpy.hdf5"), "w") as f:
        for d, dtype in (("H1", "<f4"), ("L1", ">f8"), ("V1", ">i2")):
            x = np.round(RNG.normal(size=n) * 1000).astype(dtype)
            f.create_dataset(f"group/{d}:AUX", data=x, compression="gzip", shuffle=True)
            f[f"group/{d}:AUX"].attrs.update({"x0": GPS + 5 / 4096, "dx": 1 / 4096, "name": "n", "channel": "c", "unit": "m"})
        want = {f"{d}:AUX": f[f"group/{d}:AUX"][:].astype("f8") for d in ("H1", "L1", "V1")}
    code, _, out = run([path("gwpy.hdf5")])
    check("GWpy in a group, float32 / big-endian float64 / int16, start within a second",
          code == 0 and sorted(out) == sorted(want) and all(same(out[k][0], x) for k, x in want.items()) and
          all(a["x0"] == GPS + 5 / 4096 and a["dx"] == 1 / 4096 and a["unit"] == "m" for _, a in out.values()),
          (code, list(out)))

    names = ["H1:GDS-CALIB_STRAIN"] + [f"H1:ASC-WITNESS_{k}" for k in range(21)]
    x = RNG.normal(size=(len(names), n))
    with h5py.File(path("deepclean.h5"), "w") as f:
        for name, row in zip(names, x):
            f.create_dataset(name, data=row, compression="gzip").attrs.update({"t0": GPS, "sample_rate": 4096})
    code, _, out = run([path("deepclean.h5")])
    check("one dataset per channel (t0, sample_rate): 22 channels of one stream",
          code == 0 and sorted(out) == sorted(names) and all(same(out[k][0], row) for k, row in zip(names, x)))

    with h5py.File(path("pycbc.hdf"), "w") as f:
        f["L1"] = x[0]
        f["L1"].attrs.update({"start_time": float(GPS), "delta_t": 1 / 4096})
    code, _, out = run([path("pycbc.hdf")])
    check("PyCBC (start_time, delta_t)", code == 0 and same(out["L1"][0], x[0]))


def recording():
    n, rate = 4096 * 6, 4096
    x = RNG.normal(size=n)
    first = gwosc("a.hdf5", "H1", x[:rate * 2], rate)
    second = gwosc("b.hdf5", "H1", x[rate * 3:], rate, start=GPS + 3, dq=[127, 1, 127])
    code, _, out = run([second, first])
    want = x.copy()
    want[2 * rate:3 * rate] = np.nan
    want[4 * rate:5 * rate] = np.nan
    got, attrs = out["H1:STRAIN"]
    check("joined files, a hole and a bad second become NaN", code == 0 and same(got, want))
    check("a dataset has GWpy's attributes and no others", sorted(attrs) ==
          ["channel", "dx", "name", "unit", "x0", "xunit"], sorted(attrs))
    os.rename(path("out.hdf5"), path("once.hdf5"))
    with h5py.File(path("once.hdf5")) as f:
        rows = f["gwstream/arch.H1/dq"][:]
        meta = dict(f["gwstream/arch.H1"].attrs)
    check("data quality in rows that tile the stream", rows["n_samples"].tolist() == [2 * rate, rate, rate, rate, rate] and
          rows["gap_reason"].tolist() == [0, 1, 0, 3, 0] and meta["gap_samples"] == 2 * rate, rows)
    code, _, again = run([path("once.hdf5")])
    with h5py.File(path("out.hdf5")) as f:
        rows_again = f["gwstream/arch.H1/dq"][:]
    check("a recording replayed and recorded is the same", code == 0 and same(again["H1:STRAIN"][0], got) and
          np.array_equal(rows, rows_again))

    def reorder(f):
        f["gwstream/arch.H1/dq"][:] = f["gwstream/arch.H1/dq"][:][::-1]

    def shift(f):
        f["H1:STRAIN"].attrs["x0"] = GPS + 1.0

    def remove(f):
        del f["gwstream/arch.H1/dq"]

    def renew(f):
        f["gwstream"].attrs["version"] = 3

    def forget(f):
        del f["gwstream"]

    for what, change, expected, word in (("rows out of order", reorder, 2, "out of order"), ("another x0", shift, 2, "x0"),
                                         ("no rows", remove, 2, "dq"), ("a newer version", renew, 2, "version 3"),
                                         ("only GWpy's part", forget, 0, "")):
        shutil.copy(path("once.hdf5"), path("changed.hdf5"))
        with h5py.File(path("changed.hdf5"), "r+") as f:
            change(f)
        code, err, _ = run([path("changed.hdf5")])
        check(f"a recording changed afterwards, {what}: status {expected}", code == expected and word in err and
              (code == 0 or "changed.hdf5" in err), (code, err))


def bad_inputs():
    rate = 4096
    x = RNG.normal(size=rate * 4)
    whole = gwosc("h.hdf5", "H1", x, rate)
    cut = path("cut.hdf5")
    size = os.path.getsize(whole)
    for part in (0, 10, size // 3, size - 1):
        with open(whole, "rb") as a, open(cut, "wb") as b:
            b.write(a.read(part))
        code, err, _ = run([cut])
        check(f"cut to {part} bytes: status 2, one line that names it", code == 2 and "cut.hdf5" in err and
              len(err.strip().splitlines()) == 1, (code, err))
    other = gwosc("o.hdf5", "H1", x, rate, start=GPS + 2)
    slow = gwosc("s.hdf5", "H1", x[:2048 * 4], 2048, start=GPS + 100)
    text = path("text.hdf5")
    with open(text, "w") as f:
        f.write("no HDF5 at all\n")
    empty = path("empty")
    os.mkdir(empty)
    for what, files, words in (("missing file", [path("none.hdf5")], ["none.hdf5"]), ("not HDF5", [text], ["text.hdf5"]),
                               ("empty folder", [empty], [empty, "hdf5"]),
                               ("overlap", [whole, other], ["h.hdf5", "o.hdf5", "overlap"]),
                               ("mixed rates", [whole, slow], ["h.hdf5", "s.hdf5", "4096", "2048"])):
        code, err, _ = run(files)
        check(f"{what}: status 2, one line that names it", code == 2 and all(w in err for w in words) and
              len(err.strip().splitlines()) == 1, (code, err))
    x[5000:5100] = np.nan
    code, err, out = run([gwosc("nan.hdf5", "H1", x, rate)])
    check("NaN in good data: status 2, named, the rest is there", code == 2 and "nan.hdf5" in err and
          "100 samples" in err and same(out["H1:STRAIN"][0], x), (code, err))


def recorded(out):
    """Samples that a plain reader finds; 0 where it meets a flush."""
    try:
        with h5py.File(out, "r") as f:
            return len(f["H1:STRAIN"])
    except (OSError, KeyError, RuntimeError, ValueError):
        return 0


def killed():
    x = RNG.normal(size=4096 * 60)
    files = [gwosc("long.hdf5", "H1", x, 4096)]
    out = path("killed.hdf5")
    graph = yaml(files, out, ", pace: 10", ", flush: 50ms, on_full: wait")
    process = subprocess.Popen([GWSTREAM, "run", graph], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 30
    while recorded(out) <= 10 * 4096 and time.monotonic() < until:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    with h5py.File(out, "r") as f:
        got = f["H1:STRAIN"][:]
    good = ~np.isnan(got)
    check("killed half-way: opens without repair and holds what was flushed",
          10 * 4096 < len(got) < len(x) and np.array_equal(got[good], x[:len(got)][good]) and good.mean() > 0.9,
          (len(got), good.mean()))


def published():
    v2 = os.path.join(DATA, "gwosc/strain-16k/H-H1_LOSC_16_V2-1126259446-32.hdf5")
    r1 = os.path.join(DATA, "gwosc/strain-16k/H-H1_GWOSC_16KHZ_R1-1126259447-32.hdf5")
    if not os.path.exists(v2):
        print("skipped: no real recordings (set GWSTREAM_DATA)")
        return
    _, _, a = run([v2], ", start: 1126259447, end: 1126259478")
    _, _, b = run([r1], ", start: 1126259447, end: 1126259478")
    (x, at), (y, bt) = a["H1:STRAIN"], b["H1:STRAIN"]
    check("two releases of GW150914, H1, are the same numbers at the same GPS",
          len(x) == 31 * 16384 and same(x, y) and at["x0"] == bt["x0"] == 1126259447)


for part in (layouts, recording, bad_inputs, killed, published):
    part()
sys.exit(1 if failures else 0)
