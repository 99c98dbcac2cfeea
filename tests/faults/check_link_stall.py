# SPDX-License-Identifier: GPL-3.0-or-later
"""Links whose other end, or whose cable, stops and comes back: SIGSTOP of either end for 5 s, a tcp connection
that is cut, stalled, refused or slow (proxy.py). A waiting link loses nothing; a dropping link leaves GAPs that tile
time and counts what is in them; each goes on within 2 s and in bounded memory.

usage: check_link_stall.py LINK_DRIVER"""

import concurrent.futures
import random
import sys
import time

from faults import (GAP, End, Proxy, address, check, covers, finish, folder, free_port, go_on, nothing_left_behind, resumed_s,
                    sound, stop, text_of, tiles, trace, wind_up)

DROPPED = 6  # gw_gap_reason
SPEED, CREDIT = 400, 8
BLOCKS = 60 * SPEED  # more than any of these runs takes: the sender is told when to end
AFTERWARDS_S = 1
RSS_KIB = 48 << 10


def judge(name, sender, receiver, path, ended_ns, must_drop):
    """(whether all is well, one line). ended_ns: when the cause ended."""
    after = resumed_s(path, ended_ns)
    time.sleep(AFTERWARDS_S)
    sent, said = wind_up(sender)
    status, last = receiver.result()
    records = trace(path)
    wrong = tiles(records) or (covers(records, said.get("end", 1)) and "samples are missing")
    dropped = sum(r["samples"] for r in records if r["flags"] & GAP and r["reason"] == DROPPED)
    counted = said["counts"]["dropped_samples"] if said else -1
    growth = max(sender.rss_growth_kib(), receiver.rss_growth_kib())
    good = (sent == 0 and (dropped > 0 or not must_drop) and status == 0 and sound(last) and not wrong and after < 2 and dropped == counted and growth < 4096 and
            max(said["rss_peak_kib"], last["rss_peak_kib"]) < RSS_KIB and max(said["fds"], last["fds"]) < 32)
    return good, (f"{name}: {text_of(last)}, {said and said['counts']['resent']} sent again, on after {after:.2f} s, memory "
                  f"{growth:+} KiB" + (f", {dropped} samples dropped, {counted} counted" if counted else "") +
                  (f"; {wrong}" if wrong else "") + sender.err + receiver.err)


def open_link(transport, path, seed, drop=False, to=None, **options):
    """Sender and receiver; `to`: where the receiver goes instead."""
    where = address(transport)
    common = dict(transport=transport, credit=CREDIT, samples=256, seed=seed, drop=drop, **options)
    sender = End("send", where, listen=True, blocks=BLOCKS, speed=SPEED, crc=transport == "tcp", **common)
    receiver = End("receive", to(where) if to else where, trace=path, **common)
    receiver.wait_for("what", "open")
    return sender, receiver


def stopped_receiver(transport, drop, path, seed):
    sender, receiver = open_link(transport, path, seed, drop)
    time.sleep(0.7)
    stop(receiver)
    time.sleep(5)
    began_ns = time.monotonic_ns()
    go_on(receiver)
    return judge(f"{transport}, receiver stopped for 5 s, {'dropping' if drop else 'waiting'}", sender, receiver, path, began_ns,
                 drop)


def stopped_sender(transport, path, seed):
    sender, receiver = open_link(transport, path, seed)
    time.sleep(0.7)
    stop(sender)
    time.sleep(5)
    began_ns = time.monotonic_ns()
    go_on(sender)
    return judge(f"{transport}, sender stopped for 5 s", sender, receiver, path, began_ns, False)


def broken_cable(what, drop, path, seed):
    """A tcp link through the byte proxy, which does `what`."""
    rng, port, proxy = random.Random(seed), free_port(), []

    def through(where):
        proxy.append(Proxy("tcp", seed, f"{port}:{where.rsplit(':', 1)[1]}"))
        return f"tcp://127.0.0.1:{port}"

    # while the cable is slow, 400 blocks of 1 KiB a second and channel do not pass
    sender, receiver = open_link("tcp", path, seed, drop, through, **({"channels": 16} if what == "slow" else {}))
    cable = proxy[0]
    began_ns = time.monotonic_ns()
    time.sleep(0.5)
    if what == "cut":
        for _ in range(4):
            cable.do("cut")
            began_ns = time.monotonic_ns()
            time.sleep(rng.uniform(0.3, 1))
    elif what == "cut at a byte":
        for _ in range(6):
            cable.do("cut-after", rng.randrange(1, 300000))
            time.sleep(0.7)
        began_ns = time.monotonic_ns()
    elif what == "refused for 3 s":
        cable.do("refuse")
        time.sleep(3)
        cable.do("admit")
        began_ns = time.monotonic_ns()
    elif what == "stalled for 5 s":
        cable.do("stall")
        time.sleep(5)
        cable.do("go")
        began_ns = time.monotonic_ns()
    elif what == "slow":
        cable.do("speed", 200000)
        time.sleep(3)
        cable.do("speed", 0)
        began_ns = time.monotonic_ns()
    result = judge(f"tcp, {what}, {'dropping' if drop else 'waiting'}", sender, receiver, path, began_ns, drop)
    done = cable.close()
    happened = done.get("connections", 0) > 1 or what in ("slow", "stalled for 5 s")
    return result[0] and happened, f"{result[1]}, {done.get('connections')} connections, {done.get('cut', 0)} cut"


def main():
    rng = random.Random(2)
    with folder() as work, nothing_left_behind(work), concurrent.futures.ThreadPoolExecutor(8) as pool:
        jobs = []

        def begin(what, *args):
            jobs.append(pool.submit(what, *args, f"{work}/trace{len(jobs)}", rng.randrange(1 << 30)))

        for transport in ("shm", "ipc", "tcp"):
            for drop in (False, True):
                begin(stopped_receiver, transport, drop)
            begin(stopped_sender, transport)
        for what in ("cut", "cut at a byte", "refused for 3 s", "stalled for 5 s", "slow"):
            for drop in (False, True):
                begin(broken_cable, what, drop)
        for job in jobs:
            good, text = job.result()
            check(good, text)
    finish()


sys.exit(main())
