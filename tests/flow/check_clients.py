# SPDX-License-Identifier: GPL-3.0-or-later
"""The live source fed by clients that were written from docs/wire.md alone, in C (tests/clients/feed.c, built by
the caller) and in Python (feed.py): a real graph records what they send, and h5py reads it back. All sample
types; holes, disorder, repeats, strays and absent channels; a killed client; a restarted gwstream; a wrong
spec; garbage beside a good client; keys; a detector that stops and comes back; and a real event."""

import json
import pathlib
import re
import socket
import struct
import subprocess
import sys
import threading
import time

import h5py
import numpy as np
import zmq
import zmq.auth

from flow import (DATA, MODEL, PROGRAM, ROOT, check, finish, folder, free_port, lines, received, run, wait_until,
                  without_wall)

sys.path.insert(0, str(ROOT / "tests" / "clients"))
import feed as client  # noqa: E402

FEED_C = sys.argv[1]
FEED_PY = str(ROOT / "tests" / "clients" / "feed.py")
RATE, BLOCK = 1024, 64
START = 1_000_000_000 * RATE
NUMPY = {"float32": "<f4", "float64": "<f8", "int16": "<i2", "int32": "<i4"}
LATE, ABSENT, NAN, QUALITY = 8, 1, 2, 3
rng = np.random.default_rng(7)


def spec_of(dtype="float64", channels=1, **more):
    return {"rate": [RATE, 1], "dtype": dtype, "channels": channels, "block_samples": BLOCK, **more}


def text(spec):
    return json.dumps(spec, separators=(",", ":"))


class Graph:
    """gwstream with a live source and a recorder."""

    def __init__(self, work, name, streams, listen=None, options="pace: 0", sink=None):
        self.path, self.log = f"{work}/{name}.h5", f"{work}/{name}.log"
        self.listen = listen or f"ipc://@gwstream-clients-{id(self)}-{time.time_ns()}"
        sink = sink or f"rec: {{kind: record, from: sky, path: '{self.path}', on_full: wait}}"
        yaml = f"{work}/{name}.yaml"
        with open(yaml, "w") as f:
            f.write(f"sources:\n  sky: {{kind: live, listen: '{self.listen}', {options}, streams: {{{streams}}}}}\n"
                    f"sinks:\n  {sink}\n")
        self.process = subprocess.Popen([PROGRAM, "run", yaml], stdout=subprocess.DEVNULL, stderr=open(self.log, "w"),
                                        cwd=ROOT)
        self.wait_for(r"listens at", streams.count("rate:"))

    def said(self):
        return open(self.log).read()

    def wait_for(self, pattern, times=1, timeout=20):
        until = time.monotonic() + timeout
        while len(re.findall(pattern, self.said())) < times:
            if self.process.poll() is not None or time.monotonic() > until:
                print(self.said())
                raise SystemExit(f"'{pattern}' was not said")
            time.sleep(0.02)

    def address(self, stream=0):
        return f"{self.listen}-{stream}"

    def end(self, timeout=20):
        try:
            status = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = "it did not end"
        if status != 0:
            print(self.said())
        return status == 0

    def samples(self, stream):
        """(first sample, [channel][sample])"""
        with h5py.File(self.path) as f:
            group = f[f"gwstream/sky.{stream}"]
            names = [n.decode() if isinstance(n, bytes) else n for n in group["paths"][:]]
            return int(group.attrs["sample0"]), np.array([f[n][:] for n in names])

    def holes(self, stream):
        """[(first sample, samples, reason)], neighbours of one reason joined."""
        with h5py.File(self.path) as f:
            rows = f[f"gwstream/sky.{stream}/dq"][:]
        holes = []
        for r in rows[rows["flags"] & 1 == 1]:
            at, n, why = int(r["sample0"]), int(r["n_samples"]), int(r["gap_reason"])
            if holes and sum(holes[-1][:2]) == at and holes[-1][2] == why:
                holes[-1] = (holes[-1][0], holes[-1][1] + n, why)
            else:
                holes.append((at, n, why))
        return holes


def numbers(dtype, shape):
    if dtype.startswith("int"):
        return rng.integers(np.iinfo(dtype).min, np.iinfo(dtype).max, shape, endpoint=True).astype(NUMPY[dtype])
    return (rng.standard_normal(shape) * 1e-21).astype(NUMPY[dtype])


