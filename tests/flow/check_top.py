# SPDX-License-Identifier: GPL-3.0-or-later
"""`gwstream top` and the socket behind it: the counters against /proc and against each other, clients that are slow,
silent or rude, the terminal view, commands, and where the threads were put."""

import atexit
import fcntl
import json
import os
import pathlib
import pty
import re
import select
import shutil
import socket
import struct
import subprocess
import sys
import termios
import time

from flow import PROGRAM, check, finish, folder, run

GRAPH = """
run: {{threads: 3, lock_memory: true}}
sources:
  sky: {{kind: sim, seed: 3, start: 1400000000, duration: {duration}, rate: 4096Hz, block: 1/16s, pace: {pace}, detectors: [H1, L1],
        cores: [0], priority: 5}}
stages:
  down: {{kind: resample, from: sky, rate: 2048Hz}}
  white: {{kind: whiten, from: down, cores: 0}}
sinks:
  keep: {{kind: record, from: white, path: "{work}/{name}.hdf5", on_full: wait}}
  raw: {{kind: record, from: sky, path: "{work}/{name}-raw.hdf5"}}
  last: {{kind: ring, from: sky, keep: 5s, before: 1s, after: 1s, path: "{work}/{name}-%s.hdf5"}}
"""


def own_network():
    """Abstract sockets belong to a network namespace: in one of our own no other pipeline is to be seen."""
    if "GWSTREAM_OWN_NETWORK" in os.environ:
        return os.environ["GWSTREAM_OWN_NETWORK"] == "yes"
    how = ["unshare", "-n"] if os.geteuid() == 0 else ["unshare", "-r", "-n"]
    can = shutil.which("unshare") and subprocess.run([*how, "true"], stderr=subprocess.DEVNULL).returncode == 0
    os.environ["GWSTREAM_OWN_NETWORK"] = "yes" if can else "no"
    if can:
        os.execvp(how[0], [*how, sys.executable, *sys.argv])
    return False


def start(work, name, duration="600s", pace=4):
    path = f"{work}/{name}.yaml"
    with open(path, "w") as f:
        f.write(GRAPH.format(work=work, name=name, duration=duration, pace=pace))
    return start_file(path)


def start_file(path, *options):
    p = subprocess.Popen([PROGRAM, "run", *options, path], stderr=subprocess.PIPE, text=True)
    atexit.register(p.kill)
    while f"@gwstream/{os.geteuid()}/{p.pid}" not in open("/proc/net/unix").read():
        if p.poll() is not None:
            raise SystemExit("it did not start: " + p.stderr.read())
        time.sleep(0.05)
    return p


def connect(pid):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    s.connect(f"\0gwstream/{os.geteuid()}/{pid}")  # waits for its turn
    s.settimeout(10)
    return s


def ask(pid, request):
    parts = []
    with connect(pid) as s:
        s.sendall(request)
        while part := s.recv(65536):
            parts.append(part)
    return b"".join(parts).decode()


def status(pid):
    return json.loads(ask(pid, b"status\n"))


def by_name(doc, name):
    return next(n for n in doc["nodes"] if n["name"] == name)


def link_of(doc, stream, to):
    return next(k for k in doc["links"] if k["stream"] == stream and k["to"] == to)


def wait_for(pid, what, holds):
    for _ in range(200):
        doc = status(pid)
        if holds(doc):
            return doc
        time.sleep(0.05)
    check(False, what + ": never came")
    return doc


