# SPDX-License-Identifier: GPL-3.0-or-later
"""The simulator's witness channels against scipy: what is said to be added to strain is what the formula makes of what
the witnesses see, as loud against the floor as asked for, at the frequencies where it belongs, and nowhere else."""

import os

import h5py
import numpy as np
import scipy.signal as sig

from flow import check, finish, folder, run

RATE, SLOW, START, SECONDS = 2048, 512, 1400000000, 96
GRAPH = """
sources:
  sky: {{kind: sim, seed: 3, start: {start}, duration: {seconds}s, rate: {rate}Hz, detectors: [H1], asd: design-plain,
    excess: false, lines: false, parts: true, witnesses: {{rate: {slow}Hz, noise: {noise}, strain: {strain},
      channels: [{{name: MAINS, line: 60Hz, count: 2}}, {{name: SLOW, band: [0.1Hz, 1.5Hz]}},
                 {{name: JITTER, band: [8Hz, 35Hz], count: 2}}, {{name: IDLE, band: [1Hz, 200Hz]}}],
      couplings: [{couplings}]}}}}
sinks: {{disk: {{kind: record, from: sky, path: "{path}", layout: gwpy, on_full: wait}}}}
"""


def simulate(work, couplings, noise=0, strain=0):
    path = f"{work}/sky.hdf5"
    with open(f"{work}/graph.yaml", "w") as f:
        f.write(GRAPH.format(start=START, seconds=SECONDS, rate=RATE, slow=SLOW, noise=noise, strain=strain,
                             couplings=couplings, path=path))
    status, _, err = run("run", "--quiet", f"{work}/graph.yaml")
    if status != 0:
        check(False, f"{couplings}: {err}")
        finish()
    with h5py.File(path) as f:
        names = []
        f.visit(names.append)
        x = {name.split(":")[-1]: f[name][()].astype(float) for name in names
             if name.split("/")[-1].startswith("H1:") and f[name].dtype.kind == "f"}
    os.unlink(path)
    return x


def asd(x, rate=RATE):
    f, p = sig.welch(x, rate, "hann", 2 * rate, rate, detrend=False)
    return f, np.sqrt(p)


def floor(f):
    x = np.maximum(f, 10) / 215
    return np.sqrt(4e-49 * (x**-4.14 - 5 * x**-2 + 111 * (1 - x**2 + x**4 / 2) / (1 + x**2 / 2)))


