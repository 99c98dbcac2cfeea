# SPDX-License-Identifier: GPL-3.0-or-later
"""Batches of labelled windows, put together from the bank that windows.py recorded.

A window is whitened noise plus, by its class, signals and glitches. Everything downstream of the
whitener is linear, so a recorded signal can be scaled to any SNR, turned by any phase and delayed by
any time; the noise of the two detectors is drawn from different places, which makes the pairs of crops as
good as endless. Which pair it is makes a difference only in delays and in how unequally the two hear. Glitches
are made here, in the whitened domain, and besides are in some recordings already.
"""
import glob

import numpy as np

from network import RATE_HZ, WINDOW

CROP = 5376  # samples of a recorded signal
CROP_ARRIVAL = 3584  # about where in the crop the signal arrives at the later detector, 1.75 s

# Shares of a batch. All but the first two (a signal; a signal with a glitch near) are negatives.
CLASSES = (
    ("signal", 0.35), ("signal_glitch", 0.05), ("noise", 0.09), ("mined", 0.17), ("glitch", 0.08),
    ("glitch_pair", 0.10), ("one_detector", 0.06), ("delayed", 0.07), ("reversed", 0.03))
UNEVEN, UNEVEN_SNR = 0.3, 11  # share of the signals from this network SNR on
POSITIVE = ("signal", "signal_glitch")


class Bank:
    """All segments of a folder, in memory as float16."""

    def __init__(self, folder):
        self.noise, self.signals, self.arrival, self.snr, self.mass = [], [], [], [], []
        self.segment, self.at, self.whitening = [], [], None
        for number, path in enumerate(sorted(glob.glob(f"{folder}/*.npz"))):
            with np.load(path) as z:
                self.noise.append(z["noise"])
                self.whitening = str(z["whitening"])
                for name, part in (("signal", self.signals), ("arrival", self.arrival),
                                   ("snr", self.snr), ("mass", self.mass), ("at", self.at)):
                    part.append(z[name])
                self.segment.append(np.full(len(z["at"]), number))
        if not self.noise:
            raise FileNotFoundError(f"{folder}: no recorded segments; run windows.py first")
        for name in ("signals", "arrival", "snr", "mass", "at", "segment"):
            setattr(self, name, np.concatenate(getattr(self, name)))

    def __str__(self):
        hours = sum(n.shape[1] for n in self.noise) / RATE_HZ / 3600
        return f"{len(self.noise)} segments, {hours:.2f} h, {len(self.signals)} signals"