def check_document(p):
    doc = status(p.pid)
    check(doc["pid"] == p.pid and doc["status_version"] == 1, "status: JSON with the right pid and a version")
    check(doc["graph"].endswith("one.yaml"), f"the graph's file is named ({doc['graph']})")
    doc = wait_for(p.pid, "data beyond the warm-up",
                   lambda d: all(link_of(d, f"white.{ifo}", "keep")["age"]["blocks"] > 5 for ifo in ("H1", "L1")))
    proc = f"/proc/{p.pid}/"
    rss = int(open(proc + "statm").read().split()[1]) * os.sysconf("SC_PAGESIZE")
    check(abs(doc["process"]["rss_bytes"] - rss) < 0.1 * rss, "memory as /proc has it")
    check(abs(doc["process"]["fds"] - len(os.listdir(proc + "fd"))) <= 2, "open files as /proc has them")
    tasks = os.listdir(proc + "task")
    check(doc["process"]["threads"] == len(tasks) == len(doc["threads"]), f"{len(tasks)} threads as /proc has them")
    names = {t["tid"]: t["name"] for t in doc["threads"]}
    check(all(names.get(n["tid"]) == n["name"][:15] for n in doc["nodes"]), "every node's thread is there by its name")
    workers = {name for name in names.values() if name.startswith(("search.", "bulk."))}
    check(workers >= {"search.0", "search.1", "bulk.0", "bulk.1"} and not workers & {"search.2", "bulk.2"},
          "run: {threads: 3} makes two workers for the search, two for bulk")

    for n in doc["nodes"]:
        busy = n["step_ns"] + sum(w["ns"] for w in n["waits"].values())
        if not (n["steps"] > 0 and n["step_max_ns"] <= n["step_ns"] and busy <= 1.3 * doc["uptime_ns"]):
            check(False, f"{n['name']}: steps and waits fit into the time: {n}")
        if set(n["waits"]) != {"input", "slab", "credit", "due", "device"}:
            check(False, f"{n['name']}: every cause is there: {n['waits']}")
    def most_is_waiting(d):
        source, sink = by_name(d, "sky"), by_name(d, "keep")
        return source["waits"]["due"]["ns"] > source["step_ns"] and sink["waits"]["input"]["ns"] > 0.5 * d["uptime_ns"]
    check(most_is_waiting(wait_for(p.pid, "most is waiting", most_is_waiting)), "a paced source waits for its time, a sink for its input")

    check(len(doc["links"]) == 5 * 2, "ten links")
    for k in doc["links"]:
        sent, got, age = k["sent"], k["received"], k["age"]
        edges = age["from_ns"] == sorted(set(age["from_ns"])) and len(age["from_ns"]) == len(age["count"])
        order = age["p50_ns"] <= age["p99_ns"] <= age["p999_ns"] <= age["max_ns"]
        if not (edges and order and sum(age["count"]) == age["blocks"] > 0):
            check(False, f"ages of {k['stream']} > {k['to']}: {age}")
        if abs(sent["blocks"] - got["blocks"]) > 2 * k["credit"] or sent["malformed"] + got["malformed"]:
            check(False, f"blocks of {k['stream']} > {k['to']}: sent {sent}, received {got}")
    k = link_of(doc, "sky.H1", "raw")
    check(k["on_full"] == "drop" and link_of(doc, "white.H1", "keep")["on_full"] == "wait", "what happens when a link is full")
    ends = (link_of(status(p.pid), "sky.H1", "raw")["received"] for _ in range(20))  # a block may come in between
    check(any(e["bytes"] == (e["blocks"] - e["gaps"]) * 256 * 8 > 0 for e in ends), "bytes are blocks times their size")
    warm = link_of(doc, "white.H1", "keep")["gap_samples"]["warm-up"]
    check(warm == by_name(doc, "white.H1")["outputs"][0]["gap_samples"]["warm-up"] > 0,
          f"the warm-up gap of {warm} samples: as sent, so received")
    steps, blocks = by_name(doc, "down.H1")["steps"], link_of(doc, "sky.H1", "down.H1")["received"]["blocks"]
    check(abs(blocks - steps) <= 16, f"a block is a step ({blocks}, {steps})")
    doc = wait_for(p.pid, "a first filter", lambda d: by_name(d, "white.L1")["gauges"].get("psd_segments", 0) > 0)
    gauges = by_name(doc, "white.H1")["gauges"]
    check({"unfit_channels", "psd_segments", "psd_drift", "gated_samples"} <= set(gauges) and by_name(doc, "down.H1")["gauges"] == {},
          f"a stage's own numbers: {gauges}")
    later = wait_for(p.pid, "more data", lambda d: d["data_ns"] >= doc["data_ns"] + 2 * 10**9)
    check(all(a["steps"] <= b["steps"] for a, b in zip(doc["nodes"], later["nodes"])), "counts only grow")


