#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ratio of amplitude spectra against scipy.signal: Welch's median (with its own bias) of raw and cleaned.

    check_asd_ratio.py ASD_DRIVER
"""
import subprocess
import sys

import numpy as np
from scipy import signal

DRIVER = sys.argv[1]
RATE, SECONDS = 4096, 30
FIRST = 1_400_000_003 * RATE + 1500  # neither a second nor a multiple of the chunk
BANDS = [[(57, 63), (118, 122)], [(10, 30)]]
failures = 0


def check(good, text):
    global failures
    failures += not good
    print('ok  ' if good else 'FAIL', text)


def drive(x, chunk, bands=BANDS):
    words = [','.join('%g-%g' % b for b in of) for of in bands]
    run = subprocess.run([DRIVER, str(RATE), str(FIRST), str(chunk), *words], input=x.T.copy().tobytes(),
                         capture_output=True, check=True)
    rows = np.array([[float(v) for v in line.split()] for line in run.stdout.decode().splitlines()])
    return {(int(r[0]), int(r[1])): r[2:] for r in rows}


def expected(s, p, second, bands):
    end = second * RATE - FIRST
    if end < 8 * RATE:
        return None
    psd = []
    for x in (s, s - p):
        f, power = signal.welch(x[end - 8 * RATE:end], RATE, window='hann', nperseg=2 * RATE, noverlap=RATE,
                                detrend='constant', average='median')
        psd.append(power)
    ratio = np.sqrt(psd[1] / psd[0])
    inside = np.any([(f >= lo) & (f < hi) for lo, hi in bands], axis=0)
    near = np.any([(f >= lo - 2) & (f < hi + 2) for lo, hi in bands], axis=0)
    pieces, held = [], []
    for lo in (8, 16, 32, 64, 128, 256, 512):
        held += list(np.nonzero((f >= lo) & (f < 2 * lo) & ~near)[0])
        if len(held) >= 32:
            pieces.append(held)
            held = []
    if held and pieces:
        pieces[-1] += held
    outside = np.concatenate(pieces)
    return (np.mean(ratio[inside]), np.sqrt(np.sum(psd[1][inside]) / np.sum(psd[0][inside])),
            [np.mean(ratio[i]) for i in pieces], np.max(ratio[outside]))


rng = np.random.default_rng(6)
n = SECONDS * RATE
t = np.arange(n) / RATE
# Coloured like strain: a seismic wall of 1e-18 over a floor of 1e-23, and a line.
wall = signal.sosfilt(signal.butter(4, 8, fs=RATE, output='sos'), rng.standard_normal(n)) * 1e-18
line = 2e-22 * (1 + 0.3 * np.sin(2 * np.pi * 0.21 * t)) * np.sin(2 * np.pi * 60 * t)
jitter = signal.sosfilt(signal.butter(2, [12, 25], 'band', fs=RATE, output='sos'), rng.standard_normal(n)) * 1e-21
s = wall + line + jitter + 1e-23 * rng.standard_normal(n)
p = np.array([0.9 * line + 2e-25 * rng.standard_normal(n), 1.1 * jitter])
x = np.array([s, *p])

got = drive(x, 256)
past = [[], []]
worst = early = 0
for (second, k), r in got.items():
    want = expected(s, p[k], second, BANDS[k])
    if want is None:
        early += r[0] != 0 or not np.isnan(r[1])
        continue
    past[k].append(want[2])
    want = np.array([*want[:2], np.max(np.mean(past[k][-16:], axis=0)), want[3]])
    worst = max(worst, *np.abs(r[1:] / want - 1)) if r[0] else 1
check(early == 0, 'nothing said before 8 s are known')
measured = sum(r[0] for r in got.values())
check(measured == 2 * (SECONDS - 8), '%d ratios of %d seconds, two predictions' % (measured, SECONDS))
check(worst < 1e-9, 'in band, integrated, out of band and worst bin as scipy has them: within %.1e' % worst)

for chunk in (64, 4096):
    other = drive(x[:, :n // chunk * chunk], chunk)
    same = all(np.array_equal(other[key], got[key], equal_nan=True) for key in other)
    check(same, 'chunks of %d samples: the same bits' % chunk)

# A prediction that is not valid for a moment is not measured until 8 s are whole again; the other one is.
broken = x.copy()
broken[1, 12 * RATE] = np.nan
r = drive(broken, 256)
lost = sorted(second - FIRST // RATE for (second, k), v in r.items() if k == 0 and not v[0])
check(lost == list(range(1, 9)) + list(range(13, 21)), 'a moment without prediction: no ratio at seconds %s' % lost)
same = all(np.array_equal(v, got[key]) for key, v in r.items() if key[1] == 1 and v[0])
check(same, 'the other prediction does not notice')

sys.exit(failures > 0)
