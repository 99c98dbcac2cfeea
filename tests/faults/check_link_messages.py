# SPDX-License-Identifier: GPL-3.0-or-later
"""Messages of a link that are lost, doubled, swapped, damaged, cut short, made longer, of another version, or
garbage (proxy.py, some of all messages in both directions): the receiver still works off every block once and
in order, and what came damaged is counted. A peer of another version is told apart and said in one line.

usage: check_link_messages.py LINK_DRIVER"""

import concurrent.futures
import random
import sys
import time

from faults import End, Proxy, address, check, covers, finish, folder, nothing_left_behind, sound, text_of, tiles, trace, wait_until

BLOCKS, SPEED, SHARE = 1200, 400, 0.04
# what, whether messages that came must have been refused, sent again, come twice
FAULTS = {"drop": "resent", "duplicate": "duplicates", "reorder": "resent", "header": "malformed resent", "payload": "malformed resent",
          "cut-header": "malformed resent", "cut-payload": "malformed resent", "frame": "malformed resent",
          "version": "malformed resent", "garbage": "malformed"}


def open_link(transport, path, seed, sender_listens, lanes=1, **options):
    """Sender, receiver, proxy."""
    front, back = address(transport), address(transport)
    proxy = Proxy("zmq", seed, front, back)
    common = dict(transport=transport, credit=8, samples=64, seed=seed, lanes=lanes, **options)
    sender = End("send", back if sender_listens else front, listen=sender_listens, blocks=BLOCKS, speed=SPEED, crc=True, **common)
    receiver = End("receive", front if sender_listens else back, listen=not sender_listens, trace=path, **common)
    return sender, receiver, proxy


def one_fault(transport, sender_listens, faults, path, seed):
    sender, receiver, proxy = open_link(transport, path, seed, sender_listens)
    sender.wait_for("what", "open")
    for what in faults:
        proxy.do("down", what, SHARE / len(faults) * (1 if len(faults) == 1 else 4))
        if what not in ("payload", "cut-payload"):
            proxy.do("up", what, SHARE / len(faults) * (1 if len(faults) == 1 else 4))
    status, last = receiver.result()
    sent, said = sender.result()
    done = proxy.close()
    records = trace(path)
    wrong = tiles(records) or (covers(records, said.get("end", 1)) and "samples are missing")
    counts = {k: (said["counts"][k] if said else 0) + (last["counts"][k] if last else 0) for k in ("resent", "duplicates", "malformed")}
    seen = all(counts[k] > 0 for what in faults for k in FAULTS[what].split())
    hits = sum(done.get(f"{to} {what}", 0) for to in ("up", "down") for what in faults)
    pause = max((b["ns"] - a["ns"] for a, b in zip(records, records[1:])), default=0) / 1e9
    good = sent == 0 and status == 0 and sound(last) and not wrong and seen and hits > 10 and len(records) == BLOCKS and pause < (3 if len(faults) == 1 else 6)
    return good, (f"{transport}, {'sender' if sender_listens else 'receiver'} listens, {', '.join(faults)}: {hits} of "
                  f"{done['up'] + done['down']} messages, {len(records)} blocks, {counts}, longest pause {pause:.2f} s, sender exit {sent}"
                  + ("" if status == 0 and sound(last) else ", receiver " + text_of(last)) + (f"; {wrong}" if wrong else "") +
                  ("" if good else sender.err[-600:] + receiver.err[-600:]))


def other_version(sender_listens, path, seed):
    """Nothing of the other version is taken; once it is gone, work begins."""
    sender, receiver, proxy = open_link("tcp", path, seed, sender_listens)
    for to in ("up", "down"):
        proxy.do(to, "version", 1)
    wait_until(lambda: "version 2" in sender.err + receiver.err, "a word on the other version")
    before = -1
    while before != (before := len(trace(path))):  # what was on its way before that
        time.sleep(0.5)
    time.sleep(2)
    took = len(trace(path)) - before
    said = [line for end in (sender, receiver) for line in end.err.splitlines() if "version 2" in line]
    proxy.do("calm")
    status, last = receiver.result()
    sent, _ = sender.result()
    proxy.close()
    return (took == 0 and status == 0 and sent == 0 and sound(last) and last["blocks"] == BLOCKS and len(said) in (1, 2),
            f"another version, {'sender' if sender_listens else 'receiver'} listens: {took} blocks taken in 2 s, {len(said)} lines: "
            f"{said[0] if said else 'nothing said'}; then {text_of(last)}")


def main():
    rng = random.Random(3)
    with folder() as work, nothing_left_behind(work), concurrent.futures.ThreadPoolExecutor(14) as pool:
        jobs = []

        def begin(what, *args):
            jobs.append(pool.submit(what, *args, f"{work}/trace{len(jobs)}", rng.randrange(1 << 30)))

        for k, what in enumerate(FAULTS):
            begin(one_fault, "ipc" if k % 3 == 2 else "tcp", k % 2 == 0, [what])
        for sender_listens in (True, False):
            begin(one_fault, "tcp", sender_listens, list(FAULTS))
            begin(other_version, sender_listens)
        for job in jobs:
            good, text = job.result()
            check(good, text)
    finish()


sys.exit(main())
