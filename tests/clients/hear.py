#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hears alerts with the clients that astronomers use, gcn-kafka or hop-client (both from the Python registry), or with
the plain ones, confluent-kafka or kafka-python, and prints a line of JSON for each as it comes: what follow-up programs
have to write themselves.

    hear.py gcn|hop|confluent|kafka BOOTSTRAP TOPIC SECONDS      a broker without login, such as the tests' own
"""

import json
import sys
import time
import uuid


def hear_gcn(bootstrap, topic, seconds):
    from gcn_kafka import Consumer
    # For GCN itself: Consumer(client_id=..., client_secret=...) and no more.
    consumer = Consumer(config={"bootstrap.servers": bootstrap, "security.protocol": "plaintext", "sasl.mechanisms": "PLAIN",
                                "group.id": str(uuid.uuid4()), "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for message in consumer.consume(timeout=1):
            if not message.error():
                yield message.key().decode(), json.loads(message.value())
    consumer.close()


def hear_hop(bootstrap, topic, seconds):
    from hop.io import StartPosition, Stream
    # For SCiMMA itself: Stream() with the login of `hop auth`, and kafka://kafka.scimma.org/TOPIC.
    stream = Stream(auth=False, start_at=StartPosition.EARLIEST, until_eos=True)
    with stream.open(f"kafka://{bootstrap}/{topic}", "r", ignoretest=False) as messages:
        for message, metadata in messages.read(metadata=True):
            yield metadata.key.decode(), message.content


def hear_confluent(bootstrap, topic, seconds):
    from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": str(uuid.uuid4()), "log_level": 0})
    # All partitions from their beginning, without joining a group: nobody shares the work with this reader.
    partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
    consumer.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in partitions])
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        message = consumer.poll(1)
        if message and not message.error():
            yield message.key().decode(), json.loads(message.value())
    consumer.close()


def hear_kafka(bootstrap, topic, seconds):
    from kafka import KafkaConsumer
    consumer = KafkaConsumer(topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest", api_version=(2, 0, 0),
                             metadata_max_age_ms=500, consumer_timeout_ms=1000)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for message in consumer:
            yield message.key.decode(), json.loads(message.value)
    consumer.close()


def main():
    hear = {"gcn": hear_gcn, "hop": hear_hop, "confluent": hear_confluent, "kafka": hear_kafka}[sys.argv[1]]
    for key, content in hear(sys.argv[2], sys.argv[3], float(sys.argv[4])):
        print(json.dumps({"key": key, "content": content}, default=str), flush=True)


main()
