#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""The checkpoint of PSDs and the gauges, with the whole program: the file against scipy, a warm start, what makes the
start a cold one, kill -9 at any moment, and the range of two recordings as the run reports it."""

import os
import pathlib
import random
import re
import signal as signals
import subprocess
import time

import h5py
import numpy as np
from scipy import signal

from flow import DATA, PROGRAM, check, finish, folder, run

FS = 2048
GRAPH = """
sources:
  sky: {{kind: {source}}}
stages:
  white: {{kind: whiten, from: sky, checkpoint: {work}/psd.hdf5{more}}}
sinks:
  end: {{kind: 'null', from: white}}
  {keep}
"""


def graph(work, name, source, more="", keep=""):
    path = pathlib.Path(work) / f"{name}.yaml"
    path.write_text(GRAPH.format(work=work, source=source, more=more, keep=keep))
    return path


def sim(start, duration):
    return f"sim, seed: 4, start: {start}, duration: {duration}, rate: {FS}Hz, block: 1/4s, detectors: [H1]"


def warm_up(said):
    """Seconds of output missing at the start, by reason."""
    found = re.search(r"white\.H1: nothing sent for ([^\n]*)", said)
    return {reason: float(s) for s, reason in re.findall(r"([\d.]+) s ([\w-]+)", found[1])} if found else {}


def check_file(work):
    """What is in the file: the segments' powers by scipy from the same samples."""
    keep = f"keep: {{kind: record, from: sky, path: {work}/sky.hdf5}}"
    code, _, said = run("run", graph(work, "cold", sim(1400000000, "90s"), keep=keep))
    check(code == 0 and "no checkpoint" in said and "warm-up" in said, f"a cold start: {warm_up(said)}")
    with h5py.File(f"{work}/psd-white.H1.hdf5") as file, h5py.File(f"{work}/sky.hdf5") as sky:
        got, segments, scale = file["psd"][0], int(file["segments"][0]), float(file["scale"][0])
        x = next(v for v in sky.values() if isinstance(v, h5py.Dataset))[:]
        check(file.attrs["format"] == b"gwstream-psd-1" and file.attrs["gps_ns"] == 1400000090 * 10**9
              and "median" in file.attrs["settings"].decode(), f"the file says what it is: {file.attrs['settings'].decode()}")
        names = file["channels"][:]
    x = x[:89 * FS]  # the last second is not closed before a sample after it comes
    _, _, p = signal.spectrogram(x, FS, "hann", 2 * FS, FS, detrend="constant", mode="psd")
    want = p[:, -segments:].T
    off = np.abs(got[:segments] / scale**2 / want - 1)
    check(segments == 63 and off.max() < 1e-6 and len(names) == 1,
          f"{segments} segments of {want.shape[1]} bins as scipy has them, to {off.max():.0e}")


