# SPDX-License-Identifier: GPL-3.0-or-later
"""The largest number of channels at 16 kHz that a graph sustains: nothing dropped, and 99.9 % of the blocks worked off
within the budget after their last sample was due.

A trial near the edge succeeds today and fails tomorrow, so this is a noisy binary search (after katgpucbf's): the
edge has a probability over a grid of channel numbers; each trial, at the median, multiplies it by what that
outcome would be worth if it were wrong one time in WRONG; trials gather where it is undecided. The median and its
middle 80 % are the answer, then confirmed by one long run.

    python3 benchmarks/critical_rate.py [GRAPH.yaml] [--seconds 10] [--confirm 60] [--budget 150] [--trials 20]
    python3 benchmarks/critical_rate.py configs/node-cpu.yaml --hop 1s,1/4s,1/16s

A graph says CHANNELS and DURATION where these go; where it does not, they are put into its source `repeat`. With --hop
the edge is sought for each hop of its stage `whiten_bulk`, blocks as long as a hop; the budget is then two hops, and
the curve is the result: channels, the latency that the hop adds, and the cores that 100,000 channels would take."""

import argparse
import datetime
import json
import math
import os
import pathlib
import re
import subprocess
import tempfile
from fractions import Fraction

import yaml
from pair import Pair
from result import PROGRAM, calm, save
from flow import ROOT, check, finish

HERE = pathlib.Path(__file__).resolve().parent
RATE_HZ, SETTLE_S, WRONG, STEP = 16000, 2, 10, 1.02

arguments = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
arguments.add_argument("graph", nargs="?", default=str(HERE / "critical_rate.yaml"))
arguments.add_argument("--hop", help="1s,1/4s,1/16s: a curve over the hop of whiten_bulk")
arguments.add_argument("--seconds", type=int, default=10, help="of a trial, after the graph has settled")
arguments.add_argument("--confirm", type=int, default=60, help="seconds of the last run")
arguments.add_argument("--budget", type=float, help="ms of age that 99.9 %% of the blocks keep (150; two hops with --hop)")
arguments.add_argument("--trials", type=int, default=20)
arguments.add_argument("--low", type=int, default=1000)
arguments.add_argument("--high", type=int, default=1000000)
arguments.add_argument("--memory", type=float, help="share of the free memory that the graph may take (0.5; 0.8 with --hop)")
arguments.add_argument("--name", help="of the result (critical-rate, or the graph's)")
arguments.add_argument("--programs", default=str(ROOT / "build" / "benchmarks"), help="folder of bench_memory")
arguments.add_argument("--quick", action="store_true", help="a few short trials and no file: does it work at all?")
options = arguments.parse_args()
if options.quick:
    options.seconds, options.confirm, options.trials, options.high = 1, 2, 3, 4 * options.low
TEMPLATE = pathlib.Path(options.graph).read_text()
FREE = TEMPLATE.count("CHANNELS") == 0  # a graph as users have it
CORES = len(os.sched_getaffinity(0))
if FREE:
    RATE_HZ = int(re.search(r"rate: (\d+)Hz", TEMPLATE).group(1))


def graph_text(channels, seconds, hop):
    """The graph with so many channels, for so long."""
    if not FREE:
        return TEMPLATE.replace("CHANNELS", str(channels)).replace("DURATION", f"{seconds}s")
    graph = yaml.safe_load(TEMPLATE)
    for source in graph["sources"].values():
        if source["kind"] == "repeat":
            source.update(channels=channels, duration=f"{seconds}s")
            if hop:
                source["block"] = hop
    for stage in graph.get("stages", {}).values():
        if stage["kind"] == "whiten_bulk" and hop:
            stage["hop"] = hop
            # A block again and again has no power but at multiples of its rate: one of them goes into each bin.
            psd = stage.setdefault("psd", {})
            psd["bins"] = f"{max(int(psd.get('bins', '2Hz').rstrip('Hz')), round(1 / Fraction(hop.rstrip('s'))))}Hz"
    return yaml.safe_dump(graph, default_flow_style=False, sort_keys=False)


def settle_s():
    """Stream time whose ages are not counted: what the graph's sink says, from its first block on."""
    said = re.search(r"settle: (\d+)s", TEMPLATE)
    return SETTLE_S + (int(said.group(1)) + 4 if FREE and said else 0)


def memory():
    return json.loads(subprocess.run([f"{options.programs}/bench_memory"], stdout=subprocess.PIPE, check=True).stdout)


def bytes_a_channel(hop):
    """From what `check` says of two plans; so the number of slabs is the program's own business."""
    sizes = []
    for channels in (10000, 20000):
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as f:
            f.write(graph_text(channels, 10, hop))
            f.flush()
            said = subprocess.run([PROGRAM, "check", f.name], stdout=subprocess.PIPE, text=True, check=True).stdout
        unit = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
        words = said.split()
        sizes.append(sum(float(words[i + 1]) * unit[words[i + 2].rstrip(",")] for i, w in enumerate(words) if w == "memory"))
    return (sizes[1] - sizes[0]) / 10000


def free_bytes():
    for line in open("/proc/meminfo"):
        if line.startswith("MemAvailable"):
            return int(line.split()[1]) * 1024


