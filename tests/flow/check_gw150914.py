# SPDX-License-Identifier: GPL-3.0-or-later
"""The real recordings of GW150914 (GWOSC, 32 s of H1 and L1): one event, at the time that matched filtering
gives, above the card's 1/day; nothing else; and nothing at all in data in which no signal can be."""

import pathlib
import sys

import h5py
import numpy as np
import yaml

from flow import DATA, MODEL, check, finish, folder, replay, skip

# Loudest matched-filter arrival, from the recordings' own README: H1 (the later detector).
ARRIVAL = 1126259462.4395
# That is the middle of the template's buffer (16 s); the template's own peak, the coalescence, lies before it.
PEAK_BEFORE_MIDDLE = 16 - 15.98413
L1_EARLIER = 0.0069  # published: Abbott et al. 2016, PRL 116 061102

PAIR_4K = [DATA / "strain-4k" / n for n in ("H-H1_LOSC_4_V2-1126259446-32.hdf5", "L-L1_LOSC_4_V2-1126259446-32.hdf5")]
PAIR_16K = [DATA / "strain-16k" / n
            for n in ("H-H1_GWOSC_16KHZ_R1-1126259447-32.hdf5", "L-L1_GWOSC_16KHZ_R1-1126259447-32.hdf5")]


def changed(path, to, change):
    """A copy of a GWOSC file with its strain changed."""
    with h5py.File(path) as f, h5py.File(to, "w") as g:
        for name in f:
            f.copy(name, g)
        x = g["strain/Strain"][:]
        g["strain/Strain"][:] = change(x)
    return to


def noise_like(x):
    """Gaussian noise with the recording's own spectrum: random phases."""
    spectrum = np.abs(np.fft.rfft(x * np.hanning(len(x))))
    smooth = np.convolve(spectrum, np.ones(32) / 32, "same") * np.sqrt(8 / 3)
    phase = np.random.default_rng(3).uniform(0, 2 * np.pi, len(smooth))
    return np.fft.irfft(smooth * np.exp(1j * phase), len(x))


if not all(p.exists() for p in PAIR_4K + PAIR_16K):
    skip(f"no recordings in {DATA}")
card = yaml.safe_load(open(MODEL.replace(".onnx", ".card.yaml")))
candidate, alert = card["thresholds"]["candidate"], card["thresholds"]["alert"]

with folder() as work:
    for name, pair in (("4096 Hz", PAIR_4K), ("16384 Hz", PAIR_16K)):
        statistic = f"{work}/statistic-{name[:4].strip()}.hdf5"
        events = replay(pair, "--statistic", statistic, work=work)
        check(len({e["id"] for e in events}) == 1, f"{name}: exactly one event ({len({e['id'] for e in events})})")
        if not events:
            continue
        final = [e for e in events if e["phase"] == "final"][-1]
        check(events[0]["phase"] == "first", f"{name}: the first message is 'first'")
        check(abs(final["gps"] - ARRIVAL) <= 0.020,
              f"{name}: at GPS {final['gps']:.4f}, {1e3 * (final['gps'] - ARRIVAL):+.1f} ms from the matched filter")
        error_ms = 1e3 * (final["gps"] - (ARRIVAL - PEAK_BEFORE_MIDDLE))
        check(abs(error_ms) <= 10, f"{name}: {error_ms:+.1f} ms from the peak of the matched template")
        peaks = {"H1": ARRIVAL - PEAK_BEFORE_MIDDLE, "L1": ARRIVAL - PEAK_BEFORE_MIDDLE - L1_EARLIER}
        for d, a in final["arrivals"].items():
            error_ms, sigma_ms = 1e3 * (float(a["gps"]) - peaks[d]), 1e3 * a["sigma_s"]
            check(0.3 < sigma_ms < 8 and abs(error_ms) < 2 * sigma_ms,
                  f"{name}: arrival at {d} {error_ms:+.1f} ms from there, stated +-{sigma_ms:.1f} ms")
        check(set(final["arrivals"]) == {"H1", "L1"} and abs(final["gps_error_s"] - final["arrivals"]["H1"]["sigma_s"]) < 2e-6,
              f"{name}: the event's time is that of H1, where the signal came later, +-{1e3 * final['gps_error_s']:.1f} ms")
        check(final["statistic"] > alert and final["alert"], f"{name}: statistic {final['statistic']:.2f} above 1/day ({alert})")
        check(not final["injection"], f"{name}: not marked as an injection")
        with h5py.File(statistic) as f:
            d = f["H1,L1:STATISTIC"]
            t = d.attrs["x0"] + (np.arange(len(d)) + 1) * d.attrs["dx"]
            rest = d[:][np.abs(t - ARRIVAL) > 3]
            check(np.nanmax(rest) < candidate, f"{name}: elsewhere at most {np.nanmax(rest):.2f}, below 1/hour ({candidate})")

    # Whitening takes 8 s to begin, and the network's first window ends after the merger.
    events = replay(PAIR_4K, "--start", "1126259453.4", work=work)
    check(events and events[-1]["phase"] == "final", "begun 9 s before: found")
    for e in events:
        error_ms, sigma_ms = 1e3 * (e["gps"] - (ARRIVAL - PEAK_BEFORE_MIDDLE)), 1e3 * (e["gps_error_s"] or 0)
        check(0.3 < sigma_ms < 8 and abs(error_ms) < 2 * sigma_ms,
              f"begun 9 s before, {e['phase']}: {error_ms:+.1f} ms from there, stated +-{sigma_ms:.1f} ms")

    check(not replay(PAIR_4K, "--offset", "L1=30ms", work=work), "L1 delayed by 30 ms: no event")
    h, l = PAIR_4K
    check(not replay([h, changed(l, f"{work}/noise.hdf5", noise_like)], work=work), "L1 replaced by noise: no event")
    check(not replay([changed(h, f"{work}/noise-h.hdf5", noise_like), l], work=work), "H1 replaced by noise: no event")
    check(not replay([changed(h, f"{work}/rev-h.hdf5", lambda x: x[::-1]), changed(l, f"{work}/rev-l.hdf5", lambda x: x[::-1])],
                     work=work), "reversed in time: no event")
finish()