def check_starts(work):
    """Warm, and all that makes it cold."""
    file = pathlib.Path(f"{work}/psd-white.H1.hdf5")
    good = file.read_bytes()
    code, _, said = run("run", graph(work, "warm", sim(1400000105, "10s")))
    lost = warm_up(said)
    check(code == 0 and said.count("warm start from") == 1 and "15 s old" in said, "a start 15 s later is warm, and one line says so")
    check(sum(lost.values()) < 2, f"and searches as soon as the filter's memory is full: {lost}")
    check(file.read_bytes() != good, "its end is a new checkpoint")

    def cold(what, say, source, more=""):
        code, _, said = run("run", graph(work, "other", source, more))
        told = [line for line in said.splitlines() if "psd-white" in line]
        check(code == 0 and len(told) == 1 and say in told[0] and 7 < sum(warm_up(said).values()) <= 8.2,
              f"{what}: one line and the normal warm-up ({' '.join(told)[25:]})")

    for what, say, bytes_ in (("missing", "no checkpoint", None), ("damaged", "not used", good[:len(good) // 2]),
                              ("damaged", "not used", good[:-99999] + b"x" + good[-99998:]), ("no HDF5", "not used", b"hello")):
        file.unlink(missing_ok=True)
        if bytes_ is not None:
            file.write_bytes(bytes_)
        cold(what, say, sim(1400000105, "10s"))
    for what, say, source, more in (("too old", "old", sim(1400000105, "10s"), ", checkpoint_age: 10s"),
                                    ("from the future", "later than the data", sim(1400000000, "10s"), ""),
                                    ("other settings", "other settings", sim(1400000105, "10s"), ", duration: 0.5s"),
                                    ("another stream", "another stream", sim(1400000105, "10s").replace("2048", "4096"), "")):
        file.write_bytes(good)
        cold(what, say, source, more)
    file.write_bytes(good)
    cold("archived data", "neither read nor written", f"replay, files: [{work}/sky.hdf5]")
    check(file.read_bytes() == good, "and the file is as it was")
    code, _, said = run("run", graph(work, "asked", f"replay, files: [{work}/sky.hdf5], start: 1400000040", ", checkpoint_replay: true"))
    check(code == 0 and "later than the data" in said and file.read_bytes() != good, "unless a replay is told to")
    (file.parent / "psd-white.H1.hdf5.part").mkdir()
    code, _, said = run("run", graph(work, "full", sim(1400000105, "200s")))
    check(code == 0 and said.count("cannot be written") == 1, "a disk that does not take it is said once, and the search goes on")
    (file.parent / "psd-white.H1.hdf5.part").rmdir()


def check_kill(work):
    """At any moment the file is the old one or a new one, whole."""
    path, file = graph(work, "kill", sim(1400000000, "1000000s")), pathlib.Path(f"{work}/psd-white.H1.hdf5")
    file.unlink(missing_ok=True)
    part = pathlib.Path(f"{file}.part")
    rng, seen, midst = random.Random(1), set(), 0
    for trial in range(14):
        part.unlink(missing_ok=True)
        before = file.stat().st_mtime_ns if file.exists() else 0
        p = subprocess.Popen([PROGRAM, "run", "--quiet", path], stderr=subprocess.DEVNULL)
        end = time.monotonic() + 15
        while time.monotonic() < end and not part.exists() and not (file.exists() and file.stat().st_mtime_ns != before):
            time.sleep(0.0005)
        time.sleep(rng.uniform(0, 0.005) if trial < 10 else rng.uniform(0, 0.5))
        p.send_signal(signals.SIGKILL)
        p.wait()
        midst += part.exists()
        if not file.exists():
            continue
        try:
            with h5py.File(file) as f:
                n = int(f["segments"][0])
                whole = n > 0 and (f["psd"][0, :n] > 0).all() and np.isfinite(f["taps"][:]).all()
                last = int(f.attrs["gps_ns"])
                seen.add(last)
        except (OSError, KeyError) as why:
            whole = False
            print(why)
        if not whole:
            check(False, "a file that is not whole")
    check(len(seen) > 0, f"killed 14 times while it wrote, {midst} times in the midst: never half a file")
    code, _, said = run("run", graph(work, "after", sim(last // 10**9 + 1, "10s")))
    check(code == 0 and "warm start" in said, "and it can be gone on from")


def check_gauges(work):
    if not DATA.is_dir():
        print("skipped: the range of real recordings: no data")
        return
    for detector, name, want in (("H1", "H-H1_LOSC_4_V2-1126259446-32.hdf5", 74.7), ("L1", "L-L1_LOSC_4_V2-1126259446-32.hdf5", 64.3)):
        path = pathlib.Path(work) / "range.yaml"
        path.write_text(f"sources: {{archive: {{kind: replay, files: [{DATA}/strain-4k/{name}]}}}}\n"
                        "stages:\n  down: {kind: resample, from: archive, rate: 2048Hz}\n  white: {kind: whiten, from: down}\n"
                        "sinks: {end: {kind: 'null', from: white}}\n")
        code, _, said = run("run", path)
        found = re.search(rf"white\.{detector}: ([^\n]*)", said)
        values = dict(re.findall(r"(\w+) ([\d.e+-]+)", found[1])) if found else {}
        mpc = float(values.get("bns_range_mpc", 0))
        check(code == 0 and abs(mpc / want - 1) < 0.03, f"{detector} at GW150914: BNS range {mpc} Mpc, {want} within 3 % ({values})")


def main():
    os.environ.pop("GWSTREAM_RUN", None)
    with folder() as work:
        check_file(work)
        check_starts(work)
        check_kill(work)
        check_gauges(work)
    finish()


main()
