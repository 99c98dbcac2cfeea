#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Brokers that are down at the start, go away in the middle, refuse, are slow, forbid the topic; and kill -9 of the
producer at random moments meanwhile. Whatever happens, at the end the broker has every message, each once after
dropping repeats by `_id`, in order per event, and the journal says so.

usage: check_broker.py MOCK_BROKER JOURNAL_DRIVER [KILLS]       KILLS: only those, so many
"""

import json
import pathlib
import random
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

PHASES = ["first", "update", "update", "final"]
MOCK, DRIVER = sys.argv[1], sys.argv[2]
KILLS = int(sys.argv[3]) if len(sys.argv) > 3 else 0


def drive(work, address, mergers, pause_us, more="", topic="test.events", face="plain"):
    """The alerts sink, told of so many mergers."""
    yaml = (f"brokers: [{{name: far, bootstrap: '{address}', topic: {topic}, face: {face}, send: candidates{more}}}]")
    log = open(f"{work}/log", "a")
    return subprocess.Popen([DRIVER, f"{work}/j.sqlite", f"ipc://{work}/pub", "none", str(mergers), str(pause_us), yaml],
                            stdout=subprocess.DEVNULL, stderr=log)


def said(work):
    return open(f"{work}/log").read()


def complete(work, address, mergers, what, topic="test.events"):
    """Every message arrived once, in order, and is acknowledged; on a slow machine after one more start."""
    if "not acknowledged" in said(work).splitlines()[-4]:
        drive(work, address, mergers, 0, topic=topic).wait(30)
    all_messages = read_topic(address, topic)
    messages = once(all_messages)
    told = {}
    for m in messages:
        e = json.loads(m[3])
        told.setdefault(m[1], []).append((e["phase"], e["serial"]))
    want = [("first", 1), ("update", 1), ("update", 2), ("final", 1)]
    check(len(told) == mergers and all(t == want for t in told.values()),
          f"{what}: {len(messages)} messages of {len(told)} events, each once and in order ({len(all_messages)} with repeats)")
    with sqlite3.connect(f"{work}/j.sqlite") as db:
        acked = db.execute("SELECT count(*) FROM broker_ack WHERE acked_ns IS NOT NULL").fetchone()[0]
    check(acked == 4 * mergers, f"{what}: the journal has {acked} acknowledgements")


def outages():
    with folder() as work:
        b = Broker(MOCK)
        b.tell("down")
        p = drive(work, b.address, 12, 60000, ", heartbeat: test.beat")  # 3.6 s
        time.sleep(1.2)
        b.tell("up")
        time.sleep(0.8)
        b.tell("down")
        time.sleep(0.8)
        b.tell("up")
        b.tell("refuse 3")
        b.tell("slow 150")
        check(p.wait(20) == 0, "outages: the producer ends well")
        complete(work, b.address, 12, "outages")
        check(said(work).count("cannot be reached") in (1, 2) and "takes messages again" in said(work),
              "outages: each is said once, and its end")
        beats = [json.loads(m[3]) for m in read_topic(b.address, "test.beat")]
        check(beats and all(set(x) == {"$schema", "alert_datetime"} for x in beats), f"{len(beats)} signs of life")
        b.close()


def never_there():
    """Down all the time: the search is not held up; the next start sends it all."""
    with folder() as work:
        b = Broker(MOCK)
        b.tell("down")
        began = time.monotonic()
        check(drive(work, b.address, 5, 1000).wait(20) == 0, "broker away: the producer ends well")
        check("20 messages not acknowledged; the journal keeps them" in said(work), "broker away: says what is left")
        b.tell("up")
        check(drive(work, b.address, 5, 1000).wait(20) == 0, "the next start")
        complete(work, b.address, 5, f"the next start ({time.monotonic() - began:.0f} s)")
        check(drive(work, b.address, 5, 1000).wait(20) == 0, "a third start sends nothing again")
        check(len(read_topic(b.address, "test.events")) == 20, "a third start sends nothing again: 20 messages")
        b.close()


def forbidden():
    with folder() as work:
        b = Broker(MOCK)
        b.tell("forbid test.events")
        p = drive(work, b.address, 3, 150000)
        time.sleep(1.2)
        b.tell("allow test.events")
        check(p.wait(20) == 0, "forbidden topic: the producer ends well")
        complete(work, b.address, 3, "forbidden topic, allowed later")
        text = [line for line in said(work).splitlines() if "test.events: " in line]
        check(len(text) == 1 and "uthoriz" in text[0], f"forbidden topic: one line {text[:2]}")
        b.close()


def too_large():
    """A message that the broker would refuse for its size is kept, reported, and holds up nothing."""
    with folder() as work:
        b = Broker(MOCK)
        p = drive(work, b.address, 2, 1000, ", max_message: 1000B", face="gwalert-avro")
        q = p.wait(20)
        text = [line for line in said(work).splitlines() if "is kept and not sent" in line]
        check(q == 0 and len(text) == 8 and "arge" in text[0], f"oversized: {len(text)} lines, {text[0][25:] if text else ''}")
        with sqlite3.connect(f"{work}/j.sqlite") as db:
            refused = db.execute("SELECT count(*) FROM broker_ack WHERE refused IS NOT NULL").fetchone()[0]
        check(refused == 8, "oversized: the journal has why")
        b.close()


def kills():
    rng = random.Random(6)
    with folder() as work:
        b = Broker(MOCK)
        b.tell("slow 40")  # so that a kill finds messages under way
        for i in range(KILLS):
            p = drive(work, b.address, 40, 2000)
            time.sleep(rng.uniform(0.1, 1.0))
            if i % 3 == 1:
                b.tell("down")
            p.send_signal(signal.SIGKILL)
            p.wait()
            if i % 3 == 2:
                b.tell("up")
        b.tell("up")
        b.tell("slow 0")
        check(drive(work, b.address, 40, 0).wait(30) == 0, f"{KILLS} times kill -9: the last run ends well")
        complete(work, b.address, 40, f"{KILLS} times kill -9")
        b.close()


def bad_input():
    keys = "name: b, bootstrap: '127.0.0.1:9', topic: test.a, face: plain"
    cases = [
        ("bootstrap: 'nowhere', name: b, topic: test.a, face: plain", "is no list of HOST:PORT"),
        ("name: b, bootstrap: '127.0.0.1:9', topic: igwn.gwalert, face: plain", "say production: true"),
        ("name: b, bootstrap: '127.0.0.1:9', topic: test.a, face: voevent", "'voevent' is none of gcn"),
        (keys + ", color: red", "unknown key 'color'"),
        (keys + ", options: {lingerms: 5}", 'No such configuration property: "lingerms"'),
        (keys + ", options: {linger.ms: soon}", "Invalid value"),
        (keys + ", options: {acks: 0}", "acks is not for a file to set"),
        (keys + ", sasl: {mechanism: scram-sha-512, username: u}", "wants username and password_file"),
        (keys + ", sasl: {mechanism: oauthbearer}", "wants token_command"),
        (keys + ", tls: {certificate: x.pem}", "a certificate wants its key"),
        ("name: b, bootstrap: 'kafka.example.org:9092', topic: test.a, face: plain", "run --publish"),
        ("name: b, bootstrap: 'kafka.example.org:9092', topic: test.a, face: plain, tls: false, "
         "sasl: {username: u, password_file: p}", "in the clear"),
    ]
    with folder() as work:
        for text, want in cases:
            with open(f"{work}/g.yaml", "w") as f:
                f.write("sources: {sky: {kind: sim, duration: 1s}}\nsinks: {alerts: {kind: alerts, from: sky, brokers: [{"
                        + text + "}]}}\n")
            status, _, err = run("check", f"{work}/g.yaml")
            check(status == 2 and want in err and len(err.splitlines()) == 1, f"bad input: {err.strip()[-150:]}")
        with open(f"{work}/g.yaml", "w") as f:
            f.write(f"sources: {{sky: {{kind: sim, duration: 1s}}}}\nsinks: {{alerts: {{kind: alerts, from: sky, "
                    f"journal: {work}/j.sqlite, brokers: [{{{keys}, sasl: {{username: u, password_file: {work}/none}}}}]}}}}\n")
        status, _, err = run("run", "--quiet", f"{work}/g.yaml")
        check(status == 2 and f"password_file {work}/none" in err, f"bad input: {err.strip()[-120:]}")


if KILLS:
    kills()
else:
    outages()
    never_there()
    forbidden()
    too_large()
    bad_input()
finish()