def blocks_of(x):
    """[channel][sample] as the clients' input."""
    return b"".join(x[:, i:i + BLOCK].tobytes() for i in range(0, x.shape[1], BLOCK))


def write(pipe, data):
    try:
        pipe.write(data)
        pipe.close()
    except BrokenPipeError:  # a client that was refused
        pass


def send(address, spec, x, sample0=START, program=None, keys=()):
    """A client process that sends all of x; its process."""
    command = [FEED_C] if program == "c" else [sys.executable, FEED_PY]
    p = subprocess.Popen([*command, address, text(spec), str(sample0), *map(str, keys)], stdin=subprocess.PIPE,
                         stderr=subprocess.PIPE)
    threading.Thread(target=write, args=(p.stdin, blocks_of(x)), daemon=True).start()
    return p


def ended(process, seconds):
    """Whether it ends well in time; if not in time, it is made to."""
    try:
        return process.wait(seconds) == 0
    except subprocess.TimeoutExpired:
        process.kill()
        return False


def same(a, b):
    return a.shape == b.shape and np.array_equal(a, b, equal_nan=True)


def sample_types(work):
    """Every type from both clients, several channels, converted as YAML says."""
    cases = [(who, t) for who in ("c", "py") for t in NUMPY]
    scale = {"int16": "scale: 2.5e-22, offset: 1e-20, as: float64", "int32": "scale: 0.5", "float32": "unit: volt"}
    streams = ", ".join(f"{who}_{t}: {{channels: 3, rate: {RATE}Hz, samples: {t}, {scale.get(t, 'unit: strain')}}}"
                        for who, t in cases)
    g = Graph(work, "types", streams)
    data = {case: numbers(case[1], (3, 40 * BLOCK)) for case in cases}
    unit = {"float32": "volt", "float64": "strain"}
    clients = [send(g.address(i), spec_of(t, 3, unit=unit.get(t, "")), data[who, t], program=who)
               for i, (who, t) in enumerate(cases)]
    check(all([ended(p, 20) for p in clients]), "eight clients end well")
    check(g.end(), "the graph ends with its streams")
    for who, t in cases:
        x = data[who, t]
        want = {"int16": x.astype("f8") * 2.5e-22 + 1e-20, "int32": (x.astype("f8") * 0.5).astype("f4")}.get(t, x)
        first, got = g.samples(f"{who}_{t}")
        check(first == START and got.dtype == want.dtype and same(got, want),
              f"{t} from the {'C' if who == 'c' else 'Python'} client: {want.size} samples, exactly")


