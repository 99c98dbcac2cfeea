# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes a measurement to benchmarks/results/ as JSON, with the commit and the machine it belongs to."""

import datetime
import json
import os
import pathlib
import platform
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "flow"))
from flow import PROGRAM, ROOT  # noqa: E402


def processor():
    for line in open("/proc/cpuinfo"):
        if line.startswith("model name"):
            return line.split(":")[1].strip()
    return platform.machine()


def libraries():
    """What the program says it stands on."""
    said = subprocess.run([PROGRAM, "version"], stdout=subprocess.PIPE, text=True).stdout
    return [line for line in said.splitlines() if line]


def calm(below=1.5, patience_s=600):
    """Waits until the machine has little else to do; says what its load is."""
    for _ in range(patience_s):
        if os.getloadavg()[0] < below:
            break
        time.sleep(1)
    return round(os.getloadavg()[0], 2)


def save(name, **figures):
    git = lambda *a: subprocess.run(["git", *a], cwd=ROOT, stdout=subprocess.PIPE, text=True).stdout.strip()  # noqa: E731
    out = {"measured": name, "date": datetime.date.today().isoformat(), "commit": git("rev-parse", "HEAD"),
           "changed_since_commit": bool(git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!benchmarks/results")),
           "machine": {"processor": processor(), "cores": os.cpu_count()},
           "libraries": libraries(), **figures}
    path = ROOT / "benchmarks" / "results" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(out, indent=2) + "\n")
    print(json.dumps(out, indent=2))
    print("written to", path.relative_to(ROOT))
