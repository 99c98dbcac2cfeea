# SPDX-License-Identifier: GPL-3.0-or-later
"""How much of a signal cleaning takes away where it could: through witnesses that see a hundredth of strain, while the
cleaning fades in or out, and by networks retrained on such witnesses and on strain full of signals of SNR 30.

The same sky runs twice, with signals and without. What of the signals came through is the difference of the two
cleaned strains (exact: noise, networks and gates are in both), and it is matched-filtered against the difference of
the two raw strains, with the PSD of the noise: loss of SNR, shift in time.

    benchmarks/never_eaten.py [--injections 200] [--quick] [--save]    # --save writes benchmarks/results/never_eaten.json
"""

import argparse
import importlib.util
import pathlib
import subprocess
import sys

import h5py
import numpy as np
import scipy.signal
import yaml

HERE = pathlib.Path(__file__).resolve().parent
sys.path += [str(HERE.parent / "tests" / "long"), str(HERE.parent / "tests" / "flow")]
from flow import ROOT, check, finish, folder, run, skip  # noqa: E402
from result import save  # noqa: E402

RATE, START, SPACING_S, LEAD_S = 4096, 1400020000, 10, 24
BEFORE_S, AFTER_S = 5, 3  # of a signal, round its merger
LARGEST_LOSS = 0.01
COUPLINGS = [{"name": "mains", "model": "models/deepclean-demo.onnx"},
             {"name": "third", "model": "models/deepclean-demo-third.onnx"},
             {"name": "jitter", "model": "models/deepclean-demo-low.onnx"}]


def sky(signals, n, snr, strain=0.01, seed=None):
    """The sky of configs/deepclean.yaml, H1 alone, its witnesses contaminated; n signals a while apart, or none."""
    s = yaml.safe_load((ROOT / "configs" / "deepclean.yaml").read_text())["sources"]["sky"]
    s = dict(s, detectors=["H1"], start=START, duration=f"{LEAD_S + SPACING_S * n + 8}s", rate=f"{RATE}Hz", pace=0)
    for key in ("glitches", "population"):
        s.pop(key, None)
    s["witnesses"] = dict(s["witnesses"], strain=strain)
    if signals:
        rng = np.random.default_rng(7)
        s["signals"] = []
        for t in mergers(n):
            m1, m2 = np.sort(rng.uniform(12, 60, 2))[::-1]
            s["signals"].append({"gps": float(t), "mass1": round(float(m1), 2), "mass2": round(float(m2), 2),
                                 "network_snr": float(rng.uniform(*snr)), "ra": float(rng.uniform(0, 6.28)),
                                 "dec": float(rng.uniform(-1.5, 1.5)), "psi": float(rng.uniform(0, 3.1)),
                                 "iota": float(rng.uniform(0, 3.1))})
    return s


def mergers(n):
    return START + LEAD_S + SPACING_S * np.arange(n) + np.random.default_rng(5).uniform(0, 1, n).round(4)


def go(work, name, graph):
    path = pathlib.Path(work) / f"{name}.yaml"
    path.write_text(yaml.safe_dump(graph, sort_keys=False))
    status, _, err = run("run", "--quiet", path, timeout=3600)
    if status:
        sys.exit(f"{path}: exit status {status}\n{err}")


def clean(work, name, source, couplings, witnesses=None, gate="always"):
    """Runs a sky through `denoise` -> the recording, with raw and cleaned strain and the gates."""
    out = f"{work}/{name}.hdf5"
    sources, seen = {"sky": source}, "sky.H1_witness"
    if witnesses:
        sources["seen"], seen = {"kind": "replay", "files": [witnesses]}, "seen"
    go(work, name, {"sources": sources,
                    "stages": {"clean": {"kind": "denoise", "from": ["sky.H1", seen], "gate": gate, "couplings": couplings}},
                    "sinks": {"keep": {"kind": "record", "from": ["sky.H1", "clean"], "path": out, "overwrite": True}}})
    return out


