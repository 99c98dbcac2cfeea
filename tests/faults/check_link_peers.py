# SPDX-License-Identifier: GPL-3.0-or-later
"""Peers that a link did not ask for: who speaks garbage, or half of a protocol, or another stream; a second
receiver; one that never grants a credit. The two ends that belong together notice nothing; nobody else takes a
block; memory and file descriptors stay bounded.

usage: check_link_peers.py LINK_DRIVER"""

import concurrent.futures
import random
import socket
import struct
import sys
import time

try:
    import zmq
except ImportError:
    print("skipped: python3-zmq is not installed")
    sys.exit(77)

from faults import End, address, check, covers, finish, folder, nothing_left_behind, resumed_s, sound, text_of, tiles, trace, wait_until
from proxy import BLOCK_MAGIC, CREDIT, HELLO, control, seal

SPEED, SPEC, EOS, BYE, GONE = 400, 2, 5, 6, 7
OLDEST = 2**64 - 1
RSS_KIB, FDS = 64 << 10, 40


def open_sender(where, transport, seed, blocks, listen=True, **options):
    return End("send", where, transport=transport, listen=listen, blocks=blocks, speed=SPEED, samples=64, seed=seed, **options)


def open_receiver(where, transport, seed, path, listen=False, **options):
    return End("receive", where, transport=transport, listen=listen, trace=path, samples=64, seed=seed, **options)


def ends_well(sender, receiver, path):
    """(bool, one line)"""
    sent, said = sender.result()
    status, last = receiver.result()
    records = trace(path)
    wrong = tiles(records) or (covers(records, said.get("end", 1)) and "samples are missing")
    good = (sent == 0 and status == 0 and sound(last) and not wrong and max(said["rss_peak_kib"], last["rss_peak_kib"]) < RSS_KIB and
            max(said["fds"], last["fds"]) < FDS)
    return good, (f"{text_of(last)}, sender {text_of(said)}, {max(said['rss_peak_kib'], last['rss_peak_kib']) >> 10} MiB at most" +
                  (f"; {wrong}" if wrong else "") + ("" if good else sender.err[-400:] + receiver.err[-400:]))


def listening_sockets(where, transport):
    """How to reach it without ZeroMQ."""
    if transport == "tcp":
        yield socket.AF_INET, ("127.0.0.1", int(where.rsplit(":", 1)[1]))
        return
    yield socket.AF_UNIX, "\0" + where.split("@", 1)[1]
    if transport == "shm":
        with open("/proc/net/unix", encoding="ascii", errors="replace") as f:
            for name in {line.split()[-1] for line in f if "@gwstream-shm-" in line}:
                yield socket.AF_UNIX, "\0" + name[1:]


def speak_raw(where, transport, rng):
    """Bytes that are no ZeroMQ; some connections stay open until the end of the test."""
    greeting = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(16) + b"\x00" + bytes(31)
    words = [b"", b"GET / HTTP/1.1\r\n\r\n", greeting, greeting[:20], greeting + b"\x04\x19\x05READY" + rng.randbytes(50),
             greeting + b"\x06" + b"\xff" * 8, rng.randbytes(5000), b"\0" * 7, b"\0" * 9, rng.randbytes(8)]
    kept = []
    for family, at in listening_sockets(where, transport):
        for k, text in enumerate(words):
            s = socket.socket(family)
            s.settimeout(1)
            try:
                s.connect(at)
                s.sendall(text)
            except OSError:
                pass
            (kept.append if k % 3 == 0 else socket.socket.close)(s)
    return kept


def nonsense(rng):
    """A message: bytes, a control message that is well made but from nobody, or a block out of nowhere."""
    kind = rng.randrange(4)
    if kind == 0:
        return [rng.randbytes(rng.choice((0, 1, 4, 63, 64, 65, 128, 1000))) for _ in range(rng.randint(1, 4))]
    if kind == 1:
        return control(rng.randint(0, 9), rng.getrandbits(64), rng.choice((0, 1, 500, OLDEST, OLDEST - 1)), rng.getrandbits(64),
                       rng.choice((0, rng.getrandbits(64))), rng.choice((b"", b"{}", b"[" * 100, b"hello")), rng.randrange(5))
    if kind == 2:
        return control(rng.choice((HELLO, SPEC, CREDIT, EOS, BYE, GONE)), rng.randint(1, 3), rng.randrange(10**6), rng.randrange(10**6))
    head = struct.pack("<IHHIB3xQQqIIIIQQ", BLOCK_MAGIC, 1, 128, 0, 1, rng.getrandbits(64), rng.randrange(2000), rng.randrange(10**6), 64, 4,
                       0, 0, 1024, 0)
    return [seal(head.ljust(128, b"\0")), bytes(1024)]