def check_placement(p):
    doc = status(p.pid)
    sky, down = by_name(doc, "sky")["tid"], by_name(doc, "down.H1")["tid"]
    allowed = {tid: os.sched_getaffinity(tid) for tid in (sky, down)}
    check(allowed[sky] == {0} == os.sched_getaffinity(by_name(doc, "white.L1")["tid"]), "cores: the threads are where they were put")
    check(allowed[down] == os.sched_getaffinity(0), "and the others where they like")
    said = p.said = "".join(p.said)
    if os.sched_getscheduler(sky) == os.SCHED_FIFO:
        check(os.sched_getparam(sky).sched_priority == 5, "priority: SCHED_FIFO 5")
    else:
        check("SCHED_FIFO 5 not permitted" in said, "priority: not permitted, and said so")
    locked = int(re.search(r"VmLck:\s+(\d+)", open(f"/proc/{p.pid}/status").read())[1])
    sanitized = any(word in open(PROGRAM, "rb").read() for word in (b"__asan_init", b"__tsan_init"))  # they lock nothing
    check(locked > 0 or sanitized or "lock_memory not permitted" in said, f"lock_memory: {locked} KiB locked, or said that it is not")
    text = "sources: {{sky: {{kind: sim, duration: 1s, cores: [{}]}}}}\nsinks: {{keep: {{kind: record, from: sky, path: /tmp/x.hdf5}}}}\n"
    with folder() as work:
        for cores, want in (("-1", 2), ("2000", 2), ("1000", 0)):
            with open(f"{work}/x.yaml", "w") as f:
                f.write(text.format(cores))
            code, _, err = run("check", f"{work}/x.yaml")
            check(code == want and err.count("\n") == 1 and cores in err, f"check with core {cores}: exit {want}: {err.strip()}")


def check_clients(p):
    silent = [connect(p.pid) for _ in range(14)]  # more than there is room for
    t = time.time()
    check(status(p.pid)["pid"] == p.pid, f"fourteen silent clients: the next is served, after {time.time() - t:.1f} s")
    for s in silent:
        s.close()
    greedy = connect(p.pid)
    greedy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    greedy.sendall(b"status\n")  # and never reads
    check(status(p.pid)["pid"] == p.pid, "a client that does not read holds up nobody")
    greedy.close()
    check(ask(p.pid, b"hello\n").startswith("error "), "an unknown request is answered with an error")
    check(ask(p.pid, b"dump\n").startswith("error "), "so is half a request")
    check(ask(p.pid, b"dump keep 3 /tmp/x\n").startswith("error no sink 'keep' takes commands"), "so is a sink that takes no commands")
    try:
        check(ask(p.pid, b"x" * 20000).startswith("error "), "so is one that never ends")
    except ConnectionError:
        check(True, "one that never ends is cut off")
    with connect(p.pid) as s:
        s.sendall(b"sta")
    check(p.poll() is None and status(p.pid)["pid"] == p.pid, "and the pipeline runs on")
    if os.geteuid() == 0 and open("/proc/self/uid_map").read().split()[2] != "1":
        stranger = ("import socket,os\nos.setuid(65534)\ns=socket.socket(socket.AF_UNIX)\n"
                    f"s.connect('\\0gwstream/0/{p.pid}')\n"
                    "try:\n s.sendall(b'status\\n'); print(len(s.recv(9)))\nexcept OSError: print(0)\n")
        out = subprocess.run([sys.executable, "-c", stranger], stdout=subprocess.PIPE, text=True).stdout
        check(out.strip() == "0", "another user is told nothing")


