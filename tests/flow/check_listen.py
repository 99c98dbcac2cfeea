#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who listens to a running search, and who interferes with it. The two listeners of tests/clients (C and Python, by
ZeroMQ) and three Kafka clients that we did not write (kcat, confluent-kafka, kafka-python) hear every word of a
`gwstream run` while it runs at the pace of the clock; meanwhile `gwstream alerts retract` withdraws its event and
`resend` sends it once more, under the same _id. Then the listeners against a scripted socket: repeats are dropped,
gaps noticed.

usage: check_listen.py MOCK_BROKER LISTEN
"""

import importlib.util
import json
import shutil
import signal
import sqlite3
import subprocess
import sys
import time

import zmq

from flow import PROGRAM, ROOT, check, finish, folder, run, skip
from kafka_rig import Broker, once, read_topic

try:
    import confluent_kafka
except ImportError:
    skip("python3-confluent-kafka is not installed")

CLIENTS = ROOT / "tests" / "clients"
LISTEN_PY = str(CLIENTS / "listen.py")
GRAPH = """
sources:
  sky: {{kind: sim, seed: 3, duration: 60s, rate: 2048Hz, pace: 1,
        signals: [{{gps: 1400000009.5, mass1: 30, mass2: 30, distance: 200}}]}}
stages:
  white: {{kind: whiten, from: sky}}
  search: {{kind: detect, from: white, model: models/bbh-small.onnx}}
sinks:
  alerts: {{kind: alerts, from: [search, sky], journal: '{work}/j.sqlite', print: none, publish: 'ipc://{work}/pub',
           brokers: [{{name: notices, bootstrap: '{broker}', topic: test.notices, face: plain, send: candidates,
                      options: {{compression.codec: gzip}}}}]}}  # python3-kafka has no zstd here
"""


class Listeners:
    """listen.c and listen.py at one endpoint."""

    def __init__(self, work, endpoint):
        self.files = [f"{work}/heard.c", f"{work}/heard.py"]
        self.processes = [subprocess.Popen([*argv, endpoint], stdout=open(f, "w"))
                          for argv, f in zip(([sys.argv[2]], [sys.executable, LISTEN_PY]), self.files)]

    def lines(self):
        return [open(f).read().splitlines() for f in self.files]

    def end(self):
        for p in self.processes:
            p.terminate()
            p.wait(10)


class Readers:
    """Kafka clients, each in a process of its own, that print a line a message."""

    def __init__(self, work, broker):
        maker = confluent_kafka.Producer({"bootstrap.servers": broker.address})
        maker.list_topics("test.notices", timeout=10)  # makes it: who subscribes before there is a topic may come late
        hear = [sys.executable, str(CLIENTS / "hear.py")]
        there = [broker.address, "test.notices", "60"]
        argv = {"kcat": ["kcat", "-q", "-u", "-C", "-b", broker.address, "-t", "test.notices", "-o", "beginning", "-f",
                         '{"key":"%k","content":%s}\n']} if shutil.which("kcat") else {}
        argv |= {m: [*hear, m.split("_")[0], *there] for m in ("confluent_kafka", "kafka") if importlib.util.find_spec(m)}
        for name in {"kcat", "confluent_kafka", "kafka"} - argv.keys():
            print(f"skipped: {name} is not installed")
        self.files = {name: f"{work}/{name}.lines" for name in argv}
        self.processes = [subprocess.Popen(a, stdout=open(self.files[n], "w"), stderr=subprocess.DEVNULL)
                          for n, a in argv.items()]

    def heard(self):
        """Each client's words, repeats dropped as a reader without headers drops them."""
        words = {}
        for name, path in self.files.items():
            heard = [json.loads(x) for x in open(path).read().split("\n")[:-1]]
            words[name] = list(dict.fromkeys((x["content"]["id"], x["content"]["phase"], x["content"]["serial"])
                                             for x in heard if x["key"] == x["content"]["id"]))
        return words

    def end(self):
        for p in self.processes:
            p.kill()
            p.wait(10)


def wait_for(what, seconds):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        value = what()
        if value:
            return value
        time.sleep(0.1)
    return None


def rows(journal):
    try:
        with sqlite3.connect(f"file:{journal}?mode=ro", uri=True) as db:
            return list(db.execute("SELECT id, phase, serial FROM events ORDER BY number"))
    except sqlite3.OperationalError:
        return []


def messages(broker):
    return [(m[2]["_id"], json.loads(m[3])) for m in read_topic(broker.address, "test.notices")]


def interfere(work, broker):
    """Retracts the event of the running search and sends it again."""
    journal = f"{work}/j.sqlite"
    wait_for(lambda: any(r[1] == "final" for r in rows(journal)), 30)
    found = rows(journal)
    check(len({r[0] for r in found}) == 1, f"the running search has found one event: {found}")
    if not found:
        finish()
    event = found[0][0]
    status, out, err = run("alerts", "retract", event[:12], "--reason", "only a test", "--journal", journal)
    check(status == 0 and "the run that holds the journal tells it" in out, f"retract: {out.strip()}{err.strip()}")
    status, _, err = run("alerts", "retract", event, "--reason", "again", "--journal", journal)
    check(status == 2 and "has been retracted already" in err and err.count("\n") == 1, f"and only once: {err.strip()}")
    total = len(rows(journal))
    acked = "SELECT count(*) FROM broker_ack WHERE acked_ns IS NOT NULL AND NOT again"
    settled = wait_for(lambda: sqlite3.connect(journal).execute(acked).fetchone()[0] == total, 10)
    check(settled, f"the broker has all {total} words, the retraction with them")
    status, out, err = run("alerts", "resend", event, "--broker", "notices", "--journal", journal)
    check(status == 0 and out.startswith(f"{total} messages go again"), f"resend: {out.strip()}{err.strip()}")
    return event


