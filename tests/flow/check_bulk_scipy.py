#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""The bulk whitening kernel (single precision, in partitions) against scipy in double: convolution, decimation, Welch.

usage: check_bulk_scipy.py PATH/TO/bulk_driver
Exit 0 all hold, 1 something does not. Real recordings are looked for in GWSTREAM_DATA or ../shared/data beside the source
tree; without them that part says that it was skipped.
"""
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
from scipy import signal

RATE = 16384
failed = 0


def say(holds, text):
    global failed
    failed += not holds
    print(("ok   " if holds else "FAIL ") + text, flush=True)


def run(x, taps, hop, rate=RATE, decimate=1, segment=0, pool=1, median_of=0, memory=1, half=0, scale=1.0, level="cpu"):
    """-> (y, PSD, segments in it, layout)"""
    with tempfile.TemporaryDirectory() as folder:
        np.asarray(x, "f4").tofile(folder + "/x")
        np.asarray(taps, "f8").tofile(folder + "/taps")
        words = [sys.argv[1], level, folder + "/x", folder + "/taps", folder + "/y", rate, hop, len(taps), decimate,
                 segment, pool, median_of, memory, half, scale]
        said = subprocess.run([str(w) for w in words], check=True, capture_output=True, text=True).stdout.split(" ", 2)
        out = np.fromfile(folder + "/y", "f4").astype("f8")
    bins = int(said[1])
    return out[:len(out) - bins], out[len(out) - bins:], int(said[0]), said[2].strip()


def rms(v):
    return np.sqrt(np.mean(np.square(v)))


def check_white(rng):
    """White noise through filters of 1/4 to 2 s in hops of 1/16 to 1 s: what the partitions are must not show."""
    x = rng.standard_normal(6 * RATE).astype("f4")
    for length in (RATE // 4, RATE // 2, RATE, 2 * RATE, 3000):
        taps = rng.standard_normal(length) * np.exp(-6 * np.arange(length) / length)
        want = signal.oaconvolve(x.astype("f8"), taps)[:len(x)]
        for hop in (RATE // 16, RATE // 4, RATE, 1536):
            y, _, _, layout = run(x, taps, hop)
            error = rms(y - want[:len(y)]) / rms(want)
            say(error <= 1e-6, f"{length} taps, hop {hop} ({layout}): rms error {error:.1e} <= 1e-6 of the output")
        y = run(x, taps, RATE // 4, half=1)[0]
        error = rms(y - want[:len(y)]) / rms(want)
        say(error <= 3e-4, f"{length} taps in half precision: rms error {error:.1e} <= 3e-4 of the output")
    y = run(x[:8192], taps, 512, level="ref")[0]
    error = rms(y - want[:8192]) / rms(want[:8192])
    say(error <= 1e-7, f"the reference: rms error {error:.1e} <= 1e-7 (its output is float32)")


def check_decimation(rng):
    x = rng.standard_normal(4 * RATE).astype("f4")
    for factor in (2, 4, 8):
        taps = signal.firwin(RATE // 2, 0.85 / factor, window=("kaiser", 15.0))
        want = signal.oaconvolve(x.astype("f8"), taps)[:len(x):factor]
        for hop in (RATE // 16, RATE):
            y, _, _, layout = run(x, taps, hop, decimate=factor)
            error = rms(y - want[:len(y)]) / rms(want)
            say(error <= 1e-6, f"decimated by {factor}, hop {hop} ({layout}): rms error {error:.1e} <= 1e-6")


def apart(psd, want):
    error = np.abs(psd / want - 1)
    return f"{rms(error):.1e} <= 1e-6 (rms over the bins), {error.max():.1e} <= 2e-5 (worst) from"


def near(psd, want):
    error = np.abs(psd / want - 1)
    return rms(error) <= 1e-6 and error.max() <= 2e-5


def check_psd(rng):
    """Mean and median, of the whitening transform's own spectrum and of others. Samples lie on a constant and a slow wave,
    which leak if mean or window are wrong. (A median is one segment's power: single precision gives that of an unlucky bin
    to 1e-5.)"""
    n = 24 * RATE
    x = (rng.standard_normal(n) + 1 + 0.1 * np.sin(2 * np.pi * 1.37 * np.arange(n) / RATE)).astype("f4")
    taps = np.r_[1.0, np.zeros(RATE - 1)]
    for hop, segment, kind in ((RATE, 2 * RATE, "its own spectrum"), (RATE, RATE // 2, "many in a hop"),
                               (RATE // 4, 2 * RATE, "a transform apart"), (RATE // 4, RATE // 2, "a partition's"),
                               (RATE // 16, RATE // 2, "a later partition's")):
        count = 2 * n // segment - 1
        _, psd, segments, layout = run(x, taps, hop, segment=segment, memory=count)
        _, want = signal.welch(x.astype("f8"), RATE, "hann", segment, segment // 2, detrend="constant")
        say(segments == count and near(psd, want),
            f"mean of {segments} segments of {segment}, hop {hop}, {kind}: {apart(psd, want)} scipy's welch")
        odd = (2 * n // segment - 1 - 1) // 2 * 2 + 1
        odd = min(odd, 63)
        z = x[:(odd + 1) * segment // 2]
        _, psd, segments, _ = run(z, taps, hop, segment=segment, median_of=odd)
        _, want = signal.welch(z.astype("f8"), RATE, "hann", segment, segment // 2, detrend="constant", average="median")
        say(segments == odd and near(psd, want),
            f"median of {segments} segments of {segment}, hop {hop}, {kind}: {apart(psd, want)} scipy's welch")
    _, psd, segments, _ = run(x, taps, RATE, segment=2 * RATE, memory=23, pool=8)
    _, want = signal.welch(x.astype("f8"), RATE, "hann", 2 * RATE, RATE, detrend="constant")
    error = np.abs(psd[:-1] / want[:-1].reshape(-1, 8).mean(axis=1) - 1).max()
    say(len(psd) == RATE // 8 + 1 and error <= 1e-6, f"eight bins pooled: within {error:.1e} <= 1e-6")


def check_pooled_median(rng):
    """The bias of a median of pooled powers: on average the PSD of white noise is what it is, 2 / rate."""
    x = rng.standard_normal(127 * 1024).astype("f4")
    for pool, median_of in ((1, 7), (4, 7), (8, 3), (16, 31)):
        values = [run(x[i * 64:], [1.0], 1024, segment=2048, pool=pool, median_of=median_of, memory=1000)[1][2:-1]
                  for i in range(4)]
        mean = np.mean(values) * RATE / 2
        say(abs(mean - 1) < 0.015, f"median of {median_of}, {pool} bins pooled: white noise has {mean:.4f} of its power")


def check_tiny(rng):
    """Samples of 1e-21, brought near 1 by the scale: the same bits, and the PSD that belongs to them."""
    x, taps = rng.standard_normal(4 * RATE).astype("f4"), rng.standard_normal(RATE)
    a = run(x, taps, RATE // 4, segment=RATE // 2, memory=9)
    b = run(x * np.float32(2.0**-70), taps, RATE // 4, segment=RATE // 2, memory=9, scale=2.0**70)
    say(np.array_equal(a[0], b[0]) and np.array_equal(a[1], b[1]), "samples of 1e-21: the same bits as of 1")


def check_real():
    import h5py
    data = pathlib.Path(os.environ.get("GWSTREAM_DATA", pathlib.Path(__file__).resolve().parents[2] / ".." / "shared" / "data"))
    files = sorted(data.glob("**/*16KHZ*.hdf5")) or sorted(data.glob("**/*.hdf5"))
    if not files:
        print("skip real strain: no recordings (GWSTREAM_DATA)")
        return
    with h5py.File(files[0]) as f:
        strain = f["strain/Strain"]
        rate = round(1 / strain.attrs["Xspacing"])
        x = strain[:rate * 32].astype("f8")
    x = x[np.isfinite(x).argmax():]
    high = signal.sosfilt(signal.butter(8, 15, "highpass", fs=rate, output="sos"), x)[4 * rate:]
    high = high[:len(high) // rate * rate]
    f, psd = signal.welch(high, rate, "hann", 2 * rate, rate, average="median")
    rise = np.clip((f - 20) / 10, 0, 1) ** 2 * (1 - np.clip((f / (rate / 2) - 0.88) / 0.07, 0, 1) ** 2)
    taps = np.roll(np.fft.irfft(rise / np.sqrt(psd)), rate // 2)[:rate] * np.hanning(rate)
    want = signal.oaconvolve(high, taps)[:len(high)]
    taps /= rms(want)
    want /= rms(want)
    for hop in (rate // 16, rate):
        y = run(high, taps * 2.0**-70, hop, rate=rate, scale=2.0**70)[0]
        error = rms(y[rate:] - want[rate:]) / rms(want[rate:])
        say(error <= 3e-4, f"{files[0].name}, high-passed in double, hop {hop}: rms error {error:.1e} <= 3e-4")


generator = np.random.default_rng(150914)
check_white(generator)
check_decimation(generator)
check_psd(generator)
check_pooled_median(generator)
check_tiny(generator)
check_real()
sys.exit(1 if failed else 0)
