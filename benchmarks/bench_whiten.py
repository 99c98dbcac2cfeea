# SPDX-License-Identifier: GPL-3.0-or-later
"""What whitening many channels costs on one core, beside the bare transforms of one channel in the cache (ours, and
FFTW's of the same length), memcpy, and scipy doing the same work in the same minutes. Filters of 1/4 to 2 s, hops of
1/16 to 1 s, decimation, half-size filters, PSD, samples of 1e-21, one thread and all. Shapes that are compared with each
other take turns in one process, a few milliseconds each, and a ratio is one of neighbours in time; each process anew
(fresh memory) --processes times. Medians, and of the ratios the least and greatest process' median.
Writes benchmarks/results/whiten-DATE.json.

    benchmarks/bench_whiten.py [--program build/benchmarks/bench_whiten] [--processes 5] [--wisdom FILE] [--quick]
    benchmarks/bench_whiten.py --fftw $HOME/fftw/lib --name whiten-avx512      # beside a better FFTW (docs/tuning.md)"""

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
arguments.add_argument("--processes", type=int, default=5)
arguments.add_argument("--channels", type=int, default=256)
arguments.add_argument("--wisdom", help="of `gwstream tune`, for lengths that are FFTW's")
arguments.add_argument("--fftw", help="folder of another libfftw3f.so.3 to run with, built for this processor")
arguments.add_argument("--name", default="whiten", help="of the result")
arguments.add_argument("--quick", action="store_true", help="one short process a group and no file: does it work at all?")
options = arguments.parse_args()
if options.quick:
    options.processes, options.channels = 1, 16

# Groups of shapes that take turns in one process.
FIRST = {"1 s": "hop=16384", "1 s, PSD": "segment=32768", "1 s, tiny": "tiny", "1 s, half": "half",
         "1 s, / 4": "decimate=4", "1 s, / 8": "decimate=8", "1 s, PSD median of 7, 8 bins pooled": "segment=32768,median=7,pool=8"}