def disorder(work):
    """One channel: what is early, late, double, overlapping, astray or no number. Two: presence."""
    g = Graph(work, "disorder", f"A: {{channels: 1, rate: {RATE}Hz, samples: float64, unit: strain}}, "
                                f"B: {{channels: 11, rate: {RATE}Hz, samples: float32}}")
    x = numbers("float64", (1, 60 * BLOCK))
    f = client.Feed(g.address(0), spec_of(unit="strain"))

    def block(i, n=1, at=None, values=None, **more):
        at = i * BLOCK if at is None else at
        values = x[:, at:at + n * BLOCK] if values is None else values
        f.give(START + at, values.tobytes(), values.shape[1], **more)

    want, holes = x.copy(), []
    for i in (0, 1, 3, 2, 5, 6, 4, 4, 2):  # swapped, and two that were there already
        block(i)
    block(7)
    f.give(START + 8 * BLOCK, gap_samples=2 * BLOCK, reason=7)  # 8 and 9: the client says what it lost
    holes.append((START + 8 * BLOCK, 2 * BLOCK, 7))
    block(10)
    wrong = np.full((1, BLOCK), 5.0)
    block(0, at=10 * BLOCK + 32, values=np.concatenate([wrong[:, :32], x[:, 11 * BLOCK:11 * BLOCK + 32]], axis=1))
    block(0, at=11 * BLOCK + 32, values=x[:, 11 * BLOCK + 32:12 * BLOCK])
    block(0, at=400 * RATE, values=wrong)  # alone in the far future
    f.give(-5, wrong.tobytes(), BLOCK)
    for i in (12, 14, 15, 16, 17, 18, 19, 13):  # 13 is later than the window of 250 ms = 4 blocks
        block(i)
    holes.append((START + 13 * BLOCK, BLOCK, ABSENT))
    bad = x[:, 20 * BLOCK:21 * BLOCK].copy()
    bad[0, 10:15], bad[0, 40], bad[0, 63] = np.nan, np.inf, -np.inf
    block(20, values=bad)
    holes += [(START + 20 * BLOCK + at, n, NAN) for at, n in ((10, 5), (40, 1), (63, 1))]
    block(21, dq=client.DQ_ALL & ~1)
    holes.append((START + 21 * BLOCK, BLOCK, QUALITY))
    for i in range(22, 40):
        block(i)
    for i in range(50, 60):  # a hole that nobody explains
        block(i)
    holes.append((START + 40 * BLOCK, 10 * BLOCK, ABSENT))
    for at, n, _ in holes:
        want[0, at - START:at - START + n] = np.nan
    check(f.end(20), "disorder: the client hears BYE")

    y = numbers("float32", (11, 20 * BLOCK))
    f = client.Feed(g.address(1), spec_of("float32", 11))
    for i in range(20):
        piece, there = y[:, i * BLOCK:(i + 1) * BLOCK].copy(), np.ones(11, bool)
        if i in (3, 4, 9):
            there[[0, 8, 10]] = False
        if i == 12:
            there[:] = False
        tail = np.packbits(there, bitorder="little").tobytes() if not there.all() else b""
        if i == 15:
            piece[7, 5] = np.nan  # one bad sample: this channel, this block
            there[7] = False
        f.give(START + i * BLOCK, piece.tobytes(), BLOCK, presence=tail)
        y[~there, i * BLOCK:(i + 1) * BLOCK] = np.nan
    check(f.end(20) and g.end(), "disorder: the graph ends")
    first, got = g.samples("A")
    check(first == START and same(got, want), "disorder: every sample in its place, nothing invented")
    check(g.holes("A") == sorted(holes), f"disorder: {len(holes)} holes with their reasons")
    counts = re.findall(r"A: blocks dropped: (\d+) came after .*?, (\d+) repeated .*?, (\d+) were astray", g.said())
    total = tuple(sum(int(c[i]) for c in counts) for i in range(3))
    check(total == (1, 3, 2), f"disorder: late, repeated, astray counted {total}")
    _, got = g.samples("B")
    check(same(got, y), "presence: absent channels, and only they, are missing")
    check(g.holes("B") == [(START + 12 * BLOCK, BLOCK, ABSENT)], "presence: where none is there is a hole")


def lanes(work):
    """Three sockets, each with a share of seven channels, some of them absent."""
    g = Graph(work, "lanes", f"A: {{channels: 7, rate: {RATE}Hz, samples: float32}}", options="pace: 0, lanes: 3",
              listen=f"tcp://127.0.0.1:{free_port(3)}")
    x = numbers("float32", (7, 30 * BLOCK))
    port = int(g.listen.rsplit(":", 1)[1])
    feeds = [client.Feed(f"tcp://127.0.0.1:{port + k}", spec_of("float32", 7)) for k in range(3)]
    for k, f in enumerate(feeds):
        f.session, f.first, f.channels = feeds[0].session, 7 * k // 3, 7 * (k + 1) // 3 - 7 * k // 3
    for i in range(30):
        there = np.ones(7, bool)
        there[[1, 5]] = i % 7 != 3
        for f in feeds:
            mine = slice(f.first, f.first + f.channels)
            tail = np.packbits(there[mine], bitorder="little").tobytes() if not there[mine].all() else b""
            f.give(START + i * BLOCK, x[mine, i * BLOCK:(i + 1) * BLOCK].tobytes(), BLOCK, presence=tail)
        x[~there, i * BLOCK:(i + 1) * BLOCK] = np.nan
    check(ended_together(feeds) and g.end(), "lanes: three sockets end well")
    check(same(g.samples("A")[1], x), "lanes: their channels are put together")


def ended_together(feeds):
    """None is late because another has not ended yet."""
    for f in feeds:
        f.ended = True
    until = time.monotonic() + 20
    while not all(f.bye for f in feeds) and time.monotonic() < until:
        for f in feeds:
            f.pump(0.01)
    return all([f.end(1) for f in feeds])


