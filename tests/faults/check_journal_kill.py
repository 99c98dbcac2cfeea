#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kills the alerts sink with -9 at random moments, again and again, while a subscriber listens. After each
kill the journal must hold, under the same id, all that was ever heard; at the end each phase of each
merger once, published, and nothing else. What is heard twice must say that it is.

usage: check_journal_kill.py JOURNAL_DRIVER [KILLS]
"""
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time

MERGERS = 60
PHASES = [("first", 1), ("update", 1), ("update", 2), ("final", 1)]
failures = 0


def check(ok, what):
    global failures
    failures += not ok
    print(("ok    " if ok else "FAIL  ") + what)


def key(e):
    return e["id"], e["phase"], e["serial"]


def drain(sub, heard, zmq, wait_ms):
    while sub.poll(wait_ms):
        topic, text, number = sub.recv_multipart()
        e = json.loads(text)
        assert topic.decode() == "event." + e["phase"]
        heard.append(e)


def rows(path):
    with sqlite3.connect(path) as db:
        return {(i, p, s): (g, pub) for i, p, s, g, pub in
                db.execute("SELECT id, phase, serial, gps_ns, published_ns FROM events")}


def main():
    try:
        import zmq
    except ImportError:
        print("skipped: python3-zmq is not installed")
        return 77
    if len(sys.argv) < 2:
        print(__doc__)
        return 2
    kills = int(sys.argv[2]) if len(sys.argv) > 2 else 25
    driver = os.path.abspath(sys.argv[1])
    work = tempfile.mkdtemp(prefix="gw-kill-")
    journal, lines, endpoint = work + "/j.sqlite", work + "/lines.jsonl", f"ipc://{work}/pub"
    rng = random.Random(20151226)

    context = zmq.Context()
    sub = context.socket(zmq.SUB)
    sub.setsockopt(zmq.RCVHWM, 0)
    sub.setsockopt(zmq.RECONNECT_IVL, 5)
    sub.setsockopt(zmq.SUBSCRIBE, b"event.")
    sub.connect(endpoint)

    heard, lost, at_risk, started = [], 0, 0, time.monotonic()
    command = [driver, journal, endpoint, lines, str(MERGERS)]
    begin = time.monotonic()
    subprocess.run([driver, work + "/clock.sqlite", f"ipc://{work}/clock", "none", str(MERGERS), "0"], check=True,
                   stdout=subprocess.DEVNULL)
    whole_run = time.monotonic() - begin
    kills = max(8, min(kills, int(20 / whole_run)))  # a slow disk: fewer
    for _ in range(kills):
        p = subprocess.Popen(command + ["0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        p.stdout.readline()  # "ready"; or, killed below, nothing
        time.sleep(rng.uniform(0, 0.9 * whole_run))
        p.send_signal(signal.SIGKILL)
        p.wait()
        drain(sub, heard, zmq, 20)
        held = rows(journal)
        lost += sum(key(e) not in held for e in heard)
        at_risk += sum(pub is None for _, pub in held.values())
    check(len(heard) > 0 and len(held) > 0, f"{kills} kills: {len(held)} phases journaled, {len(heard)} heard so far")
    check(lost == 0, "after every kill the journal held all that had been heard")

    # killed while it opens, before it is ready
    for _ in range(10):
        p = subprocess.Popen(command + ["0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        time.sleep(rng.uniform(0, 0.02))
        p.send_signal(signal.SIGKILL)
        p.wait()
    drain(sub, heard, zmq, 20)

    last = subprocess.run(command + ["0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    drain(sub, heard, zmq, 200)
    check(last.returncode == 0, "a last run goes through to its end" + (": " + last.stderr if last.returncode else ""))

    held = rows(journal)
    want = {(f"G{m:016x}", p, s) for m in range(MERGERS) for p, s in PHASES}
    check(set(held) == want, f"the journal holds each of {len(want)} phases once and nothing else ({len(held)})")
    check(all(pub is not None for _, pub in held.values()), f"all of them published ({at_risk} were not, right after a kill)")
    check(all(abs(held[key(e)][0] - e["gps"] * 1e9) < 1000 for e in heard if key(e) in held),
          "what was heard has the journal's time")

    once = [key(e) for e in heard if "recovered" not in e["wall"]]
    twice = [key(e) for e in heard if "recovered" in e["wall"]]
    check(len(once) == len(set(once)), f"nothing was published twice, but for {len(twice)} marked as recovered")

    with open(lines, encoding="utf-8") as f:
        text = f.read().splitlines()
    whole = [json.loads(t) for t in text]
    check({key(e) for e in whole} == want, f"each of {len(text)} printed lines is whole, and none is missing")

    with sqlite3.connect(journal) as db:
        (ok,), (truths,) = db.execute("PRAGMA integrity_check").fetchone(), db.execute(
            "SELECT count(*) FROM injections").fetchone()
    check(ok == "ok", "PRAGMA integrity_check: " + ok)
    check(truths == MERGERS, f"each injection once ({truths})")
    sub.close(0)
    context.term()
    shutil.rmtree(work)
    print(f"      {time.monotonic() - started:.1f} s")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
