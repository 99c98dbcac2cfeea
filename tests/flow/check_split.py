#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""A graph split over two processes does what it does in one: the same events and the same recorded samples over
shm, ipc, tcp and tcp with keys, in any order of starting; what cannot work is refused in one line at both ends.
Exit 0 / 1 / 77 (no h5py)."""
import os
import pathlib
import subprocess
import time

import flow
from flow import check, free_port

try:
    import h5py
    import numpy as np
except ImportError as error:
    flow.skip(str(error))

NODES = "nodes: {front: {%s}, back: {%s}}\n"
GRAPH = """%(nodes)s
sources:
  sky:
    kind: sim
    seed: 20150914
    start: 1400000000
    duration: %(seconds)ds
    pace: %(pace)s
    block: %(block)s
    detectors: [H1, L1]
    auxiliary: {channels: 7, rate: 512Hz}
    signals: [{gps: %(gps)s, mass1: 38, mass2: 31, network_snr: 25, ra: 2.1, dec: -0.9, psi: 0.4, iota: 0.7}]
    %(front)s
stages:
  down: {kind: resample, from: [sky.H1, sky.L1], rate: 2048Hz%(cfront)s}
  white: {kind: whiten, from: down%(link)s%(cback)s}
  search: {kind: detect, from: white, model: %(model)s%(cback)s}
sinks:
  alerts: {kind: alerts, from: [search, sky], journal: %(name)s.sqlite, print: %(name)s.jsonl%(link)s%(cback)s}
  aux: {kind: record, from: sky.aux, path: %(name)s.hdf5, overwrite: true, on_full: wait%(link)s%(lanes)s%(cback)s}
