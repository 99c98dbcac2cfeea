# SPDX-License-Identifier: GPL-3.0-or-later
"""A disk that is full for a while (RLIMIT_FSIZE, lifted in mid-run) under a wide recording: said when it happens and
when it is over, recorded again within 2 s, the files tell what they lack, what they hold is right, and whoever else
takes the stream misses nothing."""

import pathlib
import re
import resource
import signal
import subprocess
import time

from faults import PROGRAM, check, finish, folder, run, skip

try:
    import h5py
    import numpy as np
except ImportError:
    skip("python3-h5py is not installed")

RATE, SECONDS, START, GAP = 4096, 12, 1400000000, 1
GRAPH = """
sources:
  wide: {{kind: repeat, channels: 256, rate: {rate}Hz, block: 1/16s, start: {start}, duration: {seconds}s, pace: {pace}}}
sinks:
  keep: {{kind: record, from: wide, path: "{work}/{name}/keep.hdf5", layout: wide, every: 2s, flush: 250ms, on_full: wait}}
  eye: {{kind: "null", from: wide, on_full: wait}}
"""


def graph(work, name, pace):
    (pathlib.Path(work) / name).mkdir()
    path = f"{work}/{name}.yaml"
    with open(path, "w", encoding="ascii") as f:
        f.write(GRAPH.format(work=work, name=name, pace=pace, rate=RATE, seconds=SECONDS, start=START))
    return path


def recorded(work, name):
    """{first sample: [channel][sample]} of what the files say they hold, and the number of files."""
    pieces, files = {}, sorted((pathlib.Path(work) / name).glob("*"))
    for path in files:
        first = int(re.search(r"-(\d+)-\d+(?:\.\d+)?\.hdf5$", path.name).group(1)) * RATE
        with h5py.File(path) as f:
            samples = f["wide/samples"][:]
            for row in f["gwstream/wide/dq"][:]:
                if not row["flags"] & GAP:
                    at = int(row["sample0"]) - first
                    pieces[int(row["sample0"])] = samples[:, at:at + int(row["n_samples"])]
    return pieces, len(files)


def eye_of(err):
    return re.search(r"stage=eye (\d+ blocks, \d+ samples, \d+ bytes, \d+ gaps of \d+ samples, \d+ absent, checksum \w+)", err).group(1)


with folder() as work:
    status, _, err = run("run", graph(work, "reference", 0))
    check(status == 0, "a disk with room " + (err if status else ""))
    want_eye = eye_of(err)
    pieces, _ = recorded(work, "reference")
    whole = np.concatenate([pieces[at] for at in sorted(pieces)], axis=1)
    check(whole.shape == (256, SECONDS * RATE), f"holds {whole.shape[1]} samples of {whole.shape[0]} channels")

    def prepare():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (3 << 20, resource.RLIM_INFINITY))

    began = time.monotonic()
    p = subprocess.Popen([PROGRAM, "run", graph(work, "full", 2)], stderr=subprocess.PIPE, text=True, preexec_fn=prepare)
    err = ""
    while "File too large" not in err and (line := p.stderr.readline()):
        err += line
    time.sleep(1)
    resource.prlimit(p.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    lifted = time.monotonic() - began
    err += p.stderr.read()
    p.wait()
    said = [line for line in err.splitlines() if "stage=keep" in line]
    check(p.returncode == 1 and "lost" in err.splitlines()[-1], f"exit {p.returncode}: {err.splitlines()[-1]}")
    check(any("File too large" in line for line in said) and len(said) <= 6 and "HDF5-DIAG" not in err,
          f"said in {len(said)} lines: {said[0] if said else err[-300:]}")
    check(any("again" in line for line in said), "and when it was over: " + next((line for line in said if "again" in line), "not"))
    check(eye_of(err) == want_eye, f"the other sink took all of it: {eye_of(err)}")

    pieces, files = recorded(work, "full")
    held = sum(x.shape[1] for x in pieces.values())
    lost = int(re.search(r"(\d+) samples a channel are lost", err).group(1))
    check(held + lost == SECONDS * RATE, f"{held} samples are in {files} files, {lost} are said to be lost, of {SECONDS * RATE}")
    right = all(np.array_equal(x, whole[:, at - START * RATE:at - START * RATE + x.shape[1]]) for at, x in pieces.items())
    check(right and held > 0, "every sample that a file says it holds is the right one")
    last = max(pieces, default=0)
    tail = last + pieces[last].shape[1] == (START + SECONDS) * RATE if pieces else False
    again = [at for at in pieces if at / RATE - START > 2 * lifted]
    check(tail and again and min(again) / RATE - START <= 2 * (lifted + 2), "recorded again from "
          f"{min(again, default=0) / RATE - START:.2f} s of data on, to the end; there was room from {2 * lifted:.2f} s on")
finish()
