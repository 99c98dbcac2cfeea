# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps a cleaning network up with its detector, beside the running gwstream: every few minutes of data it
goes on training from the weights in use, on the newest closed files of a `record` series, and puts the result
where the stage's `canary` looks. The stage tries it beside the one in use and writes what became of it; only
then comes the next.

    retrain.py 'recordings/strain-*.hdf5' --model models/net.onnx --canary run/net.onnx --every 600 --window 1800

Nothing is kept but files, each of them replaced as a whole, so it may be killed and started again at any time:
  CANARY           the newest network; its metadata say up to which GPS it was trained
  CANARY.verdict   what the stage says of it
  CANARY.base      the last network that proved itself (verdict `kept`): the next one begins with its weights.
                   Without it, or when --model is newer, with --model's
A round that fails (no files, too little good data, a full disk) says so in one line; the next one tries again.
"""
import argparse
import glob
import hashlib
import json
import os
import re
import shutil
import signal
import sys
import time

import h5py
import numpy as np
import torch

from cleaner import read_onnx, write_onnx
from deepclean import BATCH, MAX_RATE, Training, bands_of, evaluate, fit
from witnessed import Witnessed

SERIES = re.compile(r"-(\d+)-(\d+)(\.\d+)?\.(hdf5|h5)$")
HOLD_S = 64  # the newest data are not trained on: the new network is compared with the old one there


def say(text):
    print(time.strftime("%Y-%m-%dT%H:%M:%SZ ", time.gmtime()) + text, flush=True)


def closed(path):
    """Whether `record` has finished it. A file that is being written cannot even be opened, or says 0."""
    try:
        with h5py.File(path, "r") as f:
            return bool(f["gwstream"].attrs["complete"])
    except (OSError, KeyError):
        return False


def newest(patterns, seconds):
    """Closed files of the series that reach into the last `seconds` -> (paths in time, GPS of their end)."""
    found = []
    for path in {p for pattern in patterns for p in glob.glob(pattern)}:
        m = SERIES.search(path)
        if m:
            found.append((int(m[1]), int(m[1]) + int(m[2]), path))
    found.sort(reverse=True)
    taken, end = [], None
    for first, last, path in found:
        if end is not None and last <= end - seconds:
            break
        if closed(path):
            taken.append(path)
            end = last if end is None else max(end, last)
    return taken[::-1], end


def digest(path):
    with open(path, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()


def copy(path, to):
    shutil.copyfile(path, to + ".part")
    os.replace(to + ".part", to)


class Round:
    """What the files say of where we are."""

    def __init__(self, o):
        self.until, self.pending, self.verdict = None, False, None
        self.base = o.model
        kept = o.canary + ".base"
        if os.path.exists(o.canary):
            try:
                self.until = float(read_onnx(o.canary)[1].get("trained_until", "nan"))
                self.until = None if np.isnan(self.until) else self.until
            except ValueError as e:
                say(f"{e}; it will be replaced")
            else:
                said = self.read_verdict(o.canary)
                self.pending = not said.get("final", False)
                self.verdict = said.get("verdict")
                if self.verdict == "kept" and not (os.path.exists(kept) and digest(kept) == digest(o.canary)):
                    copy(o.canary, kept)
                    say(f"{o.canary} is in use: the next one begins with it")
        if os.path.exists(kept) and os.path.getmtime(kept) > os.path.getmtime(o.model):
            self.base = kept

    @staticmethod
    def read_verdict(canary):
        """Of this very file; {}: none yet."""
        try:
            with open(canary + ".verdict") as f:
                said = json.load(f)
            return said if said.get("sha256") == digest(canary) else {}
        except (OSError, ValueError):
            return {}


def mean_ratio(figures, bands):
    return float(np.mean([figures[f"{a:g}-{b:g}"]["mean"] for a, b in bands]))


def train(o, base, files, end, stop):
    """-> whether a network was put in the canary's place."""
    network, metadata = read_onnx(base)
    bands, rate = bands_of(metadata["bands"]), float(metadata["sample_rate"])
    names = metadata["witnesses"].split(",")
    whole = Witnessed(files, o.strain or metadata["strain"], names, rate, end - o.window, end)
    good = whole.good.mean() * whole.seconds
    if good < 0.5 * o.window:
        say(f"{good:.0f} s of {o.window:.0f} s to GPS {end} are good: waiting for more")
        return False
    hold = min(HOLD_S, whole.seconds // 4)
    old, last = read_onnx(base)[0], whole.part(whole.seconds - hold, whole.seconds)
    means, scales = (np.array([float(v) for v in metadata[k].split(",")]) for k in ("means", "scales"))
    training = Training(whole.part(0, whole.seconds - hold), bands, int(metadata["shift_samples"]), means, scales,
                        float(metadata["output_scale"]), int(end))
    began = time.monotonic()
    fit(network, training, o.iterations, o.learning_rate, lambda text: None, o.batch, stop)
    if stop():
        return False
    was, now = (mean_ratio(evaluate(n, metadata, last)[0], bands) for n in (old, network))
    told = (f"{o.iterations} iterations in {time.monotonic() - began:.0f} s on {whole.seconds - hold} s to GPS "
            f"{end - hold}: mean ratio {now:.3f} in the {hold} s after, {was:.3f} with {os.path.basename(base)}")
    if not now < was:
        say(told + ": not offered")
        return False
    metadata["trained_until"] = f"{end:.0f}"
    sha = write_onnx(network, o.canary, metadata)
    say(f"{told}: offered as {o.canary} ({sha[:16]})")
    return True


def main(arguments=None):
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("files", nargs="+", help="patterns of a series that `record` writes (every: ...)")
    options.add_argument("--model", required=True, help="the coupling's `model`")
    options.add_argument("--canary", required=True, help="the coupling's `canary: {path: ...}`")
    options.add_argument("--every", type=float, default=600, help="s of data between two networks")
    options.add_argument("--window", type=float, default=1800, help="s of data to train on, the newest")
    options.add_argument("--patience", type=float, default=1800, help="s of data to wait for a verdict")
    options.add_argument("--iterations", type=int, default=200)
    options.add_argument("--batch", type=int, default=BATCH, help="crops of 8 s an iteration")
    options.add_argument("--learning-rate", type=float, default=MAX_RATE / 4)
    options.add_argument("--strain", help="channel, where it is not the model's")
    options.add_argument("--nice", type=int, default=19, help="the stream comes first")
    options.add_argument("--poll", type=float, default=5, help="s between two looks")
    options.add_argument("--once", action="store_true", help="one round; exit status 3 when nothing was offered")
    o = options.parse_args(arguments)
    os.nice(o.nice)
    torch.set_num_threads(1)
    stopped = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.append(1))
    tried = last_error = None  # GPS up to which this process has tried
    while not stopped:
        offered = False
        try:
            now = Round(o)
            files, end = newest(o.files, o.window)
            until = max((u for u in (now.until, tried) if u is not None), default=None)
            if end is None:
                raise ValueError(f"no closed file like {' '.join(o.files)} yet")
            waits = now.pending and end < now.until + o.patience if now.until is not None else False
            if waits:
                if o.once:
                    say(f"{o.canary} has no final verdict yet")
            elif until is None or end >= until + o.every:
                if now.pending and now.until is not None:
                    say(f"{o.canary} has had no final verdict for {o.patience:.0f} s of data: going on")
                tried = end
                offered = train(o, now.base, files, end, lambda: bool(stopped))
            last_error = None
        except (ValueError, OSError, KeyError) as e:
            if str(e) != last_error:
                say(str(e))
            last_error = str(e)
        if o.once:
            sys.exit(0 if offered else 3)
        for _ in range(int(max(o.poll * 10, 1))):
            if not stopped:
                time.sleep(0.1)


if __name__ == "__main__":
    main()
