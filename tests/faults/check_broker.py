#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Brokers that are down at the start, go away in the middle, refuse, are slow, forbid the topic; a storm; and kill -9 of the
producer at random moments meanwhile. Whatever happens, at the end the broker has every message, each once after
dropping repeats by `_id`, in order per event, and the journal says so.

usage: check_broker.py MOCK_BROKER JOURNAL_DRIVER [KILLS | minute]
       KILLS: only those, so many; minute: only the broker down for a minute
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
from flow import check, finish, folder, run, skip, wait_until  # noqa: E402
from kafka_rig import Broker, once, read_topic  # noqa: E402

try:
    import confluent_kafka  # noqa: F401
except ImportError:
    skip("python3-confluent-kafka is not installed")

PHASES = ["first", "update", "update", "final"]
MOCK, DRIVER = sys.argv[1], sys.argv[2]
KILLS = int(sys.argv[3]) if len(sys.argv) > 3 and sys.argv[3] != "minute" else 0


def drive(work, address, mergers, pause_us, more="", topic="test.events", face="plain", storm="none"):
    """The alerts sink, told of so many mergers."""
    yaml = (f"brokers: [{{name: far, bootstrap: '{address}', topic: {topic}, face: {face}, send: candidates{more}}}]\nstorm: {storm}")
    log = open(f"{work}/log", "a")
    return subprocess.Popen([DRIVER, f"{work}/j.sqlite", f"ipc://{work}/pub", "none", str(mergers), str(pause_us), yaml],
                            stdout=open(f"{work}/gauges", "w"), stderr=log)


def said(work):
    return open(f"{work}/log").read()


def gauge(work, name):
    """What the last run that came to its end showed."""
    lines = [line.split() for line in open(f"{work}/gauges")]
    return {x[1]: float(x[2]) for x in lines if x[0] == "gauge"}.get(name)


def complete(work, address, mergers, what, topic="test.events"):
    """Every message arrived once, in order, and is acknowledged; on a slow machine after one more start."""
    if any("not acknowledged" in line for line in [x for x in said(work).splitlines() if "acknowledged" in x][-1:]):
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


def a_minute():
    with folder() as work:
        b = Broker(MOCK)
        p = drive(work, b.address, 100, 150000)  # 75 s
        time.sleep(2)
        b.tell("down")
        time.sleep(60)
        b.tell("up")
        back = time.monotonic()
        want = 4 * 75  # told before it came back
        while len(read_topic(b.address, "test.events")) < want and time.monotonic() - back < 20:
            pass
        check(time.monotonic() - back < 20, f"down for a minute: {want} messages are there {time.monotonic() - back:.1f} s after its return")
        check(p.wait(30) == 0, "down for a minute: the producer ends well")
        complete(work, b.address, 100, "down for a minute")
        text = said(work)
        check(text.count("cannot be reached") == 1 and "takes messages again" in text, "down for a minute: said once, and its end")
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
        p = drive(work, b.address, 3, 300000)
        wait_until(lambda: "test.events: " in said(work), "forbidden topic: said")
        b.tell("allow test.events")
        check(p.wait(20) == 0, "forbidden topic: the producer ends well")
        troubles = gauge(work, "broker_troubles")
        complete(work, b.address, 3, "forbidden topic, allowed later")
        text = [line for line in said(work).splitlines() if "test.events: " in line]
        check(len(text) == 1 and "uthoriz" in text[0] and troubles > 0,
              f"forbidden topic: one line {text[:2]}, {troubles} troubles counted")
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
        check(refused == 8 and gauge(work, "broker_refused") == 8, "oversized: the journal has why, the gauge how many")
        b.close()