def restarts(work):
    """kill -9 of a client, then of gwstream."""
    x = numbers("float64", (1, 200 * BLOCK))
    for name, anew in (("resumed", 120 * BLOCK), ("from the start", 0)):
        g = Graph(work, f"kill-{anew}", f"A: {{channels: 1, rate: {RATE}Hz, samples: float64, as: float64}}")
        p = subprocess.Popen([FEED_C, g.address(0), text(spec_of()), str(START)], stdin=subprocess.PIPE)
        p.stdin.write(blocks_of(x[:, :100 * BLOCK]))
        p.stdin.flush()
        wait_until(lambda: received(g.process.pid, "rec") > 0, "a block of the client")
        p.kill()
        p.wait()
        q = send(g.address(0), spec_of(), x[:, anew:], START + anew, program="c")
        check(ended(q, 20) and g.end(), f"killed client, {name}: a second one takes over and ends well")
        first, got = g.samples("A")
        lost = np.isnan(got[0])
        check(first == START and got.shape == x.shape and np.array_equal(got[0][~lost], x[0][~lost]),
              f"killed client, {name}: all samples true")
        if anew:
            holes = g.holes("A")
            check(len(holes) == 1 and holes[0][2] == ABSENT and sum(holes[0][:2]) == START + anew
                  and START < holes[0][0] <= START + 100 * BLOCK, f"killed client, {name}: the hole is what was not sent {holes}")
        else:
            check(not lost.any(), f"killed client, {name}: nothing is missing")

    listen = f"ipc://@gwstream-clients-restart-{time.time_ns()}"
    streams = f"A: {{channels: 1, rate: {RATE}Hz, samples: float64, as: float64}}"
    g = Graph(work, "before", streams, listen)
    f = client.Feed(g.address(0), spec_of())
    for i in range(100):
        f.give(START + i * BLOCK, x[:, i * BLOCK:(i + 1) * BLOCK].tobytes(), BLOCK)
    g.process.kill()
    g.process.wait()
    done = f.base
    g = Graph(work, "after", streams, listen)
    for i in range(100, 200):
        f.give(START + i * BLOCK, x[:, i * BLOCK:(i + 1) * BLOCK].tobytes(), BLOCK)
    check(f.end(20) and g.end(), "killed gwstream: the client goes on with the next one")
    first, got = g.samples("A")
    check(done <= (first - START) // BLOCK + 1 and same(got, x[:, first - START:]),
          f"killed gwstream: all that was not confirmed is sent again ({done} of 100 were)")


def wrong_peers(work):
    """A spec that does not fit, and senders of garbage, beside a good client."""
    g = Graph(work, "wrong", f"H1: {{channels: 2, rate: {RATE}Hz, samples: float64, unit: strain}}",
              listen=f"tcp://127.0.0.1:{free_port()}")
    tcp = g.listen
    x = numbers("float64", (2, 100 * BLOCK))
    good = spec_of(channels=2, unit="strain", detector="H1")
    for who in ("c", "py"):
        p = send(tcp, {**good, "rate": [2 * RATE, 1]}, x, program=who)
        said = p.stderr.read().decode()
        check(p.wait(20) == 1 and "refused" in said and "2048 Hz" in said and "1024 Hz" in said,
              f"wrong rate from the {who} client: refused with both specs: {said.strip()[:120]}")
    for change in ({"dtype": "float32"}, {"channels": 3}, {"unit": "counts"}, {"detector": "L1"},
                   {"block_samples": 32}, {"rate": "fast"}):
        f = client.Feed(tcp, {**good, **change} if "rate" not in change else good)
        f.spec = {**good, **change}
        try:
            f.end(20)
            check(False, f"wrong {change}: accepted")
        except client.Refused as why:
            check(True, f"wrong {change}: refused: {str(why)[:100]}")
    stop = threading.Event()

    def vandal():
        context, n = zmq.Context(), 0
        s = context.socket(zmq.DEALER)
        s.setsockopt(zmq.LINGER, 0)
        s.connect(tcp)
        noise = np.random.default_rng(1)
        header = bytearray(client.sealed(client.HEADER.pack(0x42535747, 1, 128, 0, 2, 99, 0, START, BLOCK, 2, 0, 0,
                                                            2 * BLOCK * 8, 0, client.DQ_ALL, 0, 0, 0, 0, 0, 0)))
        control = client.sealed(client.CONTROL.pack(0x43535747, 1, client.EOS, 99, 0, 0, 0, 0, 0))
        while not stop.is_set():
            n += 1
            for frames in ([noise.bytes(int(noise.integers(0, 300)))], [b""], [bytes(header), b"x" * 2 * BLOCK * 8],
                           [bytes(header)], [control[:-1] + b"?"], [control[:40]], [control, b"text", b"more"],
                           [client.sealed(struct.pack("<IHH", 0x43535747, 9, 1) + bytes(52))], [control]):
                try:
                    s.send_multipart(frames, zmq.NOBLOCK)
                except zmq.Again:
                    pass
            with socket.socket() as raw:  # and one who does not even speak ZeroMQ
                raw.connect(("127.0.0.1", int(tcp.rsplit(":", 1)[1])))
                raw.sendall(noise.bytes(200))
            time.sleep(0.01)
        context.destroy(linger=0)

    t = threading.Thread(target=vandal)
    t.start()
    time.sleep(0.2)
    f = client.Feed(tcp, good)
    for i in range(100):
        f.give(START + i * BLOCK, x[:, i * BLOCK:(i + 1) * BLOCK].tobytes(), BLOCK)
        time.sleep(0.002)
    ended = f.end(20)
    stop.set()
    t.join()
    check(ended and g.end(), "beside a sender of garbage the good client ends well")
    _, got = g.samples("H1")
    check(same(got, x), "beside a sender of garbage the good client's samples arrive, all of them")


