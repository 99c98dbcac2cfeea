# SPDX-License-Identifier: GPL-3.0-or-later
"""`gwstream witness rank` on 200 channels of four rates whose truth is known: all witnesses above all others, mains and slow
ones included; copies, unsafe and listed channels refused; coherence as scipy has it; bad input in one clear line."""

import json
import os
import re

import h5py
import numpy as np
import scipy.signal as sig

from flow import check, finish, folder, run

START, SECONDS, RATE = 1400000000, 200, 4096
rng = np.random.default_rng(6)


def band_noise(rate, low, high):
    """Gaussian noise in a band, of unit variance."""
    n = SECONDS * rate
    f = np.fft.rfftfreq(n, 1 / rate)
    x = np.fft.irfft(np.where((f >= low) & (f <= high), np.fft.rfft(rng.standard_normal(n)), 0), n)
    return x / np.std(x)


def simulate():
    """Strain of floor 1 and its witnesses: {rate: {name: samples}}."""
    t = np.arange(SECONDS * RATE) / RATE
    turns = 60 * t + 0.05 * np.sin(2 * np.pi * 0.02 * t) / 0.02 / (2 * np.pi)
    mains = np.sqrt(2) * np.cos(2 * np.pi * turns)
    floor = sig.lfilter(*sig.butter(2, 15, "high", fs=RATE), rng.standard_normal(t.size))
    floor += 3 * sig.lfilter(*sig.butter(2, 40, "low", fs=RATE), rng.standard_normal(t.size))
    strain = floor + 5 * mains
    sees = {16: {}, 512: {}, 2048: {}, RATE: {}}
    # mains in three phases; five slow motions that modulate it; jitter through a resonance
    for k in range(3):
        phase = np.sqrt(2) * np.cos(2 * np.pi * (turns + k / 3))[::RATE // 512]
        sees[512][f"H1:PEM-MAINS_{k}"] = 230 * (phase + 0.02 * rng.standard_normal(phase.size))
    for k in range(5):
        slow = band_noise(RATE, 0.15, 1.5)
        strain += 0.15 * mains * slow
        rate = 16 if k < 3 else 512
        x = slow[::RATE // rate]
        sees[rate][f"H1:ASC-SLOW_{k}"] = 100 + 1e-3 * (x + 0.02 * rng.standard_normal(x.size))
    for k in range(6):
        jitter = band_noise(RATE, 8, 35)
        peak = sig.lfilter(*sig.iirpeak(12 + 3 * k, 8, RATE), jitter)
        strain += (0.5 if k < 5 else 0.15) * peak / np.std(peak)
        x = jitter[::2]
        sees[2048][f"H1:ISI-JITTER_{k}"] = x + 0.02 * rng.standard_normal(x.size)
    fast = band_noise(RATE, 20, 300)
    strain += fast / 3
    sees[RATE]["H1:PEM-FAST"] = fast + 0.3 * rng.standard_normal(fast.size)
    truth = [name for names in sees.values() for name in names]
    # what must not be chosen
    low = sig.lfilter(*sig.butter(4, 900, fs=RATE), strain)
    sees[2048]["H1:DAQ-COPY"] = np.roll(low, 37)[::2] + 0.01 * rng.standard_normal(t.size // 2)
    sees[RATE]["H1:DAQ-LISTED"] = strain + rng.standard_normal(t.size)
    sees[512]["H1:PEM-DEAD"] = np.zeros(SECONDS * 512)
    other = (turns + 0.7 * t / SECONDS)[::8]  # another line, slow to drift away
    sees[512]["H1:PEM-OTHER"] = np.cos(2 * np.pi * other) + 0.02 * rng.standard_normal(other.size)
    for k in range(181):
        rate = (16, 512, 2048)[k % 3]
        low, high = ((0.1, 7), (0.1, 1.5), (5, 40))[k // 3 % 3]
        x = band_noise(rate, low, min(high, 0.45 * rate)) if k % 2 else rng.standard_normal(SECONDS * rate)
        if k % 7 == 0 and rate > 16: # with a line of its own beside mains
            x = x + 3 * np.cos(2 * np.pi * 58.3 * np.arange(x.size) / rate)
        sees[rate][f"H1:AUX-IDLE_{k:03d}"] = x
    return 1e-21 * strain, sees, truth


def write(path, strain, sees):
    with h5py.File(path, "w") as f:
        for rate, names in {**sees, RATE: {**sees[RATE], "H1:STRAIN": strain}}.items():
            for name, x in names.items():
                d = f.create_dataset(name, data=x if "STRAIN" in name else x.astype(np.float32))
                d.attrs.update({"t0": START, "sample_rate": rate})
    return path


def ranking(*args):
    status, out, err = run("witness", "rank", "--quiet", *args)
    return status, out, err


with folder() as work:
    strain, sees, truth = simulate()
    n = sum(map(len, sees.values()))
    path = write(f"{work}/sky.hdf5", strain, sees)
    with open(f"{work}/refuse.txt", "w") as f:
        f.write("# never\nH1:DAQ-LIST*\n")
    status, out, err = ranking("--strain", "H1:STRAIN", "--refuse", f"{work}/refuse.txt", "--json", f"{work}/r.json",
                               "--list", f"{work}/r.txt", "--picture", f"{work}/r.png", path)
    check(status == 0, f"ranks {n} channels of four rates {err}")
    if status:
        finish()
    said = json.load(open(f"{work}/r.json"))
    order = [c["channel"] for c in said["channels"]]
    by = {c["channel"]: c for c in said["channels"]}
    last = max(order.index(name) for name in truth)
    missed = [name for name in truth if order.index(name) >= len(truth)]
    check(len(order) == n and not missed, f"the {len(truth)} true witnesses are the first {last + 1} of {n} {missed}")
    wrong = [name for name in order if by[name]["verdict"] in ("chosen", "coherent") and name not in truth]
    check(not wrong, f"nothing else is taken for one {wrong}")
    for name in ("PEM-MAINS", "ASC-SLOW", "ISI-JITTER"):
        first = next(c for c in said["channels"] if name in c["channel"])
        where = {"PEM-MAINS": "57-63 Hz", "ASC-SLOW": "60 Hz +- 3 Hz", "ISI-JITTER": "10-30 Hz"}[name]
        check(first["verdict"] == "chosen" and first["target"] == where, f"{first['channel']} is chosen for {where}")
    chosen = [c for c in said["channels"] if c["verdict"] == "chosen"]
    check(sum("MAINS" in c["channel"] for c in chosen[:4]) == 1, "three phases of one line do not take three places")
    check(by["H1:DAQ-LISTED"]["verdict"] == "listed" and by["H1:DAQ-COPY"]["verdict"] == "copy of strain",
          f"refused by list, and a late copy by what it is (coherence {by['H1:DAQ-COPY']['broad']:.3f})")
    check(by["H1:PEM-OTHER"]["verdict"] == "chance", f"a line of nearly the same frequency, not the same, is chance (coherence {by['H1:PEM-OTHER']['peak']:.2f})")
    check(by["H1:PEM-DEAD"]["verdict"] == "no data", "a channel of zeros has no data")
    check(open(f"{work}/r.txt").read().split() == [c["channel"] for c in chosen], "the list: those chosen, a name a line")
    check(open(f"{work}/r.png", "rb").read(4) == b"\x89PNG", "a picture")
    check([re.split(r"\s+", line.strip())[1] for line in out.splitlines() if " chosen  " in line and line[0] != "#"] ==
          [c["channel"] for c in chosen], "the table says the same")
    carrier = said["targets"][2].get("carrier", "")
    check("MAINS" in carrier, f"the sidebands' phase is from {carrier}")

    # scipy's coherence, of the same segments
    def scipys(x, rate):
        if rate == RATE:
            return sig.coherence(strain, x, RATE, "hann", 2 * RATE, RATE, detrend=False)
        f, _, y = sig.spectrogram(strain, RATE, "hann", 2 * RATE, RATE, detrend=False, mode="complex")
        f, _, z = sig.spectrogram(x, rate, "hann", 2 * rate, rate, detrend=False, mode="complex")
        y = y[:f.size]
        return f, abs((y * z.conj()).sum(1))**2 / (abs(y)**2).sum(1) / (abs(z)**2).sum(1)

    for name, rate in (("H1:PEM-FAST", RATE), ("H1:ISI-JITTER_0", 2048), ("H1:PEM-MAINS_1", 512)):
        f, c = scipys(sees[rate][name].astype(np.float32).astype(float), rate)
        off = max(np.abs(np.interp(t["hz"], f, c) - t["coherence"]).max() for t in by[name]["coherence"][:2])
        check(off < 1e-6, f"{name} at {rate} Hz: coherence as scipy's (off by {off:.1e})")
    # what a perfect subtraction of the chosen ones leaves of 57-63 Hz, by least squares in each bin of scipy's spectra
    f, _, y = sig.spectrogram(strain, RATE, "hann", 2 * RATE, RATE, detrend=False, mode="complex")
    see = [(rate, sees[rate][c["channel"]]) for c in chosen for rate in (512, RATE) if c["channel"] in sees[rate] and "PEM" in c["channel"]]
    spectra = [sig.spectrogram(x, rate, "hann", 2 * rate, rate, detrend=False, mode="complex")[2] for rate, x in see]
    ratio = []
    for k in range(2 * 57, 2 * 63 + 1):
        a = np.array([s[k] for s in spectra]).T
        left = y[k] - a @ np.linalg.lstsq(a, y[k], rcond=None)[0]
        ratio.append(np.sqrt((abs(left)**2).sum() / (abs(y[k])**2).sum()))
    check(abs(said["targets"][1]["ratio"] / np.mean(ratio) - 1) < 0.03,
          f"57-63 Hz: {said['targets'][1]['ratio']:.3f} of the ASD is left, least squares leaves {np.mean(ratio):.3f}")

    # the same in other blocks, from where the samples begin elsewhere
    status, _, err = ranking("--strain", "H1:STRAIN", "--bands", "10-30", "--duration", "120s", "--output", f"{work}/t.txt",
                             "--json", f"{work}/s.json", path)
    short = json.load(open(f"{work}/s.json"))
    check(status == 0 and short["segments"] == 120 and len(short["targets"]) == 1, f"one band, two minutes {err}")

    # injections show who sees strain
    graph = """
sources:
  sky: {{kind: sim, seed: 9, start: 1400000000, duration: 150s, rate: 1024Hz, block: 1s, detectors: [H1], asd: design-plain,
    lines: false, population: {{spacing: 12s, network_snr: [20, 40], mass: [20, 40]}},
    witnesses: {{rate: 1024Hz, strain: {strain}, channels: [{{name: JITTER, band: [8Hz, 35Hz], count: 8}}],
      couplings: [{{of: JITTER_0, height: 4}}, {{of: JITTER_1, height: 2}}]}}}}
"""
    verdicts = {}
    for seen in (0, 0.02):
        with open(f"{work}/sky.yaml", "w") as f:
            f.write(graph.format(strain=seen))
        status, out, err = ranking("--strain", "H1:STRAIN", "--config", f"{work}/sky.yaml", "--bands", "10-30", "--json", f"{work}/i.json")
        if status:
            print(err)
        said = json.load(open(f"{work}/i.json"))
        verdicts[seen] = {c["channel"]: c["verdict"] for c in said["channels"]}
    check(said["injected"] > 20, f"{said['injected']} seconds with injections")
    check([verdicts[0][f"H1:JITTER_{k}"] for k in range(3)] == ["chosen", "chosen", "chance"], f"witnesses that do not see strain are safe")
    check(set(verdicts[0.02].values()) == {"unsafe"}, f"those that see 2 % of it are not {verdicts[0.02]}")

    # bad input
    status, _, err = ranking("--strain", "H1:STRIAN", path)
    check(status == 2 and err.count("\n") == 1 and "H1:STRAIN" in err, f"a typo: {err.strip()}")
    open(f"{work}/empty.hdf5", "w").close()
    status, _, err = ranking("--strain", "H1:STRAIN", f"{work}/empty.hdf5")
    check(status == 2 and err.count("\n") == 1 and "empty.hdf5" in err, f"an empty file: {err.strip()}")
    status, _, err = ranking("--strain", "H1:STRAIN", "--bands", "30-10", path)
    check(status == 2 and err.count("\n") == 1, f"a band that falls: {err.strip()}")
    status, _, err = ranking("--strain", "H1:STRAIN", "--lines", "9999", path)
    check(status == 2 and err.count("\n") == 1, f"a line too high: {err.strip()}")
    status, _, err = ranking("--strain", "H1:STRAIN", "--refuse", f"{work}/none.txt", path)
    check(status == 2 and err.count("\n") == 1 and "none.txt" in err, f"no such list: {err.strip()}")
    status, _, err = ranking("--strain", "H1:STRAIN")
    check(status == 2 and err.count("\n") == 1, f"no data: {err.strip()}")
    status, _, err = ranking("--strain", "H1:STRAIN", "--list", path, path)
    check(status == 2 and os.path.getsize(path) > 1000, f"an output that is the input: {err.strip()}")
finish()
