# SPDX-License-Identifier: GPL-3.0-or-later
"""Time slides beside the live search: two detectors at 16384 Hz in 1/16-s blocks at 1x with injections, alone and with
`background` beside it, in turns. Latency of the first publication after the merger (journal) with and without and its
spread from run to run; processor time of each; slides that a core runs, and what sharing the features gains.

    python3 benchmarks/slides.py [--slides 2000] [--stages 10] [--seconds 240] [--rounds 3] [--anywhere] [--save]

The search has one core, slides and what feeds them the other (`cores`, `bulk_cores`; docs/tuning.md); with --anywhere all
threads may run on both.

Slides of one stage have offsets of up to 3/2 s a slide, so 2,000 of them are at work when 50 minutes are in the ring.
So that rounds can take turns, they are 10 stages of 200 here, each with a ring, features and a thread of its own, at
work after 5 minutes: no cheaper than one. --stages 1 is as in life, and a round an hour.

Data that carry injections are no background, so it is fed by a second simulation of the same noise without any, which
runs beside the search alone too. --save writes benchmarks/results/slides-DATE.json, with --anywhere slides-anywhere-DATE.json."""

import argparse
import datetime
import itertools
import json
import os
import pathlib
import sqlite3
import statistics
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests" / "long"))
from result import calm, save  # noqa: E402
from flow import MODEL, PROGRAM, ROOT, check, finish, folder  # noqa: E402

START, WARM_S, STEP_S = 1400000000, 80, 3  # the PSD remembers 64 s