def keys(work):
    """gwstream's keys read by pyzmq and the other way round; who is not listed does not come in."""
    for name in ("front", "h1", "evil"):
        status, _, err = run("keygen", f"{work}/{name}")
        check(status == 0, f"keygen {name} {err.strip()}")
    status, _, err = run("keygen", f"{work}/front")
    check(status != 0 and "never overwritten" in err, f"keygen overwrites nothing: {err.strip()[:100]}")
    mode = pathlib.Path(f"{work}/front.key_secret").stat().st_mode & 0o777
    check(mode == 0o600, f"the secret file has mode {mode:o}")
    public, secret = zmq.auth.load_certificate(f"{work}/front.key_secret")
    check(zmq.auth.load_certificate(f"{work}/front.key") == (public, None) and zmq.curve_public(secret) == public,
          "pyzmq reads both files, and the keys belong together")
    zmq.auth.create_certificates(work, "theirs")
    pathlib.Path(f"{work}/theirs.key_secret").chmod(0o600)
    base = free_port(2)
    g = Graph(work, "keys", f"A: {{channels: 1, rate: {RATE}Hz, samples: float64, as: float64}}, "
                            f"B: {{channels: 1, rate: {RATE}Hz, samples: float64, as: float64}}", listen=f"tcp://127.0.0.1:{base}",
              options=f"pace: 0, key: {work}/front, allow: ['{work}/h1.key', '{work}/theirs']")
    x = numbers("float64", (1, 20 * BLOCK))
    evil = client.Feed(f"tcp://127.0.0.1:{base}", spec_of(), (public, *zmq.auth.load_certificate(f"{work}/evil.key_secret")))
    none = client.Feed(f"tcp://127.0.0.1:{base}", spec_of())
    astray = client.Feed(f"tcp://127.0.0.1:{base}", spec_of(),
                         (zmq.auth.load_certificate(f"{work}/evil.key")[0], *zmq.auth.load_certificate(f"{work}/h1.key_secret")))
    for f in (evil, none, astray):
        for _ in range(10):
            f.pump(0.05)
    check(not (evil.peer or none.peer or astray.peer),
          "an unknown key, no key, and another server's key: none of them hears a word")
    p = send(f"tcp://127.0.0.1:{base}", spec_of(), x, program="c", keys=(f"{work}/front.key", f"{work}/h1.key_secret"))
    q = send(f"tcp://127.0.0.1:{base + 1}", spec_of(), x, keys=(f"{work}/front.key", f"{work}/theirs.key_secret"))
    check(ended(p, 20) and ended(q, 20) and g.end(), "clients with listed keys (ours in C, pyzmq's in Python)")
    check(same(g.samples("A")[1], x) and same(g.samples("B")[1], x), "encrypted samples arrive exactly")
    check("is not among those allowed" in g.said(), "the refusal is logged")
    for f in (evil, none, astray):
        f.socket.close()