def told_twice(broker, want):
    sent = messages(broker)
    first = once([(0, 0, {"_id": i}, e) for i, e in sent])
    check([(e["id"], e["phase"], e["serial"]) for *_, e in first] == want, f"Kafka: {len(sent)} messages, {len(first)} by _id")
    check(len(sent) == 2 * len(want), "each was sent twice")
    last = first[-1][3]
    check(last["phase"] == "retracted" and last["reason"] == "only a test", f"the retraction says why: {last.get('reason')}")


def figures(journal, n):
    _, out, _ = run("alerts", "stats", "--json", "--journal", journal)
    s = json.loads(out)
    b = s["brokers"][0]
    check(s["events"] == s["retracted"] == 1 and b["acked"] == n and b["waiting"] == b["again"] == b["refused"] == 0,
          f"stats: one event, retracted; {b['acked']} messages acknowledged, none waits")
    parts = [s["latency"][k]["median_s"] for k in ("signal", "data", "pipeline")] + [b["publish"]["median_s"]]
    check(abs(sum(parts) - b["total"]["median_s"]) < 5e-6 and b["total"]["n"] == 1,
          "stats: signal + data + pipeline + publish = total: "
          + " + ".join(f"{1e3 * p:.0f}" for p in parts) + f" = {1e3 * b['total']['median_s']:.0f} ms")
    _, out, _ = run("alerts", "show", "G", "--journal", journal)
    check(out.count("arrival     H1: 14000000") == 4 and out.count("arrival     L1: 14000000") == 4
          and out.count("broker      notices: acknowledged 20") == 4 and "because     only a test" in out,
          "show: arrivals, acknowledgements, the reason")
    _, out, _ = run("alerts", "stats", "--journal", journal)
    check("total     merger -> acknowledged" in out and "notices: " in out, "stats in words")


def hear_a_search(work, broker):
    with open(f"{work}/g.yaml", "w") as f:
        f.write(GRAPH.format(work=work, broker=broker.address))
    ears = Listeners(work, f"ipc://{work}/pub")
    search = subprocess.Popen([PROGRAM, "run", "--quiet", f"{work}/g.yaml"], cwd=ROOT)
    readers = Readers(work, broker)
    try:
        event = interfere(work, broker)
        want = rows(f"{work}/j.sqlite")
        wait_for(lambda: all(w == want for w in readers.heard().values()), 10)
        check(search.poll() is None, "the search is still running")
        for name, words in readers.heard().items():
            check(words == want, f"{name} has heard its {len(want)} words under their keys: {[w[1] for w in words]}")
        search.send_signal(signal.SIGINT)
        check(search.wait(20) == 0, "gwstream run, stopped: exit 0")
    finally:
        readers.end()
        search.kill()
    wait_for(lambda: all(len(x) >= len(want) for x in ears.lines()), 20)
    ears.end()
    c, py = ears.lines()
    check([tuple(x.split()[:3]) for x in c] == [(i, p, str(s)) for i, p, s in want] and c[-1].split()[1] == "retracted",
          f"listen.c hears every word of {event}: {[x.split()[1] for x in c]}")
    check(c == py, "listen.py prints the same")
    told_twice(broker, want)
    figures(f"{work}/j.sqlite", len(want))


def hear_a_script(work):
    """Numbers that leave some out, begin anew, and repeats."""
    endpoint = f"ipc://{work}/script"
    ears = Listeners(work, endpoint)
    socket = zmq.Context.instance().socket(zmq.XPUB)
    socket.setsockopt(zmq.XPUB_VERBOSE, 1)  # tell of each subscriber
    socket.bind(endpoint)
    for _ in ears.processes:
        socket.poll(10000) and socket.recv()
    event = {"type": "event", "serial": 1, "id": "G0000000000000001", "phase": "first", "gps": 1400000018.123456789,
             "detectors": ["H1", "L1"], "statistic": 9.5, "noise_rate_hz": 1.157e-5, "alert": True, "injection": False}
    for number, more in ((3, {}), (4, {"phase": "final"}), (7, {"serial": 2}), (1, {}), (2, {"id": "G0000000000000002"}),
                         (2, {"noise_rate_hz": None, "serial": 9, "injection": True})):
        e = {**event, **more}
        socket.send_multipart([f"event.{e['phase']}".encode(), json.dumps(e, separators=(",", ":")).encode(), str(number).encode()])
    wait_for(lambda: all(len(x) >= 9 for x in ears.lines()), 20)
    ears.end()
    socket.close(0)
    c, py = ears.lines()
    text = "gps 1400000018.1235 H1,L1 statistic 9.50 noise"
    check(c == ["# 2 messages were before this listener",
                f"G0000000000000001 first 1 {text} 1 per 1 d ALERT",
                f"G0000000000000001 final 1 {text} 1 per 1 d ALERT",
                "# 2 messages were missed",
                f"G0000000000000001 first 2 {text} 1 per 1 d ALERT",
                "# gwstream has begun anew, 0 messages were missed",
                f"G0000000000000002 first 1 {text} 1 per 1 d ALERT",
                "# gwstream has begun anew, 1 messages were missed",
                f"G0000000000000001 first 9 {text} - ALERT injection"], "listen.c: gaps are noticed, a repeat is dropped")
    check(c == py, "listen.py prints the same")
    if c != py or len(c) != 9:
        print(*c, "--", *py, sep="\n")


def main():
    broker = Broker(sys.argv[1])
    with folder() as work:
        hear_a_search(work, broker)
    broker.close()
    with folder() as work:
        hear_a_script(work)
    finish()


main()
