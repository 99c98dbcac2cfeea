# SPDX-License-Identifier: GPL-3.0-or-later
"""The wall clock is stepped by an hour, forth and back, while a paced graph runs (libfaketime): it neither stands
still nor races, drops nothing, and records the same samples as a run that knows no clock."""

import glob
import os
import subprocess
import time

from faults import PROGRAM, check, finish, folder, run, skip

try:
    import h5py
    import numpy as np
except ImportError:
    skip("python3-h5py is not installed")

GRAPH = """
sources:
  sky: {{kind: sim, seed: 3, start: 1400000000, duration: 5s, rate: 4096Hz, block: 1/16s, pace: {pace}}}
sinks:
  keep: {{kind: record, from: sky, path: "{work}/{name}.hdf5"}}
"""
STEPS = [(1.5, 3600), (3, -3600)]  # seconds after the start; against true time


def write(path, text):
    with open(path + ".new", "w", encoding="ascii") as f:
        f.write(text)
    os.replace(path + ".new", path)


def samples(path):
    with h5py.File(path) as f:
        return {name: f[name][:] for name in ("H1:STRAIN", "L1:STRAIN")}


def graph(work, name, pace):
    write(f"{work}/{name}.yaml", GRAPH.format(work=work, name=name, pace=pace))
    return f"{work}/{name}.yaml"


library = glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")
if not library:
    skip("libfaketime is not installed (Debian: faketime)")
with folder() as work:
    status, _, err = run("run", "--quiet", graph(work, "reference", 0))
    check(status == 0, "a run as fast as it goes " + err)

    stamp = f"{work}/step"
    write(stamp, "+0")
    environment = dict(os.environ, LD_PRELOAD=library[0], FAKETIME_TIMESTAMP_FILE=stamp, FAKETIME_NO_CACHE="1",
                       FAKETIME_DONT_FAKE_MONOTONIC="1", DONT_FAKE_MONOTONIC="1",
                       ASAN_OPTIONS="verify_asan_link_order=0:detect_leaks=0")
    write(stamp, "+86400")
    faked = subprocess.run(["date", "+%s"], env=environment, stdout=subprocess.PIPE, text=True, check=True)
    if abs(int(faked.stdout) - time.time() - 86400) > 60:
        skip("libfaketime does not take here")
    write(stamp, "+0")

    began = time.monotonic()
    p = subprocess.Popen([PROGRAM, "run", graph(work, "stepped", 1)], env=environment, stderr=subprocess.PIPE, text=True)
    for after, step in STEPS:
        time.sleep(max(0, began + after - time.monotonic()))
        write(stamp, f"{step:+d}")
    try:
        _, err = p.communicate(timeout=20)
    except subprocess.TimeoutExpired:
        p.kill()
        err = "stood still"
    took = time.monotonic() - began
    check(p.returncode == 0, f"stepped by {STEPS[0][1]:+} s and then {STEPS[1][1] - STEPS[0][1]:+} s: exit {p.returncode}" +
          (f": {err[-300:]}" if p.returncode else ""))
    check(4.9 < took < 9, f"5 s of data at real time took {took:.2f} s")
    check("dropped" not in err, "nothing was dropped")
    if p.returncode == 0:
        want, have = samples(f"{work}/reference.hdf5"), samples(f"{work}/stepped.hdf5")
        same = all(np.array_equal(want[k], have[k], equal_nan=True) for k in want)
        check(same and len(want["H1:STRAIN"]) == 5 * 4096, "the same samples were recorded")
finish()
