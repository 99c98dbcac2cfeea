# SPDX-License-Identifier: GPL-3.0-or-later
"""Stands between the two ends of a link and does to it what networks do. A process of its own; needs no
privileges. It obeys lines on stdin, answers each with one line of JSON (what it has done so far) and ends with
stdin.

    proxy.py tcp SEED LISTEN_PORT:TARGET_PORT ...     bytes (asyncio); knows nothing of ZeroMQ
    proxy.py zmq SEED FRONT_ADDRESS BACK_ADDRESS      messages (pyzmq); the connecting end comes to FRONT

bytes:     cut            every connection is reset; new ones are let in
           refuse, admit  reset and let nobody in; let in again
           stall, go      connections stay, nothing moves; on again
           speed N        bytes a second and direction, 0 = no limit
           cut-after N    reset at exactly the Nth byte from now (both directions together)
messages:  TO WHAT SHARE  from now on; SHARE 0 = no longer. TO: down = to the receiving end of the link, up = to the
                          sending end. WHAT: drop, duplicate, reorder (swap with the next), header (one bit of it),
                          payload (one bit), cut-header, cut-payload (shortened), frame (one more), version
                          (another protocol version, well sealed), garbage (a message of random bytes before it),
                          mute (drop, but only credits: CREDIT, and the limit of HELLO)
both:      report
"""

import asyncio
import collections
import json
import os
import random
import socket
import struct
import sys

CONTROL_MAGIC = 0x43535747
BLOCK_MAGIC = 0x42535747
HELLO, CREDIT = 1, 3


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 & -(crc & 1))
    return crc ^ 0xFFFFFFFF


def seal(frame):
    """A control message or block header with its CRC (the last four bytes) made right."""
    return frame[:-4] + struct.pack("<I", crc32c(frame[:-4]))


def control(kind, session, count=0, limit=0, spec_hash=0, text=b"", epoch=0):
    """The frames of a control message."""
    head = struct.pack("<IHHQQQQII12xI", CONTROL_MAGIC, 1, kind, session, count, limit, spec_hash, len(text), epoch, 0)
    return [seal(head), text] if text else [seal(head)]


# -- bytes ---------------------------------------------------------------------------------------------------


