#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the filter of whiten does to real strain and to signals: its magnitude, what is left at 8 s of PSD age, the
moment of an update, the time of a signal, and channels that break.

usage: check_whiten_filter.py PATH/TO/whiten_driver
The filter itself comes out of the program: a second channel that holds one impulse follows the first. Exit 0 all hold,
1 something does not. Real recordings as in check_whiten.py; without them only the simulated noise is used.
"""
import os
import sys

import numpy as np
from scipy import ndimage, signal

from whitening import (FADE, FS, GRID, HIGHPASS, LOWPASS, TAPS, TICK, asd, coloured, data_folder, design, finish, in_band,
                       ramps, recordings, resample_by_scipy, run, say, smooth, whiten)

EVENT = 1126259462.4


def quiet(first, n):
    """Without the second around the signal, which is not noise."""
    return np.abs((first + np.arange(n)) / FS - EVENT) > 1


def taps_of(driver, x, start, at, white=""):
    """The program's filter in force at sample `at` of x, from its answer to an impulse there."""
    impulse = np.zeros(len(x))
    impulse[at] = 1e-21  # a few sigma
    first, y, _, _ = run(driver, [x, impulse], sample0=start, white="{follow_first: true%s}" % white)
    n = start + at - first
    return y[1, n:n + TAPS] / impulse[at]


