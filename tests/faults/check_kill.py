# SPDX-License-Identifier: GPL-3.0-or-later
"""kill -9 of the running pipeline at any moment, then restart: the journal holds every event that a real
subscriber heard, under the same id, none twice; and in the end all that an undisturbed run finds."""

import pathlib
import random
import signal
import sqlite3
import subprocess
import sys
import time

import zmq

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "flow"))
from flow import MODEL, PROGRAM, check, finish, folder, lines, run  # noqa: E402

GRAPH = """
sources:
  sky: {{kind: sim, seed: 11, start: 1400000000, duration: 60s, rate: 4096Hz, block: 1/16s, pace: 40, population:
        {{spacing: 6s, jitter: 1s, mass: [20, 50], network_snr: [25, 30], min_ratio: 0.5, first: 12s}}}}
stages:
  down: {{kind: resample, from: sky, rate: 2048Hz}}
  white: {{kind: whiten, from: down}}
  search: {{kind: detect, from: white, model: "{model}"}}
sinks:
  alerts: {{kind: alerts, from: [search, sky], journal: "{work}/{journal}", publish: "ipc://{work}/alerts", print: none}}
"""


def key(e):
    return e["id"], e["phase"], e["serial"]


random.seed(4)
with folder() as work:
    with open(f"{work}/reference.yaml", "w") as f:
        f.write(GRAPH.format(work=work, model=MODEL, journal="reference.sqlite"))
    with open(f"{work}/killed.yaml", "w") as f:
        f.write(GRAPH.format(work=work, model=MODEL, journal="killed.sqlite"))

    status, _, err = run("run", "--quiet", f"{work}/reference.yaml")
    check(status == 0, "an undisturbed run " + (err if status else ""))
    columns = "select id, phase, serial from events"
    expected = set(sqlite3.connect(f"{work}/reference.sqlite").execute(columns))
    check(len(expected) >= 12, f"it journals {len(expected)} messages")

    context = zmq.Context()
    heard = []
    kills = 0
    while True:
        sub = context.socket(zmq.SUB)
        sub.setsockopt(zmq.SUBSCRIBE, b"event")
        sub.setsockopt(zmq.RECONNECT_IVL, 1)
        sub.connect(f"ipc://{work}/alerts")
        p = subprocess.Popen([PROGRAM, "run", "--quiet", f"{work}/killed.yaml"], stderr=subprocess.DEVNULL)
        until = time.monotonic() + (random.uniform(0.05, 1.7) if kills < 10 else 30)
        while time.monotonic() < until and p.poll() is None:
            if sub.poll(5):
                heard += [key(e) for e in lines(sub.recv_multipart()[1].decode())]
        if p.poll() is None:
            p.send_signal(signal.SIGKILL)
            kills += 1
        done = p.wait() == 0
        while sub.poll(50):
            heard += [key(e) for e in lines(sub.recv_multipart()[1].decode())]
        sub.close()
        if done or kills > 10:
            break
    check(done, f"after {kills} kills the last run ends well")

    db = sqlite3.connect(f"{work}/killed.sqlite")
    rows = list(db.execute(columns))
    check(db.execute("pragma integrity_check").fetchone()[0] == "ok", "the journal is whole")
    check(len(rows) == len(set(rows)), "nothing stands twice in the journal")
    check(set(heard) <= set(rows), f"everything heard ({len(set(heard))} messages) is in the journal under the same id")
    check(set(rows) == expected, f"the journal holds what the undisturbed run found ({len(rows)} of {len(expected)})")
    twice = len(heard) - len(set(heard))
    check(twice <= kills, f"heard twice: {twice} (only what was sent but not yet marked when the kill came)")
    injected = db.execute("select count(*) from injections").fetchone()[0]
    check(injected == sqlite3.connect(f"{work}/reference.sqlite").execute("select count(*) from injections").fetchone()[0],
          f"each injection stands once ({injected})")
finish()
