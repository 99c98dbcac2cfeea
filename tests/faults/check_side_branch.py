# SPDX-License-Identifier: GPL-3.0-or-later
"""A branch beside the search that is slow, stopped or killed changes nothing on the alert path: the same events.
Their latency is told (against the undisturbed runs' own spread), not judged: two cores run all of this at once."""

import concurrent.futures
import os
import signal
import subprocess
import time

from faults import MODEL, PROGRAM, check, finish, folder, free_port, lines

GRAPH = """
{nodes}
sources:
  sky: {{kind: sim, seed: 7, start: 1400000000, duration: 13s, rate: 4096Hz, block: 1/16s, pace: 1, {main} signals: [
        {{gps: 1400000011, mass1: 36, mass2: 30, network_snr: 28, ra: 2.1, dec: -0.9, psi: 0.4, iota: 0.7}}]}}
stages:
  down: {{kind: resample, from: sky, rate: 2048Hz {main2}}}
  white: {{kind: whiten, from: down {main2}}}
  search: {{kind: detect, from: white, model: "{model}" {main2}}}
sinks:
  alerts: {{kind: alerts, from: [search, sky], journal: "{work}/{name}.sqlite" {main2}}}
{side}
"""
SLOW = """  beside: {kind: "null", from: [sky, white], delay: 200ms, credit: 3}"""
ELSEWHERE = """  beside: {kind: "null", from: [sky, white], node: side, link: %s, credit: 8}"""


def run_graph(work, name, side="", link=None, disturb=None):
    """(exit status, events, stderr, wall seconds)"""
    path = f"{work}/{name}.yaml"
    main = "node: main," if link else ""
    with open(path, "w", encoding="ascii") as f:
        f.write(GRAPH.format(nodes="nodes: {main: {ports: %d}, side: {}}" % free_port(8) if link else "", main=main,
                             main2=", node: main" if link else "", model=MODEL, work=work, name=name, side=side % link if link else side))
    environment = dict(os.environ, GWSTREAM_RUN=f"{os.getpid()}-{name}")
    began = time.monotonic()
    beside = link and subprocess.Popen([PROGRAM, "run", "--quiet", "--node", "side", path], stderr=subprocess.PIPE, text=True,
                                       env=environment)
    p = subprocess.Popen([PROGRAM, "run", *(["--node", "main"] if link else []), path], stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, text=True, env=environment)
    if disturb:
        time.sleep(2)
        disturb(beside)
    out, err = p.communicate(timeout=45)
    took = time.monotonic() - began
    if beside:
        beside.kill()
        err += "".join("\nside: " + line for line in beside.communicate()[1].splitlines())
    return p.returncode, lines(out), err, took


def path_of(event):
    """What must not depend on anything beside it."""
    return {k: v for k, v in event.items() if k != "wall"}


def latency_ms(events):
    first = [e for e in events if e["phase"] == "first"]
    return first[0]["wall"]["latency"]["merger_to_publication_s"] * 1e3 if first else float("nan")


def stop(p):
    p.send_signal(signal.SIGSTOP)


def stop_for_3_s(p):
    p.send_signal(signal.SIGSTOP)
    time.sleep(3)
    p.send_signal(signal.SIGCONT)


CASES = [("undisturbed", dict()), ("undisturbed again", dict()), ("a slow sink", dict(side=SLOW)),
         ("another process over shm, stopped for 3 s", dict(side=ELSEWHERE, link="shm", disturb=stop_for_3_s)),
         ("another process over tcp, stopped for good", dict(side=ELSEWHERE, link="tcp", disturb=stop)),
         ("another process over shm, killed", dict(side=ELSEWHERE, link="shm", disturb=subprocess.Popen.kill))]

with folder() as work, concurrent.futures.ThreadPoolExecutor(len(CASES)) as pool:
    jobs = [(name, options, pool.submit(run_graph, work, f"run{k}", **options)) for k, (name, options) in enumerate(CASES)]
    want = None
    for name, options, job in jobs:
        status, events, err, took = job.result()
        if want is None:
            want = [path_of(e) for e in events]
            check({e["phase"] for e in want} >= {"first", "final"}, f"the search finds the signal ({len(want)} messages)")
        gone = name.endswith(("killed", "for good"))
        why = [line for line in err.splitlines() if line.startswith("gwstream run:")]
        check(status == 0 or gone and status == 1 and len(why) == 1, f"{name}: exit {status} after {took:.1f} s {' '.join(why)}")
        check([path_of(e) for e in events] == want, f"{name}: the same {len(events)} messages, first after {latency_ms(events):.0f} ms")
        if options:
            check("dropped" in err, f"{name}: what was dropped is said: " +
                  next((line for line in err.splitlines() if "dropped" in line), err[-300:]))
finish()
