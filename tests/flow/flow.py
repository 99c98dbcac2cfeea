# SPDX-License-Identifier: GPL-3.0-or-later
"""What the end-to-end tests share: run the program, read its events, count checks."""

import atexit
import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(os.environ.get("GWSTREAM_ROOT", pathlib.Path(__file__).resolve().parents[2]))
PROGRAM = os.environ.get("GWSTREAM", str(ROOT / "build" / "gwstream"))
DATA = pathlib.Path(os.environ.get("GWSTREAM_DATA", ROOT.parent / "shared" / "data")) / "gwosc"
MODEL = os.environ.get("GWSTREAM_MODEL", str(ROOT / "models" / "bbh-small.onnx"))

failures = 0
_port = 10000 + os.getpid() * 128 % 22000  # tests run side by side; beyond 32767 the kernel picks its own
_port_lock = threading.Lock()


def check(holds, text):
    """Prints one line; remembers a failure."""
    global failures
    print(("ok      " if holds else "FAILED  ") + text, flush=True)
    failures += not holds


def finish():
    sys.exit(1 if failures else 0)


def skip(text):
    print("skipped: " + text)
    sys.exit(77)


def folder():
    """A temporary folder that goes away with the test."""
    return tempfile.TemporaryDirectory(prefix="gwstream-")


@atexit.register
def end_children():
    """A child that outlives a test that stopped at an exception holds its output open: the exception would be told
    as a timeout, minutes later."""
    for task in pathlib.Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for pid in task.read_text().split():
                os.kill(int(pid), signal.SIGKILL)


def run(*args, timeout=55, cwd=None):
    """The program with these arguments: (exit status, stdout, stderr)."""
    p = subprocess.run([PROGRAM, *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                       timeout=timeout, cwd=cwd or ROOT)
    return p.returncode, p.stdout, p.stderr


def wait_until(holds, what, timeout=30):
    """Waits until holds() is true, which must come to pass; what it returned."""
    until = time.monotonic() + timeout
    while not (found := holds()) and time.monotonic() < until:
        time.sleep(0.02)
    if not found:
        check(False, f"never came: {what}")
    return found


def state_of(pid):
    """What `gwstream top --json` says of a run; {} while it cannot be asked."""
    code, out, _ = run("top", "--json", pid)
    return json.loads(out) if code == 0 else {}


def catches_sigint(p):
    """Whether this run (a Popen) has come so far that a signal ends it well."""
    return int(pathlib.Path(f"/proc/{p.pid}/status").read_text().split("SigBlk:")[1].split()[0], 16) & 2 != 0


def received(pid, node):
    """How many blocks a node of a run has received."""
    return sum(link["received"]["blocks"] for link in state_of(pid).get("links", []) if link["to"] == node and link["received"])


def free_port(count=1):
    """`count` free tcp ports in a row, never given out twice."""
    global _port
    with _port_lock:
        while True:
            socks, base = [socket.socket() for _ in range(count)], _port
            _port += count
            try:
                for k, s in enumerate(socks):
                    s.bind(("127.0.0.1", base + k))
                return base
            except OSError:
                continue
            finally:
                for s in socks:
                    s.close()


def lines(text):
    """JSON lines as objects."""
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def without_wall(events):
    """The same without what depends on the wall clock."""
    return [{k: v for k, v in e.items() if k != "wall"} for e in events]


def replay(files, *options, work):
    """Events of `gwstream replay` with a fresh journal in folder `work`."""
    journal = pathlib.Path(work) / f"journal-{len(os.listdir(work))}.sqlite"
    status, out, err = run("replay", "--quiet", "--model", MODEL, "--journal", journal, *options, *files)
    if status != 0:
        print(err)
    check(status == 0, f"replay {' '.join(pathlib.Path(f).name for f in files)} {' '.join(map(str, options))}: exit 0")
    return lines(out)


def gps_ns(event):
    """The event's GPS time in integer nanoseconds (a JSON number loses the last digits)."""
    return round(event["gps"] * 1e9)
