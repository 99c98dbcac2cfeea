# SPDX-License-Identifier: GPL-3.0-or-later
"""What whitening many channels costs on one core, beside the bare transforms of one channel in the cache (ours, and
FFTW's of the same length), memcpy, and scipy doing the same work in the same minutes. Filters of 1/4 to 2 s, hops of
1/16 to 1 s, decimation, half-size filters, PSD, samples of 1e-21, one thread and all. Rounds are interleaved, medians.
Writes benchmarks/results/whiten-DATE.json.

    benchmarks/bench_whiten.py [--program build/benchmarks/bench_whiten] [--rounds 5] [--wisdom FILE] [--quick]"""

import argparse
import datetime
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

import numpy as np
import scipy.fft
import scipy.signal

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests" / "long"))
from result import calm, save  # noqa: E402
from flow import ROOT, check, finish  # noqa: E402

S = 16384
arguments = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
arguments.add_argument("--program", default=str(ROOT / "build" / "benchmarks" / "bench_whiten"))
arguments.add_argument("--rounds", type=int, default=5)
arguments.add_argument("--channels", type=int, default=512)
arguments.add_argument("--wisdom", help="of `gwstream tune`, for lengths that are FFTW's")
arguments.add_argument("--name", default="whiten", help="of the result")
arguments.add_argument("--quick", action="store_true", help="one short round and no file: does it work at all?")
options = arguments.parse_args()
if options.quick:
    options.rounds, options.channels = 1, 16

SHAPES = {"1 s": {}, "1 s, PSD": {"segment": 2 * S}, "1 s, tiny": {"tiny": True}, "1 s, half": {"half": True},
          "1 s, PSD median of 7, 8 bins pooled": {"segment": 2 * S, "median": 7, "pool": 8},
          "1 s, / 4": {"decimate": 4}, "1 s, / 8": {"decimate": 8}}
