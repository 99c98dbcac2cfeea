# SPDX-License-Identifier: GPL-3.0-or-later
"""Strain and its witnesses out of recordings that gwstream's `record` wrote (layout gwpy; one file, many, or
a series that is still growing), brought to a cleaning network's rate. Used by deepclean.py and retrain.py.

Holes stay what they are: NaN in, not good out. Seconds in which a witness stands still or strain's data
quality fails are not good either.
"""
import copy

import h5py
import numpy as np
import scipy.signal as sig

PIECE_S = 64  # read and resampled at a time: an hour of strain at 16384 Hz need not be in memory
DQ_NEEDED = 0b11  # DATA and CBC_CAT1


def channels(path):
    """Channels of a recording -> (GPS of the first sample, rate in Hz, samples)."""
    with h5py.File(path, "r") as f:
        return {name: (float(d.attrs["x0"]), round(1 / float(d.attrs["dx"]), 6), len(d))
                for name, d in f.items() if isinstance(d, h5py.Dataset) and "x0" in d.attrs}


class Channel:
    """One channel of any number of files; read() gives any stretch, NaN where there is nothing."""

    def __init__(self, files, name):
        self.parts, rates = [], set()
        for path in files:
            here = channels(path)
            if name in here:
                first, rate, n = here[name]
                rates.add(rate)
                self.parts.append((first, n, path))
        if not self.parts:
            raise ValueError(f"no channel {name} in {len(list(files))} files")
        if len(rates) > 1:
            raise ValueError(f"{name} has several rates: {sorted(rates)} Hz")
        self.name, self.rate = name, rates.pop()
        self.parts.sort()

    def span(self):
        return self.parts[0][0], max(first + n / self.rate for first, n, _ in self.parts)

    def read(self, gps, n):
        out = np.full(n, np.nan)
        for first, have, path in self.parts:
            at = round((gps - first) * self.rate)
            a, b = max(at, 0), min(at + n, have)
            if a < b:
                with h5py.File(path, "r") as f:
                    out[a - at:b - at] = f[self.name][a:b]
        return out


    def bad_quality(self):
        """Spans (GPS, GPS) in which the data quality of the stream that the channel came in does not pass."""
        for _, _, path in self.parts:
            with h5py.File(path, "r") as f:
                for stream in f.get("gwstream", {}).values():
                    if "paths" not in stream or self.name not in [p.decode() for p in stream["paths"][()]]:
                        continue
                    rate = stream.attrs["rate_num"] / stream.attrs["rate_den"]
                    for row in stream["dq"][()]:
                        if int(row["dq"]) & DQ_NEEDED != DQ_NEEDED or row["gap_reason"]:
                            at = int(row["sample0"]) / rate + stream.attrs["phase_ns"] * 1e-9
                            yield at, at + int(row["n_samples"]) / rate


FIR_SHORT, SLOW_HZ = 5, 256  # as in kernels/fir.h, pipeline/stages/witness_feed.h


def resampling(rate, to):
    """How the stage brings a witness to a network's rate: symmetric FIR of sum 1, up, down. FIR None: as it is."""
    low, high = sorted((round(rate), round(to)))
    factor = high // low
    if rate not in (low, high) or high % low:
        raise ValueError(f"{rate:g} Hz to {to:g} Hz: not a whole factor")
    if factor == 1:
        return None, 1, 1
    if rate < to and rate < SLOW_HZ:
        taps = 1 - np.abs(np.arange(-factor, factor + 1)) / factor
    else:
        t = np.arange(-FIR_SHORT * factor, FIR_SHORT * factor + 1) / factor
        taps = np.sinc(t) * np.i0(7.75 * np.sqrt(1 - (t / FIR_SHORT)**2))
    return taps / taps.sum(), factor if rate < to else 1, factor if rate > to else 1


def strain_filter(rate, to):
    """For strain, where nothing waits: flat to 0.88 of the new Nyquist, -100 dB beyond."""
    factor = round(rate / to)
    return sig.firwin(80 * factor + 1, 0.47 * to, window=("kaiser", 10.0), fs=rate), 1, factor


