# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the data: runs the gwstream program (simulate -> resample -> whiten -> record), so that what the
network learns from and what it will search are the output of the same code. Nothing is whitened here.

    windows.py --program build/gwstream --out DATA [--train 300] [--hours 4] [--injections 4000]

    DATA/train, DATA/validate  segments for train.py: noise, and apart from it the signals
    DATA/efficiency, DATA/young  segments for evaluate.py; young: signals met 9 s after the start
    DATA/background            long recordings of noise with glitches, as HDF5

Every segment is a simulation with its own seed and its own noise curve. The simulator gives noise and
signals as two channels (`parts`), which the whitener passes through the noise's filter: signals can
then be cut out and scaled. What is there already is not made again.
"""
import argparse
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile

import h5py
import numpy as np
import yaml

from batches import CROP, CROP_ARRIVAL
from network import RATE_HZ

START_GPS = 1300000000
SNR = 20.0  # of the injections; the users of the windows rescale them
SEEDS = {"train": 1, "validate": 100001, "efficiency": 200001, "young": 300001, "background": 400001}


def graph(seed, detectors, duration_s, warmup_s, glitch_rate, population, stream, journal):
    sky = {"kind": "sim", "seed": seed, "start": START_GPS, "duration": f"{duration_s}s",
           "rate": "4096Hz", "block": "1s", "pace": 0, "detectors": detectors,
           "sensitivity": np.random.default_rng(seed).uniform(0.75, 1.3, len(detectors)).round(3).tolist()}
    if glitch_rate:
        sky["glitches"] = {"rate": glitch_rate, "snr": [4, 80]}
    g = {"sources": {"sky": sky},
         "stages": {"down": {"kind": "resample", "from": "sky", "rate": f"{RATE_HZ}Hz"},
                    "white": {"kind": "whiten", "from": "down", "warmup": f"{warmup_s}s"}},
         "sinks": {"keep": {"kind": "record", "from": "white", "path": stream, "overwrite": True}}}
    if population:
        sky["population"] = population
        sky["parts"] = True
        g["stages"]["white"]["follow_first"] = True
        g["sinks"]["truth"] = {"kind": "alerts", "from": "sky", "journal": journal, "print": "none"}
    return g


def population(first_s, spacing_s, jitter_s, smallest_ratio):
    return {"spacing": f"{spacing_s}s", "jitter": f"{jitter_s}s", "mass": [5, 80], "max_mass_ratio": 8,
            "spin": 0.6, "network_snr": [SNR, SNR], "min_ratio": smallest_ratio, "first": f"{first_s}s"}


def run(program, folder, **what):
    """Runs one simulation; -> path of the recording, the injections."""
    stream, journal = os.path.join(folder, "stream.hdf5"), os.path.join(folder, "journal.sqlite")
    path = os.path.join(folder, "graph.yaml")
    with open(path, "w") as f:
        yaml.safe_dump(graph(stream=stream, journal=journal, **what), f, sort_keys=False)
    done = subprocess.run([program, "run", path], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{program} run {path}: exit status {done.returncode}\n{done.stderr}")
    truth = []
    if os.path.exists(journal):
        with sqlite3.connect(journal) as db:
            truth = [json.loads(d)
                     for d, in db.execute("SELECT detail FROM injections ORDER BY gps_ns")]
    return stream, truth


def read(path, *kinds):
    """A recording -> samples [channel][n] of the common span, GPS of the first, the whitening's text. Channels:
    those of the first kind (as STRAIN), the detectors in order, then of the next."""
    with h5py.File(path, "r") as f:
        channels = [c for kind in kinds for c in sorted(f) if c.endswith(":" + kind)]
        streams = [f[f"gwstream/white.{c[:2]}"].attrs for c in channels]
        first = [int(s["sample0"]) for s in streams]
        start, stop = max(first), min(a + len(f[c]) for a, c in zip(first, channels))
        x = np.stack([f[c][start - a:stop - a] for a, c in zip(first, channels)])
        texts = {str(s["whitening"]) for s in streams}
    if len(texts) != 1:
        raise ValueError(f"{path}: the channels were whitened differently: {texts}")
    good = np.flatnonzero(np.isfinite(x).all(0))
    if len(good) == 0 or not np.isfinite(x[:, good[0]:good[-1] + 1]).all():
        raise ValueError(f"{path}: no good samples, or a hole between them")
    x = x[:, good[0]:good[-1] + 1]
    return x, (start + good[0]) / RATE_HZ, texts.pop()


def segment(path, detectors, truth):
    """-> the arrays of one bank file: noise [2][n], signals [m][2][CROP] with their parameters."""
    x, gps, text = read(path, "STRAIN_NOISE", "STRAIN_SIGNAL")
    noise, stream = x[:2], x[2:]
    out = {k: [] for k in ("signal", "arrival", "snr", "mass", "chi", "at")}
    for t in truth:
        arrival = np.array([(t["gps"][d] - gps) * RATE_HZ for d in detectors])  # good to 1e-3 samples
        at = int(arrival.max()) - CROP_ARRIVAL
        if at < 0 or at + CROP > x.shape[1]:
            continue
        out["signal"].append(stream[:, at:at + CROP].astype(np.float16))
        out["arrival"].append(arrival - at)
        out["snr"].append([t["snr"][d] for d in detectors])
        out["mass"].append([t["mass1"], t["mass2"]])
        out["chi"].append(t["chi"])
        out["at"].append(at)
    out = {k: np.array(v) for k, v in out.items()}
    return dict(out, noise=noise.astype(np.float16), whitening=text, age_s=gps - START_GPS)


def make_segments(program, detectors, folder, first_seed, count, what):
    os.makedirs(folder, exist_ok=True)
    for seed in range(first_seed, first_seed + count):
        path = os.path.join(folder, f"{seed:06d}.npz")
        if os.path.exists(path):
            continue
        with tempfile.TemporaryDirectory() as scratch:
            stream, truth = run(program, scratch, seed=seed, detectors=detectors, **what(seed))
            np.savez(path + ".part.npz", **segment(stream, detectors, truth))
        os.replace(path + ".part.npz", path)
        if (seed - first_seed) % 20 == 19:
            print(f"{folder}: {seed - first_seed + 1} of {count}", flush=True)


def training_segment(seed):
    """72 s: ages of the PSD from 4 s to 64 s and more; glitches in every third."""
    return {"duration_s": 72, "warmup_s": 4, "glitch_rate": "1/10Hz" if seed % 3 == 0 else None,
            "population": population(6.5, 4, 0.5, 0.3)}


def efficiency_segment(_):
    """The sky as it is: no smallest ratio between the detectors; glitches as in the background."""
    return {"duration_s": 120, "warmup_s": 8, "glitch_rate": "1/30Hz",
            "population": population(64, 6, 1, 0)}


def young_segment(_):
    """One signal, about 9 s after the start."""
    return {"duration_s": 11, "warmup_s": 6, "glitch_rate": "1/30Hz", "population": population(9, 60, 0.5, 0)}


def main():
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--program", default="build/gwstream")
    options.add_argument("--out", required=True)
    options.add_argument("--detectors", default="H1,L1", help="two, in the order of the alphabet")
    options.add_argument("--train", type=int, default=300, help="segments of 72 s to train on")
    options.add_argument("--hours", type=float, default=4, help="of background")
    options.add_argument("--injections", type=int, default=4000,
                         help="for the efficiency, and as many with a young PSD")
    o = options.parse_args()
    detectors = o.detectors.split(",")
    if len(detectors) != 2 or detectors != sorted(detectors):
        options.error(f"--detectors {o.detectors}: two, in the order of the alphabet")

    def make(name, count, what):
        make_segments(o.program, detectors, os.path.join(o.out, name), SEEDS[name], count, what)

    make("validate", max(o.train // 12, 2), training_segment)
    make("train", o.train, training_segment)
    make("efficiency", -(-o.injections // 10), efficiency_segment)
    make("young", o.injections, young_segment)
    folder = os.path.join(o.out, "background")
    os.makedirs(folder, exist_ok=True)
    for k in range(max(round(o.hours * 2), 1)):
        path = os.path.join(folder, f"{k:03d}.hdf5")
        if not os.path.exists(path):
            with tempfile.TemporaryDirectory(dir=folder) as scratch:
                stream, _ = run(o.program, scratch, seed=SEEDS["background"] + k,
                                detectors=detectors, duration_s=1800,
                                warmup_s=8, glitch_rate="1/30Hz", population=None)
                shutil.move(stream, path)
            print(f"{path} made", flush=True)


if __name__ == "__main__":
    main()
