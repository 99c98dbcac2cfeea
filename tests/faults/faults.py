# SPDX-License-Identifier: GPL-3.0-or-later
"""What the fault tests of links share: the two ends (link_driver) and the proxy as processes, what they say, and
whether anything is left behind."""

import atexit
import contextlib
import itertools
import json
import os
import pathlib
import signal
import struct
import subprocess
import sys
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "flow"))
from flow import MODEL, PROGRAM, check, finish, folder, free_port, lines, run, skip, state_of, wait_until  # noqa: E402,F401

DRIVER = os.path.abspath(sys.argv[1]) if len(sys.argv) > 1 else "link_driver"
GAP = 1
_number = itertools.count()
_alive = []


@atexit.register
def _end_all():
    for p in _alive:
        if p.poll() is None:
            p.kill()
            p.wait()


class Said:
    """A process whose lines of JSON are collected as they come."""

    def __init__(self, command, **options):
        self.p = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                  **options)
        _alive.append(self.p)
        self.said, self.err = [], ""
        self.news = threading.Condition()
        self.threads = [threading.Thread(target=self._read, daemon=True), threading.Thread(target=self._read_err, daemon=True)]
        for t in self.threads:
            t.start()

    def _read(self):
        for line in self.p.stdout:
            with self.news:
                self.said.append(json.loads(line))
                self.news.notify_all()

    def _read_err(self):
        for line in self.p.stderr:
            self.err += line

    def wait_for(self, key, value, timeout=10):
        """The first line in which key has this value; None when it does not come."""
        until = time.monotonic() + timeout
        with self.news:
            while True:
                for line in self.said:
                    if line.get(key) == value:
                        return line
                if time.monotonic() > until or self.p.poll() is not None and not self.threads[0].is_alive():
                    return None
                self.news.wait(0.05)

    def signal(self, number):
        self.p.send_signal(number)

    def kill(self):
        """kill -9."""
        self.p.kill()
        self.p.wait()
        for t in self.threads:
            t.join()

    def result(self, timeout=30):
        """(exit status, last line); kills what does not end."""
        try:
            self.p.wait(timeout)
        except subprocess.TimeoutExpired:
            self.p.kill()
            self.p.wait()
        for t in self.threads:
            t.join()
        last = [line for line in self.said if line.get("what") in ("end", "left", "refused")]
        return self.p.returncode, last[-1] if last else {}


