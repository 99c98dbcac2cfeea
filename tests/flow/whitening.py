# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of whitening share: the program's stages by whiten_driver, and the same formulas in numpy and scipy."""
import os
import subprocess
import sys
import tempfile

import numpy as np
from scipy import ndimage, signal

FS, NYQUIST = 2048, 1024
TICK, TAPS, GRID, FADE = FS, FS, 16 * FS, FS // 4
HIGHPASS, LOWPASS = (20.0, 30.0), (0.88 * NYQUIST, 0.95 * NYQUIST)
failed = 0


def say(holds, text):
    global failed
    failed += not holds
    print(("ok   " if holds else "FAIL ") + text, flush=True)


def finish():
    print("all hold" if not failed else f"{failed} do not hold")
    sys.exit(1 if failed else 0)


def run(driver, x, rate=FS, sample0=0, block=128, white="{}", down=False, name="x"):
    """-> (first sample, output [channel, sample] with NaN in holes, whitening text, CPU seconds)"""
    x = np.atleast_2d(np.asarray(x, "f8"))
    with tempfile.TemporaryDirectory() as folder:
        source, sink = folder + "/in", folder + "/out"
        x.tofile(source)
        config = "{white: " + white + (", down: {rate: 2048Hz}}" if down else "}")
        said = subprocess.run([driver, config, str(rate), str(sample0), str(block), str(len(x)), source, sink],
                              check=True, capture_output=True, text=True).stdout.split("\n")
        raw = open(sink, "rb").read()
    pieces, at = [], 0
    while at < len(raw):
        s, n = np.frombuffer(raw, "i8", 2, at)
        pieces.append((s, np.frombuffer(raw, "f4", n * len(x), at + 16).reshape(len(x), n)))
        at += 16 + 4 * n * len(x)
    first = pieces[0][0]
    y = np.full((len(x), pieces[-1][0] + pieces[-1][1].shape[1] - first), np.nan)
    for s, p in pieces:
        y[:, s - first:s - first + p.shape[1]] = p
    return int(first), y, said[0], float(said[1])


# -- the formulas ---------------------------------------------------------------------------------------

def ramps(f):
    rise = lambda a, b: np.sin(np.pi / 2 * np.clip((f - a) / (b - a), 0, 1)) ** 2
    return rise(*HIGHPASS) * (1 - rise(*LOWPASS))


def in_band():
    """What is left of the standard deviation of white noise of unit variance."""
    return np.sqrt(np.mean(ramps((np.arange(1 << 18) + 0.5) / (1 << 18) * NYQUIST) ** 2))


