# SPDX-License-Identifier: GPL-3.0-or-later
"""Judges a trained network on simulation alone and writes the model and its card.

    evaluate.py --data DATA --run RUN.pt [--box 4] [--model models/bbh-small.onnx] [--times]

Background: recordings of noise with glitches; each of one detector is paired with every one of the other, its
own one only slid in time, and searched as `gwstream` would. Efficiency: every recorded signal at five
SNRs in the noise it was recorded with. Without --box, prints the trade of efficiency against latency
for several smoothing boxes and writes nothing; with it, writes RUN's network as --model and, beside
it, the card. --times: only the arrival head of RUN is new; the card beside --model keeps the rest.
"""
import argparse
import datetime
import glob
import os

import numpy as np
import torch
import yaml

import timing
import windows
from batches import Bank
from network import ARRIVAL, HOP, RATE_HZ, SEARCHES, WINDOW, Network, write_onnx

FRAME_S = HOP / RATE_HZ
CLUSTER_S = 8.0  # one candidate in this time
SLIDE_S = 61.0  # offset between slides of one pair: far longer than any memory
SNRS = (8, 10, 12, 15, 20)
BARS = {"hour": (.30, .55, .70, .80, .90), "day": (.15, .40, .60, .75, .85)}
MASS_BINS = (5, 7, 10, 15, 20, 30, 70)  # chirp mass, Msun
BIN_WIDTH, FIRST_BIN, BINS = 0.05, -10.0, 800
BEFORE = 1536  # samples searched before the crop of a signal
TIMED_SNR = 12  # from here on arrival times are calibrated
SEARCH_S = (-0.3, 0.8)  # an event this far from the arrival is this signal


def box(y, n):
    """Mean of the last n frames; the first n - 1 are of fewer."""
    total = np.cumsum(np.pad(y, [(0, 0)] * (y.ndim - 1) + [(n, 0)]), -1, dtype=np.float64)
    return ((total[..., n:] - total[..., :-n]) / n).astype(np.float32)


