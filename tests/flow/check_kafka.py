#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Kafka producer against a broker that we did not write (librdkafka's mock cluster) and unmodified clients:
kcat, python3-confluent-kafka, python3-kafka, python3-avro, python3-jsonschema. `gwstream run` finds signals in
simulated noise and tells them to five brokers at once, each with its face; every reader sees every message once.

GWSTREAM_CLIENTS may name the Python of an environment that has gcn-kafka and hop-client (pip): they are asked too.

usage: check_kafka.py MOCK_BROKER
"""

import io
import itertools
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import uuid

from flow import ROOT, check, finish, folder, lines, run, skip
from kafka_rig import Broker, once, read_topic

try:
    import confluent_kafka  # noqa: F401
except ImportError:
    skip("python3-confluent-kafka is not installed")

FACES = ["gcn", "gwalert-json", "gwalert-avro", "gracedb", "plain"]
# python3-kafka has no zstd here
OPTIONS = ", options: {compression.codec: gzip, client.id: observatory, linger.ms: 5, socket.timeout.ms: 20000}"
GRAPH = """
sources:
  sky: {{kind: sim, seed: 3, duration: 40s, rate: 2048Hz,
        signals: [{{gps: 1400000018.5, mass1: 30, mass2: 30, distance: 250}},
                  {{gps: 1400000031, mass1: 36, mass2: 29, distance: 250}}]}}
stages:
  white: {{kind: whiten, from: sky}}
  search: {{kind: detect, from: white, model: models/bbh-small.onnx}}
sinks:
  alerts: {{kind: alerts, from: [search, sky], journal: '{work}/j.sqlite', print: '{work}/lines.json', brokers: [{brokers}]}}