def glitch(rng, snr):
    """A glitch of a given SNR in one detector, [WINDOW], centred at sample WINDOW / 2."""
    t = (np.arange(WINDOW) - WINDOW // 2) / RATE_HZ
    kind = rng.random()
    if kind < 0.55:  # sine-Gaussian
        f, q = np.exp(rng.uniform(np.log(25), np.log(800))), np.exp(rng.uniform(np.log(2), np.log(60)))
        x = np.exp(-(t * np.pi * f / q * np.sqrt(2)) ** 2) * np.cos(
            2 * np.pi * f * t + rng.uniform(0, 2 * np.pi))
    elif kind < 0.8:  # blip
        tau = rng.uniform(0.001, 0.010)
        x = np.exp(-(t / tau) ** 2) * np.cos(t / tau * rng.uniform(0, 3) + rng.uniform(0, 2 * np.pi))
    else:  # burst of band-limited noise
        tau, f0 = rng.uniform(0.005, 0.3), np.exp(rng.uniform(np.log(25), np.log(600)))
        spectrum = np.fft.rfft(rng.standard_normal(WINDOW) * np.exp(-(t / tau) ** 2))
        f = np.fft.rfftfreq(WINDOW, 1 / RATE_HZ)
        x = np.fft.irfft(spectrum * ((f > f0) & (f < f0 * rng.uniform(1.3, 3))), WINDOW)
    x -= x.mean()
    return x * (snr / np.sqrt(np.sum(x * x) + 1e-12))


def moved(y, start):
    """The window that begins with y[start]; zero where there is no y."""
    x = np.zeros(WINDOW, np.float32)
    low, high = max(start, 0), min(start + WINDOW, len(y))
    x[low - start:high - start] = y[low:high]
    return x


class Batches:
    """search: of network.SEARCHES, what the network is for."""

    def __init__(self, bank, search, rng):
        self.bank, self.search, self.rng = bank, search, rng
        self.index = None  # of the last window's signal
        self.mined = []  # ((segment, first sample) of each detector): noise that the network took for a signal
        self.f = np.fft.rfftfreq(CROP, 1 / RATE_HZ)

    def noise(self, detector, segment=None, near=None):
        """A window of noise: anywhere, or in one segment within 8 s of a sample (the whitener's PSD then
        has the same age as the signal's)."""
        if segment is None:
            segment = self.rng.integers(len(self.bank.noise))
        n = self.bank.noise[segment]
        low, high = 0, n.shape[1] - WINDOW
        if near is not None:
            low, high = max(low, min(near - 8 * RATE_HZ, high - 1)), min(high, near + 8 * RATE_HZ)
        start = self.rng.integers(low, high)
        return n[detector, start:start + WINDOW].astype(np.float32)

    def cut(self, detector, segment, start, late):
        n = self.bank.noise[segment]
        start = min(max(start + late, 0), n.shape[1] - WINDOW)
        return n[detector, start:start + WINDOW].astype(np.float32)

    def signal(self, index, detector, snr, arrival, phase, backwards=False):
        """Recorded signal `index` as `detector` sees it: scaled to `snr` there, turned by `phase`, arriving
        at sample `arrival` (a fraction) of the window."""
        b = self.bank
        start = int(np.floor(b.arrival[index, detector] - arrival))
        shift = (arrival - (b.arrival[index, detector] - start)) / RATE_HZ
        h = np.fft.rfft(b.signals[index, detector].astype(np.float32))
        h *= np.exp(1j * (phase - 2 * np.pi * self.f * shift)) * (snr / b.snr[index, detector])
        h = np.fft.irfft(h, CROP).astype(np.float32)
        if backwards:
            h, start = h[::-1], CROP - int(b.arrival[index, detector]) - int(arrival)
        return moved(h, start)

    def pair_snr(self, snr, index):
        """Network SNR -> SNR in each detector: any ratio within the search's bounds, or that of the recorded
        signal, a little varied; then some loud ones are far more uneven: the sky has few of these, and a network
        that met few takes them for glitches. (Of quiet ones no network could tell them from noise.)"""
        if self.search.ratio:
            a = np.array([1, np.exp(self.rng.uniform(*np.log(self.search.ratio)))])
        elif snr >= UNEVEN_SNR and self.rng.random() < UNEVEN:
            a = self.rng.permutation([1, self.rng.uniform(0.3, 0.6)])
        else:
            a = self.bank.snr[index] * np.exp(0.15 * self.rng.standard_normal(2))
            a = np.maximum(a, 0.3 * a.max())
        return snr * a / np.sqrt(np.sum(a * a))

    def draw_snr(self, smallest):
        return min(smallest / np.sqrt(self.rng.random() + 1e-9), 40.0)

    def window(self, kind, smallest_snr, snr=None):
        """One window of a class -> x [2, WINDOW], arrival samples in each detector (or None)."""
        rng, arrivals, light_s = self.rng, None, self.search.light_s
        index = self.index = rng.integers(len(self.bank.signals))
        near = (self.bank.segment[index], self.bank.at[index]) if kind in POSITIVE else (None, None)
        if kind == "mined" and self.mined:
            late = rng.integers(-48, 49)
            x = np.stack([self.cut(d, *where, late)
                          for d, where in enumerate(self.mined[rng.integers(len(self.mined))])])
        else:
            x = np.stack([self.noise(d, *near) for d in (0, 1)])
        if kind in ("signal", "signal_glitch", "one_detector", "delayed", "reversed"):
            later = WINDOW - RATE_HZ * rng.uniform(0.03, 1.2 if kind == "reversed" else 0.45)
            delay = RATE_HZ * rng.uniform(-light_s, light_s)
            if kind == "delayed":  # further apart than light allows
                delay += np.sign(delay) * RATE_HZ * self.search.apart_s * np.exp(rng.uniform(0, np.log(5)))
            arrivals = [later + min(delay, 0), later - max(delay, 0)]
            if kind in POSITIVE:
                each = self.pair_snr(snr or self.draw_snr(smallest_snr), index)
            else:
                each = self.pair_snr(snr or self.draw_snr(6.0), index)
            mute = rng.integers(2) if kind == "one_detector" else -1
            for d in (0, 1):
                if d == mute:
                    continue
                if kind == "one_detector":
                    each[d] = snr or self.draw_snr(6.0)
                x[d] += self.signal(index, d, each[d], arrivals[d], rng.uniform(0, 2 * np.pi),
                                    kind == "reversed")
        if kind in ("glitch", "glitch_pair", "signal_glitch"):
            where = WINDOW - int(RATE_HZ * rng.uniform(0.0, 0.9))
            only = rng.integers(2)
            for d in (0, 1):
                if kind == "glitch_pair" or d == only:
                    loud = 80 if kind != "signal_glitch" else 30
                    y = glitch(rng, np.exp(rng.uniform(np.log(4), np.log(loud))))
                    shift = where - WINDOW // 2 + int(RATE_HZ * rng.uniform(-light_s, light_s))
                    x[d] += moved(y, -shift)
        x *= rng.uniform(0.9, 1.1, (2, 1)).astype(np.float32)
        return x, arrivals

    def batch(self, size, smallest_snr):
        """x [size, 2, WINDOW], labels [size]; the classes in their shares."""
        names, shares = zip(*CLASSES)
        kinds = self.rng.choice(len(names), size, p=np.array(shares) / sum(shares))
        x = np.stack([self.window(names[k], smallest_snr)[0] for k in kinds])
        return x, np.array([names[k] in POSITIVE for k in kinds], np.float32)