def series(f, channel, gps, seconds):
    data = f[f"H1:{channel}"]
    rate = round(1 / data.attrs["dx"])
    at = round((gps - data.attrs["x0"]) * rate)
    return data[at:at + round(seconds * rate)]


def noise_psd(path):
    """Of raw strain without its lines: a running median over 4 Hz."""
    with h5py.File(path) as f:
        x = f["H1:STRAIN"][:min(256 * RATE, len(f["H1:STRAIN"]))]
    _, p = scipy.signal.welch(x, RATE, "hann", 4 * RATE, average="median")
    p = scipy.signal.medfilt(p, 17)
    f = np.fft.rfftfreq((BEFORE_S + AFTER_S) * RATE, 1 / RATE)
    return f, np.interp(f, np.arange(len(p)) / 4, p)


def measure(with_signals, without, times):
    """-> loss of SNR and shift in seconds of each signal, and the gates at the seconds round it."""
    f, psd = noise_psd(without)
    inside = (f >= 20) & (f < 0.9 * RATE / 2)
    loss, shift, fading = [], [], []
    with h5py.File(with_signals) as a, h5py.File(without) as b:
        gates = [k.split(":")[1] for k in a if "_GATE-" in k]
        for t in times:
            t0 = np.floor(t) - BEFORE_S
            raw, left = (series(a, c, t0, BEFORE_S + AFTER_S) - series(b, c, t0, BEFORE_S + AFTER_S)
                         for c in ("STRAIN", "STRAIN_CLEANED"))
            if not np.isfinite(left).all():
                sys.exit(f"signal at {t}: cleaned strain has a hole")
            h, d = np.fft.rfft(raw * 1e21), np.fft.rfft(left * 1e21)
            z = np.fft.irfft(np.where(inside, d * h.conj() / np.where(inside, psd, 1), 0))
            norm = np.fft.irfft(np.where(inside, abs(h)**2 / np.where(inside, psd, 1), 0))[0]
            k = int(np.argmax(z))
            y0, y1, y2 = z[k - 1], z[k], z[(k + 1) % len(z)]
            loss.append(1 - y1 / norm)
            shift.append(((k + len(z) // 2) % len(z) - len(z) // 2 + 0.5 * (y0 - y2) / (y0 - 2 * y1 + y2)) / RATE)
            around = [series(a, g, np.floor(t) - 1, 3) for g in gates]
            fading.append(any(np.ptp(g) > 0.01 or 0.01 < g[1] < 0.99 for g in around))
    return np.array(loss), np.array(shift), np.array(fading)


def subtracts(path):
    """Whether the mains line is less than a fifth of what it was."""
    with h5py.File(path) as f:
        p = [scipy.signal.welch(series(f, c, START + LEAD_S, 64), RATE, "hann", 2 * RATE, average="median")[1]
             for c in ("STRAIN_CLEANED", "STRAIN")]
    return p[0][120] < 0.04 * p[1][120]


def judge(what, loss, shift):
    check(np.abs(loss).max() < LARGEST_LOSS and np.abs(shift).max() < 0.5 / RATE,
          f"{what}: {len(loss)} signals, SNR loss {100 * np.median(loss):.3f} % in the median, {100 * loss.min():.3f} to "
          f"{100 * loss.max():.3f} % (1); time within {1e6 * np.abs(shift).max():.1f} us (a sample: {1e6 / RATE:.0f})")
    return {"signals": len(loss), "snr_loss_median": float(np.median(loss)), "snr_loss_p95": float(np.quantile(loss, 0.95)),
            "snr_loss_most": float(loss.max()), "snr_loss_least": float(loss.min()),
            "time_shift_most_s": float(np.abs(shift).max()), "sample_s": 1 / RATE}


def record(work, name, source, streams):
    out = f"{work}/{name}.hdf5"
    go(work, name, {"sources": {"sky": source},
                    "sinks": {"keep": {"kind": "record", "from": streams, "path": out, "overwrite": True}}})
    return out


def spoil(path, times):
    """NaN in two witnesses: by turns so that the fading out, or the coming in 2 s after, meets the merger."""
    rng = np.random.default_rng(11)
    with h5py.File(path, "r+") as f:
        for i, t in enumerate(times):
            begin, end = (t + rng.uniform(-0.15, 0.2), t + 1.5) if i % 2 else (t - 5, t - rng.uniform(2.6, 3.8))
            for name in ("H1:PEM-MAINS_0", "H1:ISI-JITTER_0"):
                rate, x0 = round(1 / f[name].attrs["dx"]), f[name].attrs["x0"]
                f[name][round((begin - x0) * rate):round((end - x0) * rate)] = np.nan


def contaminated(work, n):
    times = mergers(n)
    pair = [clean(work, f"contaminated-{s}", sky(s, n, (8, 30)), COUPLINGS) for s in (1, 0)]
    loss, shift, fading = measure(*pair, times)
    check(not fading.any() and subtracts(pair[1]), "networks subtract all that they foretell")
    return judge("witnesses with 1 % of strain", loss, shift)


def faded(work, n):
    times, pair = mergers(n), []
    for s in (1, 0):
        seen = record(work, f"witnesses-{s}", sky(s, n, (8, 30)), ["sky.H1_witness"])
        spoil(seen, times)
        pair.append(clean(work, f"faded-{s}", sky(s, n, (8, 30)), COUPLINGS, seen))
    loss, shift, fading = measure(*pair, times)
    check(fading.mean() > 0.9, f"the cleaning fades at {100 * fading.mean():.0f} % of the mergers")
    out = judge("while the cleaning fades", loss[fading], shift[fading])
    return dict(out, fading=float(fading.mean()))


def retrained(work, n, couplings, seconds, iterations, batch):
    """Networks that go on from those, on witnesses with 1 % of strain and a signal of SNR 30 each 10 s."""
    data = record(work, "lesson", dict(sky(True, seconds // SPACING_S, (30, 30.01)), seed=60), ["sky.H1", "sky.H1_witness"])
    learned = []
    for c in couplings:
        out = f"{work}/{c['name']}.onnx"
        subprocess.run([sys.executable, ROOT / "training" / "deepclean.py", "train", data, "--start", ROOT / c["model"],
                        "--out", out, "--iterations", str(iterations), "--batch", str(batch)], check=True, cwd=ROOT / "training",
                       stdout=subprocess.DEVNULL)
        learned.append(dict(c, model=out))
    pair = [clean(work, f"retrained-{s}", sky(s, n, (8, 30)), learned) for s in (1, 0)]
    loss, shift, _ = measure(*pair, mergers(n))
    return judge("networks retrained among signals of SNR 30", loss, shift)


options = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
options.add_argument("--injections", type=int, default=200)
options.add_argument("--only", choices=["contaminated", "faded", "retrained"])
options.add_argument("--quick", action="store_true",
                     help="12 injections; a network retrained, by a few steps, with --only retrained alone")
options.add_argument("--save", action="store_true")
o = options.parse_args()
count = 12 if o.quick else o.injections
if o.only == "retrained" and not importlib.util.find_spec("torch"):
    skip("no torch")
results = {}
with folder() as work:
    if o.only in (None, "contaminated"):
        results["contaminated"] = contaminated(work, count)
    if o.only in (None, "faded"):
        results["faded"] = faded(work, count)
    if o.only in (None, "retrained") and (not o.quick or o.only):
        results["retrained"] = retrained(work, count, *((COUPLINGS[:1], 64, 4, 4) if o.quick else (COUPLINGS, 1800, 200, 16)))
if o.save:
    save("never_eaten", strain_in_witnesses=0.01, rate_hz=RATE, **results)
finish()