"""
WORK = flow.folder()
ONLY_KEPT = {".sqlite", ".jsonl", ".hdf5", ".yaml", ".key", ".key_secret", ".sqlite-wal", ".sqlite-shm", ".sqlite-lock"}


def write(name, nodes=None, link="", lanes="", seconds=40, pace=0, gps=1400000028.3, block="1/16s", file=None):
    text = GRAPH % dict(nodes=NODES % nodes if nodes else "", seconds=seconds, pace=pace, gps=gps, block=block,
                        model=flow.MODEL, name=name, link=f", link: {link}" if link else "",
                        lanes=f", lanes: {lanes}" if lanes else "", front="node: front" if nodes else "",
                        cfront=", node: front" if nodes else "", cback=", node: back" if nodes else "")
    path = pathlib.Path(WORK.name) / f"{file or name}.yaml"
    path.write_text(text)
    return path


def start(path, node):
    return subprocess.Popen([flow.PROGRAM, "run", "--quiet", "--node", node, path], cwd=WORK.name,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def end(process, timeout=40):
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        err += "(killed: it did not end)"
    return process.returncode, err.strip()


def results(name):
    with open(f"{WORK.name}/{name}.jsonl") as f:
        events = flow.lines(f.read())
    with h5py.File(f"{WORK.name}/{name}.hdf5") as f:
        rows = {}
        f.visititems(lambda n, d: rows.update({n: d[:]}) if isinstance(d, h5py.Dataset) and ":" in n else None)
    return events, rows


def same(name, base):
    (a, x), (b, y) = results(name), base
    return flow.without_wall(a) == flow.without_wall(b) and sorted(x) == sorted(y) and \
        all(np.array_equal(x[k], y[k], equal_nan=True) for k in x)


def left():
    """Ours, if there were any: other programs use it too."""
    return sorted(f for f in os.listdir("/dev/shm") if "gw" in f) if os.path.isdir("/dev/shm") else []


def both(name, path, base, delay=0, first="front"):
    """Runs the two nodes, the second one `delay` seconds after the first one is there."""
    before = left()
    a = start(path, first)
    if delay:
        flow.wait_until(lambda: flow.state_of(a.pid), f"node {first}")
        time.sleep(delay)
    b = start(path, "back" if first == "front" else "front")
    ends = end(a), end(b)
    check(all(e == (0, "") for e in ends), f"{name}: both end with status 0 and no complaint {ends if any(e[0] or e[1] for e in ends) else ''}")
    check(same(path.stem, base), f"{name}: the same events and samples as in one process")
    check(left() == before, f"{name}: nothing left in /dev/shm")


def transports():
    status, _, err = flow.run("run", "--quiet", write("one"), cwd=WORK.name)
    check(status == 0, f"one process: status 0 {err.strip()}")
    base = results("one")
    check(len([e for e in base[0] if e["phase"] == "final"]) == 1 and len(base[1]) == 7,
          f"one process: one event, seven channels recorded")
    front = f"ports: {free_port(8)}"
    status, _, err = flow.run("run", "--quiet", write("joined", (front, ""), "tcp"), cwd=WORK.name)
    check(status == 0 and same("joined", base), f"a file with nodes in one process: the same {err}")
    for link, lanes in (("", ""), ("ipc", ""), ("ipc", "3"), ("tcp", "2")):
        name = f"split_{link or 'shm'}{lanes}"
        both(name, write(name, (front, ""), link, lanes), base)
    for key in ("front", "back"):
        flow.run("keygen", key, cwd=WORK.name)
    both("keys", write("keys", (f"ports: {free_port(8)}, key: front", "key: back"), "tcp"), base)
    both("front 3 s late", write("late_front", ("", "")), base, 3, "back")
    both("back 3 s late", write("late_back", (f"ports: {free_port(8)}", ""), "tcp"), base, 3)


def no_key():
    """Somebody with a key that the file does not name gets nothing."""
    port = free_port(8)
    flow.run("keygen", "thief", cwd=WORK.name)
    path = write("guarded", (f"ports: {port}, key: front", "key: back"), "tcp")
    wrong = write("thief", (f"ports: {port}, key: front", "key: thief"), "tcp", file="thief")
    a, b, said = start(path, "front"), start(wrong, "back"), ""
    while "refused a client" not in said and (line := a.stderr.readline()):
        said += line
    time.sleep(0.5)
    running = a.poll() is None and b.poll() is None
    b.kill()
    b.communicate()
    events = pathlib.Path(WORK.name) / "thief.jsonl"
    check(running and (not events.exists() or not events.read_text()), "an unknown key gets nothing")
    b = start(path, "back")
    ends = end(a), end(b)
    check(ends[0][0] == 0 and "refused a client" in said and ends[1] == (0, ""),
          f"and the one that is named is served after it {ends} {said}")


def paced(process):
    """Real time over shm: the back node knows the front's clock, so its latencies are true."""
    ends = [end(p)[0] for p in process]
    events, _ = results("paced")
    found = [e for e in events if e["phase"] == "first"]
    latency = found[0]["wall"]["latency"]["merger_to_publication_s"] if found else None
    check(ends == [0, 0], f"at 1x: both end with status 0 {ends}")
    check(len(found) == 1 and latency is not None and 0 < latency < 3,
          f"at 1x: found, with a latency that makes sense ({latency} s)")


RESTARTED = """nodes: {front: {}, back: {}}
sources:
  sky: {kind: sim, seed: 4, start: %d, duration: %ds, pace: 4, detectors: [H1], rate: 4096Hz, node: front}
sinks:
  keep: {kind: record, from: sky, path: restart.hdf5, overwrite: true, on_full: wait, node: back}
"""


def restarted(again, duration):
    """The front node is killed in mid-stream and comes again, its data beginning at `again`: what was recorded."""
    path = pathlib.Path(WORK.name) / "restart.yaml"
    path.write_text(RESTARTED % (1400000000, 60))
    b, a = start(path, "back"), start(path, "front")
    flow.wait_until(lambda: flow.received(b.pid, "keep") >= 16, "a second of data")
    a.kill()
    a.communicate()
    path.write_text(RESTARTED % (again, duration))
    (sa, ea), (sb, eb) = end(start(path, "front")), end(b)
    check(sa == 0 and sb == 0 and "another run of node front" in eb, f"front killed, started again: {(sa, ea, sb, eb)}")
    with h5py.File(f"{WORK.name}/restart.hdf5") as f:
        return f["H1:STRAIN"][:], f["gwstream/sky.H1/dq"][:] if "dq" in f["gwstream/sky.H1"] else None


