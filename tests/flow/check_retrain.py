# SPDX-License-Identifier: GPL-3.0-or-later
"""Retraining: a coupling that changed at a known time is learned again by training/retrain.py from what `record`
wrote, tried as a canary and promoted within 10 minutes of data; the raw branch beside it is the same to the bit with
and without; and the loop survives what a loop meets: nothing there yet, kill -9, a full disk, a network that was
refused. Times are of the stream, so the machine's speed decides nothing."""

import contextlib
import hashlib
import io
import json
import os
import subprocess
import sys
import time

import h5py
import numpy as np

from flow import ROOT, check, finish, folder, run, skip

try:
    import onnx  # noqa: F401
    import torch  # noqa: F401
except ImportError as e:
    skip(str(e))

START, CHANGE, RATE = 1400000000, 1400000256, 512
LEARNT = CHANGE + 224  # the last second that the new network has seen
RESUME = LEARNT + 64   # so much data is given to the training itself
END = CHANGE + 512
SKY = """
sources:
  sky: {{kind: sim, seed: 9, start: {start}, duration: {seconds}s, rate: {rate}Hz, detectors: [H1], asd: design-plain,
    excess: false, lines: false, witnesses: {{rate: 128Hz, noise: 0.02,
      channels: [{{name: JITTER, band: [9Hz, 31Hz], count: 2}}],
      couplings: [{{of: JITTER, height: 1e-6}}, {couplings}]}}}}
sinks: {{disk: {{kind: record, from: sky, path: "{path}", layout: gwpy, every: 32s}}}}
"""
BEFORE = "{of: JITTER_0, resonances: [{frequency: 15Hz, q: 3}, {frequency: 24Hz, q: 4}], height: 6}"
AFTER = "{of: JITTER_1, resonances: [{frequency: 15Hz, q: 3}, {frequency: 24Hz, q: 4}], height: 6}"
CLEAN = """
sources:
  sky: {{kind: replay, files: ["{work}/sky-*.hdf5"], start: {start}, end: {end}, channels: ["H1:STRAIN"]}}
  eye: {{kind: replay, files: ["{work}/sky-*.hdf5"], start: {start}, end: {end}, channels: ["H1:JITTER_0", "H1:JITTER_1"]}}
stages:
  clean: {{kind: denoise, from: [sky.H1, eye.H1], hop: 1/8s, gate: {gate}, couplings: [{{name: jitter, model: "{work}/base.onnx"{canary}}}]}}
  white: {{kind: whiten, from: sky.H1}}
sinks:
  raw: {{kind: "null", from: white, on_full: wait}}
  keep: {{kind: record, from: [white, clean.H1_ratio, clean.H1_noise], path: "{out}", layout: gwpy, overwrite: true, on_full: wait}}
"""
SLOW = 128  # Hz, of witnesses and network
TRAINING = ROOT / "training"
sys.path.insert(0, str(TRAINING))
torch.set_num_threads(1)
import deepclean  # noqa: E402
import retrain  # noqa: E402
from cleaner import Cleaner, read_onnx, write_onnx  # noqa: E402
from witnessed import Witnessed  # noqa: E402


def once(work, *options):
    """One round of retrain.py, in this process -> exit status, what it said."""
    said = io.StringIO()
    status = None
    with contextlib.redirect_stdout(said):
        try:
            retrain.main([*common(work), "--once", *options])
        except SystemExit as e:
            status = e.code
    return status, said.getvalue().strip()


def common(work):
    return [f"{work}/sky-*.hdf5", "--model", f"{work}/base.onnx", "--canary", f"{work}/run/canary.onnx", "--window", "160", "--iterations",
            "90", "--batch", "6", "--learning-rate", "3e-3", "--nice", "0", "--every", "1"]


def first_network(work, files):
    torch.manual_seed(1)
    data = Witnessed(files, "H1:STRAIN", ["H1:JITTER_0", "H1:JITTER_1"], SLOW)
    means, scales, unit = data.x.mean(1), data.x.std(1), 1e-21
    network, comma = Cleaner(2), ",".join
    training = deepclean.Training(data, [(10, 30)], 64, means, scales, unit, 1)
    deepclean.fit(network, training, 160, 4e-3, lambda text: None, 6)
    write_onnx(network, f"{work}/base.onnx",
               {"name": "base", "strain": "H1:STRAIN", "sample_rate": SLOW, "witnesses": comma(data.names), "means": comma(map(str, means)),
                "scales": comma(map(str, scales)), "output_scale": unit, "bands": "10-30", "shift_samples": 64})


def simulate(work, start, seconds, couplings):
    with open(f"{work}/sky.yaml", "w") as f:
        f.write(SKY.format(start=start, seconds=seconds, rate=RATE, couplings=couplings, path=f"{work}/sky.hdf5"))
    status, _, err = run("run", "--quiet", f"{work}/sky.yaml")
    check(status == 0, f"simulated {seconds} s from {start} {err}")


def clean(work, start, end, canary, gate="{}"):
    """-> what the two branches gave: {channel: samples}, what was logged."""
    out = f"{work}/clean.hdf5"
    with open(f"{work}/clean.yaml", "w") as f:
        f.write(CLEAN.format(work=work, start=start, end=end, out=out, canary=canary, gate=gate))
    status, _, err = run("run", f"{work}/clean.yaml")
    check(status == 0, f"cleaned GPS {start} to {end}{' with a canary' if canary else ''} {err if status else ''}")
    with h5py.File(out) as f:
        found = {k: d[()] for k, d in f.items() if isinstance(d, h5py.Dataset)}
        return {**found, "noise from": float(f["H1:STRAIN_NOISE"].attrs["x0"])}, err


