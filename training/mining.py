# SPDX-License-Identifier: GPL-3.0-or-later
"""Noise that a network takes for a signal: the negatives it has most to learn from. Used by train.py.

Two ways to it, for the two ends of a false-alarm rate. `slid`: about a day of two detectors, slid at random,
and the loudest stretches of it; what is met in it a few times an hour is in there by the hundred, what is
met once a day hardly ever. `coincident`: the stretches of one detector that would be loud if the other saw
the very same (the merged layers are given this detector's features twice), put side by side, one's with the other's
and within light travel: coincidences for which one would have to search slides for months.
"""
import numpy as np
import torch

from network import CHANNELS, HOP, RATE_HZ, WINDOW

SLID_PAIRS = 650  # of segments: half a day of two detectors
CLUSTER = 2 * RATE_HZ // HOP  # frames: one stretch in 2 s
LEAST = -4  # logit
ALONE = 1500  # loudest stretches of each detector
PARTNERS = 8  # of each, drawn at random from the other's
BEYOND_S = 0.017  # further apart than light allows are some: where a stretch is loudest is vague
BATCH = 100


def peaks(logits):
    """[frames] -> (logit, end of the frame in samples) of the loudest frame of each 2 s."""
    y = logits.copy()
    y[:WINDOW // HOP] = -99
    y = y[:len(y) // CLUSTER * CLUSTER].reshape(-1, CLUSTER)
    ends = (y.argmax(1) + CLUSTER * np.arange(len(y)) + 1) * HOP
    return [(float(v), int(e)) for v, e in zip(y.max(1), ends) if v > LEAST]


def slid(network, bank, rng, keep):
    """-> the `keep` loudest, as ((segment, first sample) of the one detector, of the other)."""
    loud, n = [], min(x.shape[1] for x in bank.noise) // HOP * HOP
    for _ in range(SLID_PAIRS):
        pair = [int(k) for k in rng.integers(len(bank.noise), size=CHANNELS)]
        x = np.stack([bank.noise[k][d, :n] for d, k in enumerate(pair)]).astype(np.float32)
        with torch.no_grad():
            y = network.dense(network.features(torch.from_numpy(x[None])))[0].numpy()
        loud += [(v, [(k, e - WINDOW) for k in pair]) for v, e in peaks(y)]
    return loudest(loud, keep, "slid")


def alone(network, bank, detector):
    """-> (segment, first sample) of the stretches of one detector that would be loud in both."""
    loud = []
    for k, x in enumerate(bank.noise):
        x = x[:, :x.shape[1] // HOP * HOP]
        with torch.no_grad():
            f = network.detector_features(torch.from_numpy(x[detector:detector + 1].astype(np.float32)))
            y = network.dense(torch.cat([f] * CHANNELS, 1))
        loud += [(v, (k, e - WINDOW)) for v, e in peaks(y[0].numpy())]
    return [w for _, w in sorted(loud, reverse=True)[:ALONE]]


def coincident(network, bank, light_s, rng, keep):
    """-> the `keep` loudest, as slid()."""
    one, other = (alone(network, bank, d) for d in range(CHANNELS))
    pairs, reach = [], int(RATE_HZ * (light_s + BEYOND_S))
    for a in one:
        for k in rng.integers(len(other), size=PARTNERS):
            (s, at), lag = other[k], int(rng.integers(-reach, reach + 1))
            if 0 <= at + lag <= bank.noise[s].shape[1] - WINDOW:
                pairs.append([a, (s, at + lag)])
    loud = []
    for i in range(0, len(pairs), BATCH):
        some = pairs[i:i + BATCH]
        x = np.stack([[bank.noise[s][d, at:at + WINDOW] for d, (s, at) in enumerate(p)] for p in some])
        with torch.no_grad():
            loud += [(float(v), p) for v, p in zip(network(torch.from_numpy(x.astype(np.float32))), some)]
    return loudest(loud, keep, "coincident")


def loudest(loud, keep, name):
    loud = sorted(loud, key=lambda w: w[0], reverse=True)[:keep]
    print(f"mined {len(loud)} {name} of noise; logits {loud[0][0]:.2f} {loud[len(loud) // 10][0]:.2f} "
          f"{loud[-1][0]:.2f}", flush=True)
    return [w for _, w in loud]
