#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Several detect stages, one event a signal: found by whichever branch crosses first, with every branch's word in
it; the same ids, phases and serials in any block length, at real time, over two processes and in a replay on the
same journal; and a single stage's events as they always were.
Exit 0 / 1."""
import pathlib
import sqlite3
import subprocess

import flow
from flow import check

GRAPH = """%(nodes)s
sources:
  sky:
    kind: sim
    seed: 7
    start: 1400000000
    duration: %(seconds)ds
    pace: %(pace)s
    block: %(block)s
    signals: [%(signals)s]
    %(front)s
stages:
  down: {kind: resample, from: [sky.H1, sky.L1], rate: 2048Hz%(cfront)s}
  white: {kind: whiten, from: down%(cfront)s}
  search: {kind: detect, from: white, model: %(model)s%(cfront)s}
  eager: {kind: detect, from: white, model: %(model)s, candidate: -2, hop: 1/4s%(cback)s}
  strict: {kind: detect, from: white, model: %(model)s, candidate: 6, alert: 8%(cback)s}
sinks:
  alerts: {kind: alerts, from: [%(branches)s, sky], journal: %(journal)s.sqlite, print: %(name)s.jsonl%(cback)s}
"""
SIGNALS = ["{gps: 1400000012.1, mass1: 38, mass2: 31, network_snr: 20}",
           "{gps: 1400000032.4, mass1: 25, mass2: 21, network_snr: 16, ra: 1.1, dec: 0.3}",
           "{gps: 1400000050.8, mass1: 30, mass2: 29, network_snr: 30, ra: 2.1, dec: -0.9}"]
WORK = flow.folder()
ALL = "search, eager, strict"


def graph(name, seconds=60, pace=0, block="1/16s", branches=ALL, journal=None, nodes=""):
    path = pathlib.Path(WORK.name) / f"{name}.yaml"
    front, back = (", node: front", ", node: back") if nodes else ("", "")
    path.write_text(GRAPH % dict(name=name, seconds=seconds, pace=pace, block=block, branches=branches,
                                 signals=", ".join(SIGNALS[:1] if seconds < 30 else SIGNALS),
                                 journal=journal or name, model=flow.MODEL, nodes=nodes, cfront=front, cback=back,
                                 front=front[2:]))
    return path


def events(name):
    with open(f"{WORK.name}/{name}.jsonl") as f:
        return flow.without_wall(flow.lines(f.read()))


def run(name, **options):
    status, _, err = flow.run("run", "--quiet", graph(name, **options), cwd=WORK.name)
    check(status == 0, f"{name}: exit 0" + (f" ({err})" if status else ""))
    return events(name)


def said(e):
    return e["id"], e["phase"], e["serial"]


def count(journal):
    with sqlite3.connect(f"{WORK.name}/{journal}.sqlite") as db:
        return db.execute("SELECT count(*), count(DISTINCT id) FROM events").fetchone()


def check_story():
    paced = subprocess.Popen([flow.PROGRAM, "run", "--quiet", graph("paced", seconds=20, pace=1)], cwd=WORK.name)
    base = run("base")
    alone = run("alone", branches="search")
    ids = list(dict.fromkeys(e["id"] for e in base))
    strong = [i for i in ids if any(e["id"] == i and e["statistic"] > 5 for e in base)]
    check(len(strong) == 3, f"three signals, three events ({len(ids)} with the eager branch's noise)")
    check(all(e["trials"] == 3 for e in base), "each says how many branches there are")
    for i in strong:
        told = [e for e in base if e["id"] == i]
        phases = [e["phase"] for e in told]
        final = told[-1]
        words = {b["stream"]: b for b in final["branches"]}
        check(phases[0] == "first" and phases[-1] == "final" and phases.count("first") == 1,
              f"{i}: {' '.join(phases)}")
        check(set(words) == {"search", "eager", "strict"} and all(b["phase"] == "final" for b in words.values()),
              f"{i}: every branch's last word is in it")
        best = min(b["noise_rate_hz"] for b in words.values())
        check(abs(final["noise_rate_hz"] / best - 3) < 1e-6, f"{i}: rate three times the best branch's")
        mine = [e for e in alone if e["phase"] == "final" and abs(e["gps"] - final["gps"]) < 0.1]
        check(len(mine) == 1 and mine[0]["statistic"] == words["search"]["statistic"] and
              mine[0]["noise_rate_hz"] == words["search"]["noise_rate_hz"],
              f"{i}: and the branch's own word is what it says alone ({final['statistic']:.2f})")
    check(any(e["phase"] == "first" and e["stream"] == "eager" and e["branches"][0]["stream"] == "eager" and
              len(e["branches"]) == 1 for e in base), "whoever crosses first opens the event, and waits for nobody")
    check(all("branches" not in e and "trials" not in e for e in alone) and
          all(e["stream"] == "search" for e in alone), "a single stage's events are its own")

    for name, block in (("long", "1s"), ("short", "1/64s")):
        check(run(name, block=block) == base, f"the same in blocks of {block}")
    rows = count("base")
    again = run("again", journal="base")
    check(again == base and count("base") == rows, f"a replay on the same journal adds nothing ({rows[0]} rows)")
    check(paced.wait(timeout=50) == 0, "paced: exit 0")
    live, early = events("paced"), [e for e in base if e["gps"] < 1400000019] if paced.returncode == 0 else []
    check([e["id"] for e in live if e["phase"] == "first"] == [e["id"] for e in early if e["phase"] == "first"]
          and [e["id"] for e in live] and live[-1]["phase"] == "final" and
          live[-1]["statistic"] == [e for e in early if e["id"] == live[-1]["id"]][-1]["statistic"],
          f"at real time the same ids and the same last word ({len(live)} of {len(early)} said)")
    return base


def check_split(base):
    path = graph("split", nodes="nodes: {front: {}, back: {}}")
    nodes = [subprocess.Popen([flow.PROGRAM, "run", "--quiet", "--node", n, path], cwd=WORK.name) for n in ("front", "back")]
    check([n.wait(timeout=50) for n in nodes] == [0, 0], "over two processes: exit 0")
    check(events("split") == base, "over two processes: the same")


check_split(check_story())
for keys, why in (("refractory: 2s", "3s to 1h"), ("refactory: 8s", "did you mean 'refractory'")):
    path = graph("bad")
    path.write_text(path.read_text().replace("print: bad.jsonl", keys))
    status, _, err = flow.run("check", path, cwd=WORK.name)
    check(status == 2 and why in err, f"{keys} is refused: {err.strip()}")
flow.finish()