def restarts():
    path = pathlib.Path(WORK.name) / "restart.yaml"
    path.write_text((RESTARTED % (1400000000, 24)).replace("pace: 4", "pace: 0"))
    flow.run("run", "--quiet", path, cwd=WORK.name)
    with h5py.File(f"{WORK.name}/restart.hdf5") as f:
        whole = f["H1:STRAIN"][:]
    again, _ = restarted(1400000000, 16)
    check(np.array_equal(again, whole[:16 * 4096]), f"what comes a second time is dropped: {len(again) / 4096} s as in one run")
    again, rows = restarted(1400000020, 4)
    gap = np.isnan(again)
    check(len(again) == 24 * 4096 and np.array_equal(again[~gap], whole[~gap]) and 0 < gap.sum() < 20 * 4096 and
          np.all(np.diff(np.flatnonzero(gap)) == 1), f"what died with it is one hole of {gap.sum() / 4096} s")
    if rows is not None:
        check(sorted(set(rows["gap_reason"].tolist())) == [0, 1], "and the recording says: absent")


def refused():
    status, _, err = flow.run("run", "--node", "middle", write("wrong", ("", "")), cwd=WORK.name)
    check(status == 2 and "front, back" in err and len(err.strip().splitlines()) == 1, f"a wrong node: {err.strip()}")
    status, _, err = flow.run("run", "--node", "front", write("plain"), cwd=WORK.name)
    check(status == 2 and len(err.strip().splitlines()) == 1, f"a node of a file without: {err.strip()}")
    for what, nodes, link, word in (
            ("open tcp without keys", ("host: 10.0.0.1", "host: 10.0.0.2"), "", "insecure: true"),
            ("listening beyond this host", ('listen: "0.0.0.0"', ""), "tcp", "insecure: true"),
            ("one key", ("key: front", ""), "tcp", "only one of them"),
            ("shm between hosts", ("host: 10.0.0.1, insecure: true", "host: 10.0.0.2"), "shm", "another host"),
            ("a misspelt key", ("hots: 10.0.0.1", ""), "", "host")):
        status, _, err = flow.run("check", "--quiet", write("refused", nodes, link), cwd=WORK.name)
        check(status == 2 and word in err and len(err.strip().splitlines()) == 1, f"{what}: {err.strip()}")
    path = write("allowed", ("host: 10.0.0.1, insecure: true", "host: 10.0.0.2"))
    status, out, _ = flow.run("check", path, cwd=WORK.name)
    check(status == 0 and "tcp://10.0.0.1:5700" in out, "insecure: true allows it, and check shows the address")


def versions():
    """The two ends read different versions of the file."""
    for link in ("shm", "tcp"):
        nodes = (f"ports: {free_port(8)}", "")
        a = start(write("version", nodes, link), "front")
        flow.wait_until(lambda: flow.state_of(a.pid), "the front, which has read its file")
        b = start(write("version", nodes, link, block="1/8s"), "back")
        (sa, ea), (sb, eb) = end(a, 15), end(b, 15)
        check(sa == 2 and sb == 2 and "expects" in ea and "expects" in eb and
              len(ea.splitlines()) == 1 and len(eb.splitlines()) <= 2, f"versions differ, {link}: {(sa, ea, sb, eb)}")


slow = write("paced", ("", ""), seconds=12, pace=1, gps=1400000010.4)
running = [start(slow, "back"), start(slow, "front")]
transports()
no_key()
refused()
versions()
restarts()
paced(running)
strange = [f for f in os.listdir(WORK.name) if pathlib.Path(f).suffix not in ONLY_KEPT]
check(not strange, f"nothing left in the run folder {strange}")
flow.finish()
