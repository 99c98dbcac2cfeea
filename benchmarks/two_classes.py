# SPDX-License-Identifier: GPL-3.0-or-later
"""How much later is the search's own whitening while bulk channels fill the machine to 80 %?

One graph (two_classes.yaml), one process. `own` is the age of whitened blocks of strain when they have been worked off,
`raw` that of the same blocks before whitening: what the source's and the sink's waking up cost on this busy machine.
The difference at p99 is what whitening adds beyond its block: less than 10 ms. Beside it the same with hardly any bulk
channels. Rounds with and without alternate; medians.

    python3 benchmarks/two_classes.py [--channels N] [--seconds 60] [--rounds 3]

N: 0.8 of what critical_rate.py found for configs/node-cpu.yaml at a hop of 1 s, from the newest result."""

import argparse
import datetime
import json
import os
import pathlib
import re
import statistics

from pair import REPORT, Pair
from result import calm, save
from flow import ROOT, check, finish

HERE = pathlib.Path(__file__).resolve().parent
SETTLE_S, FEW, BAR_MS = 28, 64, 10

arguments = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
arguments.add_argument("--channels", type=int, help="bulk channels (0.8 of the critical rate)")
arguments.add_argument("--seconds", type=int, default=60, help="of a round, after all has settled")
arguments.add_argument("--rounds", type=int, default=3)
arguments.add_argument("--quick", action="store_true", help="one short round with few channels and no file: does it work?")
options = arguments.parse_args()


def critical():
    for path in sorted((ROOT / "benchmarks" / "results").glob("node-cpu-*.json"), reverse=True):
        for point in json.loads(path.read_text()).get("curve", []):
            if point["hop"] == "1s":
                return point["channels"]
    raise SystemExit("no result of critical_rate.py configs/node-cpu.yaml --hop 1s; name --channels")


def ages(pair, stage):
    m = [REPORT.search(line) for line in pair.log(None).splitlines() if f"stage={stage} " in line]
    return [float(x or 0) for x in m[0].groups()[7:9]] if m and m[0] else [float("nan")] * 2


def one(channels):
    duration = SETTLE_S + options.seconds
    with Pair(HERE / "two_classes.yaml", CHANNELS=channels, DURATION=f"{duration}s") as pair:
        well = pair.wait(2 * duration + 60)
        seen = {f"{s}_{q}_ms": v for s in ("raw", "eye", "bin") for q, v in zip(("p50", "p99"), ages(pair, s))}
        seen["machine"] = round(pair.cpu_s.get(None, 0) / duration / len(os.sched_getaffinity(0)), 3)
        seen["added_ms"] = round(seen["eye_p99_ms"] - seen["raw_p99_ms"], 2)
        if not well:
            print(pair.complaint())
        gaps = re.findall(r"sent for ([\d.]+) s", pair.log(None))
    print(f"{channels:6d} bulk channels: {seen} {gaps}", flush=True)
    return seen


if options.quick:
    options.seconds, options.rounds, options.channels = 4, 1, options.channels or 256
channels = options.channels or round(0.8 * critical())
load = None if options.quick else calm()
rounds = {"busy": [], "idle": []}
for _ in range(options.rounds):
    rounds["idle"].append(one(FEW))
    rounds["busy"].append(one(channels))
median = {k: {key: statistics.median(r[key] for r in v) for key in v[0]} for k, v in rounds.items()}
print(json.dumps(median, indent=2))
if options.quick:
    check(all(r["eye_p99_ms"] > 0 and r["bin_p99_ms"] > 0 for v in rounds.values() for r in v), "both classes came out")
    finish()
check(median["busy"]["added_ms"] < BAR_MS, f"with {channels} bulk channels ({100 * median['busy']['machine']:.0f} % of the machine) "
      f"whitening adds {median['busy']['added_ms']:.2f} ms at p99 beyond its block (< {BAR_MS}; with {FEW}: {median['idle']['added_ms']:.2f})")
save(f"two-classes-{datetime.date.today().isoformat()}", graph=(HERE / "two_classes.yaml").read_text(), load_before=load,
     channels=channels, seconds=options.seconds, median=median, rounds=rounds)
finish()
