#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hears the events of a gwstream on this host and prints a line for each, until it is killed: the smallest listener in
Python. Needs pyzmq, and nothing of gwstream.

    listen.py ENDPOINT [TOPIC]      tcp://127.0.0.1:5556 or ipc://PATH; TOPIC such as event.final, default all

A message has three frames: the topic ("event.first", "event.update", "event.final", "event.retracted"), the event as
JSON, and the message's number since gwstream opened its socket, as decimal text. A socket of type PUB speaks to who
is there: what was said before, or while the connection was broken, is not said again. So a listener

* drops repeats: after a crash gwstream says again what it may have said before, under the same id, phase and serial;
* notices gaps: where every topic is subscribed to, the numbers follow one another. What was missed is in the journal
  (gwstream alerts export)."""

import json
import signal
import sys

import zmq


def line(e):
    rate = e["noise_rate_hz"]
    return (f"{e['id']} {e['phase']} {e['serial']} gps {e['gps']:.4f} {','.join(e['detectors'])} statistic "
            f"{e['statistic']:.2f} noise {f'1 per {1 / rate / 86400:.3g} d' if rate else '-'}"
            f"{' ALERT' if e['alert'] else ''}{' injection' if e['injection'] else ''}")


def gap(last, number):
    """What the number of a message says of those before it; "" when none was missed."""
    if last is None:
        return f"# {number - 1} messages were before this listener" if number > 1 else ""
    if number <= last:
        return f"# gwstream has begun anew, {number - 1} messages were missed"
    return f"# {number - last - 1} messages were missed" if number > last + 1 else ""


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit("usage: listen.py ENDPOINT [TOPIC]")
    topic = sys.argv[2] if len(sys.argv) == 3 else "event."
    socket = zmq.Context.instance().socket(zmq.SUB)
    socket.setsockopt(zmq.RCVHWM, 0)  # no limit here: an event has 2 KiB
    socket.setsockopt_string(zmq.SUBSCRIBE, topic)
    socket.connect(sys.argv[1])  # gwstream may come later, or go and come again
    seen, last = set(), None
    while True:
        _, text, number = socket.recv_multipart()[:3]
        if topic == "event.":
            said = gap(last, int(number))
            last = int(number)
            if said:
                print(said, flush=True)
        event = json.loads(text)
        key = event["id"], event["phase"], event["serial"]
        if key not in seen:
            seen.add(key)
            print(line(event), flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGINT, lambda *_: sys.exit(0))
    main()