def sustains(channels, seconds, budget_ms, hop):
    """(holds, what was seen)"""
    duration = seconds + settle_s()
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as f:
        f.write(graph_text(channels, duration, hop))
        f.flush()
        with Pair(f.name) as pair:
            well = pair.wait(duration * 1.5 + 60)
            r = pair.report()
            if not well or not r:
                return False, {"failed": pair.complaint() or "no report"}
            r["cpu"] = {str(n): round(s / duration, 3) for n, s in pair.cpu_s.items()}
            work = re.search(r"channel-hops of ([\d.]+) us, ([\d.]+) % of the work designs; .* in ([\d.]+) ms each", pair.log(None)) if FREE else None
            if work:
                r.update(channel_hop_us=float(work.group(1)), design_percent=float(work.group(2)), design_ms=float(work.group(3)))
    if FREE:  # a warm-up is a hole at the start, and the only one
        whole = r["samples"] + r["gap_samples"] == RATE_HZ * duration and r["gap_samples"] < RATE_HZ * settle_s()
    else:
        whole = r["gaps"] == 0 and r["bytes"] == channels * RATE_HZ * 4 * duration
    return whole and r["p999_ms"] < budget_ms, r


def quantile(p, q):
    total = 0
    for i, x in enumerate(p):
        total += x
        if total >= q:
            return i
    return len(p) - 1


def edge_of(hop, budget_ms):
    """The critical rate, searched and confirmed, as a dictionary."""
    share = options.memory or (0.8 if FREE else 0.5)
    high = min(options.high, int(share * free_bytes() / bytes_a_channel(hop)))
    grid = [round(options.low * STEP**i) for i in range(int(math.log(high / options.low) / math.log(STEP)) + 1)]
    edge = [1 / len(grid)] * len(grid)  # probability that grid[i] is the largest number that holds
    history = []
    for _ in range(options.trials):
        i = quantile(edge, 0.5)
        holds, seen = sustains(grid[i], options.seconds, budget_ms, hop)
        history.append({"channels": grid[i], "holds": holds, **seen})
        print(f"{grid[i]:8d} channels: {'holds' if holds else 'fails'}  {seen}", flush=True)
        edge = [p * (1 - 1 / WRONG if (k >= i) == holds else 1 / WRONG) for k, p in enumerate(edge)]
        edge = [p / sum(edge) for p in edge]
        spread = [grid[quantile(edge, q)] for q in (0.1, 0.5, 0.9)]
        if spread[2] <= spread[0] * STEP**2:
            break
    found = spread[1]
    limited = found >= grid[-1] / STEP
    print(f"critical rate: {found} channels ({spread[0]} to {spread[2]})"
          + (": all that fits into this machine's memory" if limited else ""), flush=True)
    confirmed, seen, rate = False, {}, found
    while not confirmed and rate > 0.7 * found:
        confirmed, seen = sustains(rate, options.confirm, budget_ms, hop)
        print(f"{rate} channels for {options.confirm} s: {'holds' if confirmed else 'fails'}  {seen}", flush=True)
        if not confirmed:
            rate = round(rate / STEP**2)
    check(confirmed, f"{rate} channels for {options.confirm} s without a drop, p99.9 age {seen.get('p999_ms')} ms "
                     f"(below {budget_ms:.0f})")
    return {"channels": rate,
            "search": {"median": found, "from": spread[0], "to": spread[2], "limited_by_memory": limited,
                       "seconds": options.seconds, "trials": history},
            "confirmed": {"seconds": options.confirm, **seen}}


def plain():
    before = memory()
    budget_ms = options.budget or 150
    seen = edge_of(None, budget_ms)
    after = memory()
    moved = seen["channels"] * RATE_HZ * 4 / 1e9
    shares = {f"of_{k}": round(moved / ((before[k] + after[k]) / 2), 3) for k in before}
    print(f"{moved:.2f} GB/s: {shares}")
    return {"budget_ms": budget_ms, "GB_per_s": round(moved, 3), **shares, **seen, "memory": {"before": before, "after": after}}


def curve():
    points = []
    for hop in options.hop.split(","):
        hop_ms = 1000 * float(Fraction(hop.rstrip("s")))
        budget_ms = options.budget or max(150, 2 * hop_ms)
        print(f"hop {hop}", flush=True)
        seen = edge_of(hop, budget_ms)
        late = seen["confirmed"]
        points.append({"hop": hop, "budget_ms": budget_ms, **seen,
                       "added_latency_ms": {"hop": hop_ms, "work_p50": late.get("p50_ms"), "work_p99": late.get("p99_ms")},
                       "cores_for_100000": round(100000 / seen["channels"] * CORES, 1)})
    for p in points:
        print(f"hop {p['hop']:>6}: {p['channels']:6d} channels on {CORES} cores, {p['cores_for_100000']} cores for 100,000, "
              f"added {p['added_latency_ms']}")
    return {"cores": CORES, "curve": points}


load = None if options.quick else calm()
result = curve() if options.hop else plain()
if options.quick:
    finish()
name = options.name or ("critical-rate" if not FREE else pathlib.Path(options.graph).stem)
save(f"{name}-{datetime.date.today().isoformat()}", graph=TEMPLATE, load_before=load, rate_hz=RATE_HZ, **result)
finish()
