# SPDX-License-Identifier: GPL-3.0-or-later
"""kill -9 of a link's sender, its receiver or both, again and again in mid-stream, over every transport that leaves
the process. What the living end had is not lost: a new receiver goes on where the killed one had confirmed, a new
sender opens a new session. Then the same at the stream's end, where EOS and BYE cross.

usage: check_link_kill.py LINK_DRIVER"""

import concurrent.futures
import random
import sys
import time

from faults import End, address, check, covers, finish, folder, nothing_left_behind, resumed_s, sound, text_of, tiles, trace, wind_up

CREDIT, SPEED, KILLS = 8, 400, 3
# name, transport, whether the sender listens, lanes
LINKS = [("shm", "shm", True, 1), ("ipc", "ipc", True, 1), ("tcp", "tcp", True, 1), ("tcp, receiver listens", "tcp", False, 1),
         ("tcp, 3 lanes", "tcp", True, 3)]


class Link:
    """A link whose ends come and go."""

    def __init__(self, transport, sender_listens, lanes, work, name, seed):
        self.where = address(transport, count=lanes)
        self.options = dict(transport=transport, lanes=lanes, credit=CREDIT, samples=256, seed=seed)
        self.sender_listens, self.work, self.name, self.receivers = sender_listens, work, name, 0

    def send(self, **options):
        return End("send", self.where, listen=self.sender_listens, **self.options, **options)

    def receive(self, **options):
        self.receivers += 1
        self.trace = f"{self.work}/trace{self.name}-{self.receivers}"
        return End("receive", self.where, listen=not self.sender_listens, trace=self.trace, **self.options, **options)


def kill_receiver(link, rng):
    """The sender must end well and every sample must have been worked off; twice only what was not confirmed."""
    sender, records = link.send(blocks=10**6, speed=SPEED), []
    slow, twice, wrong, killed_ns = 0, 0, None, time.monotonic_ns()
    for k in range(KILLS + 1):
        receiver = link.receive()
        slow = max(slow, resumed_s(link.trace, killed_ns))
        time.sleep(rng.uniform(0.1, 0.6))
        if k < KILLS:
            receiver.kill()
            killed_ns = time.monotonic_ns()
        else:
            sent, said = wind_up(sender)
            status, last = receiver.result()
        got, known = trace(link.trace), {r["sample0"] for r in records}
        twice = max(twice, sum(r["sample0"] in known for r in got))
        wrong = wrong or tiles(got)
        records += got
    missing = covers(records, said.get("end", 1))
    return (sent == 0 and status == 0 and sound(last) and not wrong and missing == 0 and twice <= CREDIT and slow < 2 and
            said["rss_peak_kib"] < 64 << 10 and said["samples"] > 0,
            f"{KILLS} kills of the receiver: sender {text_of(said)}; {missing} samples missing, at most {twice} blocks twice a kill, "
            f"on after {slow:.2f} s at most" + (f"; {wrong}" if wrong else "") + sender.err + receiver.err)


def kill_sender(link, rng):
    """The receiver goes on with the next sender, in a new session; what it had is whole."""
    receiver, slow = link.receive(), 0
    sender = link.send(blocks=10**6, speed=SPEED)
    for k in range(1, KILLS + 1):
        resumed_s(link.trace, 0, first=(k - 1) * 10**9)
        time.sleep(rng.uniform(0.3, 0.8))
        sender.kill()
        killed_ns = time.monotonic_ns()
        sender = link.send(blocks=10**6 if k < KILLS else SPEED, speed=SPEED, first=k * 10**9)
        slow = max(slow, resumed_s(link.trace, killed_ns, first=k * 10**9))
    sent, said = sender.result()
    status, last = receiver.result()
    records = trace(link.trace)
    wrong = None
    for session in dict.fromkeys(r["session"] for r in records):
        of = [r for r in records if r["session"] == session]
        wrong = wrong or tiles(of) or (of[0]["seq"] != 0 or of[0]["sample0"] % 10**9) and "a session does not begin at its block 0"
    complete = [r for r in records if r["sample0"] >= KILLS * 10**9]
    return (sent == 0 and status == 0 and sound(last) and not wrong and last["sessions"] == KILLS + 1 and
            last["counts"]["sessions"] == KILLS + 1 and covers(complete, said["end"], KILLS * 10**9) == 0 and slow < 2 and
            last["rss_peak_kib"] < 64 << 10,
            f"{KILLS} kills of the sender: receiver {text_of(last)}; {last.get('hole_samples', 0):.1e} samples known as holes, "
            f"on after {slow:.2f} s at most" + (f"; {wrong}" if wrong else "") + sender.err + receiver.err)


def kill_both(link, rng):
    """Two new ends find each other at the same place at once."""
    slow, wrong = 0, None
    for k in range(KILLS + 1):
        receiver, sender = link.receive(), link.send(blocks=SPEED // 2 if k == KILLS else 10**6, speed=SPEED, first=k * 10**9)
        began_ns = time.monotonic_ns()
        slow = max(slow, resumed_s(link.trace, began_ns))
        if k < KILLS:
            time.sleep(rng.uniform(0.3, 0.8))
            sender.kill()
            receiver.kill()
        else:
            sent, said = sender.result()
            status, last = receiver.result()
        got = trace(link.trace)
        wrong = wrong or tiles(got) or (got and got[0]["sample0"] != k * 10**9) and "began elsewhere"
    return (sent == 0 and status == 0 and sound(last) and not wrong and last["blocks"] == said["blocks"] and slow < 2,
            f"{KILLS} kills of both: receiver {text_of(last)}; first block {slow:.2f} s after the start at most" +
            (f"; {wrong}" if wrong else "") + sender.err + receiver.err)


def kill_at_the_end(link, rng):
    """Short streams; the receiver dies anywhere, the last blocks and the farewell included."""
    missing, lost_sender, rounds, second = 0, "", 6, 0
    for _ in range(rounds):
        sender, receiver = link.send(blocks=300), link.receive()
        receiver.wait_for("what", "open")
        time.sleep(rng.uniform(0, 0.12))
        receiver.kill()
        records = trace(link.trace)
        ended_well = sender.p.poll() == 0
        if not ended_well:
            receiver = link.receive(patience=1.5)
            status, last = receiver.result()
            second += 1
            records += trace(link.trace)
        sent, said = sender.result()
        missing += covers(records, said.get("end", 1))
        if sent != 0:
            lost_sender += text_of(said)
    return (missing == 0 and not lost_sender,
            f"killed round EOS and BYE {rounds} times: {second} second receivers, {missing} samples missing {lost_sender}")


def main():
    rng = random.Random(1)
    jobs = []
    with folder() as work, nothing_left_behind(work), concurrent.futures.ThreadPoolExecutor(6) as pool:
        for name, transport, sender_listens, lanes in LINKS:
            for what in (kill_receiver, kill_sender, kill_both, kill_at_the_end):
                seed = rng.randrange(1 << 30)
                link = Link(transport, sender_listens, lanes, work, f"{len(jobs)}", seed)
                jobs.append((name, pool.submit(what, link, random.Random(seed))))
        for name, job in jobs:
            good, text = job.result()
            check(good, f"{name}: {text}")
    finish()


sys.exit(main())