def background(network, folder, days):
    """-> frame logits of each pair of recordings [pair][frames] (pooled), seconds searched in all, seconds
    that differ, the whitenings' texts."""
    features, texts = [], set()
    for path in sorted(glob.glob(os.path.join(folder, "*.hdf5"))):
        x, _, text = windows.read(path, "STRAIN")
        texts.add(text)
        x = torch.from_numpy(x[:, :x.shape[1] // RATE_HZ * RATE_HZ].astype(np.float32))
        with torch.no_grad():
            features.append([network.detector_features(x[d:d + 1]) for d in (0, 1)])
    if not features:
        raise FileNotFoundError(f"{folder}: no recordings; run windows.py first")
    n = min(f.shape[3] for pair in features for f in pair)
    pairs, runs, seconds = [], len(features), n * ARRIVAL / RATE_HZ - WINDOW / RATE_HZ
    for slide in range(int(np.ceil(days * 86400 / seconds))):
        i, turn = slide % runs, slide // runs
        j = (i + turn) % runs
        lag = int(SLIDE_S * (1 + turn // runs)) * RATE_HZ // ARRIVAL
        f = torch.cat([features[i][0][..., :n], torch.roll(features[j][1][..., :n], lag, 3)], 1)
        with torch.no_grad():
            y = network.dense(f)[0].numpy()
        # The start has seen padding, the seam of the roll a cut.
        seam = lag * ARRIVAL // HOP
        y[:WINDOW // HOP] = y[seam:seam + WINDOW // HOP] = -99
        pairs.append(y)
    # What the seam takes is taken from the time as well.
    return pairs, len(pairs) * (seconds - WINDOW / RATE_HZ), runs * n * ARRIVAL / RATE_HZ, texts


def cluster_maxima(statistic):
    """The loudest of each stretch of CLUSTER_S that no louder one within CLUSTER_S outshines."""
    n = int(CLUSTER_S / FRAME_S)
    y = statistic[:len(statistic) // n * n].reshape(-1, n)
    at, top = y.argmax(1) + n * np.arange(len(y)), y.max(1)
    near = np.abs(np.diff(at)) < n
    beaten = np.zeros(len(top), bool)
    beaten[1:] |= near & (top[:-1] > top[1:])
    beaten[:-1] |= near & (top[1:] >= top[:-1])
    return top[~beaten & (top > -90)]


def histogram(pairs, n):
    """Cluster maxima of the statistic with box n, in the card's bins."""
    top = np.concatenate([cluster_maxima(box(y, n)) for y in pairs])
    k = np.clip(np.floor((top - FIRST_BIN) / BIN_WIDTH), 0, BINS - 1).astype(int)
    return np.bincount(k, minlength=BINS)


def threshold(counts, live_s, rate_hz):
    """Smallest edge of a bin at which (n + 1) / T is at most the rate."""
    above = np.cumsum(counts[::-1])[::-1]
    if 1 / live_s > rate_hz:
        raise ValueError(f"{live_s:.0f} s of background cannot tell a rate of 1 in {1 / rate_hz:.0f} s")
    k = np.flatnonzero((above + 1) / live_s <= rate_hz)[0]
    return round(FIRST_BIN + BIN_WIDTH * float(k), 6)


class Injections:
    """Recorded signals in the noise they were recorded with, at any SNR."""

    def __init__(self, folder):
        self.bank = b = Bank(folder)
        self.use = np.flatnonzero(b.at >= BEFORE)
        self.arrival = (b.arrival[self.use] + BEFORE) / RATE_HZ  # in the stretch, s
        self.ratio = b.snr[self.use].min(1) / b.snr[self.use].max(1)
        m = b.mass[self.use]
        self.chirp = (m[:, 0] * m[:, 1]) ** 0.6 / m.sum(1) ** 0.2

    def stretch(self, k, snr, change=None):
        """change(h [2][CROP]) -> h: what a negative control does to the signal."""
        b, i = self.bank, self.use[k]
        x = b.noise[b.segment[i]][:, b.at[i] - BEFORE:b.at[i] + b.signals.shape[2]].astype(np.float32)
        h = b.signals[i].astype(np.float32) * (snr / np.sqrt(np.sum(b.snr[i] ** 2)))
        x[:, BEFORE:] += h if change is None else change(h)
        return x[:, x.shape[1] % HOP:], (x.shape[1] % HOP) / RATE_HZ

    def search(self, network, snr, change=None):
        """-> pooled frame logits [k][frames], arrival scores [k][2][columns], and times of the ends of
        frames, and of the centres of columns, less that of the later arrival."""
        logits, scores = [], []
        with torch.no_grad():
            for part in np.array_split(np.arange(len(self.use)), max(len(self.use) // 50, 1)):
                x = [self.stretch(k, snr, change) for k in part]
                f = network.features(torch.from_numpy(np.stack([s for s, _ in x])))
                logits.append(network.dense(f).numpy())
                d = f.reshape(len(part) * 2, -1, 1, f.shape[3])
                scores.append(network.arrival(d).reshape(len(part), 2, -1).numpy())
                cut = x[0][1]
        logits, scores = np.concatenate(logits), np.concatenate(scores)
        later = self.arrival.max(1)[:, None] - cut
        ends = (np.arange(logits.shape[1]) + 1) * FRAME_S - later
        logits[:, :WINDOW // HOP] = -99
        columns = (np.arange(scores.shape[2]) + 0.5) * ARRIVAL / RATE_HZ - later
        return logits, scores, ends, columns


def found(statistic, ends, bar):
    """-> found [k], seconds from arrival to the first crossing [k], to the peak [k]."""
    y = np.where((ends > SEARCH_S[0]) & (ends < SEARCH_S[1]), statistic, -99)
    rows = np.arange(len(y))
    return y.max(1) >= bar, ends[rows, (y >= bar).argmax(1)], ends[rows, y.argmax(1)]


def controls(light_s):
    """What must not look like a signal: name -> change."""
    delay = int(3 * light_s * RATE_HZ)  # no delay of the signal's own brings it back to what light allows
    rng = np.random.default_rng(3)

    def mute(h):
        return h * np.eye(2, dtype=np.float32)[rng.integers(2)][:, None]

    return {f"delayed_{3e3 * light_s:.0f}ms": lambda h: np.stack([h[0], np.roll(h[1], delay)]),
            "one_detector": mute, "time_reversed": lambda h: h[:, ::-1].copy()}


def table(values):
    return {int(s): round(float(v), 3) for s, v in zip(SNRS, values)}


class Report:
    def __init__(self, network, data, days):
        self.network = network
        self.pairs, self.live_s, self.distinct_s, texts = background(
            network, os.path.join(data, "background"), days)
        self.sets = {name: Injections(os.path.join(data, name)) for name in ("efficiency", "young")}
        # What is judged here is the network behind this whitening, whatever it was trained on.
        texts |= {i.bank.whitening for i in self.sets.values()}
        if len(texts) != 1:
            raise ValueError(f"{data}: background and signals were whitened differently: {texts}")
        self.whitening = texts.pop()
        self.runs = {name: [i.search(network, s) for s in SNRS] for name, i in self.sets.items()}

    def bars(self, n):
        counts = histogram(self.pairs, n)
        return counts, {"hour": threshold(counts, self.live_s, 1 / 3600),
                        "day": threshold(counts, self.live_s, 1 / 86400)}

    def each(self, name, n, bar):
        """found() for each SNR."""
        return [found(box(y, n), ends, bar) for y, _, ends, _ in self.runs[name]]

    def trade(self):
        print(f"{self.live_s / 86400:.2f} days of background, {len(self.sets['efficiency'].use)} signals")
        for n in (1, 2, 4, 8, 16):
            _, bars = self.bars(n)
            hour = self.each("efficiency", n, bars["hour"])
            day = self.each("efficiency", n, bars["day"])
            late = np.concatenate([t[ok] for ok, t, _ in hour[1:]])
            print(f"box {n:2d}: thresholds {bars['hour']:.2f} {bars['day']:.2f}  1/hour "
                  + " ".join(f"{ok.mean():.2f}" for ok, _, _ in hour) + "  1/day "
                  + " ".join(f"{ok.mean():.2f}" for ok, _, _ in day)
                  + f"  crossing {1e3 * np.median(late):.0f} ms, 90 % {1e3 * np.quantile(late, .9):.0f} ms",
                  flush=True)


def times(signals, runs, n, bar, light_s):
    """The arrival head: -> metadata, what the card says. Fitted on every second signal, told of the others."""
    # Of each detector by itself, as events tell them.
    error, deviation, snrs, chirp, fit, peaks = [], [], [], [], [], []
    earlier = signals.arrival - signals.arrival.max(1)[:, None]  # columns count from the later arrival
    for (y, scores, ends, columns), snr in zip(runs, SNRS):
        ok, _, peak = found(box(y, n), ends, bar)
        peaks.append(peak[ok])
        mean, d = timing.arrivals(scores[ok], columns[ok], peak[ok], 0.75 + n * FRAME_S, light_s)
        error.append((mean - earlier[ok]).ravel())
        deviation.append(d.ravel())
        snrs.append(np.full(2 * ok.sum(), snr))
        chirp.append(np.repeat(signals.chirp[ok], 2))
        fit.append(np.repeat(np.flatnonzero(ok) % 2 == 0, 2))
    error, deviation, snrs, chirp, fit = map(np.concatenate, (error, deviation, snrs, chirp, fit))
    loud = snrs >= TIMED_SNR
    group = np.where(chirp < MASS_BINS[-1], np.digitize(chirp, MASS_BINS) - 1, -1)
    use = fit & loud
    offset, skew, scale, floor = timing.calibrate(error[use], deviation[use], group[use])
    error, sigma = error + offset - skew * deviation, np.sqrt((scale * deviation) ** 2 + floor ** 2)
    groups = {f"SNR {s}": ~fit & (snrs == s) for s in SNRS}
    groups[f"SNR {TIMED_SNR} and above"] = ~fit & loud
    groups |= {f"{a}-{b} Msun": ~fit & loud & (chirp >= a) & (chirp < b)
               for a, b in zip(MASS_BINS, MASS_BINS[1:])}
    told = {"of": "arrival at each detector, found at 1/hour, ms; chirp masses from SNR "
                  f"{TIMED_SNR} on; on half of the signals, calibrated on the others",
            **timing.quality(error, sigma, groups)}
    return {"arrival_offset_s": round(offset, 6), "arrival_skew": round(skew, 2), "arrival_sigma_scale": round(scale, 4),
            "arrival_sigma_floor_s": round(floor, 6),
            "peak_offset_s": round(-float(np.median(np.concatenate(peaks))), 6)}, told


def card(report, n, state, name, sha256, told):
    counts, bars = report.bars(n)
    runs = {k: report.each("efficiency", n, bar) for k, bar in bars.items()}
    young = {k: report.each("young", n, bar) for k, bar in bars.items()}
    signals = report.sets["efficiency"]
    efficiency = {}
    for k in bars:
        ok = np.array([f for f, _, _ in runs[k]])  # [snr][signal]
        efficiency[f"one_per_{k}"] = {
            "all": table(ok.mean(1)),
            "detector_ratio_over_0.3": table(ok[:, signals.ratio > 0.3].mean(1)),
            "psd_of_9_s": table([f.mean() for f, _, _ in young[k]]),
            "chirp_mass": {f"{a}-{b}": table(ok[:, (signals.chirp >= a) & (signals.chirp < b)].mean(1))
                           for a, b in zip(MASS_BINS, MASS_BINS[1:])
                           if np.any((signals.chirp >= a) & (signals.chirp < b))}}
    late = np.concatenate([t[ok] for ok, t, _ in runs["hour"][1:]])
    negative = {}
    for what, change in controls(search_of(state).light_s).items():
        y, _, ends, _ = signals.search(report.network, 20, change)
        y = np.where((ends > -1.0) & (ends < SEARCH_S[1]), box(y, n), -99)
        negative[what] = {f"one_per_{k}": round(float(np.mean(y.max(1) >= bar)), 4)
                          for k, bar in bars.items()}
    return {
        "model": {"name": name, "sha256": sha256},
        "thresholds": {"candidate": bars["hour"], "alert": bars["day"]},
        "background": {"live_time": f"{int(report.live_s)}s", "bin_width": BIN_WIDTH, "first_bin": FIRST_BIN,
                       "counts": [int(c) for c in counts[:np.flatnonzero(counts)[-1] + 1]]},
        "data": {
            "origin": "simulated by gwstream: coloured Gaussian noise, lines, glitches, IMRPhenomB signals",
            "training": state["bank"], "trained_on_whitening": state["whitening"],
            "whitening": report.whitening,
            "population": "m1, m2 log-uniform 5-80 Msun, ratio < 8, aligned spin < 0.6, isotropic",
            "background": f"{report.distinct_s / 3600:.2f} h of two detectors, paired and slid; a glitch of "
                          "SNR 4-80 every 30 s in each; statistic clustered in 8 s",
            "efficiency": f"{len(signals.use)} signals per SNR, not seen in training, PSD of 64 s; optimal "
                          "network SNR over the true PSD from 20 Hz; glitches as in the background"},
        "recipe": {
            "parameters": sum(p.numel() for p in report.network.parameters()),
            "runs": state["runs"], "windows": int(state["windows"]), "minutes": round(state["cpu_s"] / 60, 1),
            "machine": "one CPU core",
            "chosen_by": "efficiency, latency and controls on these very simulations; nothing else",
            "pool_frames": report.network.pool_frames, "smoothing_frames": n,
            "date": datetime.date.today().isoformat()},
        "efficiency": efficiency,
        "young_psd": {
            "of": "share found with a PSD of 9 s (psd_of_9_s) over that found with one of 64 s (all)",
            "signals": {"young": len(report.sets["young"].use), "old": len(signals.use)},
            **{f"one_per_{k}": {int(s): round(float(a[0].mean() / b[0].mean()), 3)
                                for s, a, b in zip(SNRS, young[k], runs[k])} for k in bars}},
        "latency_ms": {"first_crossing_median": round(1e3 * float(np.median(late))),
                       "first_crossing_90": round(1e3 * float(np.quantile(late, .9))),
                       "of": "end of the frame that crosses 1/hour less the later arrival, SNR 10-20"},
        "timing_ms": told,
        "controls": {"of": "share of signals of SNR 20, so changed, that still cross", **negative}}


def search_of(state):
    """What the network of a checkpoint is for."""
    return SEARCHES[state.get("search", "hl")]


def name_of(path):
    return os.path.splitext(os.path.basename(path))[0]


def write(network, state, path, n, whitening, offsets):
    return write_onnx(network, path, {"name": name_of(path), "detectors": search_of(state).detectors,
                                      "smoothing_frames": n, "whitening": whitening, **offsets})


def write_card(path, text):
    with open(os.path.splitext(path)[0] + ".card.yaml", "w") as f:
        yaml.safe_dump(text, f, sort_keys=False, width=100, default_flow_style=None)


def new_head(network, state, data, path):
    """The network of the card beside `path` again, with another arrival head: the ranking is what it was."""
    with open(os.path.splitext(path)[0] + ".card.yaml") as f:
        text = yaml.safe_load(f)
    n, signals = text["recipe"]["smoothing_frames"], Injections(os.path.join(data, "efficiency"))
    if signals.bank.whitening != text["data"]["whitening"]:
        raise ValueError(f"{data}: whitened otherwise than the card says: {signals.bank.whitening}")
    runs = [signals.search(network, s) for s in SNRS]
    offsets, text["timing_ms"] = times(signals, runs, n, text["thresholds"]["candidate"],
                                       search_of(state).light_s)
    text["model"]["sha256"] = write(network, state, path, n, signals.bank.whitening, offsets)
    text["recipe"]["parameters"] = sum(p.numel() for p in network.parameters())
    text["recipe"]["arrival_head"] = f"weights that rank frozen; trained on {state['bank']}, {state['whitening']}"
    write_card(path, text)
    print(yaml.safe_dump({**offsets, "timing_ms": text["timing_ms"]}, width=150, default_flow_style=None))


def main():
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--data", required=True)
    options.add_argument("--run", required=True)
    options.add_argument("--days", type=float, default=3.1)
    options.add_argument("--box", type=int, help="smoothing frames")
    options.add_argument("--times", action="store_true", help="only the arrival head is new")
    options.add_argument("--model", default="models/bbh-small.onnx")
    o = options.parse_args()
    torch.set_num_threads(1)
    state = torch.load(o.run)
    network = Network(state["pool"])
    network.load_state_dict(state["mean"])
    network.eval()
    if o.times:
        new_head(network, state, o.data, o.model)
        return
    report = Report(network, o.data, o.days)
    if o.box is None:
        report.trade()
        return
    _, bars = report.bars(o.box)
    offsets, told = times(report.sets["efficiency"], report.runs["efficiency"], o.box, bars["hour"],
                          search_of(state).light_s)
    sha256 = write(network, state, o.model, o.box, report.whitening, offsets)
    text = card(report, o.box, state, name_of(o.model), sha256, told)
    write_card(o.model, text)
    for rate, wanted in BARS.items():
        got = text["efficiency"][f"one_per_{rate}"]["all"]
        for snr, least in zip(SNRS, wanted):
            print(f"{'ok  ' if got[snr] >= least else 'LOW '} efficiency at 1/{rate}, SNR {snr}: "
                  f"{got[snr]:.2f} (wanted {least:.2f})")
    print(yaml.safe_dump({k: text[k] for k in ("thresholds", "latency_ms", "timing_ms", "controls")}))


if __name__ == "__main__":
    main()