def garbage(transport, sender_listens, path, seed):
    rng, where = random.Random(seed), address(transport)
    sender = open_sender(where, transport, seed, 4 * SPEED, sender_listens)
    receiver = open_receiver(where, transport, seed, path, not sender_listens)
    resumed_s(path, 0)  # before that, who speaks as a receiver would be one
    context, sockets, took = zmq.Context(), [], 0
    kept = speak_raw(where, transport, rng)
    for kind in (zmq.DEALER, zmq.DEALER, zmq.REQ, zmq.ROUTER, zmq.PUSH, zmq.PUB, zmq.SUB, zmq.PAIR):
        s = context.socket(kind)
        s.setsockopt(zmq.LINGER, 0)
        s.setsockopt(zmq.SNDHWM, 50)
        s.connect(where)
        sockets.append(s)
    for k in range(2000):
        for s in sockets[:3] if k == 0 else sockets[:2]:
            try:
                s.send_multipart(nonsense(rng), zmq.NOBLOCK)
            except zmq.ZMQError:
                pass
            while s.type == zmq.DEALER and s.poll(0):
                head = s.recv_multipart()[0]
                took += len(head) >= 4 and struct.unpack_from("<I", head)[0] == BLOCK_MAGIC
        if k % 10 == 0:
            time.sleep(0.005)
    good, text = ends_well(sender, receiver, path)
    for s in kept:
        s.close()
    context.destroy(0)
    counted = sum(end.said[-1]["counts"]["malformed"] for end in (sender, receiver))
    lines = sender.err.count("\n") + receiver.err.count("\n")
    return good and took == 0 and counted > 0 and 0 < lines < 8, \
        f"{transport}, {'sender' if sender_listens else 'receiver'} listens, garbage: {text}, {took} blocks to strangers, {lines} lines said"


def second_receiver(transport, path, seed):
    where = address(transport)
    sender = open_sender(where, transport, seed, 3 * SPEED)
    receiver = open_receiver(where, transport, seed, path)
    resumed_s(path, 0)
    second = open_receiver(where, transport, seed, path + "-second", patience=2)
    good, text = ends_well(sender, receiver, path)
    status, last = second.result()
    return good and status != 0 and not trace(path + "-second") and last["error"] == "GW_EAGAIN", \
        f"{transport}, a second receiver takes {last.get('blocks')} blocks; the first: {text}"


def second_sender(path, seed):
    where = address("tcp")
    receiver = open_receiver(where, "tcp", seed, path, True)
    sender = open_sender(where, "tcp", seed, 3 * SPEED, False)
    resumed_s(path, 0)
    second = open_sender(where, "tcp", seed + 1, 3 * SPEED, False)
    good, text = ends_well(sender, receiver, path)
    second.kill()
    return good and second.said[-1]["counts"]["sessions"] == 0, f"tcp, a second sender delivers nothing; the first: {text}"


def other_stream(transport, sender_listens, path, seed):
    """Both ends say so, with both specs, and end."""
    where = address(transport)
    sender = open_sender(where, transport, seed, SPEED, sender_listens, channels=4)
    receiver = open_receiver(where, transport, seed, path, not sender_listens, channels=5)
    sent, said = sender.result(8)
    status, last = receiver.result(8)
    both = all(any(a in e.get("detail", "") for a in ('"channels":4', "driver: 4 x")) and
               any(b in e["detail"] for b in ('"channels":5', "driver: 5 x")) for e in (said, last))
    good = sent == 1 and status == 1 and said.get("error") == last.get("error") == "GW_EMISMATCH" and both and not trace(path)
    return good, f"{transport}, {'sender' if sender_listens else 'receiver'} listens, another stream: {last.get('detail')} | {said.get('detail')}"


def no_credit(transport, drop, path, seed):
    """A peer that says HELLO as it should and then grants nothing; after it leaves, a good one gets what is there."""
    where = address(transport)
    sender = open_sender(where, transport, seed, 5 * SPEED, drop=drop)
    context = zmq.Context()
    miser = context.socket(zmq.DEALER)
    miser.connect(where)
    took = answers = 0
    until = time.monotonic() + 3
    while time.monotonic() < until:
        miser.send_multipart(control(HELLO if not answers else CREDIT, 77, OLDEST if not answers else 0, 0))
        while miser.poll(100):
            head = miser.recv_multipart()[0]
            answers += 1
            took += struct.unpack_from("<I", head)[0] == BLOCK_MAGIC
    sender.wait_for("what", "open")
    wait_until(lambda: sender.said[-1]["counts"]["dropped"] > 300 if drop else sender.said[-1]["blocks"] >= 8, "a progress with the miser")
    before = sender.said[-1]
    miser.send_multipart(control(GONE, 77))
    miser.close(200)
    context.term()
    receiver = open_receiver(where, transport, seed, path, drop=drop)
    good, text = ends_well(sender, receiver, path)
    counted = before["counts"]["dropped"] if drop else before["blocks"]
    held = counted > 300 if drop else counted == 8
    return good and took == 0 and answers > 0 and held and before["counts"]["sessions"] == 1, \
        f"{transport}, {'dropping' if drop else 'waiting'}, no credit for 3 s: {took} blocks sent, {counted} {'dropped' if drop else 'held'}; then {text}"


def main():
    rng = random.Random(4)
    with folder() as work, nothing_left_behind(work), concurrent.futures.ThreadPoolExecutor(8) as pool:
        jobs = []

        def begin(what, *args):
            jobs.append(pool.submit(what, *args, f"{work}/trace{len(jobs)}", rng.randrange(1 << 30)))

        for transport in ("shm", "ipc", "tcp"):
            begin(garbage, transport, True)
            begin(second_receiver, transport)
            begin(other_stream, transport, True)
            for drop in (False, True):
                begin(no_credit, transport, drop)
        begin(garbage, "tcp", False)
        begin(other_stream, "tcp", False)
        begin(second_sender)
        for job in jobs:
            good, text = job.result()
            check(good, text)
    finish()


sys.exit(main())