def storms():
    """More than the limit: the first go out, the others are held back and said; an order sends them after all."""
    with folder() as work:
        b = Broker(MOCK)
        check(drive(work, b.address, 12, 1000, storm="{alerts: 4, within: 10min}").wait(20) == 0, "a storm: the producer ends well")
        messages = [(m[1], json.loads(m[3])) for m in read_topic(b.address, "test.events")]
        notes = [(key, m) for key, m in messages if m["type"] == "storm"]
        told = [key for key, m in messages if m["type"] == "event"]
        check(len(told) == 16 and set(told) == {f"G{m:016x}" for m in range(4)}, f"a storm: {len(told)} messages of {len(set(told))} events")
        check(len(notes) == 1 and notes[0][1]["phase"] == "begin" and notes[0][1]["since"] == 1400000024 and notes[0][1]["most"] == 4,
              f"a storm: one note {notes[0][1] if notes else ''}")
        text = said(work)
        check(text.count("alert storm since 2024-05-17T16:53:26") == 1 and gauge(work, "storm_held") == 32,
              f"a storm: one loud line, and the gauge has {gauge(work, 'storm_held'):.0f}")
        with sqlite3.connect(f"{work}/j.sqlite") as db:
            held = db.execute("SELECT count(*), count(DISTINCT id) FROM broker_ack WHERE refused = 'held back: alert storm'"
                              " AND acked_ns IS NULL").fetchone()
            published = db.execute("SELECT count(*) FROM events WHERE published_ns IS NOT NULL").fetchone()[0]
            check(held == (32, 8) and published == 48, f"a storm: {held[0]} messages of {held[1]} events held, {published} published here")
            db.execute("UPDATE broker_ack SET again = 1 WHERE refused IS NOT NULL")
        check(drive(work, b.address, 12, 0, storm="{alerts: 4, within: 10min}").wait(20) == 0, "sent after all: the producer ends well")
        told = [json.loads(m[3]) for m in read_topic(b.address, "test.events")]
        check(sum(m["type"] == "event" for m in told) == 48, "sent after all: 48 messages")
        b.close()


def kills(rng, n, work, b, topic):
    """So many kills over one sequence of events, none before the first 50 ms; then a run that is let live."""
    for i in range(n):
        p = drive(work, b.address, 40, 2000, topic=topic)
        time.sleep(rng.uniform(0.05, 1.0))
        if i % 3 == 1:
            b.tell("down")
        p.send_signal(signal.SIGKILL)
        p.wait()
        if i % 3 == 2:
            b.tell("up")
            b.tell(f"refuse {rng.randrange(4)}")
    b.tell("up")
    b.tell("slow 0")
    status = drive(work, b.address, 40, 0, topic=topic).wait(30)
    check(status == 0, f"{n} times kill -9: the last run ends well" + (f": {said(work)[-600:]}" if status else ""))
    complete(work, b.address, 40, f"{n} times kill -9", topic)
    b.tell("slow 40")  # so that a kill finds messages under way


def many_kills():
    """Ten to a sequence: after that all of it has been said, and a kill would find nothing to break."""
    rng = random.Random(6)
    b = Broker(MOCK)
    b.tell("slow 40")
    for first in range(0, KILLS, 10):
        with folder() as work:
            kills(rng, min(10, KILLS - first), work, b, f"test.events.{first}")
    b.close()


def bad_input():
    keys = "name: b, bootstrap: '127.0.0.1:9', topic: test.a, face: plain"
    cases = [
        ("bootstrap: 'nowhere', name: b, topic: test.a, face: plain", "is no list of HOST:PORT"),
        ("name: b, bootstrap: '127.0.0.1:9', topic: igwn.gwalert, face: plain", "say production: true"),
        ("name: b, bootstrap: '127.0.0.1:9', topic: test.a, face: voevent", "'voevent' is none of gcn"),
        (keys + ", color: red", "unknown key 'color'"),
        (keys + ", options: {lingerms: 5}", "lingerms is not for a file to set"),
        (keys + ", options: {linger.ms: soon}", "Invalid value"),
        (keys + ", options: {acks: 0}", "acks is not for a file to set"),
        (keys + ", sasl: {mechanism: scram-sha-512, username: u}", "wants username and password_file"),
        (keys + "}], storm: often, x: [{", "storm: wants {alerts: 10, within: 10min}, or none"),
        (keys + "}], storm: {alerts: 0}, x: [{", "alerts"),
        (keys + "}], storm: {within: 10ms}, x: [{", "within: want 1s to 1d"),
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


if sys.argv[3:] == ["minute"]:
    a_minute()
elif KILLS:
    many_kills()
else:
    outages()
    never_there()
    forbidden()
    too_large()
    storms()
    bad_input()
finish()