def check_magnitude(driver):
    """Against 1 / sqrt(PSD) of the PSD that scipy makes from the same samples."""
    for name, x, rate, gps in recordings():
        if rate != 4096:
            continue
        x = resample_by_scipy(x, rate // FS)
        start, k = gps * FS + 19, gps + 24
        h = taps_of(driver, x, start, k * FS + FADE + 100 - start)
        past = x[(gps + 1) * FS - start:k * FS - start]
        _, psd = signal.welch(past, FS, "hann", 2 * FS, FS, detrend="constant", average="median")
        n = len(past) // TICK - 1
        s = smooth(psd, n)
        f = np.arange(len(s)) * 0.5
        target = ramps(f) * np.sqrt(2 / FS / s)
        got = np.abs(np.fft.rfft(h, 2 * FS))
        level = np.log(s)
        line = ndimage.binary_dilation(level > ndimage.median_filter(level, 33) + 4 / np.sqrt(n), np.ones(9))
        free = ~line & (f >= HIGHPASS[1]) & (f <= LOWPASS[0])
        off = np.abs(got[free] / target[free] - 1)
        say(np.median(off) <= 0.03 and np.quantile(off, 0.9) <= 0.08, f"{name}: |H| against its target in {free.sum()} "
            f"bins without lines: median {100 * np.median(off):.2f} % <= 3 %, 90 % within {100 * np.quantile(off, .9):.2f} "
            "% <= 8 %")


def check_young(driver):
    """A PSD of 8 s for ever, on real recordings: as loud as it should be, and not in the wrong places."""
    for name, x, rate, gps in recordings():
        first, y, _, _ = run(driver, x, rate=rate, sample0=gps * rate, block=rate // 16, down=True,
                             white="{psd: {memory: 8s}}")
        y = y[0]
        y = y[quiet(first, len(y))]
        f, p = signal.welch(y, FS, "hann", 2 * FS, average="mean")
        share = lambda lo, hi: 100 * p[(f >= lo) & (f < hi)].sum() / p.sum()
        s = y.std() / in_band()
        say(abs(s - 1) <= 0.05 and share(0, 20) < 2 and share(490, 520) < 5, f"{name} at 8 s of PSD age: standard deviation "
            f"{s:.3f} (1.00 +- 0.05), {share(0, 20):.2f} % of the variance below 20 Hz (< 2 %), {share(490, 520):.2f} % in "
            "490-520 Hz (< 5 %)")


def check_update(driver):
    """At an update the output leaves the old filter's and arrives at the new one's without a step: neither at the ends of
    the fade, nor by the weight's change from any sample to the next."""
    for name, x, rate, gps in recordings():
        if rate != 4096:
            continue
        x = resample_by_scipy(x, rate // FS)
        start = gps * FS + 19
        first, y, _, _ = run(driver, x, sample0=start)
        _, taps = whiten(x, start)
        off = step = 0
        updates = [k for k in taps if k - 1 in taps and k * TICK > first + FADE and (k + 1) * TICK < first + y.shape[1]]
        for k in updates:
            a = k * TICK
            part = x[a - TAPS - FADE - start:a + 2 * FADE - start]
            old, new = (signal.fftconvolve(part, taps[j])[TAPS:][:3 * FADE] for j in (k - 1, k))
            got = y[0, a - FADE - first:a + 2 * FADE - first]
            weight = np.where(np.abs(new - old) > 0.01, (got - old) / np.where(new == old, 1, new - old), np.nan)
            off = max(off, np.abs(got - old)[:FADE + 2].max(), np.abs(got - new)[2 * FADE - 1:].max())
            step = max(step, np.nanmax(np.abs(np.diff(weight) * np.maximum(np.abs(new - old)[1:], np.abs(new - old)[:-1]))))
        say(off <= 1e-3 and step <= 1e-3 and len(updates) > 15, f"{name}: {len(updates)} updates: at the ends of the fade "
            f"{off:.1e} sigma off the filter alone, within it the change of weight moves the output by {step:.1e} sigma a "
            "sample, <= 1e-3")


def chirp(n, end):
    """An inspiral by the leading order, 25 to 300 Hz, that ends at sample `end`."""
    tau = np.arange(1, 2 * FS + 1)[::-1] / FS
    f = 25 * (tau / 2) ** (-3 / 8)
    s = np.where(f < 300, f ** (2 / 3) * np.cos(-2 * np.pi * 25 * 2 ** (3 / 8) * tau ** (5 / 8) * 8 / 5), 0)
    s *= np.minimum(1, np.arange(len(s)) / (FS / 8))
    out = np.zeros(n)
    out[end - len(s):end] = s
    return out


def check_time(driver):
    """Matched filter of what the program whitened with the template that scipy whitened with the same PSD."""
    rng = np.random.default_rng(1)
    n, start, end = 32 * FS, 1126259446 * FS, 24 * FS + 777
    noise = {"coloured noise": coloured(rng, n, asd) - 1e-18}
    for name, x, rate, gps in recordings():
        if rate == 4096:
            x = resample_by_scipy(x, rate // FS)
            noise[name] = np.r_[x[:1].repeat(19), x, x[-1:].repeat(n - 19 - len(x))]
    for phase in ("minimum", "linear"):
        for name, x in noise.items():
            signal_ = chirp(n, end)
            _, taps = whiten(x, start, linear=phase == "linear")
            h = taps[(start + end) // TICK]
            template = signal.fftconvolve(signal_, h)[(TAPS // 2 if phase == "linear" else 0):][:n]
            scale = 20 / np.sqrt((template ** 2).sum())
            first, y, _, _ = run(driver, x + scale * signal_, sample0=start, white="{phase: %s}" % phase)
            y, template = y[0], template[first - start:][:y.shape[1]]
            snr = signal.fftconvolve(y, template[::-1])[len(template) - 1 - 100:][:201] / np.sqrt((template ** 2).sum())
            lag = np.argmax(np.abs(snr)) - 100
            say(abs(lag) <= 1 and np.abs(snr).max() > 12, f"{name}, {phase} phase: the matched filter peaks {lag} samples from "
                f"the truth, SNR {np.abs(snr).max():.1f}")


def check_faults(driver):
    """Real strain of three channels through resample and whiten, one of them broken from 14 to 17 s in four ways: it is
    absent from then until its filter is full of good samples again, and the others are the same to the last bit."""
    real = [(x, rate, gps) for name, x, rate, gps in recordings() if rate == 4096]
    if not real:
        return
    (h1, rate, gps), (l1, _, _) = real
    block = rate // 16
    a, b = 14 * rate + 1000, 17 * rate + 321
    first, clean, _, _ = run(driver, [h1, l1, h1], rate=rate, sample0=gps * rate, block=block, down=True)
    for what in ("not a number", "dead", "zero", "saturated"):
        x = l1.copy()
        x[a:b] = {"not a number": np.nan, "dead": x[a], "zero": 0,
                  "saturated": np.clip(40 * (x[a:b] - x.mean()), -1.5e-18, 1.5e-18)}[what]
        f, y, _, _ = run(driver, [h1, x, h1], rate=rate, sample0=gps * rate, block=block, down=True)
        same = f == first and all(np.array_equal(y[c], clean[c]) for c in (0, 2))
        there = ~np.isnan(y[1])
        at = (first + np.arange(y.shape[1])) / FS - gps  # seconds of the recording
        last, again = at[there & (at < 16)].max(), at[there & (at > b / rate)].min()
        after = at > again
        ratio = y[1, after].std() / clean[1, after].std()
        before = at < a / rate - 0.1
        say(same and np.array_equal(y[1, before], clean[1, before]) and last < a / rate + 0.2 and again < b / rate + 2
            and np.nanmax(np.abs(y[1])) <= 100 and abs(ratio - 1) < 0.05, f"{what} from {a / rate:.2f} to {b / rate:.2f} s: given "
            f"out until {last:.2f} s, back at {again:.2f} s, then {ratio:.3f} times as loud as without; the others bit for bit "
            f"the same: {same}")


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    driver = os.path.abspath(sys.argv[1])
    for check in (check_magnitude, check_young, check_update, check_time, check_faults):
        check(driver)
    finish()


main()