def patience(work):
    """Two detectors in real time, of which one stops for a second; once more if this process was held up so long that both
    of its clients were late."""
    for name in ("late", "late again", "late at last"):
        g, feeds, x, held_up = feed_two(work, name)
        if held_up < 0.15:
            break
        print(f"held up for {held_up:.2f} s: {name}", flush=True)
        g.process.kill()
        g.process.wait()
        for f in feeds:
            f.socket.close(0)
    judge_two(g, feeds, x)


def feed_two(work, name):
    """(graph, clients, samples, seconds for which no client was looked after, at most)"""
    g = Graph(work, name, f"H1: {{channels: 1, rate: {RATE}Hz, samples: float64, unit: strain}}, "
                            f"L1: {{channels: 1, rate: {RATE}Hz, samples: float64, unit: strain}}",
              options="patience: 200ms")
    x = numbers("float64", (2, 48 * BLOCK))
    feeds = [client.Feed(g.address(i), spec_of(unit="strain", detector=d)) for i, d in enumerate(("H1", "L1"))]
    began = looked = time.monotonic()
    held_up = 0
    for i in range(48):  # three seconds, of which L1 has the first and the last
        while time.monotonic() < began + (i + 1) * BLOCK / RATE:
            for f in feeds:
                f.pump(0.005)
            held_up, looked = max(held_up, time.monotonic() - looked), time.monotonic()
        for k, f in enumerate(feeds):
            if k == 0 or not 16 <= i < 32:
                f.give(START + i * BLOCK, x[k:k + 1, i * BLOCK:(i + 1) * BLOCK].tobytes(), BLOCK)
    return g, feeds, x, held_up


def judge_two(g, feeds, x):
    feeds[1].give(START + 20 * BLOCK, x[1:, 20 * BLOCK:21 * BLOCK].tobytes(), BLOCK)  # too late
    check(ended_together(feeds) and g.end(), "late: all end well")
    check(same(g.samples("H1")[1], x[:1]) and g.holes("H1") == [], "late: H1 is whole")
    holes = g.holes("L1")
    reasons = {why for _, _, why in holes}
    check(sum(n for _, n, _ in holes) == 16 * BLOCK and holes[0][0] == START + 16 * BLOCK and LATE in reasons
          and reasons <= {LATE, ABSENT}, f"late: L1 has its hole, and lost nothing else {holes}")
    check(len(re.findall("L1 is more than 200 ms late", g.said())) == 1 and g.said().count("L1 is back") == 1,
          "late: said once, and again when it was back")
    check("L1: blocks dropped: 1 came after" in g.said(), "late: what came afterwards is counted")


def real_event(work):
    """GW150914 through two Python clients gives the event that replay gives."""
    pair = [DATA / "strain-4k" / n for n in ("H-H1_LOSC_4_V2-1126259446-32.hdf5", "L-L1_LOSC_4_V2-1126259446-32.hdf5")]
    if not all(p.exists() for p in pair):
        print("skipped: no recordings of GW150914")
        return
    behind = ("stages:\n  down: {kind: resample, from: sky, rate: 2048Hz}\n  white: {kind: whiten, from: down}\n"
              f"  search: {{kind: detect, from: white, model: {MODEL}}}\nsinks:\n"
              "  alerts: {kind: alerts, from: search, journal: '%s.sqlite', print: '%s.json'}\n")
    listen = f"ipc://@gwstream-clients-event-{time.time_ns()}"
    one = "{channels: 1, rate: 4096Hz, samples: float64, unit: strain}"
    sources = {"replayed": f"{{kind: replay, files: {[str(p) for p in pair]}}}",
               "live": f"{{kind: live, listen: '{listen}', pace: 0, streams: {{H1: {one}, L1: {one}}}}}"}
    running = {}
    for name, source in sources.items():
        with open(f"{work}/{name}.yaml", "w") as f:
            f.write(f"sources:\n  sky: {source}\n" + behind % (f"{work}/{name}", f"{work}/{name}"))
        running[name] = subprocess.Popen([PROGRAM, "run", "--quiet", f"{work}/{name}.yaml"], cwd=ROOT)
    clients = []
    for i, (path, detector) in enumerate(zip(pair, ("H1", "L1"))):
        with h5py.File(path) as f:
            x, start = f["strain/Strain"][:], int(f["meta/GPSstart"][()])
        spec = {"rate": [4096, 1], "dtype": "float64", "channels": 1, "block_samples": 256, "detector": detector,
                "unit": "strain"}
        p = subprocess.Popen([sys.executable, FEED_PY, f"{listen}-{i}", text(spec), str(start * 4096)],
                             stdin=subprocess.PIPE)
        threading.Thread(target=write, args=(p.stdin, x.astype("<f8").tobytes())).start()
        clients.append(p)
    well = [ended(p, 40) for p in running.values()] + [ended(p, 5) for p in clients]
    check(all(well), "GW150914: clients and graphs end well")
    live, replayed = ([{k: v for k, v in e.items() if k != "data_quality"}  # these clients know none
                       for e in without_wall(lines(open(f"{work}/{name}.json").read()))] for name in ("live", "replayed"))
    check(len(live) > 0 and live == replayed,
          f"GW150914 through the Python client: the {len(replayed)} messages that replay gives, to the last digit")


