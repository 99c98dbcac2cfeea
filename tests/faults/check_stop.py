# SPDX-License-Identifier: GPL-3.0-or-later
"""Ctrl-C ends a run cleanly with everything flushed; a full disk ends it with one line and without harm to what
is already there."""

import os
import pathlib
import resource
import signal
import sqlite3
import subprocess
import sys
import time

import h5py
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "flow"))
from flow import MODEL, PROGRAM, catches_sigint, check, finish, folder, received, run, wait_until  # noqa: E402

GRAPH = """
sources:
  sky: {{kind: sim, seed: 3, start: 1400000000, rate: 4096Hz, block: 1/16s, pace: {pace}, population:
        {{spacing: 5s, jitter: 0s, mass: [30, 40], network_snr: [30, 40], min_ratio: 0.5, first: 10s}}}}
stages:
  down: {{kind: resample, from: sky, rate: 2048Hz}}
  white: {{kind: whiten, from: down}}
  search: {{kind: detect, from: white, model: "{model}"}}
sinks:
  alerts: {{kind: alerts, from: [search, sky], journal: "{work}/{name}.sqlite", print: none}}
  keep: {{kind: record, from: [white, search], path: "{work}/{name}.hdf5", on_full: wait}}
"""


def start(work, name, pace, limit=None):
    graph = GRAPH.format(work=work, name=name, pace=pace, model=MODEL)
    with open(f"{work}/{name}.yaml", "w") as f:
        f.write(graph.replace("from: [white, search]", "from: [sky, down, white, search]") if limit else graph)

    def prepare():
        if limit:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return subprocess.Popen([PROGRAM, "run", "--quiet", f"{work}/{name}.yaml"], stderr=subprocess.PIPE, text=True,
                            preexec_fn=prepare)


def last_final(path):
    """GPS ns of the last event that the journal has to its end."""
    try:
        return sqlite3.connect(f"file:{path}?mode=ro", uri=True).execute(
            "select max(gps_ns) from events where phase = 'final'").fetchone()[0] or 0
    except sqlite3.OperationalError:
        return 0


def whole(path):
    """Seconds of finite whitened strain of both detectors, which end together."""
    with h5py.File(path) as f:
        h, l = f["H1:STRAIN"][:], f["L1:STRAIN"][:]
    return np.isfinite(h).sum() / 2048, abs(len(h) - len(l)) / 2048


with folder() as work:
    for name, pace, number in (("interrupt", 20, signal.SIGINT), ("terminate", 0, signal.SIGTERM), ("early", 1, signal.SIGINT)):
        p = start(work, name, pace)
        wait_until(lambda: catches_sigint(p) if name == "early" else last_final(f"{work}/{name}.sqlite"), f"{name}: begun")
        p.send_signal(number)
        began = time.monotonic()
        _, err = p.communicate(timeout=20)
        check(p.returncode == 0, f"{name}: exit {p.returncode} {time.monotonic() - began:.2f} s after the signal")
        if name == "early":
            continue
        seconds, apart = whole(f"{work}/{name}.hdf5")
        check(seconds > 1 and apart < 0.2, f"{name}: {seconds:.1f} s of whitened strain are flushed, ends {apart:.3f} s apart")
        db = sqlite3.connect(f"{work}/{name}.sqlite")
        first = {r[0] for r in db.execute("select id from events where phase = 'first'")}
        final = {r[0] for r in db.execute("select id from events where phase = 'final'")}
        check(first == final and first, f"{name}: every event that began has its final phase ({len(first)})")
        check(not db.execute("select 1 from events where published_ns is null").fetchall(), f"{name}: all were published")

    # No file may grow beyond 9 MiB (the journal sets 8 aside): the recording runs out of room after some 80 s, the
    # search goes on without it.
    p = start(work, "full", 40, limit=9 << 20)
    wait_until(lambda: last_final(f"{work}/full.sqlite") >= 1400000106e9, "full disk: events after it")
    p.send_signal(signal.SIGINT)
    try:
        _, err = p.communicate(timeout=30)
    except subprocess.TimeoutExpired:
        p.kill()
        err = "did not end"
    said = [l for l in err.splitlines() if l.startswith("gwstream")]
    check(p.returncode == 1 and len(said) == 1 and "full.hdf5" in said[0],
          f"full disk: exit {p.returncode}: {said[-1] if said else err[-300:]}")
    check("HDF5-DIAG" not in err and "goes on without it" in err, "full disk: said when it happened, in one line")
    db = sqlite3.connect(f"{work}/full.sqlite")
    check(db.execute("pragma integrity_check").fetchone()[0] == "ok", "full disk: the journal is whole")
    last = last_final(f"{work}/full.sqlite")
    check(last > 1400000105e9, f"full disk: events after it are journalled (last at GPS {last / 1e9:.1f})")

    # Asked twice, it leaves at once.
    p = start(work, "twice", 1)
    wait_until(lambda: catches_sigint(p), "twice: begun")
    p.send_signal(signal.SIGINT)
    p.send_signal(signal.SIGINT)
    p.communicate(timeout=20)
    check(p.returncode in (0, 130), f"two signals: exit {p.returncode}")

    # A graph in two processes: whoever is stopped second does not wait for the one that has left.
    pathlib.Path(work, "two.yaml").write_text("""nodes: {front: {}, back: {}}
sources: {sky: {kind: repeat, node: front, channels: 4, rate: 1024Hz, pace: 1}}
sinks: {end: {kind: "null", node: back, from: sky, on_full: wait}}
""")
    both = {node: subprocess.Popen([PROGRAM, "run", "--node", node, f"{work}/two.yaml"], stderr=subprocess.PIPE, text=True)
            for node in ("front", "back")}
    wait_until(lambda: received(both["back"].pid, "end"), "two processes: data")
    for node in ("back", "front"):
        both[node].send_signal(signal.SIGINT)
        try:
            _, err = both[node].communicate(timeout=8)
        except subprocess.TimeoutExpired:
            both[node].kill()
            err = "did not end"
        check(both[node].returncode == 0, f"two processes, {node}: exit {both[node].returncode}: {err.splitlines()[-1:]}")
        time.sleep(1.5)

    # A reader that goes away does not take the search with it.
    strain = f"{work}/strain.hdf5"
    status, _, err = run("simulate", "--quiet", "--output", strain, "--duration", "20s", "--rate", "4096Hz", "--signal",
                         "gps=1400000014,mass1=36,mass2=30,network_snr=25,ra=2.1,dec=-0.9,psi=0.4,iota=0.7")
    check(status == 0, "simulate " + err)
    p = subprocess.Popen([PROGRAM, "replay", "--quiet", "--model", MODEL, "--journal", f"{work}/pipe.sqlite", strain],
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    p.stdout.close()
    err = p.stderr.read()
    p.wait(timeout=20)
    check(p.returncode == 1 and "could not be written" in err, f"closed stdout: exit {p.returncode}: {err.strip()[-160:]}")
    count = sqlite3.connect(f"{work}/pipe.sqlite").execute("select count(*) from events where published_ns > 0").fetchone()[0]
    check(count >= 2, f"closed stdout: the journal has all {count} messages")
finish()