class ByteProxy:
    def __init__(self, pairs):
        self.pairs = pairs
        self.writers = set()
        self.servers = []
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.speed = 0
        self.cut_after = None
        self.done = collections.Counter()

    async def start(self):
        await self.admit()

    async def admit(self):
        if not self.servers:
            for listen, target in self.pairs:
                self.servers.append(await asyncio.start_server(
                    lambda r, w, target=target: self.serve(r, w, target), "127.0.0.1", listen, limit=1 << 18))

    def cut(self):
        for w in self.writers:
            sock = w.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset, no farewell
            w.transport.abort()
        self.done["cut"] += len(self.writers) // 2
        self.writers.clear()

    async def serve(self, reader, writer, target):
        self.done["connections"] += 1
        try:
            back_reader, back_writer = await asyncio.open_connection("127.0.0.1", target, limit=1 << 18)
        except OSError:
            writer.transport.abort()
            return
        self.writers |= {writer, back_writer}
        pumps = [asyncio.ensure_future(self.pump(reader, back_writer)),
                 asyncio.ensure_future(self.pump(back_reader, writer))]
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for p in pumps:
            p.cancel()
        for w in (writer, back_writer):
            self.writers.discard(w)
            w.transport.abort()

    async def pump(self, reader, writer):
        try:
            while True:
                await self.flowing.wait()
                data = await reader.read(1 << 16 if not self.speed else max(1, self.speed // 50))
                if not data:
                    return
                await self.flowing.wait()
                if self.cut_after is not None:
                    if len(data) >= self.cut_after:
                        writer.write(data[:self.cut_after])
                        await writer.drain()
                        self.cut_after = None
                        self.cut()
                        return
                    self.cut_after -= len(data)
                writer.write(data)
                await writer.drain()
                self.done["bytes"] += len(data)
                if self.speed:
                    await asyncio.sleep(len(data) / self.speed)
        except (OSError, asyncio.CancelledError):
            pass

    async def obey(self, word, *rest):
        if word in ("cut", "refuse"):
            if word == "refuse":
                for s in self.servers:
                    s.close()
                self.servers = []
            self.cut()
        elif word == "admit":
            await self.admit()
        elif word == "stall":
            self.flowing.clear()
        elif word == "go":
            self.flowing.set()
        elif word == "speed":
            self.speed = int(rest[0])
        elif word == "cut-after":
            self.cut_after = int(rest[0])
        elif word != "report":
            return False
        return True


# -- messages ------------------------------------------------------------------------------------------------


class MessageProxy:
    def __init__(self, seed, front, back):
        import zmq
        import zmq.asyncio
        self.zmq, self.rng, self.back_address = zmq, random.Random(seed), back
        self.context = zmq.asyncio.Context()
        self.front = self.context.socket(zmq.ROUTER)
        for option in (zmq.SNDHWM, zmq.RCVHWM, zmq.LINGER):
            self.front.setsockopt(option, 0)
        self.front.bind(front)
        self.backs = {}  # the connecting end's identity -> socket to the listening end
        self.sender_listens = None
        self.shares = {"up": {}, "down": {}}
        self.held = {}  # direction and peer -> the message that waits to be overtaken
        self.done = collections.Counter()

    async def start(self):
        asyncio.ensure_future(self.forward())

    def back(self, peer):
        if peer not in self.backs:
            s = self.context.socket(self.zmq.DEALER)
            for option in (self.zmq.SNDHWM, self.zmq.RCVHWM, self.zmq.LINGER):
                s.setsockopt(option, 0)
            if peer[0] != 0:
                s.setsockopt(self.zmq.IDENTITY, peer)
            s.connect(self.back_address)
            self.backs[peer] = s
            self.done["peers"] += 1
            asyncio.ensure_future(self.backward(peer, s))
        return self.backs[peer]

    async def forward(self):
        while True:
            peer, *frames = await self.front.recv_multipart()
            back = self.back(peer)
            self.learn(frames, from_connecting=True)
            for m in self.treat("up" if self.sender_listens else "down", peer, frames):
                await back.send_multipart(m)

    async def backward(self, peer, back):
        while True:
            frames = await back.recv_multipart()
            self.learn(frames, from_connecting=False)
            for m in self.treat("down" if self.sender_listens else "up", peer, frames):
                await self.front.send_multipart([peer, *m])

    def learn(self, frames, from_connecting):
        """Only a receiver says HELLO."""
        if self.sender_listens is None and self.type_of(frames[0]) == HELLO:
            self.sender_listens = from_connecting

    @staticmethod
    def type_of(head):
        if len(head) == 64 and struct.unpack_from("<I", head)[0] == CONTROL_MAGIC:
            return struct.unpack_from("<H", head, 6)[0]
        return None

    def flip(self, frame):
        b = bytearray(frame)
        b[self.rng.randrange(len(b))] ^= 1 << self.rng.randrange(8)
        return bytes(b)

    def treat(self, to, peer, frames):
        """The messages that go on in the place of this one."""
        share = self.shares[to]

        def hit(what):
            if self.rng.random() >= share.get(what, 0):
                return False
            self.done[f"{to} {what}"] += 1
            return True

        self.done[to] += 1
        out = []
        kind = self.type_of(frames[0])
        if "mute" in share:
            if kind == CREDIT:
                self.done[f"{to} mute"] += 1
                return []
            if kind == HELLO:
                head = bytearray(frames[0])
                struct.pack_into("<QQ", head, 16, 0, 0)
                frames = [seal(bytes(head)), *frames[1:]]
        if hit("garbage"):
            out.append([self.rng.randbytes(self.rng.choice((0, 1, 16, 64, 128, 1000))) for _ in range(self.rng.randint(1, 3))])
        if hit("drop"):
            return out
        if hit("header"):
            frames = [self.flip(frames[0]), *frames[1:]]
        if hit("cut-header"):
            frames = [frames[0][:self.rng.randrange(len(frames[0]))], *frames[1:]]
        if len(frames) > 1 and frames[1]:
            if hit("payload"):
                frames = [frames[0], self.flip(frames[1]), *frames[2:]]
            if hit("cut-payload"):
                frames = [frames[0], frames[1][:self.rng.randrange(len(frames[1]))], *frames[2:]]
        if hit("frame"):
            frames = [*frames, b"one more"]
        if hit("version") and len(frames[0]) in (64, 128):
            head = bytearray(frames[0])
            struct.pack_into("<H", head, 4, 2)
            frames = [seal(bytes(head)), *frames[1:]]
        waiting = self.held.pop((to, peer), None)
        if waiting is None and hit("reorder"):
            self.held[to, peer] = frames
            return out
        out.append(frames)
        if hit("duplicate"):
            out.append(frames)
        if waiting is not None:
            out.append(waiting)
        return out

    async def obey(self, word, *rest):
        if word in self.shares and len(rest) == 2:
            if float(rest[1]) > 0:
                self.shares[word][rest[0]] = float(rest[1])
            else:
                self.shares[word].pop(rest[0], None)
        elif word == "calm":
            self.shares = {"up": {}, "down": {}}
        elif word != "report":
            return False
        return True


async def main():
    if len(sys.argv) < 4:
        print(__doc__, file=sys.stderr)
        return 2
    mode, seed, *rest = sys.argv[1:]
    if mode == "tcp":
        proxy = ByteProxy([tuple(int(n) for n in pair.split(":")) for pair in rest])
    else:
        proxy = MessageProxy(int(seed), *rest)
    await proxy.start()
    loop = asyncio.get_running_loop()
    commands = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    print(json.dumps({"ready": True}), flush=True)
    while line := await commands.readline():
        known = await proxy.obey(*line.decode().split())
        print(json.dumps({"known": known, **proxy.done}), flush=True)
    os._exit(0)  # what is still on its way is cut off; so does a network


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
