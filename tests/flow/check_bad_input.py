# SPDX-License-Identifier: GPL-3.0-or-later
"""Bad input of every kind: one clear line that names the culprit, exit status 2, nothing lost, no crash."""

import os
import shutil
import socket
import sqlite3

import h5py
import numpy as np

from flow import MODEL, check, finish, folder, lines, run

START = 1400000000


def gwpy_file(path, detectors=("H1", "L1"), rate=4096, seconds=12, start=START, seed=1):
    """A recording in GWpy's layout."""
    random = np.random.default_rng(seed)
    with h5py.File(path, "w") as f:
        for d in detectors:
            data = f.create_dataset(f"{d}:STRAIN", data=1e-21 * random.standard_normal(rate * seconds), chunks=(rate,))
            data.attrs["x0"] = float(start)
            data.attrs["dx"] = 1 / rate
            data.attrs["name"] = data.attrs["channel"] = f"{d}:STRAIN"
            data.attrs["unit"] = "strain"
    return path


def gwosc_file(path, detector, start=START, seconds=12, rate=4096, bad=None, data_bit=True, seed=1):
    """A recording in GWOSC's layout; `bad` seconds are NaN, with DATA cleared or not."""
    x = 1e-21 * np.random.default_rng(seed).standard_normal(rate * seconds)
    mask = np.full(seconds, 127, np.uint32)
    if bad:
        x[bad[0] * rate:bad[1] * rate] = np.nan
        if data_bit:
            mask[bad[0]:bad[1]] = 0
    with h5py.File(path, "w") as f:
        d = f.create_dataset("strain/Strain", data=x, chunks=(2048,), compression="gzip", compression_opts=1,
                             fletcher32=True)
        d.attrs.update(Npoints=len(x), Xstart=np.int64(start), Xspacing=1 / rate)
        q = f.create_dataset("quality/simple/DQmask", data=mask)
        q.attrs.update(Xstart=np.int64(start), Xspacing=1.0, Npoints=seconds)
        f["quality/simple/DQShortnames"] = np.array(
            [b"DATA", b"CBC_CAT1", b"CBC_CAT2", b"CBC_CAT3", b"BURST_CAT1", b"BURST_CAT2", b"BURST_CAT3"])
        i = f.create_dataset("quality/injections/Injmask", data=np.full(seconds, 31, np.uint32))
        i.attrs.update(Xstart=np.int64(start), Xspacing=1.0, Npoints=seconds)
        f["quality/injections/InjShortnames"] = np.array(
            [b"NO_CBC_HW_INJ", b"NO_BURST_HW_INJ", b"NO_DETCHAR_HW_INJ", b"NO_CW_HW_INJ", b"NO_STOCH_HW_INJ"])
        f["meta/Detector"] = detector
        f["meta/GPSstart"] = np.int64(start)
        f["meta/Duration"] = np.int64(seconds)
    return path


def refused(name, args, *words):
    """Exit 2, one line on stderr (log lines apart) with these words in it."""
    status, out, err = run(*args)
    said = [l for l in err.splitlines() if l.startswith("gwstream")]
    check(status == 2 and len(said) == 1 and all(w in said[0] for w in words),
          f"{name}: exit {status}: {said[-1][:170] if said else err[-300:]}")
    check(not lines(out), f"{name}: no event")


