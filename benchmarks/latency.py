#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the merger to a broker's acknowledgement, at the pace of the clock, over so many injections that the search finds
at less than one false alarm a day.

One stream takes hours for a thousand signals. So several searches run beside each other on this machine, each a process
with noise, journal and topic of its own, a sixteenth of a second's share apart (their blocks do not fall due together),
and all send to one Kafka broker over the loopback (tests/clients/mock_broker.c: librdkafka's mock cluster). Each also
publishes to a local socket, where this program listens. Two detectors, 16384 Hz, 1/16-s blocks, glitches, signals of
network SNR 10 to 20: configs/alerts.yaml without its background.

Times are of the first message of an event that the broker has acknowledged, counted from the true arrival at the later
detector; what the program itself says (gwstream alerts stats: from the arrival that it has found) is beside it.

    benchmarks/latency.py [--found 1000] [--searches 16] [--mock-broker PATH] [--quick] [--save]

--quick: 50 injections in 20 s at 2048 Hz, for a test of this program; what it measures has no meaning. --save writes
benchmarks/results/latency-cpu.json."""

import argparse
import datetime
import json
import math
import os
import pathlib
import resource
import subprocess
import sys
import threading
import time

import zmq

HERE = pathlib.Path(__file__).resolve().parent
sys.path += [str(HERE.parent / "tests" / "long"), str(HERE.parent / "tests" / "flow")]
from flow import MODEL, PROGRAM, ROOT, check, finish, folder, lines, run  # noqa: E402
from kafka_rig import Broker  # noqa: E402
from result import calm, save  # noqa: E402

GRAPH = """
sources:
  sky: {{kind: sim, seed: {seed}, start: 1400000000, duration: {seconds}s, rate: {rate}Hz, block: 1/16s, pace: 1,
        detectors: [H1, L1], glitches: {{rate: 1/60Hz, snr: [4, 60]}}, population: {{spacing: {spacing}s, jitter: {jitter}ms,
        first: {first}s, mass: [10, 60], network_snr: [10, 20], min_ratio: 0.3}}}}
stages:
  down: {{kind: resample, from: sky, rate: 2048Hz}}
  white: {{kind: whiten, from: down}}
  search: {{kind: detect, from: white, model: '{model}', refractory: {refractory}s}}
sinks:
  alerts: {{kind: alerts, from: [search, sky], journal: '{work}/{i}.sqlite', print: none, publish: 'ipc://{work}/{i}.pub',
           storm: none, brokers: [{{name: notices, bootstrap: '{broker}', topic: test.notices.{i}, face: gcn}}]}}
"""
BARS = {"median_s": 0.3, "p95_s": 0.6, "p99_s": 1.0}
FOUND_SHARE = 0.85  # of the injections, at least; so many more are made


class Ear(threading.Thread):
    """Hears every search's socket: heard[search, id, phase, serial] = when, in Unix time."""

    def __init__(self, work, n):
        super().__init__(daemon=True)
        self.heard, self.stop, self.poller, self.of = {}, False, zmq.Poller(), {}
        for i in range(n):
            s = zmq.Context.instance().socket(zmq.SUB)
            s.setsockopt(zmq.SUBSCRIBE, b"event.")
            s.connect(f"ipc://{work}/{i}.pub")
            self.of[s] = i
            self.poller.register(s, zmq.POLLIN)

    def run(self):
        while (ready := self.poller.poll(100)) or not self.stop:
            for s, _ in ready:
                now = time.time()
                e = json.loads(s.recv_multipart()[1])
                self.heard[self.of[s], e["id"], e["phase"], e["serial"]] = now


def spread(x):
    """Quantiles as `gwstream alerts stats` has them."""
    x = sorted(x)

    def q(p):
        at = p * (len(x) - 1)
        i = min(int(at), len(x) - 2)
        return x[i] + (at - i) * (x[i + 1] - x[i]) if len(x) > 1 else x[0]
    return {"n": len(x), **{k: round(q(p), 4) for k, p in (("median_s", .5), ("p90_s", .9), ("p95_s", .95), ("p99_s", .99), ("max_s", 1))}} \
        if x else {"n": 0}


def middle(spreads):
    """The median of several spreads' medians."""
    x = sorted(s["median_s"] for s in spreads if s["n"])
    return round(x[len(x) // 2], 4) if x else None


def export(journal, *more):
    status, out, err = run("alerts", "export", "--journal", journal, *more)
    if status:
        check(False, f"export {' '.join(more)}: {err.strip()}")
    return lines(out)


class Search:
    """One pipeline and, at its end, what came of it."""

    def __init__(self, work, i, graph):
        self.i, self.journal = i, f"{work}/{i}.sqlite"
        path = f"{work}/{i}.yaml"
        pathlib.Path(path).write_text(graph)
        self.log = open(f"{work}/{i}.log", "w")
        self.process = subprocess.Popen([PROGRAM, "run", "--quiet", path], stdout=self.log, stderr=self.log, cwd=ROOT)

    def end(self, heard):
        """total: seconds from the true arrival to the first acknowledgement; local: to the ear; and how many."""
        if self.process.wait() != 0:
            check(False, f"search {self.i}: exit {self.process.returncode}: {open(self.log.name).read()[-400:]}")
            finish()
        truths = export(self.journal, "--injections")
        words = {(e["id"], e["phase"], e["serial"]): e for e in export(self.journal)}
        acks = export(self.journal, "--brokers")
        self.stats = json.loads(run("alerts", "stats", "--json", "--journal", self.journal)[1])
        self.injected, self.total, self.local = len(truths), [], []
        self.found = [t for t in truths if t["found"] and t["alert"]]
        told = {}
        for a in acks:  # in the order of commitment
            if "latency_s" in a and not a.get("refused"):
                told.setdefault(a["id"], a)
        self.untold = 0
        for t in self.found:
            a = told.get(t["id"])
            e = words.get((t["id"], a["phase"], a["serial"])) if a else None
            if not e:
                self.untold += 1
                continue
            late = e["gps"] - max(v for k, v in t["parameters"]["gps"].items() if k in e["detectors"])
            self.total.append(a["latency_s"] + late)
            first = words[t["id"], "first", 1]
            when = heard.get((self.i, t["id"], "first", 1))
            if when:
                published = datetime.datetime.fromisoformat(first["wall"]["published"].replace("Z", "+00:00")).timestamp()
                self.local.append(first["wall"]["latency"]["merger_to_publication_s"] + first["gps"] - e["gps"] + late
                                  + when - published)


def measure(o, work, broker):
    n = o.searches
    per = math.ceil(o.found / FOUND_SHARE / n) if not o.quick else 4
    spacing, jitter, first, refractory, rate = (3.2, 0, 8.6, 3, 2048) if o.quick else (o.spacing, 500, 12, 8, 16384)
    seconds = math.ceil(first + spacing * (per - 1) + 1.5)
    print(f"{n} searches of {seconds} s, {per} injections each", flush=True)
    load_before = os.getloadavg()[0]
    ear = Ear(work, n)
    ear.start()
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    searches = []
    for i in range(n):
        graph = GRAPH.format(work=work, i=i, seed=o.seed + i, seconds=seconds, rate=rate, spacing=spacing, jitter=jitter,
                             first=first, refractory=refractory, model=MODEL, broker=broker.address)
        searches.append(Search(work, i, graph))
        time.sleep(0.25 + 1 / 16 / n if not o.quick else 0.0)
    for s in searches:
        s.process.wait()
    took = time.monotonic() - begun
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cores = (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / took
    time.sleep(0.3)
    ear.stop = True
    ear.join()
    for s in searches:
        s.end(ear.heard)
    return searches, cores, load_before


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--found", type=int, default=1000)
    p.add_argument("--searches", type=int, default=16)
    p.add_argument("--spacing", type=float, default=10)
    p.add_argument("--seed", type=int, default=21)
    p.add_argument("--mock-broker", default=str(ROOT / "build" / "tests" / "mock_broker"))
    p.add_argument("--quick", action="store_true")
    p.add_argument("--save", action="store_true")
    o = p.parse_args()
    if o.quick:
        o.searches = 13
    if o.save:
        calm()
    broker = Broker(o.mock_broker)
    with folder() as work:
        searches, cores, load = measure(o, work, broker)
    broker.close()
    injected, found = sum(s.injected for s in searches), sum(len(s.found) for s in searches)
    total = spread([x for s in searches for x in s.total])
    local = spread([x for s in searches for x in s.local])
    one = max(searches, key=lambda s: len(s.found))
    notices = one.stats["brokers"][0]
    figures = {
        "injections": injected, "found_at_one_a_day": found, "searches": o.searches, "cores_busy": round(cores, 2),
        "load_before": round(load, 2), "merger_to_acknowledgement": total, "merger_to_local_listener": local,
        "one_search": {"merger_to_acknowledgement": spread(one.total),
                       "as_it_says_itself": {**one.stats["latency"], "publish": notices["publish"], "total": notices["total"]}},
        "median_of_the_searches_medians": {
            **{k: middle(s.stats["latency"][k] for s in searches) for k in ("signal", "data", "pipeline", "local")},
            **{k: middle(s.stats["brokers"][0][k] for s in searches) for k in ("publish", "total")}},
        "measured_from": "true arrival at the later detector; as_it_says_itself: from the arrival that it has found"}
    print(json.dumps(figures, indent=1))
    check(sum(s.untold for s in searches) == 0, f"all {found} found of {injected} were acknowledged by the broker")
    check(all(b["waiting"] == b["refused"] == 0 for s in searches for b in s.stats["brokers"]), "nothing waits, nothing was refused")
    check(local.get("n", 0) == found, f"the local listener heard {local.get('n')} of them")
    if not o.quick:
        check(found >= o.found, f"{found} found (at least {o.found})")
        for k, bar in BARS.items():
            check(total[k] <= bar, f"merger to acknowledgement, {k[:-2]}: {1e3 * total[k]:.0f} ms (at most {1e3 * bar:.0f})")
    if o.save:
        save("latency-cpu", **figures)
    finish()


main()