def upsampled(x):
    """To strain's rate; its ends are not to be used."""
    return sig.resample_poly(x, RATE // SLOW, 1, window=("kaiser", 14.0)) if RATE != SLOW else x


def unit(x):
    return x / np.sqrt(np.mean(x**2))


def fit(y, basis, edge=4 * RATE):
    """What of y, relative, no linear combination of these explains (ends left out)."""
    y, basis = y[edge:-edge], np.array([b[edge:-edge] for b in basis]).T
    basis = basis / np.sqrt(np.mean(basis**2, axis=0))
    y = y / np.sqrt(np.mean(y**2))
    return np.sqrt(np.mean((y - basis @ np.linalg.lstsq(basis, y, rcond=None)[0])**2))


with folder() as work:
    # a line
    x = simulate(work, "{of: MAINS_0, height: 25}")
    f, a = asd(x["STRAIN_COUPLED"])
    loud = (a / floor(f))[f >= 5]
    check(abs(loud.max() / 25 - 1) < 0.1 and f[f >= 5][loud.argmax()] == 60, f"a line of height 25 is {loud.max():.2f} times the floor at {f[f >= 5][loud.argmax()]} Hz")
    near = np.abs(f - 60) < 2
    check((a / floor(f))[~near & (f > 10)].max() < 0.02, f"and beyond 2 Hz only what the Hann window leaks ({(a / floor(f))[~near & (f > 10)].max():.1e})")
    # strain's copy of it is the witness's, at another rate
    left = fit(x["STRAIN_COUPLED"], [upsampled(x["MAINS_0"])])
    check(left < 1e-5, f"it is what MAINS_0 sees, times a number (left over {left:.1e})")
    check(abs(np.corrcoef(x["MAINS_0"], x["MAINS_1"])[0, 1]) < 0.999, "MAINS_1 sees it in another phase")
    analytic = np.unwrap(np.angle(sig.hilbert(x["MAINS_0"])))[SLOW:-SLOW]
    hz = np.diff(analytic) * SLOW / 2 / np.pi
    check(abs(hz.mean() - 60) < 0.03 and 0.002 < hz.std() < 0.05, f"it wanders: {hz.mean():.4f} Hz +- {hz.std():.4f}")

    # a line that a slow motion modulates
    x = simulate(work, "{of: MAINS_0, times: SLOW, height: 6}")
    f, a = asd(x["STRAIN_COUPLED"])
    left = fit(x["STRAIN_COUPLED"], [upsampled(x["MAINS_0"]) * upsampled(x["SLOW_0"])])
    check(left < 1e-5, f"bilinear: the product of two witnesses (left over {left:.1e})")
    check(0.8 < (a / floor(f))[f >= 5].max() / 6 < 1.25, f"of height 6: {(a / floor(f))[f >= 5].max():.2f}")
    for name in ("MAINS_0", "SLOW_0"):
        alone = sig.coherence(x["STRAIN_COUPLED"][::4], x[name], SLOW, nperseg=4 * SLOW)
        c = alone[1][np.abs(alone[0] - 60) < 1.6] if name == "SLOW_0" else alone[1][(np.abs(alone[0] - 60) > 0.6) & (np.abs(alone[0] - 60) < 1.6)]
        check(np.median(c) < 0.25, f"{name} alone is not coherent with its sidebands (median {np.median(c):.2f})")

    # powers
    x = simulate(work, "{of: MAINS_0, power: 2, height: 4}, {of: MAINS_0, power: 3, height: 3}")
    u = upsampled(x["MAINS_0"])
    left = fit(x["STRAIN_COUPLED"], [u**2 - np.mean(u**2), u**3])
    check(left < 1e-3, f"square and cube of a line (left over {left:.1e})")
    f, a = asd(x["STRAIN_COUPLED"])
    check(abs((a / floor(f))[f == 120][0] / 4 - 1) < 0.1, f"its harmonic at 120 Hz: {(a / floor(f))[f == 120][0]:.2f} of 4")

    # through resonances
    x = simulate(work, "{of: JITTER, resonances: [{frequency: 14Hz, q: 9}, {frequency: 23Hz, q: 14}], height: 5}", noise=0.02)
    parts = []
    for name in ("JITTER_0", "JITTER_1"):
        b1, a1 = sig.iirpeak(14, 9, SLOW)
        b2, a2 = sig.iirpeak(23, 14, SLOW)
        parts.append(upsampled(sig.lfilter(b1, a1, x[name]) + sig.lfilter(b2, a2, x[name])))
    left = fit(x["STRAIN_COUPLED"], parts, 8 * RATE)
    check(0.005 < left < 0.05, f"scipy's iirpeak of the witnesses explains it but for their noise of 2 % (left over {left:.3f})")
    exact = simulate(work, "{of: JITTER, resonances: [{frequency: 14Hz, q: 9}, {frequency: 23Hz, q: 14}], height: 5}")
    parts = [upsampled(sig.lfilter(*sig.iirpeak(14, 9, SLOW), exact[n]) + sig.lfilter(*sig.iirpeak(23, 14, SLOW), exact[n]))
             for n in ("JITTER_0", "JITTER_1")]
    left = fit(exact["STRAIN_COUPLED"], parts, 16 * RATE)
    check(left < 1e-4, f"and exactly, without it (left over {left:.1e})")
    noise = np.std(x["JITTER_0"] - exact["JITTER_0"]) / np.std(exact["JITTER_0"])
    check(abs(noise / 0.02 - 1) < 0.05, f"the witnesses' own noise: {noise:.4f} of what they see")
    f, a = asd(x["STRAIN_COUPLED"])
    check(0.75 < (a / floor(f))[f >= 5].max() / 5 < 1.33, f"of height 5: {(a / floor(f))[f >= 5].max():.2f}")
    f, c = sig.coherence(x["STRAIN_COUPLED"][::4], x["IDLE_0"], SLOW, nperseg=2 * SLOW)
    check(np.mean(c[(f > 10) & (f < 34)]) < 0.05, f"IDLE couples nowhere (mean coherence {np.mean(c[(f > 10) & (f < 34)]):.3f})")

    # strain in the witnesses
    clean, dirty = simulate(work, "{of: MAINS_0, height: 1}"), simulate(work, "{of: MAINS_0, height: 1}", strain=0.01)
    seen = unit(dirty["IDLE_0"] - clean["IDLE_0"])
    h = sig.resample_poly(clean["STRAIN_NOISE"] + clean["STRAIN_SIGNAL"], 1, RATE // SLOW, window=("kaiser", 12.0))
    f, c = sig.csd(seen, unit(h), SLOW, nperseg=4 * SLOW)
    band = (f > 20) & (f < 180)
    _, p = sig.welch(unit(h), SLOW, nperseg=4 * SLOW)
    _, q = sig.welch(seen, SLOW, nperseg=4 * SLOW)
    coherence = np.abs(c[band])**2 / p[band] / q[band]
    slope = np.polyfit(f[band], np.unwrap(np.angle(c[band])), 1)[0] / (2 * np.pi) * SLOW
    check(coherence.min() > 0.99, f"a witness that sees strain: coherent from 20 to 180 Hz (least {coherence.min():.4f})")
    check(abs(abs(slope) - 32) < 0.1, f"32 samples late ({abs(slope):.2f})")
    gain = np.std(clean["IDLE_0"])
    level = np.sqrt(np.mean((sig.welch(dirty["IDLE_0"] - clean["IDLE_0"], SLOW, nperseg=2 * SLOW)[1] / sig.welch(h, SLOW, nperseg=2 * SLOW)[1])[2 * 95:2 * 105]))
    wanted = 0.01 * gain / (floor(np.array([100.0]))[0] * np.sqrt(SLOW / 2))
    check(abs(level / wanted - 1) < 0.02, f"at the level that is said: {level / wanted:.3f}")

with folder() as work:
    # A recording of strain and witnesses, a file each few seconds, comes back as the streams that it was made of.
    names = {}
    for name, source in (("live", "sky: {kind: sim, seed: 3, duration: 12s, rate: 2048Hz, detectors: [H1], witnesses: {rate: 512Hz, "
                                  "channels: [{name: MAINS, line: 60Hz, count: 2}], couplings: [{of: MAINS_0, height: 9}]}}"),
                         ("again", f'sky: {{kind: replay, files: ["{work}/live-*.hdf5"]}}')):
        with open(f"{work}/{name}.yaml", "w") as f:
            f.write(f"sources: {{{source}}}\nsinks: {{disk: {{kind: record, from: [sky.H1, sky.H1_witness], "
                    f'path: "{work}/{name}.hdf5", layout: gwpy, every: 5s, on_full: wait}}}}\n')
        status, _, err = run("run", "--quiet", f"{work}/{name}.yaml")
        names[name] = sorted(f.replace(name, "") for f in os.listdir(work) if f.startswith(name + "-"))
        if status != 0:
            check(False, f"{name}: {err}")
    check(names["live"] == names["again"] and len(names["live"]) >= 3, f"replayed: {len(names['live'])} files of both streams")
    same = True
    for tail in names["live"]:
        with h5py.File(f"{work}/live{tail}") as a, h5py.File(f"{work}/again{tail}") as b:
            same &= all(np.array_equal(a[k][()], b[k][()]) for k in ("H1:STRAIN", "H1:MAINS_0", "H1:MAINS_1"))
    check(same, "with the same samples")
finish()