with folder() as work:
    journal = ["--journal", f"{work}/j.sqlite", "--model", MODEL, "--quiet"]
    good = gwpy_file(f"{work}/good.hdf5")
    status, out, err = run("replay", *journal, good)
    check(status == 0 and not lines(out), "a good recording of noise: exit 0, no event " + err)

    refused("missing file", ["replay", *journal, f"{work}/none.hdf5"], "none.hdf5")
    os.mkdir(f"{work}/empty")
    refused("an empty folder", ["replay", *journal, f"{work}/empty"], f"{work}/empty")
    with open(f"{work}/text.hdf5", "w") as f:
        f.write("not HDF5 at all\n" * 100)
    refused("not HDF5", ["replay", *journal, f"{work}/text.hdf5"], "text.hdf5", "HDF5")
    size = os.path.getsize(good)
    for part in (0.3, 0.9):
        cut = f"{work}/cut-{part}.hdf5"
        shutil.copy(good, cut)
        os.truncate(cut, int(size * part))
        refused(f"truncated to {part:.0%}", ["replay", *journal, cut], f"cut-{part}.hdf5")
    open(f"{work}/empty.hdf5", "w").close()
    refused("empty file", ["replay", *journal, f"{work}/empty.hdf5"], "empty.hdf5")
    with h5py.File(f"{work}/layout.hdf5", "w") as f:
        f["some/thing"] = np.zeros(10)
    refused("wrong layout", ["replay", *journal, f"{work}/layout.hdf5"], "layout.hdf5")
    refused("wrong rate", ["replay", *journal, gwpy_file(f"{work}/rate.hdf5", rate=3000)], "3000", "2048")
    refused("one detector missing", ["replay", *journal, gwpy_file(f"{work}/h1.hdf5", ("H1",))], "L1")
    refused("two rates of one detector",
            ["replay", *journal, good, gwpy_file(f"{work}/b.hdf5", rate=16384, start=START + 12)], "4096", "16384")
    refused("two files that overlap", ["replay", *journal, good, gwpy_file(f"{work}/o.hdf5", start=START + 8)],
            "good.hdf5", "o.hdf5")

    # NaN where DATA passes is bad input, said with its place; the rest is still worked off.
    h = gwosc_file(f"{work}/H-H1-nan.hdf5", "H1", seconds=24, bad=(12, 14), data_bit=False)
    l = gwosc_file(f"{work}/L-L1.hdf5", "L1", seconds=24, seed=2)
    status, out, err = run("replay", *journal, "--statistic", f"{work}/s.hdf5", h, l)
    check(status == 2 and "H-H1-nan.hdf5" in err and str(START + 12) in err, f"NaN stretch: exit {status}, named with its time")
    with h5py.File(f"{work}/s.hdf5") as f:
        x = f["H1,L1:STATISTIC"][:]
        end = f["H1,L1:STATISTIC"].attrs["x0"] + len(x) / 32
        check(end > START + 23.9 and np.isfinite(x[-32:]).all(), f"NaN stretch: what follows it is searched (to {end})")
    h = gwosc_file(f"{work}/H-H1-gap.hdf5", "H1", seconds=24, bad=(12, 14), data_bit=True)
    status, out, err = run("replay", *journal, h, l)
    check(status == 0, f"NaN where DATA fails is no bad input: exit {status} {err}")

    # The graph file.
    def graph(text, name="g.yaml"):
        with open(f"{work}/{name}", "w") as f:
            f.write(text)
        return f"{work}/{name}"

    base = "sources: {{a: {{kind: sim, duration: 10s, rate: 4096Hz{0}}}}}\n" \
           "stages: {{d: {{kind: resample, from: a{1}}}, w: {{kind: whiten, from: d{2}}}, " \
           "s: {{kind: detect, from: w, model: \"" + MODEL + "\"{3}}}}}\n" \
           "sinks: {{al: {{kind: alerts, from: s, journal: \"" + work + "/g.sqlite\"{4}}}}}\n"
    refused("unknown key", ["check", graph(base.format("", "", ", hihgpass: 20Hz", "", ""))], "g.yaml:2:", "hihgpass",
            "highpass")
    refused("wrong unit", ["check", graph(base.format(", block: 16Hz", "", "", "", ""))], "g.yaml:1:", "block")
    refused("no unit", ["check", graph(base.format("", ", rate: 2048", "", "", ""))], "g.yaml:2:", "rate")
    refused("not YAML", ["check", graph("sources: {a: [\n")], "g.yaml:")
    refused("no such graph", ["run", f"{work}/none.yaml"], "none.yaml")
    refused("model for other detectors",
            ["check", graph(base.format(", detectors: [H1, V1]", "", "", "", ""))], "V1", "L1")
    refused("model for another whitening", ["check", graph(base.format("", "", ", highpass: [30Hz, 40Hz]", "", ""))],
            "highpass=30-40Hz", "highpass=20-30Hz")
    refused("model for another rate", ["check", graph(base.format("", ", rate: 4096Hz", "", "", ""))], "4096", "2048")
    refused("no such model", ["replay", "--model", f"{work}/none.onnx", "--journal", f"{work}/j.sqlite", good], "none.onnx")
    shutil.copy(good, f"{work}/not.onnx")
    refused("not a model", ["replay", "--model", f"{work}/not.onnx", "--journal", f"{work}/j.sqlite", good], "not.onnx")

    # Sinks.
    busy = socket.socket()
    busy.bind(("127.0.0.1", 0))
    busy.listen()
    port = busy.getsockname()[1]
    refused("port in use", ["run", "--quiet", graph(base.format("", "", "", "", f", publish: tcp://127.0.0.1:{port}"))],
            str(port), "in use")
    refused("publishing beyond this host",
            ["run", "--quiet", graph(base.format("", "", "", "", ", publish: tcp://0.0.0.0:5999"))], "0.0.0.0")
    refused("journal is a folder", ["replay", "--quiet", "--model", MODEL, "--journal", work, good], work)
    refused("journal in no folder", ["replay", "--quiet", "--model", MODEL, "--journal", f"{work}/no/j.sqlite", good],
            "no/j.sqlite")
    with open(f"{work}/text.sqlite", "w") as f:
        f.write("no journal\n" * 100)
    refused("journal is another file", ["replay", "--quiet", "--model", MODEL, "--journal", f"{work}/text.sqlite", good],
            "text.sqlite")
    if os.geteuid() != 0:
        os.mkdir(f"{work}/ro", 0o500)
        refused("journal not writable", ["replay", "--quiet", "--model", MODEL, "--journal", f"{work}/ro/j.sqlite", good],
                "ro/j.sqlite")
    elif os.path.isdir("/proc/self"):
        refused("journal not writable", ["replay", "--quiet", "--model", MODEL, "--journal", "/proc/self/j.sqlite", good],
                "/proc/self/j.sqlite")
    refused("record over an existing file", ["simulate", "--quiet", "--duration", "2s", "--output", good], "good.hdf5")

    before = os.path.getsize(good)
    for option in ("--whitened", "--statistic", "--picture", "--output", "--journal"):
        refused(f"{option} onto an input", ["replay", "--quiet", "--model", MODEL, option, good, good], "good.hdf5", "input")
    check(os.path.getsize(good) == before, "the input is untouched")

    # Usage.
    for args in (["replay"], ["replay", "--nonsense", good], ["run"], ["check", "a", "b"], ["nonsense"],
                 ["simulate"], ["simulate", "--output", f"{work}/x.hdf5", "--signal", "mass1"],
                 ["replay", "--block", "3", good], ["simulate", "--output", f"{work}/x.hdf5", "--rate", "0Hz"]):
        refused("usage " + " ".join(a.replace(work, "") for a in args), args)
    for command in ("run", "check", "replay", "simulate", "alerts"):
        status, out, _ = run(command, "--help")
        check(status == 0 and "usage: gwstream " + command in out, f"{command} --help")
    status, out, _ = run("version")
    check(status == 0 and out.startswith("gwstream "), "version")

    db = sqlite3.connect(f"{work}/j.sqlite")
    check(db.execute("select count(*) from events").fetchone()[0] == 0, "no event in the journal after all that")
finish()