"""


def schema(name):
    return json.loads((ROOT / "tests" / "flow" / "schemas" / f"{name}.schema.json").read_text())


def read_avro(value):
    import avro.datafile
    import avro.io
    records = list(avro.datafile.DataFileReader(io.BytesIO(value), avro.io.DatumReader()))
    return records[0] if len(records) == 1 else None


def check_schema(name, messages):
    try:
        import jsonschema
    except ImportError:
        print("skipped: python3-jsonschema is not installed")
        return
    checker = jsonschema.Draft202012Validator(schema(name))
    wrong = [e.message for m in messages for e in checker.iter_errors(json.loads(m))]
    check(not wrong, f"{name}: {len(messages)} messages fit the published fields {wrong[:2]}")


def check_faces(got, rows):
    """got[face] = messages; rows = [(id, phase)] as the journal has them."""
    for face in FACES:
        want = [r for r in rows if face != "gracedb" or r[1] != "retracted"]
        m = once(got[face])
        check(sorted(x[1] for x in m) == sorted(r[0] for r in want), f"{face}: {len(m)} messages, each event under its key")
        check(len({x[0] for x in m}) <= len({r[0] for r in want}), f"{face}: an event keeps to one partition")
        h = [x[2] for x in m]
        check(all(len(x["_id"]) == 16 and uuid.UUID(bytes=x["_id"]).version == 4 for x in h)
              and all(x["_format"] == (b"avro" if face.endswith("avro") else b"json") for x in h)
              and all(x["_sender"] == b"gwstream" and x["_test"] == b"true" for x in h), f"{face}: hop's headers")
    plain = [json.loads(m[3]) for m in got["plain"]]
    for event in {r[0] for r in rows}:
        told = [e["phase"] for e in plain if e["id"] == event]
        check(told == [r[1] for r in rows if r[0] == event], f"{event}: phases in order {told}")
    check(all(e["tense"] == "injection" for e in plain), "what was injected is called so")
    check_schema("gcn", [m[3] for m in got["gcn"]])
    check_schema("gwalert", [m[3] for m in got["gwalert-json"]])
    check_schema("gracedb", [m[3] for m in got["gracedb"]])
    first = json.loads(got["gcn"][0][3])
    check(first["alert_type"] == "initial" and first["alert_tense"] == "injection" and first["record_number"] == 1
          and first["event_name"][0].startswith("MS"), "gcn: the first of an event is initial; an injection is MS")
    try:
        records = [read_avro(m[3]) for m in got["gwalert-avro"]]
    except ImportError:
        print("skipped: python3-avro is not installed")
        return
    texts = [json.loads(m[3]) for m in got["gwalert-json"]]

    def by_time(x):
        return x["superevent_id"], x["time_created"], x["event"]["far"]
    check(sorted(records, key=by_time) == sorted(texts, key=by_time), "gwalert: python3-avro reads what JSON says, field for field")


def check_clients(address, n):
    if shutil.which("kcat"):
        out = subprocess.run(["kcat", "-q", "-C", "-b", address, "-t", "test.plain", "-e", "-o", "beginning", "-f", "%k %s\n"],
                             capture_output=True, text=True, timeout=20).stdout.splitlines()
        check(len(out) == n and all(json.loads(x[18:])["id"] == x[:17] for x in out), f"kcat reads {len(out)} messages with their keys")
    else:
        print("skipped: kcat is not installed")
    try:
        import kafka
    except ImportError:
        print("skipped: python3-kafka is not installed")
        return
    c = kafka.KafkaConsumer("test.plain", bootstrap_servers=address, auto_offset_reset="earliest", consumer_timeout_ms=20000,
                            api_version=(2, 0, 0))
    got = [(m.key.decode(), json.loads(m.value)["id"], dict(m.headers)["_format"]) for m in itertools.islice(c, n)]
    more = c.poll(500)
    check(len(got) == n and not more and all(k == i and f == b"json" for k, i, f in got), f"python3-kafka reads {len(got)} messages")
    c.close()


def check_field_clients(address, n):
    """gcn-kafka and hop-client, which Debian has not."""
    python = os.environ.get("GWSTREAM_CLIENTS")
    for client, topic in (("gcn", "test.gcn"), ("hop", "test.gwalert-avro"), ("hop", "test.plain")):
        if not python:
            print(f"skipped: {client} on {topic}: GWSTREAM_CLIENTS is not set")
            continue
        p = subprocess.run([python, str(ROOT / "tests" / "clients" / "hear.py"), client, address, topic, "6"], timeout=40,
                           capture_output=True, text=True)
        got = [json.loads(line) for line in p.stdout.splitlines()]
        check(len(got) == n and all(x["key"].startswith("G") for x in got), f"{client} client hears {len(got)} on {topic}")
        if len(got) != n:
            print(p.stderr[-500:])


def main():
    broker = Broker(sys.argv[1])
    with folder() as work:
        brokers = ", ".join(f"{{name: {f}, bootstrap: '{broker.address}', topic: test.{f}, face: {f}, send: candidates, "
                            f"heartbeat: test.beat{OPTIONS if f == 'plain' else ''}}}" for f in FACES)
        with open(f"{work}/g.yaml", "w") as f:
            f.write(GRAPH.format(work=work, brokers=brokers))
        status, _, err = run("run", "--quiet", f"{work}/g.yaml")
        check(status == 0, "gwstream run with five brokers: exit 0")
        if status:
            print(err)
        db = sqlite3.connect(f"{work}/j.sqlite")
        rows = list(db.execute("SELECT id, phase FROM events ORDER BY number"))
        check(len({r[0] for r in rows}) == 2, f"two signals found, {len(rows)} messages")
        told = [(e["id"], e["phase"]) for e in lines(open(f"{work}/lines.json").read()) if e["type"] == "event"]
        check(told == rows, "the journal has what was printed")
        acks = dict(db.execute("SELECT broker, count(*) FROM broker_ack WHERE acked_ns IS NOT NULL GROUP BY broker"))
        check(acks == {f: len(rows) for f in FACES}, f"the journal has each broker's acknowledgements {acks}")
        _, shown, _ = run("alerts", "show", rows[0][0], "--journal", f"{work}/j.sqlite")
        check(all(shown.count(f"{f}: acknowledged 20") == 4 for f in FACES), "gwstream alerts show: who has acknowledged, when")
        check_faces({f: read_topic(broker.address, f"test.{f}") for f in FACES}, rows)
        beats = [json.loads(m[3]) for m in read_topic(broker.address, "test.beat")]
        check(beats and all(set(b) == {"$schema", "alert_datetime"} for b in beats), f"{len(beats)} signs of life")
        check_clients(broker.address, len(rows))
        check_field_clients(broker.address, len(rows))
    broker.close()
    finish()


main()
