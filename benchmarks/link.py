# SPDX-License-Identifier: GPL-3.0-or-later
"""What a link can do, as ratios to what memory can do in the same minute. Runs bench_link over all transports and
message sizes, interleaved (so that a slow minute of the machine hits all alike), several rounds; takes medians;
says which bars hold; writes benchmarks/results/link-DATE.json.

    python3 benchmarks/link.py [--programs build/benchmarks] [--rounds 9] [--seconds 0.4] [--quick]"""

import argparse
import datetime
import json
import pathlib
import statistics
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests" / "long"))
from result import calm, save  # noqa: E402
from flow import ROOT, check, finish  # noqa: E402

KiB, MiB = 1 << 10, 1 << 20
SIZES = (64 * KiB, 256 * KiB, MiB, 4 * MiB, 16 * MiB)
TRANSPORTS = ("inproc", "shm", "ipc", "tcp", "tcp+curve")
NO_COPY = ("inproc", "shm")
# Where the threads of the two ends do best on few cores. ipc: both I/O threads on one core, so that the kernel's
# pages go round in its cache, and few blocks on the way, for the same reason; tcp: each end with its I/O thread on a
# core of its own. In YAML: io_cores, cores, credit.
PLACE = {"ipc": ("--place", "together", "--credit", 4), "tcp": ("--place", "apart")}
# Fill and read every byte at 1-4 MiB, in units of memcpy: what must hold, and what is hoped for.
BARS = {"shm": (0.45, 0.75), "ipc": (0.30, 0.50), "tcp": (0.20, 0.35)}
DESCRIPTORS_PER_S = 100_000
CREDIT = {"bytes": 8, "descriptors": 32}  # the default of a link that waits, and of one that drops (2 s)

arguments = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
arguments.add_argument("--programs", default=str(ROOT / "build" / "benchmarks"), help="folder of bench_link, bench_memory")
arguments.add_argument("--rounds", type=int, default=9)
arguments.add_argument("--seconds", type=float, default=0.4, help="of each measurement, after its warm-up")
arguments.add_argument("--quick", action="store_true", help="one short round and no file: does it work at all?")
options = arguments.parse_args()
if options.quick:
    options.rounds, options.seconds, SIZES = 1, 0.05, (64 * KiB, 4 * MiB)


def bench(*words):
    out = subprocess.run([f"{options.programs}/bench_link", "--seconds", str(options.seconds), *map(str, words)], text=True,
                         stdout=subprocess.PIPE, check=True)
    return json.loads(out.stdout)


def link(transport, mode, size, *more):
    curve = ["--curve"] if transport.endswith("+curve") else []
    return bench("link", transport.removesuffix("+curve"), mode, size, "--credit", CREDIT[mode], *curve, *more)


def bench_memory():
    out = subprocess.run([f"{options.programs}/bench_memory"], text=True, stdout=subprocess.PIPE, check=True)
    return json.loads(out.stdout)


def median(trials, key):
    return statistics.median(t[key] for t in trials)


def size_text(size):
    return f"{size // MiB} MiB" if size >= MiB else f"{size // KiB} KiB"


load = None if options.quick else calm()
moved = {}  # (transport, mode, size, how): trials of full speed; how: "link", "placed", in "2 lanes", or "plain" ZeroMQ
for _ in range(options.rounds):
    memory = bench_memory()
    moved.setdefault("memory", []).append(memory)
    for size in SIZES:
        for transport in TRANSPORTS:
            for mode in ("descriptors", "bytes") if transport in NO_COPY else ("bytes",):
                trial = link(transport, mode, size)
                trial["of_memcpy"] = trial["GB_per_s"] / memory["memcpy_GB_per_s"]
                moved.setdefault((transport, mode, size, "link"), []).append(trial)
    for transport in ("ipc", "tcp"):
        for size in (4 * MiB,) if options.quick else (MiB, 4 * MiB):
            for name, trial in (("placed", link(transport, "bytes", size, *PLACE[transport])),
                                ("2 lanes", link(transport, "bytes", size, "--lanes", 2)),
                                ("plain", bench("plain", transport, "bytes", size, "--credit", CREDIT["bytes"]))):
                trial["of_memcpy"] = trial["GB_per_s"] / memory["memcpy_GB_per_s"]
                moved.setdefault((transport, "bytes", size, name), []).append(trial)

# Latency at half the speed found, beside what a bare socket needs to wake somebody at the same rate.
late, woken = {}, {}
for _ in range(options.rounds):
    for size in SIZES:
        for transport in TRANSPORTS:
            rate = median(moved[transport, "bytes", size, "link"], "blocks_per_s") / 2
            late.setdefault((transport, size), []).append(link(transport, "bytes", size, "--rate", rate))
            woken.setdefault((transport, size), []).append(
                bench("ping", transport.removesuffix("+curve").replace("shm", "ipc"), "--rate", rate))

