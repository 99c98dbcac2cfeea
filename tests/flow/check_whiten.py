#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stages resample and whiten against the same formulas written with numpy and scipy in double.

usage: check_whiten.py PATH/TO/whiten_driver [-v]
Nothing is taken from the program but its output: resampling filter, PSD, filter design, gain and cross-fade are
computed in whitening.py, one-shot over the whole recording. Exit 0 all hold, 1 something does not, 77 nothing was compared.
Real recordings are looked for in GWSTREAM_DATA or ../shared/data beside the source tree.
"""
import os
import sys

import numpy as np
from scipy import signal

from whitening import (FS, HIGHPASS, LOWPASS, TAPS, asd, coloured, finish, in_band, recordings, resample_by_scipy, run, say,
                       whiten)

def difference(driver, x, start, what, bound, white="{}", linear=False):
    first, y, _, _ = run(driver, x, sample0=start, white=white)
    want, _ = whiten(x, start, linear=linear)
    y = y[0]
    want = want[first + (TAPS // 2 if linear else 0) - start:][:len(y)]
    rel = np.sqrt(np.mean((y - want) ** 2) / np.mean(want ** 2))
    say(rel <= bound and len(y) > 16 * FS, f"{what}: rms(difference)/rms(output) {rel:.1e} <= {bound:.0e} "
        f"over {len(y) / FS:.2f} s")
    return y


# -- the checks -----------------------------------------------------------------------------------------

def check_formula(driver):
    rng = np.random.default_rng(1)
    start = 1126259446 * FS
    difference(driver, 3e-22 * rng.standard_normal(96 * FS), start, "white noise, minimum phase", 1e-6)
    difference(driver, rng.standard_normal(40 * FS), start + 777, "white noise, start off the grid", 1e-6)
    difference(driver, rng.standard_normal(40 * FS), start, "white noise, linear phase", 1e-6, "{phase: linear}", True)
    x = coloured(rng, 64 * FS, asd) - 1e-18
    difference(driver, x, start, "coloured noise on an offset of -1e-18", 3e-6)
    x = x[:40 * FS]
    t = np.arange(len(x)) / FS
    for hz, strength in ((35.3, 1e-21), (60.02, 3e-21), (333.1, 3e-22), (508.6, 1e-20)):
        x += strength * np.cos(2 * np.pi * hz * t)
    difference(driver, x, start, "... with lines", 3e-6)


def check_start(driver):
    """A recording that opens with a step (0 to -1e-18) at a whole second is silent for 8 s, then quiet."""
    rng = np.random.default_rng(2)
    x = coloured(rng, 30 * FS, asd) - 1e-18
    start = 1187008866 * FS
    first, y, _, _ = run(driver, x, sample0=start)
    say(first == start + 8 * FS, f"output begins {(first - start) / FS:.4f} s after the first sample: 8 s")
    peak, early = np.abs(y).max(), y[0, :FS].std() / in_band()
    say(peak < 6.5 and abs(early - 1) < 0.08, f"first second after the warm-up: standard deviation {early:.3f} of "
        f"the expected, loudest sample of all {peak:.1f} sigma")


def check_blocks(driver):
    rng = np.random.default_rng(3)
    x = [coloured(rng, 24 * 8 * FS // 8, asd), coloured(rng, 24 * FS, asd)]
    start = 1000000000 * FS
    first, y, _, _ = run(driver, x, sample0=start, block=128)
    for block in (32, 512, 2048, 333, 8192):
        f, z, _, _ = run(driver, x, sample0=start, block=block)
        same = f == first and np.array_equal(y[:, :z.shape[1]], z) and z.shape[1] > 15 * FS
        say(same, f"blocks of {block} samples: the same bits as blocks of 128")
    x = rng.standard_normal(12 * 16384) - 1000
    first, y, _, _ = run(driver, x, rate=16384, sample0=5 * 16384, block=1024, down=True)
    for block in (256, 4096, 16384, 1000):
        f, z, _, _ = run(driver, x, rate=16384, sample0=5 * 16384, block=block, down=True)
        say(f == first and np.array_equal(y, z), f"from 16384 Hz in blocks of {block}: the same bits as of 1024")


def check_flat(driver):
    """The whitened PSD is 2 / fs in every 16 Hz band. Ten minutes tell the power of such a band to 1 %, and there are
    more than 50 bands, so four independent streams are averaged; each alone is printed beside."""
    rng = np.random.default_rng(4)
    x = [coloured(rng, 610 * FS, asd) for _ in range(4)]
    _, y, _, _ = run(driver, x, block=2048)
    f, p = signal.welch(y, FS, "hann", 4 * FS, 2 * FS)
    band = lambda v: v[..., :-1].reshape(*v.shape[:-1], -1, 64).mean(axis=-1)
    centre = band(f)
    each = band(p * FS / 2)[:, (centre - 8 >= HIGHPASS[1]) & (centre + 8 <= LOWPASS[0])]
    mean = each.mean(axis=0)
    worst = lambda v: 100 * np.abs(v - 1).max()
    say(worst(mean) < 2, f"4 x {y.shape[1] / FS:.0f} s whitened: PSD / (2/fs) of {len(mean)} bands of 16 Hz within "
        f"{worst(mean):.2f} % <= 2 % (one stream: {min(map(worst, each)):.2f} to {max(map(worst, each)):.2f} %; all "
        f"bands: {each.mean():.4f})")
    s = np.std(y) / in_band()
    say(abs(s - 1) < 0.01, f"standard deviation {s:.4f} of the expected")


def check_speed(driver):
    rng = np.random.default_rng(5)
    x = [coloured(rng, 64 * FS, asd) for _ in range(2)]
    cpu = min(run(driver, x, block=128)[3] for _ in range(2))
    if any(word in open(driver, "rb").read() for word in (b"__asan_init", b"__tsan_init")):
        print(f"skip speed: {64 / cpu:.0f} times real time in a build with sanitizers")
        return
    say(64 / cpu >= 100, f"2 channels of 2048 Hz: {64 / cpu:.0f} times real time in one thread, >= 100")


def check_resample(driver):
    """The filter's promises, by its frequency response; scipy designs it anew."""
    for factor in (2, 8):
        h = signal.firwin(2 * 19 * factor + 1, 0.982 / factor, window=("kaiser", 8.0))
        w, r = signal.freqz(h, worN=1 << 15)
        f, db = w / np.pi * factor, 20 * np.log10(np.abs(r) + 1e-30)
        ripple, stop = np.abs(db[f <= 0.88]).max(), db[f >= 1.12].max()
        say(ripple < 0.1 and stop < -80, f"resample by {factor}: flat to {ripple:.3f} dB up to 0.88 of Nyquist, "
            f"what folds into that band {stop:.1f} dB")