def unlike_offline(work, files, noise, first):
    """Of the 30 s before the change, rms of the difference between what the stage subtracted and what training's code
    predicts from the same recordings, relative."""
    network, metadata = read_onnx(f"{work}/base.onnx")
    data = Witnessed(files, metadata["strain"], metadata["witnesses"].split(","), SLOW, CHANGE - 64, CHANGE)
    ours = deepclean.predict(network, metadata, data)[30 * SLOW:60 * SLOW]
    at = round((CHANGE - 34 - first) * RATE)
    stage = noise[at:at + 30 * RATE:RATE // SLOW]
    return np.std(stage - ours) / np.std(ours)


def sha(path):
    with open(path, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()


def loop(work, *options):
    """The loop as a process of its own."""
    return subprocess.Popen([sys.executable, str(TRAINING / "retrain.py"), *common(work), "--poll", "0.2", *options],
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for(holds, seconds=40):
    for _ in range(int(seconds * 20)):
        if holds():
            return True
        time.sleep(0.05)
    return False


with folder() as work:
    os.mkdir(f"{work}/run")
    canary = f"{work}/run/canary.onnx"
    status, said = once(work)
    check(status == 3 and "no closed file" in said, f"no files yet: {said}")
    simulate(work, START, CHANGE - START, BEFORE)
    files = sorted(f"{work}/{n}" for n in os.listdir(work) if n.startswith("sky-"))
    first_network(work, files)
    simulate(work, CHANGE, END - CHANGE, AFTER)

    # the stage, the change, no retraining
    alone, _ = clean(work, CHANGE - 96, CHANGE + 96, "", "always")
    ratio = alone["H1:STRAIN_ASDR-jitter"]
    was, then = np.nanmean(ratio[24:90]), np.nanmean(ratio[-60:])
    apart = unlike_offline(work, files, alone["H1:STRAIN_NOISE"], alone["noise from"])
    check(apart < 2e-4, f"what the stage subtracts is what training's own code predicts, to {apart:.1e}")
    check(was < 0.85 and then > 1, f"mean ratio {was:.3f} before the coupling changed, {then:.3f} after")

    # learned again from the files up to LEARNT; the stage goes on
    later = f"{work}/later"
    os.mkdir(later)
    for name in [n for n in os.listdir(work) if n.startswith("sky-") and int(n.split("-")[1]) >= LEARNT]:
        os.rename(f"{work}/{name}", f"{later}/{name}")
    status, said = once(work)
    check(status == 0 and "offered" in said, f"retrained: {said}")
    for name in os.listdir(later):
        os.rename(f"{later}/{name}", f"{work}/{name}")
    without, _ = clean(work, RESUME, END, "")
    tried, log = clean(work, RESUME, END, f', canary: {{path: "{canary}", over: 30s, watch: 30s}}')
    verdict = json.load(open(canary + ".verdict"))
    promoted = [line for line in log.splitlines() if "promoted" in line]
    check(verdict["verdict"] == "kept" and verdict["sha256"] == sha(canary), f"the stage's verdict: {verdict}")
    check(len(promoted) == 1 and verdict["gps"] - CHANGE < 600, f"promoted, and kept {verdict['gps'] - CHANGE:.0f} s after the change: {' '.join(promoted)}")
    ratio = tried["H1:STRAIN_ASDR-jitter"]
    check(np.nanmean(ratio[-60:]) < 0.85, f"mean ratio {np.nanmean(ratio[-60:]):.3f} with it, {np.nanmean(without['H1:STRAIN_ASDR-jitter'][-60:]):.3f} without")
    raw = [x for x in tried if x == "H1:STRAIN"]
    check(len(raw) == 1 and np.array_equal(tried[raw[0]], without[raw[0]], equal_nan=True) and np.isfinite(tried[raw[0]]).any(),
          "the raw branch is the same to the bit with and without retraining")

    # the next round begins with what proved itself; it waits for a verdict, and for new data
    status, said = once(work, "--every", "1000000")
    check(status == 3 and os.path.exists(canary + ".base") and sha(canary + ".base") == sha(canary), f"kept as the base: {said}")
    os.unlink(canary + ".verdict")
    status, said = once(work)
    check(status == 3 and "no final verdict" in said, f"waits for the verdict: {said}")

    # the loop: killed in the middle of a training, started again, full disk
    os.unlink(canary)
    os.unlink(canary + ".base")
    p = loop(work, "--iterations", "100000")
    time.sleep(2.5)
    p.kill()
    p.wait()
    check(not os.path.exists(canary), "killed while it trains: no half a file")
    full = os.path.realpath("/dev/full")
    os.symlink(full, canary + ".part")
    status, said = once(work, "--iterations", "30")
    check(status == 3 and "No space left" in said and not os.path.exists(canary), f"a full disk: {said}")
    if os.path.islink(canary + ".part"):
        os.unlink(canary + ".part")
    p = loop(work, "--iterations", "30")
    there = wait_for(lambda: os.path.exists(canary))
    p.terminate()
    out = p.communicate(timeout=20)[0]
    check(there and p.returncode == 0 and "offered" in out, f"started again: goes on, and ends on SIGTERM {'' if there else out}")
    with open(canary, "wb") as f:
        f.write(b"half a file")
    status, said = once(work, "--iterations", "30")
    check(status == 0, f"half a file of somebody else's is replaced: {said}")
finish()
