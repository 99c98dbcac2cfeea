# SPDX-License-Identifier: GPL-3.0-or-later
"""A graph over two processes, one of which is killed with -9 in mid-run and started anew, over every transport. The
search's process: the journal holds what an undisturbed run finds, and the other process loses nothing. The source's:
the hole is told, and what comes after it is searched."""

import concurrent.futures
import contextlib
import os
import re
import sqlite3
import subprocess
import time

from faults import MODEL, PROGRAM, check, finish, folder, free_port

GRAPH = """
nodes: {{front: {{ports: {ports}}}, back: {{}}}}
sources:
  sky: {{kind: sim, seed: 11, start: {start}, duration: {seconds}s, rate: 4096Hz, block: 1/16s, pace: 4, node: front, signals: [{signals}]}}
stages:
  down: {{kind: resample, from: sky, rate: 2048Hz, node: front}}
  white: {{kind: whiten, from: down, node: front}}
  search: {{kind: detect, from: white, model: "{model}", node: back, link: {link}}}
sinks:
  alerts: {{kind: alerts, from: [search, sky], journal: "{work}/{name}.sqlite", print: none, node: back, link: {link}}}
"""
SIGNAL = "{{gps: {}, mass1: 36, mass2: 30, network_snr: 28, ra: 2.1, dec: -0.9, psi: 0.4, iota: 0.7}}"
T0 = 1400000000


class Graph:
    def __init__(self, work, name, link, ports):
        self.path, self.name, self.link, self.ports, self.work = f"{work}/{name}.yaml", name, link, ports, work
        self.environment = dict(os.environ, GWSTREAM_RUN=f"{os.getpid()}-{name}")
        self.write(T0, 42)

    def write(self, start, seconds):
        signals = ", ".join(SIGNAL.format(T0 + at) for at in (12, 38) if T0 + at > start)
        with open(self.path, "w", encoding="ascii") as f:
            f.write(GRAPH.format(signals=signals, start=start, seconds=seconds, model=MODEL, work=self.work, name=self.name, link=self.link,
                                 ports=self.ports))

    def start(self, node):
        return subprocess.Popen([PROGRAM, "run", "--node", node, self.path], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                text=True, env=self.environment)

    def found(self):
        """{second: phases} of the journal; nothing where there is none yet."""
        seen = {}
        try:
            with contextlib.closing(sqlite3.connect(f"file:{self.work}/{self.name}.sqlite?mode=ro", uri=True)) as db:
                for gps_ns, phase in db.execute("select gps_ns, phase from events"):
                    seen.setdefault(round(gps_ns / 1e9), set()).add(phase)
        except sqlite3.OperationalError:
            pass
        return seen

    def first_event_over(self, p):
        """Waits until the first signal's event is told to its end (the second one is 6 s later at this pace), however
        long the processes take to start."""
        until = time.monotonic() + 30
        while "final" not in self.found().get(T0 + 12, ()) and p.poll() is None and time.monotonic() < until:
            time.sleep(0.05)


def end(p):
    try:
        err = p.communicate(timeout=30)[1]
    except subprocess.TimeoutExpired:
        p.kill()
        err = "did not end: " + p.communicate()[1]
    return p.returncode, err


def last_line(err):
    return next((line for line in reversed(err.splitlines()) if line.startswith("gwstream")), "")


def undisturbed(g):
    front, back = g.start("front"), g.start("back")
    (a, err_a), (b, err_b) = end(front), end(back)
    return a == b == 0, f"undisturbed: exits {a}, {b}, {g.found()}{last_line(err_a)}{last_line(err_b)}", g.found()


def search_killed(g):
    front, back = g.start("front"), g.start("back")
    g.first_event_over(back)
    back.kill()
    back.communicate()
    before = g.found()
    back = g.start("back")
    (a, err_a), (b, err_b) = end(front), end(back)
    lost = re.findall(r".*dropped.*", err_a)
    good = a == b == 0 and not lost and set(before) == {T0 + 12}
    return good, f"{g.link}, the search killed: exits {a}, {b}, {g.found()} {last_line(err_a)}{last_line(err_b)}{lost}", g.found()


def source_killed(g):
    front, back = g.start("front"), g.start("back")
    g.first_event_over(front)
    front.kill()
    front.communicate()
    g.write(T0 + 24, 18)
    front = g.start("front")
    (a, err_a), (b, err_b) = end(front), end(back)
    told = [line for line in err_b.splitlines() if "another run" in line]
    losses = next((line for line in err_b.splitlines() if line.startswith("search: nothing sent")), "")
    lost_s = sum(float(s) for s in re.findall(r"([\d.]+) s ", losses))
    return a == b == 0 and len(told) == 2 and 18 < lost_s < 34, \
        f"{g.link}, the source killed: exits {a}, {b}, {g.found()} {last_line(err_a)}{last_line(err_b)}; {told[:1]}; {losses}", g.found()


with folder() as work, concurrent.futures.ThreadPoolExecutor(4) as pool:
    cases = [(undisturbed, "shm")] + [(what, link) for link in ("shm", "ipc", "tcp") for what in (search_killed, source_killed)]
    jobs = [pool.submit(what, Graph(work, f"g{k}", link, free_port(8))) for k, (what, link) in enumerate(cases)]
    want = None
    for job in jobs:
        good, text, found = job.result()
        want = want or found
        check(good and found == want, text)
finish()