def check_two_processes(work):
    path = f"{work}/three.yaml"
    with open(path, "w") as f:
        f.write("nodes: {front: {}, back: {}}\n"
                "sources: {many: {kind: repeat, channels: 64, pace: 1, node: front}}\n"
                "sinks: {eat: {kind: 'null', from: many, node: back, link: ipc}}\n")
    front, back = (start_file(path, "--node", name) for name in ("front", "back"))
    there = wait_for(back.pid, "blocks across", lambda d: d["links"][0]["received"]["blocks"] > 8)
    here = status(front.pid)
    sent, got = here["links"][0], there["links"][0]
    check((here["node"], there["node"]) == ("front", "back") and [n["name"] for n in here["nodes"]] == ["many"],
          "two processes: each tells of its own nodes")
    check(sent["received"] is None and got["sent"] is None and sent["transport"] == got["transport"] == "ipc",
          "and of its own end of the link between them")
    check(sent["sent"]["blocks"] >= got["received"]["blocks"] and got["received"]["copied_bytes"] > 0 == sent["sent"]["copied_bytes"],
          "which copies at the receiving end")
    check(got["age"]["blocks"] > 0 and there["pace"] == 1 and there["first_ns"] == here["first_ns"] > 0, "and carries the timebase")
    front.terminate()
    check(front.wait(20) == back.wait(20) == 0, "both end")
    front.stderr.close()
    back.stderr.close()


def check_dump(p, work):
    out = pathlib.Path(work) / "some seconds.hdf5"
    code, said, err = run("dump", p.pid, "last", 2, out.name, cwd=work)  # not where the pipeline runs
    check(code == 0 and str(out) in said, f"dump: {(said + err).strip()}")
    for _ in range(200):
        if out.exists():
            break
        time.sleep(0.05)
    check(out.exists(), "and the ring's file is there")
    code, _, err = run("dump", p.pid, "last", 2, "/nowhere/x.hdf5")
    check(code == 1 and err.count("\n") == 1 and "/nowhere/x.hdf5" in err, f"dump where it cannot: {err.strip()}")
    check(ask(p.pid, b"dump last\n").startswith("error "), "a command that the ring does not understand is an error")
    impatient = connect(p.pid)
    impatient.sendall(f"dump last 1 {work}/impatient.hdf5\n".encode())
    impatient.close()
    for _ in range(100):
        code, said, err = run("dump", p.pid, "last", "1s", f"{work}/later.hdf5")
        if "busy" not in err:
            break
        time.sleep(0.05)
    check(code == 0, "who leaves before the answer does not block the next")


def check_once(p, alone):
    code, out, err = run("top", "--once", p.pid)
    check(code == 0 and not err, "top --once: exit 0")
    for want in ("one.yaml", "x real time", "cpu ", "white.H1", "white.H1 > keep", "inproc", "losses", "warm-up", "\ngauges\n", "psd_segments"):
        if want not in out:
            check(False, f"top --once shows '{want}':\n{out}")
    check("\033" not in out and "nan" not in out.lower(), "plain lines")
    code, out, _ = run("top", "--json", p.pid)
    check(code == 0 and json.loads(out)["pid"] == p.pid, "top --json: the document")
    for bad, say in (([1], "no pipeline of yours runs as pid 1"), (["x"], "no process id"), (["--twice"], "no option"),
                     ([1, 2], "at most one")):
        code, out, err = run("top", *bad)
        check(code == 2 and say in err and err.count("\n") == 1, f"top {bad}: {err.strip()}")
    for bad, code, say in ((["x", "keep", 3, "y"], 2, "no process id"), ([p.pid, "keep", -3, "y"], 2, "no number of seconds"),
                           ([p.pid, "keep", 3], 2, "wants PID"), ([p.pid, "other", 3, "y"], 1, "no sink 'other' takes commands here (last)"),
                           ([1, "keep", 3, "y"], 2, "no pipeline")):
        got, _, err = run("dump", *bad)
        check(got == code and say in err and err.count("\n") == 1, f"dump {bad}: {err.strip()}")
    if alone:
        code, out, _ = run("top")
        check(code == 0 and "one.yaml" in out, "top without a pid: the only one")