def design(psd, linear=False):
    f = np.arange(GRID // 2 + 1) * FS / GRID
    a = np.interp(f, np.arange(len(psd)) * 0.5, psd ** -0.5) * ramps(f) * np.sqrt(2 / FS)
    if linear:
        h = np.roll(np.fft.irfft(a), TAPS // 2)[:TAPS + 1] * signal.get_window("hann", TAPS + 1, fftbins=False)
    else:
        # scipy's own route to minimum phase: the cepstrum, folded.
        c = np.fft.irfft(np.log(np.hypot(a, 1e-5 * a.max())))
        fold = np.r_[1, 2 * np.ones(GRID // 2 - 1), 1, np.zeros(GRID // 2 - 1)]
        h = np.fft.irfft(np.exp(np.fft.rfft(c * fold)))[:TAPS]
        h = h * np.cos(np.pi / 2 * np.arange(TAPS) / TAPS) ** 2
    bump = np.sin(np.pi * (np.arange(len(h)) + 0.5) / len(h)) ** 2
    return h - h.sum() * bump / bump.sum()


def smooth(psd, n, half=4):
    """The PSD of n segments over 4 Hz, lines excepted: each bin with its neighbours in pairs, in the logarithm."""
    level, limit = np.log(psd), 4 / np.sqrt(n)
    window = np.lib.stride_tricks.sliding_window_view(level, 2 * half + 1)
    middle = np.full(len(psd), np.nan)
    middle[half:-half] = np.median(window, axis=1)
    line = ndimage.binary_dilation(level > middle + limit, np.ones(3))
    alone = line | np.isnan(middle)
    mirror = window[:, ::-1]
    pair = (window + mirror) / 2
    neighbours = np.lib.stride_tricks.sliding_window_view(alone, 2 * half + 1)
    out = neighbours | neighbours[:, ::-1] | (np.abs(pair - middle[half:-half, None]) > limit)
    out[:, half] = False
    mean = np.full(len(psd), np.nan)
    mean[half:-half] = np.ma.masked_array(pair, out).mean(axis=1)
    return np.where(alone, psd, np.exp(mean))


def whiten(x, start, max_segments=63, linear=False):
    """x from absolute sample `start` on. -> output for every sample of x (NaN before the first filter), taps by tick"""
    end = start + len(x)
    k0 = -(-start // TICK)
    taps, y = {}, np.full(len(x), np.nan)
    for k in range(k0 + 3, end // TICK + 1):
        past = x[k0 * TICK - start:k * TICK - start]
        _, psd = signal.welch(past[-(max_segments + 1) * TICK:], FS, "hann", 2 * FS, FS, detrend="constant",
                              average="median")
        n = min(max_segments, len(past) // TICK - 1)
        h = design(smooth(psd, n), linear)
        back = past[-16 * TICK:]
        v = signal.fftconvolve(back, h)[:len(back)][TICK:]
        taps[k] = h * (0.674489750196082 * in_band() / np.median(np.abs(v)) / np.sqrt(1 + 0.25 / n))
    for k, h in taps.items():
        a, b = k * TICK, min((k + 1) * TICK, end)
        lo = max(a - len(h), start)
        cut = lambda g: signal.fftconvolve(x[lo - start:b - start], g)[a - lo:b - lo]
        new = cut(h)
        if k - 1 in taps:
            w = np.sin(np.pi / 2 * np.minimum(np.arange(b - a) / FADE, 1)) ** 2
            old = cut(taps[k - 1])
            new = old + w * (new - old)
        y[a - start:b - start] = new
    return y, taps


def coloured(rng, n, root_psd):
    """Noise with the one-sided ASD root_psd(f)."""
    f = np.fft.rfftfreq(n, 1 / FS)
    z = rng.standard_normal(len(f)) + 1j * rng.standard_normal(len(f))
    return np.fft.irfft(z * root_psd(np.maximum(f, 8)) * np.sqrt(FS * n / 4), n)


def asd(f):
    """Like the design ASD of a first-generation-plus detector: a wall, a bucket, shot noise; 1e-23 at 100 Hz."""
    return 1e-23 * np.sqrt((18 / f) ** 12 + 0.5 * (100 / f) ** 2 + 0.5 * (1 + (f / 250) ** 2))


def resample_by_scipy(x, factor):
    h = signal.firwin(2 * 19 * factor + 1, 0.982 / factor, window=("kaiser", 8.0))
    return signal.upfirdn(h, x, 1, factor)[38:-38 if factor > 1 else None]


def data_folder():
    here = os.path.dirname(os.path.abspath(__file__))
    for folder in (os.environ.get("GWSTREAM_DATA"), os.path.join(here, "../../../shared/data")):
        if folder and os.path.isdir(os.path.join(folder, "gwosc")):
            return os.path.join(folder, "gwosc")
    return None


def recordings():
    """(name, samples, rate, GPS start) of the two detectors at GW150914, at 4096 and 16384 Hz; none without data."""
    folder = data_folder()
    if not folder:
        print("skip real recordings: no data folder (set GWSTREAM_DATA)")
        return
    import h5py
    for path in ("strain-4k/H-H1_LOSC_4_V2-1126259446-32.hdf5", "strain-4k/L-L1_LOSC_4_V2-1126259446-32.hdf5",
                 "strain-16k/H-H1_GWOSC_16KHZ_R1-1126259447-32.hdf5",
                 "strain-16k/L-L1_GWOSC_16KHZ_R1-1126259447-32.hdf5"):
        with h5py.File(os.path.join(folder, path)) as file:
            x = file["strain/Strain"][:]
            gps = int(file["strain/Strain"].attrs["Xstart"])
        yield f"{path.split('/')[1][:4]} {len(x) // 32} Hz", x, len(x) // 32, gps