for word, hop in (("1", S), ("1/4", S // 4), ("1/16", S // 16)):
    for name, taps in (("1/4", S // 4), ("1/2", S // 2), ("1", S), ("2", 2 * S)):
        if (hop, taps) != (S, S):
            SHAPES[f"hop {word} s, filter {name} s"] = {"hop": hop, "taps": taps}
SHAPES["hop 1/4 s, filter 1 s, / 4"] = {"hop": S // 4, "decimate": 4}
SHAPES["hop 1/4 s, filter 1 s, half"] = {"hop": S // 4, "half": True}
SHAPES["hop 1/4 s, filter 1 s, PSD of 1/2 s"] = {"hop": S // 4, "segment": S // 2}
SHAPES["16000 Hz, 1 s, PSD"] = {"rate": 16000, "hop": 16000, "taps": 16000, "segment": 32000}
SHAPES["hop 17000, FFTW's length"] = {"hop": 17000, "taps": 17000}
SHAPES["1 s, all threads"] = {"threads": os.cpu_count()}
if options.quick:
    SHAPES = {k: SHAPES[k] for k in ("1 s", "1 s, PSD", "1 s, tiny", "1 s, / 4", "hop 1/4 s, filter 1 s", "1 s, all threads")}


def program(hop=S, taps=S, half=False, tiny=False, **numbers):
    words = [options.program, "--rounds", 1 if options.quick else 3, "--channels", options.channels * S // hop // (1 if hop == S else 2),
             "--hop", hop, "--taps", taps]
    words += ["--plan-ms", 100] if options.quick else []
    words += ["--half"] * half + ["--tiny"] * tiny + [w for k, v in numbers.items() for w in ("--" + k, v)]
    words += ["--wisdom", options.wisdom] if options.wisdom else []
    out = subprocess.run([str(w) for w in words], stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(out.stdout)


def timed(work, channels):
    begin = time.process_time()
    work()
    return (time.process_time() - begin) / channels * 1e6


def scipy_batched():
    """rfft * W * irfft of 2 s in float32 for many channels at once: microseconds a channel."""
    n = 16 if options.quick else 128
    x, w = batch[:n], np.ones((n, S + 1), "c8")
    return timed(lambda: scipy.fft.irfft(scipy.fft.rfft(x, axis=-1) * w, axis=-1), n)


def scipy_oaconvolve():
    """One hop of 1 s through a filter of 1 s, channel by channel, as a stream does it."""
    n, taps = 4 if options.quick else 32, np.ones(S, "f4")
    return timed(lambda: [scipy.signal.oaconvolve(batch[i, 1:], taps, "valid") for i in range(n)], n)


batch = np.random.default_rng(1).standard_normal((128, 2 * S)).astype("f4")
load = 0 if options.quick else calm()
trials, batched, oaconvolve = {k: [] for k in SHAPES}, [], []
for _ in range(options.rounds):
    for name, shape in SHAPES.items():
        trials[name].append(program(**shape))
        if name == "1 s":
            batched.append(scipy_batched() / trials[name][-1]["streamed_us"])
            oaconvolve.append(scipy_oaconvolve() / trials[name][-1]["streamed_us"])

table = {}
print(f"{'':38s} streamed  cached    bare    FFTW  memcpy   / bare  / FFTW  channels a core")
for name, all_ in trials.items():
    row = dict(all_[0])
    row |= {k: round(statistics.median(t[k] for t in all_), 3) for k, v in row.items() if isinstance(v, float) or k == "channels_per_core"}
    table[name] = row
    print(f"{name:38s}" + "".join(f"{row[k + '_us']:8.1f}" for k in ("streamed", "cached", "bare", "fftw", "memcpy")) +
          f" {row['streamed_of_bare']:8.2f} {row['streamed_of_fftw']:7.2f} {row['channels_per_core']:9.0f}")


def ratio(a, b, figure="streamed_us"):
    return statistics.median(x[figure] / y[figure] for x, y in zip(trials[a], trials[b]))


psd = statistics.median((a["streamed_us"] - b["streamed_us"]) / a["accumulator_us"]
                        for a, b in zip(trials["1 s, PSD"], trials["1 s"]))
figures = {"streamed_of_bare": table["1 s"]["streamed_of_bare"], "streamed_of_fftw": table["1 s"]["streamed_of_fftw"],
           "psd_of_memcpy": round(psd, 2), "scipy_fft_over_streamed": round(statistics.median(batched), 2),
           "oaconvolve_over_streamed": round(statistics.median(oaconvolve), 2),
           "tiny_of_unit": round(ratio("1 s, tiny", "1 s"), 3), "decimated_by_4_of_full": round(ratio("1 s, / 4", "1 s"), 3)}
print(json.dumps(figures, indent=2))
if options.quick:
    check(all(r["streamed_us"] > 0 for r in table.values()), "every shape was timed")
    finish()
for text, holds in ((f"streamed: {figures['streamed_of_bare']:.2f} x our bare transforms in the cache (at most 1.25)", figures["streamed_of_bare"] <= 1.25),
                    (f"streamed: {figures['streamed_of_fftw']:.2f} x FFTW's (at most 1.25)", figures["streamed_of_fftw"] <= 1.25),
                    (f"PSD: {psd:.2f} x memcpy of its accumulator (at most 2)", psd <= 2),
                    (f"scipy.fft in batches takes {figures['scipy_fft_over_streamed']:.1f} x (at least 1.9)", figures["scipy_fft_over_streamed"] >= 1.9),
                    (f"oaconvolve takes {figures['oaconvolve_over_streamed']:.1f} x (at least 4.5)", figures["oaconvolve_over_streamed"] >= 4.5),
                    (f"samples of 1e-21: {figures['tiny_of_unit']:.2f} x (at most 1.1)", figures["tiny_of_unit"] <= 1.1),
                    (f"decimated by 4: {figures['decimated_by_4_of_full']:.2f} x (at most 0.65)", figures["decimated_by_4_of_full"] <= 0.65)):
    check(holds, text)
save(f"{options.name}-{datetime.date.today().isoformat()}", rounds=options.rounds, load_before=load, load_after=calm(99),
     **figures, shapes=table)
finish()
