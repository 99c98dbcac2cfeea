#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""The smallest Python client of docs/wire.md: sends one stream of samples to a live source of gwstream.

    feed.py ADDRESS SPEC SAMPLE0 [SERVER.key OWN.key_secret] < samples

SPEC is the stream's spec as JSON. The input is blocks one after the other, each [channel][block_samples] in the
spec's type, little-endian; the first begins at sample number SAMPLE0. Needs pyzmq, and nothing of gwstream."""

import json
import os
import struct
import sys
import time

import zmq
import zmq.auth

HELLO, SPEC, CREDIT, BEAT, EOS, BYE, GONE = range(1, 8)
REFUSED = 1
OLDEST = 2**64 - 1
GAP, ABSENT, DQ_ALL = 1, 1, 0x1F007F
TYPES = {"float32": (1, 4), "float64": (2, 8), "int16": (3, 2), "int32": (4, 4)}
CONTROL = struct.Struct("<IHHQQQQII12x")  # and its CRC
HEADER = struct.Struct("<IHHIB3xQQqIIIIQQQqqIII12xI")  # and its CRC

TABLE = []
for byte in range(256):
    for _ in range(8):
        byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
    TABLE.append(byte)


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in bytes(data):
        crc = crc >> 8 ^ TABLE[(crc ^ byte) & 255]
    return crc ^ 0xFFFFFFFF


def sealed(data):
    return data + struct.pack("<I", crc32c(data))


class Refused(Exception):
    """The receiver will not have this stream; the text says why."""


class Feed:
    def __init__(self, address, spec, keys=None, keep=32, crc=True, context=None):
        self.spec, self.crc, self.keep = spec, crc, keep
        self.channels = spec["channels"] if isinstance(spec["channels"], int) else len(spec["channels"])
        self.dtype, self.sample_bytes = TYPES[spec["dtype"]]
        self.socket = (context or zmq.Context.instance()).socket(zmq.DEALER)
        self.socket.setsockopt(zmq.IMMEDIATE, 1)  # nothing is queued for a connection that is not there
        self.socket.setsockopt(zmq.LINGER, 500)
        if keys:  # (the listener's public key, own public, own secret)
            self.socket.curve_serverkey, self.socket.curve_publickey, self.socket.curve_secretkey = keys
        self.socket.connect(address)
        self.session = int.from_bytes(os.urandom(8), "little") | 1
        self.peer = 0  # the receiver's session, once it has said HELLO
        self.kept = {}  # number -> frames, until the receiver has worked them off
        self.next = self.base = self.cursor = self.limit = self.epoch = 0
        self.ended = self.bye = False
        self.said = 0.0

    def say(self, kind, count, text=b""):
        control = CONTROL.pack(0x43535747, 1, kind, self.session, count, 0, 0, len(text), self.epoch)
        try:
            self.socket.send_multipart([sealed(control)] + ([text] if text else []), zmq.NOBLOCK)
        except zmq.Again:
            pass  # no connection just now; everything is repeated
        self.said = time.monotonic()

    def hear(self, frames):
        if len(frames[0]) != 64 or sealed(frames[0][:60]) != frames[0]:
            return
        magic, version, kind, session, count, limit, _, _, epoch = CONTROL.unpack(frames[0][:60])
        if magic != 0x43535747 or version != 1:
            return
        if kind == HELLO:
            self.peer, self.epoch, self.limit = session, epoch, limit
            self.cursor = self.base if count == OLDEST else min(max(count, self.base), self.next)
            if limit == 0:  # it wants to know the stream first
                self.say(SPEC, self.base, json.dumps(self.spec).encode())
        elif kind == GONE and count == REFUSED:
            raise Refused(frames[1].decode() if len(frames) > 1 else "")
        elif session != self.peer:
            return
        elif kind == CREDIT:
            self.limit = max(self.limit, limit)
            while self.base < min(count, self.next):
                del self.kept[self.base]
                self.base += 1
            self.cursor = max(self.cursor, self.base)
        elif kind == BYE and self.ended and count == self.next:
            self.bye = True
            self.say(GONE, 0)
        elif kind == GONE:
            self.peer = 0  # another receiver may come

    def pump(self, timeout=0.0):
        """Hears for at most `timeout` seconds, sends what may be sent, and lives."""
        if self.socket.poll(int(timeout * 1000)):
            try:
                while True:
                    self.hear(self.socket.recv_multipart(zmq.NOBLOCK))
            except zmq.Again:
                pass
        try:
            while self.peer and self.cursor < min(self.next, self.limit):
                self.socket.send_multipart(self.kept[self.cursor], zmq.NOBLOCK)
                self.cursor += 1
        except zmq.Again:
            pass
        if time.monotonic() - self.said > 0.25 and not self.bye:
            if not self.peer:
                self.say(SPEC, self.base, json.dumps(self.spec).encode())
            else:
                self.say(EOS if self.ended and self.cursor == self.next else BEAT, self.cursor)

    def give(self, sample0, payload=b"", n_samples=0, gap_samples=0, dq=DQ_ALL, flags=0, presence=b"",
             reason=ABSENT, due_ns=0):
        """One block: `payload` is [channel][n_samples], `presence` a bit a channel. Or a hole of gap_samples. Waits
        while too many blocks are on their way."""
        while len(self.kept) >= self.keep:
            self.pump(0.05)
        if gap_samples:
            flags |= GAP
        tail = (len(payload), len(presence)) if presence else (0, 0)
        body = bytes(payload) + presence
        header = HEADER.pack(0x42535747, 1, 128, flags, self.dtype, self.session, self.next, sample0, n_samples,
                             0 if gap_samples else self.channels, 0, 0, len(payload), gap_samples, dq, due_ns, 0,
                             *tail, crc32c(body) if self.crc and body else 0, reason if gap_samples else 0)
        self.kept[self.next] = [sealed(header)] + ([body] if body else [])
        self.next += 1
        self.pump()

    def end(self, timeout=30.0):
        """No more blocks: returns True once all of them have been worked off."""
        self.ended = True
        until = time.monotonic() + timeout
        while not self.bye and time.monotonic() < until:
            self.pump(0.05)
        self.socket.close()
        return self.bye


def main(address, spec, sample0, server=None, own=None):
    spec, sample0 = json.loads(spec), int(sample0)
    keys = server and (zmq.auth.load_certificate(server)[0], *zmq.auth.load_certificate(own))
    feed = Feed(address, spec, keys)
    n = spec["block_samples"]
    block_bytes = feed.channels * n * feed.sample_bytes
    while len(payload := sys.stdin.buffer.read(block_bytes)) == block_bytes:
        feed.give(sample0, payload, n)
        sample0 += n
    if payload:
        print(f"{len(payload)} bytes at the end are no whole block and were not sent", file=sys.stderr)
    return 0 if feed.end() else "no receiver has confirmed the end"


if __name__ == "__main__":
    if len(sys.argv) not in (4, 6):
        sys.exit(__doc__)
    try:
        sys.exit(main(*sys.argv[1:]))
    except Refused as refused:
        sys.exit(f"refused: {refused}")
