# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs every node of a graph as a process of its own and reads what its `null` sink says at the end. Used by
critical_rate.py and soak.py."""

import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

import yaml

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests" / "long"))
from result import PROGRAM, ROOT  # noqa: E402

REPORT = re.compile(r"(\d+) blocks, (\d+) samples, (\d+) bytes, (\d+) gaps of (\d+) samples, (\d+) absent, checksum "
                    r"(\w+)(?:, age in ms: p50 ([\d.]+) p99 ([\d.]+) p99.9 ([\d.]+) max ([\d.]+))?")


class Pair:
    """The processes of a graph. `words` are put in place of what the template names in capitals."""

    def __init__(self, template, **words):
        text = pathlib.Path(template).read_text()
        for name, value in words.items():
            text = text.replace(name, str(value))
        self.folder = tempfile.TemporaryDirectory(prefix="gwstream-")
        path = f"{self.folder.name}/graph.yaml"
        pathlib.Path(path).write_text(text)
        env = {**os.environ, "GWSTREAM_RUN": f"bench-{os.getpid()}-{time.monotonic_ns()}"}
        self.process, self.said, self.cpu_s, self.status = {}, {}, {}, {}
        for node in list(yaml.safe_load(text).get("nodes", {})) or [None]:
            self.said[node] = f"{self.folder.name}/{node}.log"
            self.process[node] = subprocess.Popen(
                [PROGRAM, "run", path, *(["--node", node] if node else [])], env=env, cwd=ROOT,
                stderr=open(self.said[node], "w"))

    def running(self):
        """The nodes whose process has not ended; notes status and CPU time of those that have."""
        for node, p in self.process.items():
            if node not in self.status:
                pid, status, usage = os.wait4(p.pid, os.WNOHANG)
                if pid:
                    p.returncode = self.status[node] = os.waitstatus_to_exitcode(status)
                    self.cpu_s[node] = usage.ru_utime + usage.ru_stime
        return [node for node in self.process if node not in self.status]

    def wait(self, timeout_s):
        """Waits for all of them: true when each ended well by itself."""
        end = time.monotonic() + timeout_s
        while self.running() and time.monotonic() < end:
            if any(self.status.values()):
                end = min(end, time.monotonic() + 5)  # one has failed: the other has little to wait for
            time.sleep(0.02)
        for node in self.running():
            self.process[node].kill()
            self.process[node].wait()
            self.status[node] = "did not end"
        return not any(self.status.values())

    def log(self, node):
        return pathlib.Path(self.said[node]).read_text()

    def complaint(self):
        """The last lines of whoever ended badly."""
        return " | ".join(f"{n}: {self.status[n]}: {' '.join(self.log(n).splitlines()[-2:])}" for n in self.process
                          if self.status.get(n))

    def report(self):
        """What the graph's null sinks said, added up (ages: the worst)."""
        total = None
        for node in self.process:
            for m in REPORT.finditer(self.log(node)):
                keys = ("blocks", "samples", "bytes", "gaps", "gap_samples", "absent")
                one = {k: int(v) for k, v in zip(keys, m.groups())}
                one.update({k: float(v or 0) for k, v in zip(("p50_ms", "p99_ms", "p999_ms", "max_ms"), m.groups()[7:])})
                if total is None:
                    total = one
                else:
                    total = {k: total[k] + v if k in keys else max(total[k], v) for k, v in one.items()}
        return total

    def close(self):
        for node in self.running():
            self.process[node].kill()
            self.process[node].wait()
        self.folder.cleanup()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
