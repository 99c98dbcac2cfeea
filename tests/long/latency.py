# SPDX-License-Identifier: GPL-3.0-or-later
"""Merger to first publication at 1x: two detectors at 16384 Hz in 1/16-s blocks, a merger every 5 s, at
least 50 found (about 6 minutes). A subscriber on the PUB socket takes the time at which it has each
message; the journal says when it was sent."""

import sqlite3
import statistics
import subprocess
import threading
import time

import zmq

from result import save
from flow import MODEL, PROGRAM, check, finish, folder, lines

SECONDS = 330
GRAPH = """
sources:
  sky: {{kind: sim, seed: 21, start: 1400000000, duration: {seconds}s, rate: 16384Hz, block: 1/16s, pace: 1,
        glitches: {{rate: 1/30Hz, snr: [4, 80]}}, population: {{spacing: 5s, jitter: 500ms, mass: [10, 60],
        network_snr: [10, 20], min_ratio: 0.3, first: 12s}}}}
stages:
  down: {{kind: resample, from: sky, rate: 2048Hz}}
  white: {{kind: whiten, from: down}}
  search: {{kind: detect, from: white, model: "{model}", refractory: 3s}}
sinks:
  alerts: {{kind: alerts, from: [search, sky], journal: "{work}/j.sqlite", publish: "ipc://{work}/alerts", print: none}}
"""

heard = {}


def listen(work, stop):
    sub = zmq.Context.instance().socket(zmq.SUB)
    sub.setsockopt(zmq.SUBSCRIBE, b"event")
    sub.connect(f"ipc://{work}/alerts")
    while not stop.is_set():
        if sub.poll(100):
            e = lines(sub.recv_multipart()[1].decode())[0]
            heard[e["id"], e["phase"], e["serial"]] = time.time()


with folder() as work:
    with open(f"{work}/g.yaml", "w") as f:
        f.write(GRAPH.format(work=work, model=MODEL, seconds=SECONDS))
    stop = threading.Event()
    thread = threading.Thread(target=listen, args=(work, stop))
    thread.start()
    done = subprocess.run([PROGRAM, "run", f"{work}/g.yaml"])
    time.sleep(0.5)
    stop.set()
    thread.join()
    check(done.returncode == 0, "the run ends well")
    subprocess.run([PROGRAM, "alerts", "efficiency", "--journal", f"{work}/j.sqlite"])
    db = sqlite3.connect(f"{work}/j.sqlite")
    db.row_factory = sqlite3.Row
    truths = [r["gps_ns"] for r in db.execute("select gps_ns from injections")]
    latency, listened, decided = [], [], []
    for r in db.execute("select * from events where phase = 'first'"):
        near = [t for t in truths if abs(t - r["gps_ns"]) < 0.5e9]
        if not near:
            continue
        wall_of = lambda t: (r["anchor_wall_ns"] + t - r["anchor_data_ns"])  # noqa: E731
        latency.append((r["published_ns"] - wall_of(near[0])) / 1e9)
        decided.append((r["decided_ns"] - wall_of(near[0])) / 1e9)
        unix = heard.get((r["id"], "first", r["serial"]))
        if unix:
            listened.append(unix - (wall_of(near[0]) / 1e9 + 315964800 - 18))
    check(len(latency) >= 50, f"{len(latency)} of {len(truths)} injections found (at least 50 wanted)")
    median, worst = statistics.median(latency), max(latency)
    check(median <= 0.3, f"merger to first publication: median {1e3 * median:.0f} ms (at most 300)")
    check(worst < 1, f"longest {1e3 * worst:.0f} ms (below 1000)")
    save("latency-cpu", injections=len(truths), found=len(latency), first_publication_median_s=round(median, 4),
         first_publication_90_s=round(sorted(latency)[int(0.9 * len(latency))], 4),
         first_publication_longest_s=round(worst, 4), decision_median_s=round(statistics.median(decided), 4),
         heard_by_subscriber_median_s=round(statistics.median(listened), 4), heard_by_subscriber=len(listened),
         measured_from="true arrival at the later detector")
finish()