memory = {k: round(median(moved["memory"], k), 3) for k in moved["memory"][0]}
print(f"\nmemory: {memory}\n{'':29s}   blocks/s     GB/s  x memcpy   CPU s|r")
table = []
for (transport, mode, size, how), trials in ((k, v) for k, v in moved.items() if k != "memory"):
    row = {"transport": transport, "mode": mode, "bytes": size, "how": how, "credit": CREDIT[mode],
           "blocks_per_s": round(median(trials, "blocks_per_s"), 1),
           "GB_per_s": round(median(trials, "GB_per_s"), 3), "of_memcpy": round(median(trials, "of_memcpy"), 3),
           "of_memcpy_least_and_most": [round(f(t["of_memcpy"] for t in trials), 3) for f in (min, max)],
           "sender_cpu": round(median(trials, "sender_cpu"), 3),
           "receiver_cpu": round(median(trials, "receiver_cpu"), 3),
           "copied_bytes": sum(sum(t["copied_bytes"]) for t in trials), "wrong": sum(t["wrong"] for t in trials)}
    table.append(row)
    print(f"{transport:9s} {mode:11s} {size_text(size):>8s} {how:7s} {row['blocks_per_s']:9.0f} {row['GB_per_s']:8.2f} "
          f"{row['of_memcpy']:8.2f}   {row['sender_cpu']:.2f}|{row['receiver_cpu']:.2f}")
latency = []
print(f"\n{'latency at half load, us':24s}      p50      p99    p99.9   waking up: p50 p99 p99.9")
for (transport, size), trials in late.items():
    row = {"transport": transport, "bytes": size, "rate_hz": round(median(trials, "rate_hz"), 1)}
    for key in ("p50_us", "p99_us", "p999_us"):
        row[key] = round(median(trials, key), 1)
        row["wake_" + key] = round(median(woken[transport, size], key), 1)
        row[key.replace("_us", "_of_wake")] = round(row[key] / row["wake_" + key], 2)
    latency.append(row)
    print(f"{transport:9s} {size_text(size):>14s} {row['p50_us']:9.0f}{row['p99_us']:9.0f}{row['p999_us']:9.0f}"
          f"   {row['wake_p50_us']:9.0f}{row['wake_p99_us']:9.0f}{row['wake_p999_us']:9.0f}")
print()

if options.quick:
    check(not any(r["wrong"] for r in table), "every block came with its content")
    check(not any(r["copied_bytes"] for r in table if r["transport"] in NO_COPY), "nothing was copied on inproc and shm")
    finish()

find = lambda **want: [r for r in table if all(r[k] == v for k, v in want.items())]  # noqa: E731
figures = {}
check(not any(r["wrong"] for r in table), "every block came with its content")
for transport in NO_COPY:
    rows = find(transport=transport, mode="descriptors")
    rates = [r["blocks_per_s"] for r in rows]
    figures[f"{transport}_descriptors_per_s"] = min(rates)
    figures[f"{transport}_size_dependence"] = round(max(rates) / min(rates), 3)
    check(max(rates) / min(rates) <= 1.2, f"{transport}: time a block independent of its size within "
                                          f"{max(rates) / min(rates):.2f} (at most 1.2)")
    check(not any(r["copied_bytes"] for r in find(transport=transport)), f"{transport}: no byte was copied")
check(figures["shm_descriptors_per_s"] >= DESCRIPTORS_PER_S,
      f"shm: {figures['shm_descriptors_per_s']:.0f} descriptors/s (at least {DESCRIPTORS_PER_S})")
for transport, (bar, stretch) in BARS.items():
    how = "placed" if transport in PLACE else "link"
    rows = [r for r in find(transport=transport, mode="bytes") if MiB <= r["bytes"] <= 4 * MiB]
    figures[f"{transport}_anywhere_of_memcpy"] = min(r["of_memcpy"] for r in rows if r["how"] == "link")
    share = figures[f"{transport}_of_memcpy"] = min(r["of_memcpy"] for r in rows if r["how"] == how)
    check(share >= bar, f"{transport}: {share:.2f} x memcpy at 1-4 MiB, {how} (at least {bar:.2f}; hoped for {stretch:.2f})")
    plain = [r["of_memcpy"] for r in find(transport=transport, how="plain")]
    if plain: # what a bare PUSH - PULL pair of ZeroMQ makes of the same bytes, without a CRC
        figures[f"{transport}_plain_zeromq_of_memcpy"] = min(plain)
save(f"link-{datetime.date.today().isoformat()}", rounds=options.rounds, seconds=options.seconds,
     load_before=load, load_after=calm(99), memory=memory, **figures, full_speed=table, latency=latency)
finish()