def resampled(channel, gps, seconds, to, fir=resampling):
    """[seconds * to] samples of `channel` at rate `to`, zero phase, PIECE_S at a time; NaN where a sample
    that the filter needs is missing."""
    taps, up, down = fir(channel.rate, to)
    if taps is None:
        return channel.read(gps, round(seconds * to))
    margin = -(-(len(taps) // 2) // down) * down  # samples in, whole samples out
    out = []
    for at in range(0, int(seconds), PIECE_S):
        n = round(min(PIECE_S, seconds - at) * channel.rate)
        x = channel.read(gps + at - margin / channel.rate, n + 2 * margin)
        bad = ~np.isfinite(x)
        scale = np.max(np.abs(np.where(bad, 0, x)), initial=0) or 1.0  # strain squared would be nothing
        y = sig.upfirdn(taps * up, np.where(bad, 0, x) / scale, up, down) * scale
        first = (len(taps) // 2 + margin * up) // down
        y = y[first:first + n * up // down]
        if bad.any():
            spoilt = sig.upfirdn(np.ones(len(taps)), bad.astype(float), up, down)
            y[spoilt[first:first + len(y)] > 0.5] = np.nan
        out.append(y)
    return np.concatenate(out)


def stuck(x, rate):
    """Seconds of a witness in which it stands still."""
    whole = x[:len(x) // int(rate) * int(rate)].reshape(-1, int(rate))
    with np.errstate(invalid="ignore"):
        return np.ptp(whole, axis=1) == 0


class Witnessed:
    """strain [n] and x [C][n], float64, at `rate`; coupled [n], what the couplings of a simulation really
    added, or None; good [n]. Whole seconds from GPS `start`; all that the files have unless told.
    strain: a channel's name, or names whose sum it is."""

    def __init__(self, files, strain, witnesses, rate, start=None, end=None):
        files, names = list(files), strain.split("+")
        parts = [Channel(files, name) for name in names]
        seen = [Channel(files, name) for name in witnesses]
        first = max(c.span()[0] for c in parts + seen)
        last = min(c.span()[1] for c in parts + seen)
        first, last = np.ceil(max(first, start or first)), np.floor(min(last, end or last))
        seconds = int(last - first)
        if seconds < 1:
            raise ValueError(f"{strain} and its witnesses have no whole second in common")
        self.rate, self.start, self.seconds, self.names = rate, first, seconds, list(witnesses)
        self.strain = sum(resampled(c, first, seconds, rate, strain_filter) for c in parts)
        try:
            exact = Channel(files, names[0].split(":")[0] + ":STRAIN_COUPLED")
            self.coupled = resampled(exact, first, seconds, rate, strain_filter)
        except ValueError:
            self.coupled = None
        self.x = np.empty((len(seen), len(self.strain)))
        self.good = np.isfinite(self.strain)
        for k, channel in enumerate(seen):
            self.x[k] = resampled(channel, first, seconds, rate)
            self.good &= np.isfinite(self.x[k]) & np.repeat(~stuck(self.x[k], rate), int(rate))
        for channel in parts + seen[:1]:
            for a, b in channel.bad_quality():
                a, b = int(max((a - first) * rate, 0)), int(max(np.ceil((b - first) * rate), 0))
                self.good[a:b] = False
        if not self.good.any():
            raise ValueError(f"{strain}: no good second between GPS {first:.0f} and {last:.0f}")

    def part(self, first, end):
        """The same from second `first` to `end`."""
        other, cut = copy.copy(self), slice(first * int(self.rate), end * int(self.rate))
        other.start, other.seconds = self.start + first, end - first
        other.strain, other.x, other.good = self.strain[cut], self.x[:, cut], self.good[cut]
        other.coupled = None if self.coupled is None else self.coupled[cut]
        return other

    def stretches(self, shortest):
        """(first, end) of the good stretches of at least so many samples."""
        edge = np.flatnonzero(np.diff(np.concatenate([[0], self.good.astype(np.int8), [0]])))
        return [(a, b) for a, b in zip(edge[::2], edge[1::2]) if b - a >= shortest]
