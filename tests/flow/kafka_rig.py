# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of the Kafka producer share: the mock broker (tests/clients/mock_broker.c), and reading a topic
with python3-confluent-kafka to its end."""

import subprocess
import time


class Broker:
    """librdkafka's mock cluster in a process of its own."""

    def __init__(self, program):
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL, text=True)
        self.address = self.process.stdout.readline().strip()

    def tell(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline().strip() == line

    def close(self):
        self.process.stdin.close()
        self.process.wait(20)


def read_topic(address, topic, timeout=10):
    """All messages of a topic: [(partition, key, headers, value)], in order within each partition."""
    import confluent_kafka as ck
    c = ck.Consumer({"bootstrap.servers": address, "group.id": f"t{time.time_ns()}", "enable.partition.eof": True,
                     "auto.offset.reset": "earliest", "log_level": 0})
    parts = c.list_topics(topic, timeout=timeout).topics[topic].partitions
    c.assign([ck.TopicPartition(topic, p, ck.OFFSET_BEGINNING) for p in parts])
    messages, at_end, until = [], set(), time.monotonic() + timeout
    while len(at_end) < len(parts) and time.monotonic() < until:
        m = c.poll(0.2)
        if m is None:
            continue
        if m.error():
            if m.error().code() == ck.KafkaError._PARTITION_EOF:
                at_end.add(m.partition())
            continue
        key = m.key().decode() if m.key() else None
        messages.append((m.partition(), key, dict(m.headers() or []), m.value()))
    c.close()
    return messages


def once(messages):
    """Without what has come before under the same _id."""
    seen, first = set(), []
    for m in messages:
        if m[2]["_id"] not in seen:
            seen.add(m[2]["_id"])
            first.append(m)
    return first
