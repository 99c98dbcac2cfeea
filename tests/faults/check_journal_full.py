#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal's disk is full. On a small file system of its own (where this user may mount one): the journal goes on in
what was set aside for it, and says so; when that is used up events go out all the same, marked as not journaled, to
the broker, the socket and the lines, and are in the journal when there is room again: each once, under the name that
was told, and acknowledged. Full from the start, it is refused. The second part does the same by RLIMIT_FSIZE.

usage: check_journal_full.py MOCK_BROKER JOURNAL_DRIVER
"""

import json
import os
import pathlib
import resource
import signal
import sqlite3
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "flow"))
from flow import check, finish, folder, run, skip  # noqa: E402
from kafka_rig import Broker, once, read_topic  # noqa: E402

try:
    import confluent_kafka  # noqa: F401
except ImportError:
    skip("python3-confluent-kafka is not installed")

writers = []
PHASES = [("first", 1), ("update", 1), ("update", 2), ("final", 1)]


def start(work, disk, address, mergers, pause_us, prepare=None):
    yaml = f"brokers: [{{name: far, bootstrap: '{address}', topic: test.events, face: plain, send: candidates}}]\nstorm: none"
    p = subprocess.Popen([DRIVER, f"{disk}/j.sqlite", "none", "stdout", str(mergers), str(pause_us), yaml],
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=prepare)
    for pipe, name in (p.stdout, "lines"), (p.stderr, "log"):  # a limit to files is not one to pipes
        with open(f"{work}/{name}", "w") as f:
            writers.append(subprocess.Popen(["cat"], stdin=pipe, stdout=f))
        pipe.close()
    return p


def ended(p, seconds):
    """The exit status, once all that it wrote can be read."""
    status = p.wait(seconds)
    while writers:
        writers.pop().wait(10)
    return status


def said(work):
    with open(f"{work}/log", encoding="utf-8") as f:
        return f.read()


def lines(work):
    """What has been printed, but for what a later run found in the journal."""
    with open(f"{work}/lines", encoding="utf-8") as f:
        return [json.loads(line) for line in f if line.startswith("{") and line.endswith("\n")]


def wait_for(what, seconds):
    until = time.monotonic() + seconds
    while not what() and time.monotonic() < until:
        time.sleep(0.05)
    return what()


def complete(work, disk, address, mergers, what):
    """All told, all in the journal under the names that were told, all acknowledged, each once."""
    want = {(f"G{m:016x}", p, s) for m in range(mergers) for p, s in PHASES}
    printed = lines(work)
    marked = [e for e in printed if e.get("_journaled") is False]
    names = [(e["id"], e["phase"], e["serial"]) for e in printed]
    check(len(names) == len(want) and set(names) == want, f"{what}: {len(printed)} lines, each name once, {len(marked)} marked")
    check(len(marked) > 0, f"{what}: some went out unjournaled")
    messages = read_topic(address, "test.events")
    heard = [json.loads(m[3]) for m in once(messages)]
    check(len(heard) == len(want) and {(e["id"], e["phase"], e["serial"]) for e in heard} == want,
          f"{what}: the broker has {len(heard)} messages ({len(messages)} with repeats)")
    by_id = {}
    for e in heard:
        by_id.setdefault(e["id"], []).append((e["phase"], e["serial"]))
    check(all(told == PHASES for told in by_id.values()), f"{what}: in order for each event")
    flags = [(json.loads(m[3]).get("_journaled"), m[2].get("_journaled")) for m in messages]
    check(set(flags) <= {(None, None), (False, b"false")} and (False, b"false") in flags,
          f"{what}: {sum(f[1] is not None for f in flags)} messages say in field and header that they are not journaled")
    with sqlite3.connect(f"{disk}/j.sqlite") as db:
        held = set(db.execute("SELECT id, phase, serial FROM events WHERE published_ns IS NOT NULL"))
        acked, truths = db.execute("SELECT (SELECT count(*) FROM broker_ack WHERE acked_ns IS NOT NULL),"
                                   " (SELECT count(*) FROM injections)").fetchone()
        whole = db.execute("PRAGMA integrity_check").fetchone()[0]
    check(held == want and acked == len(want) and truths == mergers and whole == "ok",
          f"{what}: the journal has {len(held)} published, {acked} acknowledged, {truths} injections; {whole}")
    text = said(work)
    check(text.count("alerts go on, marked as not journaled") in (1, 2) and "takes messages again" in text,
          f"{what}: said once, and its end, in {len(text.splitlines())} lines")


def small_disk():
    """In a mount of our own: this part runs as a child of unshare(1)."""
    with folder() as work:
        disk = f"{work}/disk"
        os.mkdir(disk)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "none", disk], check=True)
        b = Broker(MOCK)
        with open(f"{disk}/stone", "wb") as f:
            f.write(bytes(8 << 20))
        p = start(work, disk, b.address, 1, 0)
        text = said(work) if ended(p, 10) else ""
        check(p.returncode and "8 MiB cannot be set aside" in text, f"full from the start: exit {p.returncode}: {text.strip()[-150:]}")
        with open(f"{work}/g.yaml", "w", encoding="ascii") as f:
            f.write(f"sources: {{sky: {{kind: sim, duration: 1s, rate: 2048Hz}}}}\n"
                    f"sinks: {{alerts: {{kind: alerts, from: sky, journal: {disk}/j.sqlite, print: none}}}}\n")
        status, _, err = run("run", "--quiet", f"{work}/g.yaml")
        check(status == 2 and "cannot be set aside" in err and len(err.splitlines()) == 1, f"'gwstream run': exit {status}: {err.strip()[-150:]}")
        os.remove(f"{disk}/stone")
        for name in os.listdir(disk):
            os.remove(f"{disk}/{name}")
        os.remove(f"{work}/log")

        p = start(work, disk, b.address, MERGERS, 3000)
        wait_for(lambda: os.path.exists(f"{work}/lines") and len(lines(work)) > 20, 10)
        p.send_signal(signal.SIGSTOP)
        try:
            with open(f"{disk}/stone", "wb", buffering=0) as f:
                while True:
                    f.write(bytes(4096))
        except OSError:
            pass
        time.sleep(0.1)  # what it has said is read
        first = len(lines(work))
        p.send_signal(signal.SIGCONT)
        check(wait_for(lambda: "goes on in the" in said(work), 10), "a full disk: it is said, and the journal goes on: "
              + next((x[25:] for x in said(work).splitlines() if "goes on in" in x), "not"))
        wait_for(lambda: any(e.get("_journaled") is False for e in lines(work)), 20)
        marked = [i for i, e in enumerate(lines(work)) if e.get("_journaled") is False]
        check(marked and marked[0] - first > 100, f"{marked[0] - first if marked else 0} messages went into what was set aside")
        time.sleep(0.5)
        os.remove(f"{disk}/stone")
        check(ended(p, 30) == 0, "the run ends well")
        complete(work, disk, b.address, MERGERS, "a full disk")
        b.close()
        subprocess.run(["umount", "-l", disk], check=True)


def limit():
    with folder() as work:
        b = Broker(MOCK)

        def prepare():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

        p = start(work, work, b.address, 60, 10000, prepare)
        wait_for(lambda: os.path.exists(f"{work}/lines") and len(lines(work)) > 20, 10)
        resource.prlimit(p.pid, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
        wait_for(lambda: any(e.get("_journaled") is False for e in lines(work)), 20)
        time.sleep(0.3)
        resource.prlimit(p.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        check(ended(p, 30) == 0, "a limit: the run ends well")
        complete(work, work, b.address, 60, "a limit")
        b.close()


MOCK, DRIVER = sys.argv[1], sys.argv[2]
MERGERS = 200
if sys.argv[3:] == ["disk"]:
    small_disk()
    finish()
limit()
if subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt"], stderr=subprocess.DEVNULL).returncode == 0:
    check(subprocess.run(["unshare", "-rm", sys.executable, __file__, MOCK, DRIVER, "disk"]).returncode == 0, "on a disk of its own")
else:
    print("      nobody may mount a file system here: the rest is skipped")
finish()
