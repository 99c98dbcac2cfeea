# SPDX-License-Identifier: GPL-3.0-or-later
"""Arrival times from the scores of the arrival head, as `detect` finds them (pipeline/stages/candidate.h
has the rule), and the numbers in the model's metadata that make times and errors true:

    arrival_offset_s        what the head is late by
    arrival_skew            and in standard deviations of its scores: the tail after a time is the longer one
    arrival_sigma_scale,    a time's 1-sigma is sqrt((scale * standard deviation)^2 + floor^2)
    arrival_sigma_floor_s

They are fitted on every second signal and judged on the others. Used by evaluate.py.
"""
import numpy as np

from network import ARRIVAL, RATE_HZ

REFINE = 3  # columns to each side of the best pair
COVERAGE = 0.6827


def one(a, b, t, travel):
    """Scores of two detectors in columns at times t -> mean and standard deviation of each arrival: under the
    weights exp(sum of scores) of all pairs no more than `travel` columns apart, near the best of them."""
    total = np.full((len(a), len(b)), -np.inf)
    for lag in range(-travel, travel + 1):
        i = np.arange(max(0, -lag), min(len(a), len(b) - lag))
        total[i, i + lag] = a[i] + b[i + lag]
    best = np.unravel_index(total.argmax(), total.shape)
    rows, columns = (slice(max(k - REFINE, 0), k + REFINE + 1) for k in best)
    w = np.exp(total[rows, columns] - total[best])
    w /= w.sum()
    each = [(w.sum(1), t[rows]), (w.sum(0), t[columns])]
    mean = [float(p @ x) for p, x in each]
    return mean, [float(np.sqrt(p @ (x - m) ** 2)) for (p, x), m in zip(each, mean)]


def arrivals(scores, columns, peak_s, reach_s, light_s):
    """scores [k][2][n], times of the columns' centres [k][n], of the ends of the peaks' frames [k] -> means and
    standard deviations [k][2], s; no offset taken out."""
    mean, deviation = np.empty((2, len(scores), 2))
    travel = int(light_s * RATE_HZ / ARRIVAL + 1)
    for k, (s, t, peak) in enumerate(zip(scores, columns, peak_s)):
        inside = (t > peak - reach_s) & (t < peak + 1e-9)
        mean[k], deviation[k] = one(*s[:, inside].astype(float), t[inside], travel)
    return mean, deviation


def calibrate(error, deviation, group):
    """error: found less true time, offset still inside; group [k]: of each, the chirp-mass bin, or -1 outside
    of all. -> offset (s), skew, scale, floor (s). Offset and skew are those with which the largest bias of any
    bin is smallest; the scale gives the coverage of one sigma; of the floors, the one with which small and large
    deviations are equally true."""
    bins, least = [group == g for g in np.unique(group[group >= 0])], np.inf
    for trial in np.arange(0, 1.51, 0.05):
        each = [np.median(error[b] - trial * deviation[b]) for b in bins]
        if max(each) - min(each) < least:
            least, skew, offset = max(each) - min(each), float(trial), -float(min(each) + max(each)) / 2
    miss = np.abs(error + offset - skew * deviation)
    parts = np.array_split(np.argsort(deviation), 4)
    best = (np.inf, 1.0, 0.0)
    for floor in np.arange(0, 0.0031, 0.00025):
        # Inside one sigma: miss^2 - floor^2 < (scale * deviation)^2.
        need = np.sqrt(np.maximum(miss ** 2 - floor ** 2, 0)) / deviation
        scale = float(np.quantile(need, COVERAGE))
        uneven = np.ptp([np.mean(need[p] <= scale) for p in parts])
        if scale > 0 and uneven < best[0] - 0.005:  # a smaller floor unless it helps
            best = (uneven, scale, float(floor))
    return offset, skew, best[1], best[2]


def quality(error, sigma, group):
    """What is told of each group (name -> mask): n, median and 90 % of |error|, bias (median), coverage; ms."""
    out = {}
    for name, m in group.items():
        e, s = error[m], sigma[m]
        if len(e):
            out[name] = {"n": len(e), "median": round(1e3 * float(np.median(abs(e))), 2),
                         "at_90": round(1e3 * float(np.quantile(abs(e), 0.9)), 2),
                         "bias": round(1e3 * float(np.median(e)), 2),
                         "bias_sigma": round(1253 * float(np.std(np.clip(e, -.02, .02))) / len(e) ** .5, 2),
                         "within_1_sigma": round(float(np.mean(abs(e) <= s)), 3)}
    return out