def worked_example(work):
    """The hex of docs/wire.md is what this page says: sizes, checksums, and the Python client's reading of it."""
    example = (ROOT / "docs" / "wire.md").read_text().split("```hex")[1].split("```")[0]
    messages = [bytes.fromhex("".join(re.findall(r"^  ((?:[0-9a-f]{2} +)+[0-9a-f]{2})$", part, re.M)))
                for part in re.split(r"^[<>] ", example, flags=re.M)[1:]]
    check([len(m) for m in messages] == [64, 64, 128, 128, 64, 64, 64, 64]
          and all(client.sealed(m[:-4]) == m for m in messages), "docs/wire.md: eight messages with right checksums")
    kinds = [client.CONTROL.unpack(m[:60])[2] for m in messages if len(m) == 64]
    check(kinds == [client.SPEC, client.HELLO, client.EOS, client.CREDIT, client.BYE, client.GONE],
          f"docs/wire.md: they are what it says {kinds}")
    heads = [client.HEADER.unpack(m[:124]) for m in messages if len(m) == 128]
    check([h[7] for h in heads] == [32 * 10**9, 32 * 10**9 + 4]
          and heads[0][19] == client.crc32c(struct.pack("<8h", 1, 2, 3, 4, -1, -2, -3, -4)),
          "docs/wire.md: the blocks' samples")
    check(client.crc32c(b"123456789") == 0xE3069283, "CRC32C has its published check value")


def bad_yaml(work):
    """One line each, before anything starts."""
    good = "H1: {channels: 1, rate: 1024Hz, samples: float64}"
    for what, options, streams in (
            ("clear text beyond this host", "listen: 'tcp://0.0.0.0:5600'", good),
            ("unknown type", "listen: 'ipc://@x'", "H1: {channels: 1, rate: 1024Hz, samples: int8}"),
            ("no whole block", "listen: 'ipc://@x'", "H1: {channels: 1, rate: 1000Hz, samples: int16}"),
            ("no list of clients", f"listen: 'tcp://0.0.0.0:5600', key: {work}/front", good),
            ("a key that is not there", f"listen: 'tcp://0.0.0.0:5600', key: {work}/none, allow: [{work}/h1]", good),
            ("no channels", "listen: 'ipc://@x'", "H1: {rate: 1024Hz, samples: int16}"),
            ("an unknown key", "listen: 'ipc://@x', patiens: 1s", good)):
        path = f"{work}/bad.yaml"
        with open(path, "w") as f:
            f.write(f"sources:\n  sky: {{kind: live, {options}, streams: {{{streams}}}}}\n"
                    f"sinks: {{rec: {{kind: record, from: sky, path: '{work}/bad.h5'}}}}\n")
        status, _, err = run("check", path)
        check(status == 2 and "bad.yaml:2:" in err and err.count("\n") == 1, f"{what}: {err.strip()[-110:]}")


with folder() as work:
    for part in (sample_types, disorder, lanes, restarts, wrong_peers, keys, patience, bad_yaml, worked_example, real_event):
        began = time.monotonic()
        part(work)
        print(f"        ({part.__name__}: {time.monotonic() - began:.1f} s)")
finish()