GROUPS = [FIRST]
for word, hop in (("1", S), ("1/4", S // 4), ("1/16", S // 16)):
    GROUPS.append({f"hop {word} s, filter {name} s": f"hop={hop},taps={taps},channels={min(options.channels * S // hop, 1024)}"
                   for name, taps in (("1/4", S // 4), ("1/2", S // 2), ("1", S), ("2", 2 * S))})
GROUPS[2] |= {"hop 1/4 s, filter 1 s, / 4": "hop=4096,decimate=4,channels=1024", "hop 1/4 s, filter 1 s, half": "hop=4096,half,channels=1024",
              "hop 1/4 s, filter 1 s, PSD of 1/2 s": "hop=4096,segment=8192,channels=1024"}
GROUPS[3] |= {"hop 1/16 s, filter 1 s, half": "hop=1024,half,channels=1024"}
GROUPS.append({"16000 Hz, 1 s, PSD": "rate=16000,hop=16000,taps=16000,segment=32000", "hop 17000": "hop=17000,taps=17000"})
THREADS = {"1 s, all threads": "hop=16384", "1 s, PSD, all threads": "segment=32768", "hop 1/4 s, filter 1 s, all threads": "hop=4096",
           "hop 1/16 s, filter 1 s, all threads": "hop=1024"}
GROUPS.append(THREADS)
if options.quick:
    GROUPS = [FIRST, {k: v.replace("channels=1024", "channels=16") for k, v in GROUPS[2].items()}, THREADS]


def program(group):
    """The shapes of a group, in the order given."""
    words = [options.program, "--rounds", 2 if options.quick else 9, "--channels", options.channels,
             "--threads", os.cpu_count() if group is THREADS else 1]
    words += ["--plan-ms", 10] if options.quick else []
    words += ["--wisdom", options.wisdom] if options.wisdom else []
    where = dict(os.environ, LD_LIBRARY_PATH=options.fftw) if options.fftw else None
    out = subprocess.run([str(w) for w in words + list(group.values())], stdout=subprocess.PIPE, text=True, check=True, env=where)
    return [json.loads(line) for line in out.stdout.splitlines()]


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
trials, batched, oaconvolve = {k: [] for group in GROUPS for k in group}, [], []
for _ in range(options.processes):
    for group in GROUPS:
        for name, result in zip(group, program(group)):
            trials[name].append(result)
        if group is FIRST:
            batched.append(scipy_batched() / trials["1 s"][-1]["streamed_us"])
            oaconvolve.append(scipy_oaconvolve() / trials["1 s"][-1]["streamed_us"])


def ratio(of_round):
    """The median over all rounds of all processes, and the least and greatest median of a process. of_round: from trial
    number and round to a figure."""
    rounds = range(len(trials["1 s"][0]["rounds"]["streamed"]))
    each = [[of_round(i, r) for r in rounds] for i in range(options.processes)]
    medians = [statistics.median(values) for values in each]
    return [round(v, 3) for v in (statistics.median(sum(each, [])), min(medians), max(medians))]


def us(name, figure, trial, number):
    return trials[name][trial]["rounds"][figure][number]


def of(a, b, figure="streamed"):
    """One shape's streamed time in that of another, or in another figure of its own."""
    return ratio(lambda i, r: us(a, "streamed", i, r) / us(b, figure, i, r))


table = {}
print(f"{'':38s} streamed  cached    bare    FFTW  memcpy   / bare  / FFTW  channels a core")
for name, all_ in trials.items():
    row = {k: v for k, v in all_[0].items() if k != "rounds"}
    row |= {k: round(statistics.median(t[k] for t in all_), 3) for k, v in row.items() if isinstance(v, float) or k == "channels_per_core"}
    table[name] = row
    print(f"{name:38s}" + "".join(f"{row[k + '_us']:8.1f}" for k in ("streamed", "cached", "bare", "fftw", "memcpy")) +
          f" {row['streamed_of_bare']:8.2f} {row['streamed_of_fftw']:7.2f} {row['channels_per_core']:9.0f}")

figures = {"streamed_of_bare": of("1 s", "1 s", "bare"), "streamed_of_fftw": of("1 s", "1 s", "fftw"),
           "psd_of_memcpy": ratio(lambda i, r: (us("1 s, PSD", "streamed", i, r) - us("1 s", "streamed", i, r)) /
                                  us("1 s, PSD", "accumulator", i, r)),
           "tiny_of_unit": of("1 s, tiny", "1 s"), "decimated_by_4_of_full": of("1 s, / 4", "1 s"),
           "scipy_fft_over_streamed": [round(f(batched), 3) for f in (statistics.median, min, max)],
           "oaconvolve_over_streamed": [round(f(oaconvolve), 3) for f in (statistics.median, min, max)]}
print(json.dumps(figures, indent=2))
if options.quick:
    check(all(r["streamed_us"] > 0 for r in table.values()), "every shape was timed")
    finish()
best = "avx512" in table["1 s"]["fft"]
for what, figure, most in ((f"streamed, of the bare transforms by {table['1 s']['fft']}", "streamed_of_fftw", 1.4 if best else 1.25),
                           ("streamed, of our bare transforms", "streamed_of_bare", 1.25),
                           ("PSD, of memcpy of its accumulator", "psd_of_memcpy", 2),
                           ("samples of 1e-21, of unit ones", "tiny_of_unit", 1.1),
                           ("decimated by 4, of the full rate", "decimated_by_4_of_full", 0.65)):
    value, low, high = figures[figure]
    check(value <= most, f"{what}: {value:.2f} x ({low:.2f} to {high:.2f}; at most {most})")
for what, figure, least in (("scipy.fft in batches", "scipy_fft_over_streamed", 2.4 if best else 1.9),
                            ("oaconvolve", "oaconvolve_over_streamed", 5.5 if best else 4.5)):
    value, low, high = figures[figure]
    check(value >= least, f"{what} takes {value:.1f} x ({low:.1f} to {high:.1f}; at least {least})")
save(f"{options.name}-{datetime.date.today().isoformat()}", processes=options.processes, load_before=load, load_after=calm(99),
     ratios_are="median, least and greatest of a process", **figures, shapes=table)
finish()
