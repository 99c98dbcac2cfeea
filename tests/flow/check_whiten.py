#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stages resample and whiten against the same formulas written with numpy and scipy in double.

usage: check_whiten.py PATH/TO/whiten_driver [-v]
Nothing is taken from the program but its output: resampling filter, PSD, filter design, gain and cross-fade are
computed here, one-shot over the whole recording. Exit 0 all hold, 1 something does not, 77 nothing was compared.
Real recordings are looked for in GWSTREAM_DATA or ../shared/data beside the source tree.
"""
import os
import subprocess
import sys
import tempfile

import numpy as np
from scipy import ndimage, signal

FS, NYQUIST = 2048, 1024
TICK, TAPS, GRID, FADE = FS, FS, 16 * FS, FS // 16
HIGHPASS, LOWPASS = (20.0, 30.0), (0.88 * NYQUIST, 0.95 * NYQUIST)
failed = 0


def say(holds, text):
    global failed
    failed += not holds
    print(("ok   " if holds else "FAIL ") + text, flush=True)


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

def coloured(rng, n, root_psd):
    """Noise with the one-sided ASD root_psd(f)."""
    f = np.fft.rfftfreq(n, 1 / FS)
    z = rng.standard_normal(len(f)) + 1j * rng.standard_normal(len(f))
    return np.fft.irfft(z * root_psd(np.maximum(f, 8)) * np.sqrt(FS * n / 4), n)


def asd(f):
    """Like the design ASD of a first-generation-plus detector: a wall, a bucket, shot noise; 1e-23 at 100 Hz."""
    return 1e-23 * np.sqrt((18 / f) ** 12 + 0.5 * (100 / f) ** 2 + 0.5 * (1 + (f / 250) ** 2))


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


def resample_by_scipy(x, factor):
    h = signal.firwin(2 * 19 * factor + 1, 0.982 / factor, window=("kaiser", 8.0))
    return signal.upfirdn(h, x, 1, factor)[38:-38 if factor > 1 else None]


def check_resample(driver):
    """The filter's promises, by its frequency response; scipy designs it anew."""
    for factor in (2, 8):
        h = signal.firwin(2 * 19 * factor + 1, 0.982 / factor, window=("kaiser", 8.0))
        w, r = signal.freqz(h, worN=1 << 15)
        f, db = w / np.pi * factor, 20 * np.log10(np.abs(r) + 1e-30)
        ripple, stop = np.abs(db[f <= 0.88]).max(), db[f >= 1.12].max()
        say(ripple < 0.1 and stop < -80, f"resample by {factor}: flat to {ripple:.3f} dB up to 0.88 of Nyquist, "
            f"what folds into that band {stop:.1f} dB")


def data_folder():
    here = os.path.dirname(os.path.abspath(__file__))
    for folder in (os.environ.get("GWSTREAM_DATA"), os.path.join(here, "../../../shared/data")):
        if folder and os.path.isdir(os.path.join(folder, "gwosc")):
            return os.path.join(folder, "gwosc")
    return None


def check_real(driver):
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
        rate = len(x) // 32
        factor = rate // FS
        name = f"{path.split('/')[1][:4]} {rate} Hz"
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
    print("all hold" if not failed else f"{failed} do not hold")
    sys.exit(1 if failed else 0)


main()