class End(Said):
    """One end of a link: link_driver with these options (blocks=100 becomes --blocks 100, crc=True --crc)."""

    def __init__(self, role, address, **options):
        command = [DRIVER, role, address]
        for key, value in options.items():
            if value is not False and value is not None:
                command += ["--" + key.replace("_", "-")] + ([] if value is True else [value])
        # Its memory is measured: under AddressSanitizer what was freed must not be kept.
        super().__init__(command, env=os.environ | {"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":quarantine_size_mb=1"})

    def rss_growth_kib(self):
        """Of the resident memory, over the last half of what it said once a second."""
        rss = [line["rss_kib"] for line in self.said if line.get("what") == "progress"][1:]
        return max(rss[len(rss) // 2:], default=0) - rss[0] if rss else 0


class Proxy(Said):
    """The proxy process (proxy.py)."""

    def __init__(self, mode, seed, *where):
        super().__init__([sys.executable, HERE / "proxy.py", mode, seed, *where], stdin=subprocess.PIPE)
        if not self.wait_for("ready", True):
            raise RuntimeError("the proxy did not start: " + self.err)

    def do(self, *words):
        """Obeys; says what it has done so far."""
        n = len(self.said)
        self.p.stdin.write(" ".join(map(str, words)) + "\n")
        self.p.stdin.flush()
        until = time.monotonic() + 10
        with self.news:
            while len(self.said) == n and time.monotonic() < until:
                self.news.wait(0.1)
        if len(self.said) == n or not self.said[-1]["known"]:
            raise RuntimeError(f"the proxy does not know: {words}")
        return self.said[-1]

    def close(self):
        """What it did in all."""
        done = self.do("report")
        self.p.stdin.close()
        self.result()
        return done


def address(transport, work=None, count=1):
    """A fresh address: a port on the loopback, or a name that is no file."""
    if transport == "tcp":
        return f"tcp://127.0.0.1:{free_port(count)}"
    name = f"gw-faults-{os.getpid()}-{next(_number)}"
    return f"ipc://{work}/{name}" if work else f"ipc://@{name}"


def trace(path):
    """What a receiver worked off, in order: dicts."""
    keys = ("ns", "sample0", "samples", "session", "seq", "flags", "reason")
    data = pathlib.Path(path).read_bytes() if os.path.exists(path) else b""
    return [dict(zip(keys, r)) for r in struct.iter_unpack("<qqQQQII", data[:len(data) // 48 * 48])]


def tiles(records):
    """None if these follow each other without hole or overlap and with contiguous numbers; else where not."""
    for a, b in zip(records, records[1:]):
        if b["sample0"] != a["sample0"] + a["samples"]:
            return f"sample {b['sample0']} after {a['sample0']} + {a['samples']}"
        if b["session"] == a["session"] and b["seq"] != a["seq"] + 1:
            return f"block {b['seq']} after {a['seq']}"
    return None


def covers(records, end, first=0):
    """The samples of [first, end) that no record covers."""
    missing, at = 0, first
    for r in sorted(records, key=lambda r: r["sample0"]):
        missing += max(0, min(r["sample0"], end) - at)
        at = max(at, r["sample0"] + r["samples"])
    return missing + max(0, end - at)


def resumed_s(path, after_ns, first=0, patience_s=20):
    """Seconds from this instant to the next block worked off, at sample `first` or later; waits for it, and says 99 when it
    does not come."""
    until = time.monotonic() + patience_s
    while True:
        for r in trace(path):
            if r["ns"] > after_ns and r["sample0"] >= first:
                return (r["ns"] - after_ns) / 1e9
        if time.monotonic() > until:
            return 99
        time.sleep(0.02)


def wind_up(sender):
    """The sender makes no more blocks, hands over those it has and ends: (exit status, last line)."""
    if sender.p.poll() is None:
        sender.signal(signal.SIGTERM)
    return sender.result()


def sound(end):
    """No wrong sample, tile, presence bit or number (a receiver's last line)."""
    return bool(end) and not any(end["wrong"].values())


def text_of(end):
    """A last line in few words."""
    if not end:
        return "nothing said"
    counts = {k: v for k, v in end["counts"].items() if v and k in ("resent", "duplicates", "malformed", "sessions")}
    wrong = {k: v for k, v in end["wrong"].items() if v}
    return f"{end['blocks']} blocks, {counts}" + (f", wrong {wrong}" if wrong else "") + \
        (f", {end['error']}: {end['detail']}" if end["error"] else "")


@contextlib.contextmanager
def nothing_left_behind(work):
    """No file in /dev/shm or the folder (where the ends run, and TMPDIR for them) but traces, no socket, no process."""

    def there():
        names = {f.path for f in os.scandir("/dev/shm") if "gw" in f.name.lower() and f.is_file()}  # a folder is another test's
        names |= {str(p) for p in pathlib.Path(work).rglob("*") if not p.name.startswith("trace")}
        with open("/proc/net/unix", encoding="ascii", errors="replace") as f:
            return names | {line.split()[-1] for line in f if f"gw-faults-{os.getpid()}-" in line}

    before = there()
    os.environ["TMPDIR"] = str(work)
    os.chdir(work)
    yield
    os.chdir("/")
    until = time.monotonic() + 2
    while (left := there() - before) and time.monotonic() < until:
        time.sleep(0.05)
    check(not left, "nothing left in /dev/shm, the folder and the list of sockets" + (": " + " ".join(sorted(left)) if left else ""))
    alive = [p for p in _alive if p.poll() is None]
    check(not alive, f"all {len(_alive)} processes have ended")


def stop(end):
    end.signal(signal.SIGSTOP)


def go_on(end):
    end.signal(signal.SIGCONT)