def watch(pid, rows, columns):
    """`gwstream top` on a terminal of its own: (process, master)."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    before = termios.tcgetattr(slave)
    p = subprocess.Popen([PROGRAM, "top", str(pid)], stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
    return p, master, slave, before


def read_until(master, holds, seconds=15):
    text, end = "", time.time() + seconds
    while time.time() < end and not holds(text):
        if select.select([master], [], [], 0.1)[0]:
            text += os.read(master, 65536).decode(errors="replace")
    return text


def pages(text):
    return [re.sub(r"\033\[[?0-9;]*[a-zA-Z]", "", page).replace("\r", "") for page in text.split("\033[H")[1:]]


def check_terminal(p):
    top, master, slave, before = watch(p.pid, 12, 60)
    text = read_until(master, lambda t: t.count("q leaves") >= 2)
    seen = pages(text)
    check(len(seen) >= 2 and all(len(page.split("\n")) <= 12 for page in seen), "a page fits into 12 rows")
    check(all(len(line) <= 60 for page in seen for line in page.split("\n")), "and 60 columns")
    check("losses" in seen[0] and "steps/s" in seen[0], "with the losses at its bottom")
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 200, 0, 0))
    text = read_until(master, lambda t: any("missing" in page and "q leaves" in page for page in pages(t)))
    check(any("white.L1 > keep" in page for page in pages(text)), "a larger window shows more")
    os.write(master, b"q")
    check(top.wait(10) == 0, "q leaves, exit 0")
    check(termios.tcgetattr(slave) == before, "the terminal is as it was")
    check("\033[?1049l" in read_until(master, lambda t: "1049l" in t, 3), "and the first screen is back")
    top, master, slave, before = watch(p.pid, 24, 80)
    read_until(master, lambda t: "q leaves" in t)
    top.terminate()
    check(top.wait(10) == 0 and termios.tcgetattr(slave) == before, "so it does on SIGTERM")
    return watch(p.pid, 24, 80)


def main():
    alone = own_network()
    if alone:
        code, _, err = run("top")
        check(code == 2 and err.count("\n") == 1 and "no pipeline of yours is running" in err, f"nothing runs: exit 2: {err.strip()}")
    with folder() as work:
        p = start(work, "one")
        p.said = []
        os.set_blocking(p.stderr.fileno(), False)
        check_document(p)
        p.said.append(p.stderr.read() or "")
        check_placement(p)
        check_clients(p)
        check_dump(p, work)
        check_once(p, alone)
        check_two_processes(work)
        second = start(work, "two")
        code, out, _ = run("top")
        check(code == 0 and str(p.pid) in out and str(second.pid) in out and "two.yaml" in out, "two of them: a list")
        code, out, err = run("top", "--json")
        check(code == 2 and "name one" in err, "top --json of two: exit 2")
        second.terminate()
        second.communicate(timeout=20)
        top, master, _, _ = check_terminal(p)
        read_until(master, lambda t: "q leaves" in t)
        p.terminate()
        p.stderr.close()
        check(p.wait(20) == 0, "the pipeline ends on SIGTERM, exit 0")
        text = read_until(master, lambda t: "has ended" in t)
        check("has ended" in text and top.wait(10) == 0, "whoever watched is told so, exit 0")
        left = [line for line in open("/proc/net/unix") if f"/{p.pid}\n" in line]
        check(not left, "no socket is left")
    finish()


main()