def check_real(driver):
    for name, x, rate, gps in recordings():
        factor = rate // FS
        first, y, text, _ = run(driver, x, rate=rate, sample0=gps * rate, block=rate // 16, down=True)
        y = y[0]
        say(text == "v2 minimum-phase 2048Hz 1s highpass=20-30Hz lowpass=0.88-0.95 psd=median,2s,64s,smooth=4Hz", name + ": " + text)
        say(first == (gps + 8) * FS, f"{name}: output begins 8 s after the first sample")
        low = resample_by_scipy(x, factor)
        want, _ = whiten(low, gps * FS + 19)
        want = want[first - gps * FS - 19:][:len(y)]
        rel = np.sqrt(np.mean((y - want) ** 2) / np.mean(want ** 2))
        say(rel <= 3e-4, f"{name}: resampled and whitened against scipy in double: {rel:.1e} <= 3e-4")
        # Without the seconds of the signal, which is not noise.
        event = 1126259462.4
        quiet = np.abs(first / FS + np.arange(len(y)) / FS - event) > 1
        s = y[quiet].std() / in_band()
        each = [v.std() / in_band() for v in np.array_split(y, len(y) // FS)]
        say(0.98 <= s <= 1.05, f"{name}: standard deviation {s:.3f} of the expected (0.98 to 1.05), by second "
            f"{min(each):.3f} to {max(each):.3f}")


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    driver = os.path.abspath(sys.argv[1])
    for check in (check_resample, check_formula, check_start, check_blocks, check_flat, check_speed, check_real):
        check(driver)
    finish()


main()
