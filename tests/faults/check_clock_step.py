# SPDX-License-Identifier: GPL-3.0-or-later
"""The wall clock is stepped by an hour, forth and back, while a paced graph runs (libfaketime): it neither stands
still nor races, drops nothing, and records the same samples as a run that knows no clock. And a live search on a host
whose clock is a minute behind: it says so, and goes on."""

import glob
import json
import os
import pathlib
import re
import subprocess
import sys
import threading
import time

from faults import MODEL, PROGRAM, check, finish, folder, run, skip, state_of, wait_until

try:
    import h5py
    import numpy as np
except ImportError:
    skip("python3-h5py is not installed")

GRAPH = """
sources:
  sky: {{kind: sim, seed: 3, start: 1400000000, duration: 8s, rate: 4096Hz, block: 1/16s, pace: {pace}}}
sinks:
  keep: {{kind: record, from: sky, path: "{work}/{name}.hdf5"}}
"""
SEARCH = """  alerts: {{kind: alerts, from: search, journal: '{work}/j.sqlite', print: none}}
stages:
  slow: {{kind: resample, from: sky, rate: 2048Hz}}
  white: {{kind: whiten, from: slow}}
  search: {{kind: detect, from: white, model: '{model}'}}
"""
LIVE = """
sources:
  sky: {{kind: live, listen: "ipc://@gwstream-clock-{pid}", streams: {{
        H1: {{channels: 1, rate: 2048Hz, samples: float64, unit: strain}},
        L1: {{channels: 1, rate: 2048Hz, samples: float64, unit: strain}}}}}}
stages:
  white: {{kind: whiten, from: sky}}
  search: {{kind: detect, from: white, model: '{model}'}}
sinks:
  alerts: {{kind: alerts, from: search, journal: "{work}/live.sqlite", print: none}}
"""
FEED = pathlib.Path(__file__).resolve().parents[1] / "clients" / "feed.py"
STEPS = [3600, -3600]  # seconds against true time: the first once it has looked at the clock, the next once it has said so


def write(path, text):
    with open(path + ".new", "w", encoding="ascii") as f:
        f.write(text)
    os.replace(path + ".new", path)


def samples(path):
    with h5py.File(path) as f:
        return {name: f[name][:] for name in ("H1:STRAIN", "L1:STRAIN")}


def graph(work, name, pace, more=""):
    write(f"{work}/{name}.yaml", (GRAPH + more).format(work=work, name=name, pace=pace, model=MODEL))
    return f"{work}/{name}.yaml"


def a_minute_behind(work, environment):
    """Two detectors' noise of now, in real time, to a gwstream whose clock is 60 s slow."""
    write(f"{work}/live.yaml", LIVE.format(work=work, pid=os.getpid(), model=MODEL))
    p = subprocess.Popen([PROGRAM, "run", f"{work}/live.yaml"], env=environment, stderr=subprocess.PIPE, text=True)
    start = int(time.time()) - 315964800 + 18
    spec = {"rate": [2048, 1], "dtype": "float64", "channels": 1, "block_samples": 128, "unit": "strain"}
    feeds = [subprocess.Popen([sys.executable, FEED, f"ipc://@gwstream-clock-{os.getpid()}-{k}",
                               json.dumps(dict(spec, detector=name)), str(start * 2048)], stdin=subprocess.PIPE)
             for k, name in enumerate(("H1", "L1"))]
    noise, began = np.random.default_rng(1), time.monotonic()
    try:
        for block in range(48):  # 3 s
            time.sleep(max(0, began + block / 16 - time.monotonic()))
            for f in feeds:
                f.stdin.write((noise.standard_normal(128) * 1e-21).tobytes())
                f.stdin.flush()
        for f in feeds:
            f.stdin.close()
            f.wait(10)
        _, err = p.communicate(timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        for q in (p, *feeds):
            q.kill()
        _, err = p.communicate()
    said = [line for line in err.splitlines() if "before their time" in line]
    check(len(said) == 1 and re.search(r"data come (5[5-9]|60|61)\.\d s before", said[0]), f"a live search, the clock a minute behind: "
          f"{said[0][25:] if said else err[-500:]}")
    check(p.returncode == 0 and re.search(r"clock_error_s -(5[5-9]|60|61)", err), f"it goes on to its end: exit {p.returncode}, and its gauge")


library = glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")
if not library:
    skip("libfaketime is not installed (Debian: faketime)")
with folder() as work:
    status, _, err = run("run", "--quiet", graph(work, "reference", 0))
    check(status == 0, "a run as fast as it goes " + err)

    stamp = f"{work}/step"
    write(stamp, "+0")
    # ASan's allocator asks for the time under a lock, for when it gives memory back; libfaketime then allocates.
    environment = dict(os.environ, LD_PRELOAD=library[0], FAKETIME_TIMESTAMP_FILE=stamp, FAKETIME_NO_CACHE="1",
                       FAKETIME_DONT_FAKE_MONOTONIC="1", DONT_FAKE_MONOTONIC="1",
                       ASAN_OPTIONS="verify_asan_link_order=0:detect_leaks=0:allocator_release_to_os_interval_ms=-1")
    write(stamp, "+86400")
    faked = subprocess.run(["date", "+%s"], env=environment, stdout=subprocess.PIPE, text=True, check=True)
    if abs(int(faked.stdout) - time.time() - 86400) > 60:
        skip("libfaketime does not take here")
    write(stamp, "+0")

    began = time.monotonic()
    p = subprocess.Popen([PROGRAM, "run", graph(work, "stepped", 1, SEARCH)], env=environment, stderr=subprocess.PIPE, text=True)
    standing_still = threading.Timer(40, p.kill)
    standing_still.start()
    wait_until(lambda: "clock_error_s" in json.dumps(state_of(p.pid)), "a look at the clock")
    err = ""
    for step in STEPS:
        write(stamp, f"{step:+d}")
        while line := p.stderr.readline():
            err += line
            if "clock was stepped by" in line:
                break
    err += p.stderr.read()
    p.wait()
    standing_still.cancel()
    took = time.monotonic() - began
    check(p.returncode == 0, f"stepped by {STEPS[0]:+} s and then {STEPS[1] - STEPS[0]:+} s: exit {p.returncode}" +
          (f": {err[-300:]}" if p.returncode else ""))
    check(7.9 < took < 12, f"8 s of data at real time took {took:.2f} s")
    check("dropped" not in err, "nothing was dropped")
    said = [line for line in err.splitlines() if "clock was stepped by" in line]
    check(len(said) == 2 and re.search(r"by \+3(600|599)\.\d+ s;", said[0]) and re.search(r"by -7(200|199)\.\d+ s;", said[1]),
          f"the alerts sink says each step once: {[line[25:95] for line in said]}")
    check(re.search(r"clock_error_s -3(600|599)", err), "and its gauge by how much the clock is off")
    if p.returncode == 0:
        want, have = samples(f"{work}/reference.hdf5"), samples(f"{work}/stepped.hdf5")
        same = all(np.array_equal(want[k], have[k], equal_nan=True) for k in want)
        check(same and len(want["H1:STRAIN"]) == 8 * 4096, "the same samples were recorded")
    write(stamp, "-60")
    a_minute_behind(work, environment)
finish()
