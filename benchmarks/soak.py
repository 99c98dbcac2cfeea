# SPDX-License-Identifier: GPL-3.0-or-later
"""A long run at 80 % of the critical rate, over two processes: nothing dropped, and neither memory nor file
descriptors nor the ages of blocks grow. Asks `gwstream top --json` as an operator would.

    python3 benchmarks/soak.py [GRAPH.yaml] [--minutes 10] [--channels N | 80 % of the latest critical rate]
    python3 benchmarks/soak.py --seconds 30 --channels 256 --test      as a test: no file, nothing said of speed"""

import argparse
import datetime
import json
import pathlib
import subprocess
import time

from pair import Pair
from result import PROGRAM, calm, save
from flow import ROOT, check, finish

HERE = pathlib.Path(__file__).resolve().parent
SHARE, SETTLE_S, RATE_HZ = 0.8, 2, 16000
MEMORY_SLACK = 4 << 20  # bytes that are noise

arguments = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
arguments.add_argument("graph", nargs="?", default=str(HERE / "critical_rate.yaml"))
arguments.add_argument("--minutes", type=float, default=10)
arguments.add_argument("--seconds", type=int, help="instead of minutes")
arguments.add_argument("--channels", type=int)
arguments.add_argument("--test", action="store_true")
options = arguments.parse_args()
seconds = options.seconds or round(options.minutes * 60)
if not options.channels:
    results = sorted((ROOT / "benchmarks" / "results").glob("critical-rate-2*.json"))
    if not results:
        arguments.error("no benchmarks/results/critical-rate-*.json yet: run critical_rate.py, or say --channels")
    options.channels = round(SHARE * json.loads(results[-1].read_text())["channels"])


def status(process):
    """The document of `gwstream top`, or None before there is one."""
    p = subprocess.run([PROGRAM, "top", "--json", str(process.pid)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                       text=True)
    return json.loads(p.stdout) if p.returncode == 0 and p.stdout else None


def ages(document):
    """Blocks by age in the receiving links of a document: {from_ns: count}"""
    total = {}
    for link in document["links"]:
        age = link.get("age", {"from_ns": [], "count": []})
        for from_ns, count in zip(age["from_ns"], age["count"]):
            total[from_ns] = total.get(from_ns, 0) + count
    return total


def quantile_ms(later, earlier, q):
    counts = {k: n - earlier.get(k, 0) for k, n in sorted(later.items())}
    left = q * sum(counts.values())
    for from_ns, n in counts.items():
        left -= n
        if left <= 0 and n:
            return from_ns / 1e6
    return 0.0


def under_way(document):
    """Data flow, and not their last half second: at the end links and threads go."""
    return document["begun"] and document["data_ns"] - document["first_ns"] < (seconds - 0.5) * 1e9


load = calm() if not options.test else None
seen = []  # (seconds since the start, {node: document})
begin = time.monotonic()
with Pair(options.graph, CHANNELS=options.channels, DURATION=f"{seconds}s") as pair:
    while len(pair.running()) == len(pair.process) and time.monotonic() < begin + seconds + 60:
        documents = {n: status(p) for n, p in pair.process.items()}
        if all(d and under_way(d) for d in documents.values()):
            seen.append((time.monotonic() - begin, documents))
        time.sleep(1)
    well = pair.wait(30)
    report = pair.report() or {}
    check(well, f"both processes end well after {seconds} s {pair.complaint()}")

check(report.get("gaps") == 0 and report.get("bytes") == options.channels * RATE_HZ * 4 * seconds,
      f"nothing was dropped: {report.get('bytes', 0) / 1e9:.2f} GB of {options.channels} channels, "
      f"{report.get('gaps')} gaps")
check(len(seen) >= seconds / 4, f"asked {len(seen)} times meanwhile")
figures = {}
if len(seen) >= 6:
    # The first tenth is warming up: slabs are seen for the first time, thread stacks and sockets grow.
    settled = [s for s in seen if s[0] > max(SETTLE_S + 1, 0.1 * seconds)]
    thirds = [settled[0], settled[len(settled) // 3], settled[2 * len(settled) // 3], settled[-1]]
    for node in thirds[0][1]:
        rss = [max(d[node]["process"]["rss_bytes"] for _, d in settled[i * len(settled) // 3:(i + 1) * len(settled) // 3])
               for i in range(3)]
        fds = [d[node]["process"]["fds"] for _, d in settled]
        threads = [d[node]["process"]["threads"] for _, d in settled]
        check(rss[2] <= rss[0] + MEMORY_SLACK + rss[0] // 100,
              f"{node}: memory does not grow: {rss[0] / 2**20:.1f}, {rss[1] / 2**20:.1f}, {rss[2] / 2**20:.1f} MiB in the thirds")
        # A poll that catches an accept() in the act may see one more.
        check(sorted(fds)[len(fds) // 2] == min(fds) and max(fds) <= min(fds) + 2,
              f"{node}: {min(fds)} to {max(fds)} file descriptors")
        check(max(threads) == min(threads), f"{node}: {min(threads)} to {max(threads)} threads")
        figures[node] = {"rss_bytes": rss, "fds": [min(fds), max(fds)]}
    histogram = [{} for _ in thirds]
    for i, (_, documents) in enumerate(thirds):
        for document in documents.values():
            for k, n in ages(document).items():
                histogram[i][k] = histogram[i].get(k, 0) + n
    by_third = [[quantile_ms(b, a, q) for q in (0.5, 0.99, 0.999)] for a, b in zip(histogram, histogram[1:])]
    figures["age_ms_by_third"] = [dict(zip(("p50", "p99", "p999"), (round(x, 2) for x in t))) for t in by_third]
    print("ages when taken up, by third:", figures["age_ms_by_third"])
    if not options.test:
        check(by_third[2][0] <= 1.2 * by_third[0][0] + 1, "the median age does not grow")
        check(by_third[2][1] <= 1.5 * by_third[0][1] + 5, "the 99 % age does not grow")
dropped = sum(end["dropped"] for _, d in seen[-1:] for x in d.values() for link in x["links"]
              for end in (link["sent"], link["received"]) if end)
check(dropped == 0, f"the links count {dropped} dropped blocks")
if not options.test:
    save(f"soak-{datetime.date.today().isoformat()}", graph=pathlib.Path(options.graph).read_text(), load_before=load,
         seconds=seconds, channels=options.channels, report=report, **figures)
finish()
