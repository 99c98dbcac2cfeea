# SPDX-License-Identifier: GPL-3.0-or-later
"""Ranking 1,000 channels in real time: are all true witnesses above all others, and how much time is left?

1,000 channels of 16, 512 and 2048 Hz beside strain at 16,384 Hz, made once into a file: three witnesses of mains in
three phases, six slow motions that modulate it, twelve witnesses of noise from 10 to 30 Hz; all others see noise of
their own. `gwstream witness rank` reads the file as fast as it goes; how often real time it does so, with reading, and
how long a table takes. Rounds; medians.

    python3 benchmarks/bench_rank.py [--channels 1000] [--seconds 300] [--rounds 3] [--quick]"""

import argparse
import json
import os
import pathlib
import re
import resource
import statistics
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests" / "long"))
from result import calm, save  # noqa: E402
from flow import PROGRAM, check, finish, folder, skip  # noqa: E402

try:
    import h5py
    import numpy as np
    import scipy.signal as sig
except ImportError as e:
    skip(str(e))

arguments = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
arguments.add_argument("--channels", type=int, default=1000)
arguments.add_argument("--seconds", type=int, default=300)
arguments.add_argument("--rounds", type=int, default=3)
arguments.add_argument("--quick", action="store_true", help="few channels, one round and no file: does it work?")
options = arguments.parse_args()
if options.quick:
    options.channels, options.seconds, options.rounds = 120, 160, 1

START, RATE, SECONDS = 1400000000, 16384, options.seconds
HIGH = 2048  # where strain's couplings are made
rng = np.random.default_rng(10)


def noise(rate, low, high):
    n = SECONDS * rate
    f = np.fft.rfftfreq(n, 1 / rate)
    x = np.fft.irfft(np.where((f >= low) & (f <= high), np.fft.rfft(rng.standard_normal(n)), 0), n)
    return x / np.std(x)


def simulate(path):
    t = np.arange(SECONDS * HIGH) / HIGH
    turns = 60 * t + 0.5 * np.sin(2 * np.pi * 0.02 * t)
    mains = np.sqrt(2) * np.cos(2 * np.pi * turns)
    coupled, truth = 5 * mains, []
    with h5py.File(path, "w") as f:
        def put(name, rate, x):
            f.create_dataset(name, data=x.astype(np.float32)).attrs.update({"t0": START, "sample_rate": rate})

        for k in range(3):
            x = np.cos(2 * np.pi * (turns + k / 3))[::4]
            truth.append(f"H1:PEM-MAINS_{k}")
            put(truth[-1], 512, x + 0.02 * rng.standard_normal(x.size))
        for k in range(6):
            slow, rate = noise(HIGH, 0.15, 1.5), (16, 512)[k % 2]
            coupled = coupled + 0.15 * mains * slow
            truth.append(f"H1:ASC-SLOW_{k}")
            put(truth[-1], rate, slow[::HIGH // rate] + 0.02 * rng.standard_normal(SECONDS * rate))
        for k in range(12):
            x = noise(HIGH, 8, 35)
            y = sig.lfilter(*sig.iirpeak(11 + 1.5 * k, 8, HIGH), x)
            coupled = coupled + (0.06 + 0.03 * k) * y / np.std(y)
            truth.append(f"H1:ISI-JITTER_{k}")
            put(truth[-1], HIGH, x + 0.02 * rng.standard_normal(x.size))
        for k in range(options.channels - len(truth)):
            rate = (16, 512, HIGH)[k % 3]
            put(f"H1:AUX-IDLE_{k:04d}", rate, rng.standard_normal(SECONDS * rate) if k % 2 else noise(rate, 0.1, 7))
        strain = sig.resample_poly(coupled, RATE // HIGH, 1) + np.sqrt(RATE / HIGH) * rng.standard_normal(SECONDS * RATE)
        f.create_dataset("H1:STRAIN", data=1e-21 * strain).attrs.update({"t0": START, "sample_rate": RATE})
    return truth


def round_of(path, work):
    before, at = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    p = subprocess.run([PROGRAM, "witness", "rank", "--strain", "H1:STRAIN", "--json", f"{work}/r.json", path],
                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=20 * SECONDS + 60)
    wall, after = time.monotonic() - at, resource.getrusage(resource.RUSAGE_CHILDREN)
    if p.returncode:
        print(p.stderr)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    table = re.search(r"table_s ([\d.]+)", p.stderr)
    return {"times_real_time": round(SECONDS / wall, 2), "cores": round(cpu / SECONDS, 4),
            "table_s": float(table.group(1)) if table else None, "peak_MiB": round(after.ru_maxrss / 1024)}


with folder() as work:
    path = f"{work}/sky.hdf5"
    truth = simulate(path)
    load = None if options.quick else calm()
    rounds = [round_of(path, work) for _ in range(options.rounds)]
    said = json.load(open(f"{work}/r.json"))
    order = [c["channel"] for c in said["channels"]]
    last = max(map(order.index, truth)) + 1
    wrong = [c["channel"] for c in said["channels"] if c["verdict"] in ("chosen", "coherent") and c["channel"] not in truth]
    figures = {k: statistics.median(r[k] for r in rounds) for k in rounds[0]}
    check(last == len(truth), f"{len(truth)} true witnesses are the first {last} of {len(order)}")
    check(not wrong, f"none of the others is taken for one {wrong}")
    print(figures, {t["name"]: round(t["ratio"], 3) for t in said["targets"]})
    if not options.quick:
        check(figures["times_real_time"] > 1, f"{figures['times_real_time']:.1f} times real time on {len(os.sched_getaffinity(0))} cores")
        save("witness-rank", load=load, channels=len(order), seconds=SECONDS, bytes=os.path.getsize(path), true_witnesses=len(truth),
             worst_place=last, taken_wrongly=wrong, targets=said["targets"], rounds=rounds, median=figures)
finish()