arguments = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
arguments.add_argument("--slides", type=int, default=2000)
arguments.add_argument("--stages", type=int, default=10, choices=range(1, 17), metavar="N", help="that share them, 16 at most")
arguments.add_argument("--seconds", type=int, default=240, help="that are measured, of each run")
arguments.add_argument("--rounds", type=int, default=3)
arguments.add_argument("--anywhere", action="store_true", help="no thread has a core of its own")
arguments.add_argument("--save", action="store_true")
options = arguments.parse_args()
each = options.slides // options.stages
fill_s = WARM_S + STEP_S * ((each + 1) // 2) + 10
CORES = sorted(os.sched_getaffinity(0))[:2]
SEARCH, REST = ("", "") if options.anywhere else (f", cores: {CORES[0]}", f", cores: {CORES[-1]}")


def graph(work, beside):
    """The same stretch of the same sky, whatever runs before it."""
    before = fill_s if beside else WARM_S
    at = START + fill_s - before
    sky = (f"kind: sim, seed: 31, start: {at}, duration: {before + options.seconds}s, block: 1/16s, pace: 1, "
           f"glitches: {{rate: 1/30Hz, snr: [4, 80]}}")
    text = f"""sources:
  sky: {{{sky}, rate: 16384Hz{SEARCH},
    population: {{spacing: 5s, jitter: 500ms, mass: [10, 60], network_snr: [10, 20], min_ratio: 0.3, first: {before + 2}s}}}}
  still: {{{sky}, rate: 2048Hz{REST}}}
stages:
  down: {{kind: resample, from: sky, rate: 2048Hz{SEARCH}}}
  white: {{kind: whiten, from: down{SEARCH}}}
  search: {{kind: detect, from: white, model: "{MODEL}", refractory: 3s{SEARCH}}}
  quiet: {{kind: whiten, from: still{REST}}}
"""
    names = [f"noise{k}" for k in range(options.stages)] if beside else []
    for name in names:
        text += f'  {name}: {{kind: background, from: quiet, model: "{MODEL}", slides: {each}, step: {STEP_S}s{REST}}}\n'
    text += f"""sinks:
  alerts: {{kind: alerts, from: [search, sky], journal: "{work}/j.sqlite", print: none{SEARCH}}}
  end: {{kind: null, from: [{", ".join(names) if beside else "quiet"}]{REST}}}
{"" if options.anywhere else f"run: {{bulk_cores: {CORES[-1]}}}"}
"""
    path = f"{work}/g.yaml"
    pathlib.Path(path).write_text(text)
    return path, before


def status(process):
    p = subprocess.run([PROGRAM, "top", "--json", str(process.pid)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return json.loads(p.stdout) if p.returncode == 0 and p.stdout else None


def threads(document):
    """CPU seconds of the threads that give way and of the others; who is in the wrong class."""
    behind = ahead = 0.0
    odd = []
    for t in document["threads"]:
        try:
            nice = os.getpriority(os.PRIO_PROCESS, t["tid"]) - os.getpriority(os.PRIO_PROCESS, 0)
        except OSError:
            continue
        if nice > 0:
            behind += t["cpu_s"]
        else:
            ahead += t["cpu_s"]
        if (nice > 0) != t["name"].startswith(("noise", "bulk", "end")):  # `end` reads as bulk
            odd.append(f"{t['name']} {nice:+d}")
    return behind, ahead, odd


def latencies(journal, since_ns):
    """Merger to first publication, seconds, by the injection's GPS time."""
    db = sqlite3.connect(journal)
    db.row_factory = sqlite3.Row
    truths = [r["gps_ns"] for r in db.execute("SELECT gps_ns FROM injections") if r["gps_ns"] >= since_ns]
    out = {}
    for r in db.execute("SELECT * FROM events WHERE phase = 'first' AND published_ns NOT NULL"):
        near = [t for t in truths if abs(t - r["gps_ns"]) < 500000000]
        if near:
            out[near[0]] = (r["published_ns"] - r["anchor_wall_ns"] - near[0] + r["anchor_data_ns"]) / 1e9
    return out, len(truths)


def ages(first, last):
    """Of all blocks that the search got in between: from the end of a block's time to its being taken up, by the
    counters' classes."""
    count = {}
    for document, sign in ((first, -1), (last, 1)):
        for link in document["links"]:
            if link["to"] == "search":
                for ns, n in zip(link["age"]["from_ns"], link["age"]["count"]):
                    count[ns] = count.get(ns, 0) + sign * n
    spread = [ns for ns in sorted(count) for _ in range(count[ns])]
    return {"blocks": len(spread), **{f"p{q}_ms": round(spread[len(spread) * q // 100] / 1e6, 2) for q in (50, 90, 99)},
            "max_ms": round(spread[-1] / 1e6, 2)}


def measure(beside):
    with folder() as work:
        path, before = graph(work, beside)
        process = subprocess.Popen([PROGRAM, "run", "--quiet", path], cwd=ROOT, stderr=open(f"{work}/log", "w"))
        begun = time.monotonic()
        seen = []
        for when in (before, before + options.seconds - 2):
            time.sleep(max(0, begun + when - time.monotonic()))
            document = status(process)
            seen.append((document, threads(document)) if document else (None, None))
        (first, of_first), (last, of_last) = seen
        done = process.wait(timeout=120)
        said = open(f"{work}/log").read()[-300:] if done else ""
        check(done == 0 and first and last, f"{'beside slides' if beside else 'alone'}: the run ends well {said}")
        if done or not first or not last:
            finish()
        found, injected = latencies(f"{work}/j.sqlite", (START + fill_s) * 10**9)
        span_s = (last["monotonic_ns"] - first["monotonic_ns"]) / 1e9
        behind, ahead = ((b - a) / span_s for a, b in zip(of_first[:2], of_last[:2]))
        fed = [x for x in last["links"] if x["to"].startswith("noise") and x["received"]]
        return {"found": found, "injected": injected, "ages": ages(first, last), "background_cores": behind, "search_cores": ahead, "odd": of_last[2],
                "dropped": sum(end["dropped"] for x in fed for end in (x["sent"], x["received"]) if end),
                "oldest_s": max([x["age"]["max_ns"] / 1e9 for x in fed], default=0.0)}


def quantiles(found):
    x = sorted(found.values())
    return {"found": len(x), "median_s": round(statistics.median(x), 4), "p90_s": round(x[int(0.9 * len(x))], 4),
            "max_s": round(x[-1], 4)}


def bench(*words):
    """CPU seconds of the whole network, or of a slide's part of it, for a second of data."""
    said = subprocess.run([PROGRAM, "model", "bench", MODEL, "--json", "--seconds", "0.5", *words], text=True,
                          stdout=subprocess.PIPE, check=True)
    return 1 / json.loads(said.stdout.splitlines()[-1])["inferences_per_s"]


load = calm() if options.save else None
runs = {False: [], True: []}
costs = {"slide": [], "stream": [], "window": []}
for n in range(options.rounds):
    for beside in ((False, True) if n % 2 == 0 else (True, False)):
        r = measure(beside)
        runs[beside].append(r)
        q = quantiles(r["found"]) if r["found"] else None
        print(f"round {n + 1}, {'beside ' + str(options.slides) + ' slides' if beside else 'alone'}: {q}, {r['injected']} injected, "
              f"blocks reach the search after {r['ages']}, "
              f"{r['search_cores']:.3f} cores + {r['background_cores']:.3f} that give way", flush=True)
    costs["slide"].append(bench("--pairs", "--stream", "--hop", "128", "--batch", "32"))  # 128 columns: a second
    costs["stream"].append(bench("--stream", "--hop", "2048"))
    costs["window"].append(32 * bench("--batch", "1"))  # 32 of them, as the search has frames

alone, beside = ([quantiles(r["found"]) for r in runs[b]] for b in (False, True))
medians = [q["median_s"] for q in alone]
spread_s = max(medians) - min(medians)
differ_s = statistics.median(q["median_s"] for q in beside) - statistics.median(medians)


def differences(two_runs):
    """Of the same mergers, and their median, 10 % and 90 %."""
    x = sorted(b["found"][t] - a["found"][t] for a, b in two_runs for t in a["found"].keys() & b["found"].keys())
    return x and {"mergers": len(x), **{name: round(x[int(q * len(x))], 5) for name, q in (("median_s", .5), ("p10_s", .1), ("p90_s", .9))}}


pairs = differences(zip(runs[False], runs[True]))
rounds_alone = differences(itertools.permutations(runs[False], 2))
given = statistics.median(r["background_cores"] for r in runs[True])
cost = {k: statistics.median(v) for k, v in costs.items()}
gain = {"against_a_stream_of_the_whole_network": round(cost["stream"] / cost["slide"], 2),
        "against_32_windows_a_second": round(cost["window"] / cost["slide"], 1)}
print(f"alone: medians {medians} s, spread {1e3 * spread_s:.1f} ms; beside: {[q['median_s'] for q in beside]}: {1e3 * differ_s:+.1f} ms; "
      f"the same merger: {1e3 * pairs['median_s']:+.2f} ms, 10-90 % {1e3 * pairs['p10_s']:+.2f} to {1e3 * pairs['p90_s']:+.2f}" +
      (f"; in two rounds alone: {1e3 * rounds_alone['p10_s']:+.2f} to {1e3 * rounds_alone['p90_s']:+.2f}" if rounds_alone else ""))
print(f"{options.slides} slides take {given:.3f} cores: {options.slides / given:.0f} slides a core (`model bench`: {1 / cost['slide']:.0f}); "
      f"features shared: {gain['against_a_stream_of_the_whole_network']} times cheaper than a stream of the whole network each, "
      f"{gain['against_32_windows_a_second']} times than its windows")
odd = sorted({t for r in runs[True] for t in r["odd"]})
check(not odd, f"all of the background gives way, and nothing else does {' '.join(odd)}")
check(all(r["dropped"] == 0 for r in runs[True]), f"the background kept up: {sum(r['dropped'] for r in runs[True])} blocks dropped, "
      f"the oldest taken up was {max(r['oldest_s'] for r in runs[True]):.2f} s old")
unchanged = options.rounds > 1 and abs(differ_s) <= spread_s
print(f"latency unchanged within the spread from run to run: {'yes' if unchanged else 'no' if options.rounds > 1 else 'one round cannot tell'}")
if options.save:
    both = {"alone": runs[False], "beside": runs[True]}
    save(f"slides-{'anywhere-' if options.anywhere else ''}{datetime.date.today().isoformat()}",
         cores={} if options.anywhere else {"search": CORES[0], "slides": CORES[-1]}, slides=options.slides, stages=options.stages,
         seconds=options.seconds, rounds=options.rounds, load_before=load, latency={"alone": alone, "beside": beside},
         spread_of_medians_alone_s=round(spread_s, 4), median_beside_less_alone_s=round(differ_s, 4),
         same_merger_beside_less_alone=pairs, same_merger_alone_less_alone=rounds_alone, unchanged_within_spread=unchanged,
         blocks_reach_the_search={k: [r["ages"] for r in v] for k, v in both.items()},
         search_cores={k: [round(r["search_cores"], 4) for r in v] for k, v in both.items()},
         background_cores=[round(r["background_cores"], 4) for r in runs[True]],
         slides_per_core=round(options.slides / given), slides_per_core_in_bench=round(1 / cost["slide"]),
         cpu_s_per_second_of_data=cost, gain=gain, dropped=[r["dropped"] for r in runs[True]],
         oldest_s=[round(r["oldest_s"], 3) for r in runs[True]], model=MODEL.split("/")[-1])
finish()
