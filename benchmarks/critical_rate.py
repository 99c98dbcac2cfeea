# SPDX-License-Identifier: GPL-3.0-or-later
"""The largest number of channels at 16 kHz, in 1/16-s blocks, that a graph sustains: nothing dropped, and 99.9 % of
the blocks worked off within the budget after their last sample was due.

A trial near the edge succeeds today and fails tomorrow, so this is a noisy binary search (after katgpucbf's): the
edge has a probability over a grid of channel numbers; each trial, at the median, multiplies it by what that
outcome would be worth if it were wrong one time in WRONG; trials gather where it is undecided. The median and its
middle 80 % are the answer, then confirmed by one long run.

    python3 benchmarks/critical_rate.py [GRAPH.yaml] [--seconds 10] [--confirm 60] [--budget 150] [--trials 20]"""

import argparse
import datetime
import json
import math
import pathlib
import subprocess

from pair import Pair
from result import PROGRAM, calm, save
from flow import ROOT, check, finish

HERE = pathlib.Path(__file__).resolve().parent
RATE_HZ, SETTLE_S, WRONG, STEP = 16000, 2, 10, 1.02
MEMORY_SHARE = 0.5  # of what is free, for slabs

arguments = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
arguments.add_argument("graph", nargs="?", default=str(HERE / "critical_rate.yaml"))
arguments.add_argument("--seconds", type=int, default=10, help="of a trial, after %d s to settle" % SETTLE_S)
arguments.add_argument("--confirm", type=int, default=60, help="seconds of the last run")
arguments.add_argument("--budget", type=float, default=150, help="ms of age that 99.9 %% of the blocks keep")
arguments.add_argument("--trials", type=int, default=20)
arguments.add_argument("--low", type=int, default=1000)
arguments.add_argument("--high", type=int, default=1000000)
arguments.add_argument("--name", default="critical-rate", help="of the result")
arguments.add_argument("--programs", default=str(ROOT / "build" / "benchmarks"), help="folder of bench_memory")
arguments.add_argument("--quick", action="store_true", help="a few short trials and no file: does it work at all?")
options = arguments.parse_args()
if options.quick:
    options.seconds, options.confirm, options.trials, options.high = 1, 2, 3, 4 * options.low


def memory():
    return json.loads(subprocess.run([f"{options.programs}/bench_memory"], stdout=subprocess.PIPE, check=True).stdout)


def slab_bytes_a_channel():
    """From what `check` says of two plans; so the number of slabs is the program's own business."""
    sizes = []
    for channels in (10000, 20000):
        text = pathlib.Path(options.graph).read_text().replace("CHANNELS", str(channels)).replace("DURATION", "10s")
        path = pathlib.Path(subprocess.run(["mktemp", "--suffix=.yaml"], stdout=subprocess.PIPE, text=True).stdout.strip())
        path.write_text(text)
        said = subprocess.run([PROGRAM, "check", path], stdout=subprocess.PIPE, text=True, check=True).stdout
        path.unlink()
        unit = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
        words = said.split()
        sizes.append(sum(float(words[i + 1]) * unit[words[i + 2].rstrip(",")] for i, w in enumerate(words) if w == "memory"))
    return (sizes[1] - sizes[0]) / 10000


def free_bytes():
    for line in open("/proc/meminfo"):
        if line.startswith("MemAvailable"):
            return int(line.split()[1]) * 1024


def sustains(channels, seconds, budget_ms):
    """(holds, what was seen)"""
    duration = seconds + SETTLE_S
    with Pair(options.graph, CHANNELS=channels, DURATION=f"{duration}s") as pair:
        well = pair.wait(duration * 1.5 + 60)
        r = pair.report()
        if not well or not r:
            return False, {"failed": pair.complaint() or "no report"}
        r["cpu"] = {n: round(s / duration, 3) for n, s in pair.cpu_s.items()}
    whole = r["gaps"] == 0 and r["bytes"] == channels * RATE_HZ * 4 * duration
    return whole and r["p999_ms"] < budget_ms, r


def quantile(p, q):
    total = 0
    for i, x in enumerate(p):
        total += x
        if total >= q:
            return i
    return len(p) - 1


load = None if options.quick else calm()
before = memory()
high = min(options.high, int(MEMORY_SHARE * free_bytes() / slab_bytes_a_channel()))
grid = [round(options.low * STEP**i) for i in range(int(math.log(high / options.low) / math.log(STEP)) + 1)]
edge = [1 / len(grid)] * len(grid)  # probability that grid[i] is the largest number that holds
history = []
for _ in range(options.trials):
    i = quantile(edge, 0.5)
    holds, seen = sustains(grid[i], options.seconds, options.budget)
    history.append({"channels": grid[i], "holds": holds, **seen})
    print(f"{grid[i]:8d} channels: {'holds' if holds else 'fails'}  {seen}", flush=True)
    edge = [p * (1 - 1 / WRONG if (k >= i) == holds else 1 / WRONG) for k, p in enumerate(edge)]
    edge = [p / sum(edge) for p in edge]
    spread = [grid[quantile(edge, q)] for q in (0.1, 0.5, 0.9)]
    if spread[2] <= spread[0] * STEP**2:
        break
found = spread[1]
at_the_limit_of_memory = found >= grid[-1] / STEP
print(f"critical rate: {found} channels ({spread[0]} to {spread[2]})"
      + (": all that fits into this machine's memory" if at_the_limit_of_memory else ""), flush=True)

confirmed, seen, rate = False, {}, found
while not confirmed and rate > 0.7 * found:
    confirmed, seen = sustains(rate, options.confirm, options.budget)
    print(f"{rate} channels for {options.confirm} s: {'holds' if confirmed else 'fails'}  {seen}", flush=True)
    if not confirmed:
        rate = round(rate / STEP**2)
after = memory()
check(confirmed, f"{rate} channels for {options.confirm} s without a drop, p99.9 age {seen.get('p999_ms')} ms "
                 f"(below {options.budget:.0f})")
moved = rate * RATE_HZ * 4 / 1e9
shares = {f"of_{k}": round(moved / ((before[k] + after[k]) / 2), 3) for k in before}
print(f"{moved:.2f} GB/s: {shares}")
if options.quick:
    finish()
save(f"{options.name}-{datetime.date.today().isoformat()}", graph=pathlib.Path(options.graph).read_text(),
     load_before=load, budget_ms=options.budget, rate_hz=RATE_HZ, channels=rate, GB_per_s=round(moved, 3), **shares,
     search={"median": found, "from": spread[0], "to": spread[2], "limited_by_memory": at_the_limit_of_memory,
             "seconds": options.seconds, "trials": history},
     confirmed={"seconds": options.confirm, **seen}, memory={"before": before, "after": after})
finish()
