# SPDX-License-Identifier: GPL-3.0-or-later
"""What the end-to-end tests share: run the program, read its events, count checks."""

import atexit
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(os.environ.get("GWSTREAM_ROOT", pathlib.Path(__file__).resolve().parents[2]))
PROGRAM = os.environ.get("GWSTREAM", str(ROOT / "build" / "gwstream"))
DATA = pathlib.Path(os.environ.get("GWSTREAM_DATA", ROOT.parent / "shared" / "data")) / "gwosc"
MODEL = os.environ.get("GWSTREAM_MODEL", str(ROOT / "models" / "bbh-small.onnx"))

failures = 0


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
        for pid in task.read_text().split():
            os.kill(int(pid), signal.SIGKILL)


def run(*args, timeout=55, cwd=None):
    """The program with these arguments: (exit status, stdout, stderr)."""
    p = subprocess.run([PROGRAM, *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                       timeout=timeout, cwd=cwd or ROOT)
    return p.returncode, p.stdout, p.stderr


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
