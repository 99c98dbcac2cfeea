# SPDX-License-Identifier: GPL-3.0-or-later
"""Trains a cleaning network on what `record` wrote, strain and witnesses, and measures it.

    deepclean.py train    FILES --detector H1 --bands 57-63,118-122 --rate 512 --witnesses 'PEM-*' --out NET.onnx
    deepclean.py train    FILES --start NET.onnx --out NEW.onnx        # go on from its weights: fine-tuning
    deepclean.py evaluate FILES --model NET.onnx [--card "how it was made"]   # ratios of ASDs, the ideal ones beside

The loss is Whittle's: the mean over frequency of log(PSD of what is left / PSD of strain), both whitened by
one zero-phase filter of odd length, so that each bin of the bands weighs the same, the line as the floor beside it.
Outside the bands the mean over octaves of log(1 + PSD of the prediction / floor) is added: there the network must be silent,
and no band filter is needed behind it.

One thread; time is counted in iterations.
"""
import argparse
import datetime
import fnmatch
import hashlib
import os
import sys
import time

import numpy as np
import scipy.signal as sig
import torch
import yaml

from cleaner import FRAME, REACH, Cleaner, read_onnx, write_onnx
from witnessed import Witnessed, channels

CROP_S, BATCH = 8, 16  # of which the loss is taken; crops an iteration
SEGMENT_S = 2
WHITEN_S = 0.25  # reach of the whitening filter, one way
LOWEST_HZ = 5  # nothing below is looked at
MAX_RATE = 4e-3
OUTSIDE = 16  # weight of all bins outside the bands together, relative to all inside


def bands_of(text):
    """'57-63,118-122' -> [(57, 63), (118, 122)]"""
    return [tuple(float(v) for v in b.split("-")) for b in text.split(",")]


def in_bands(f, bands):
    return np.any([(f >= a) & (f < b) for a, b in bands], axis=0)


def welch(x, rate, good=None):
    """Frequencies and median PSD: 2 s Hann segments, half overlapping, those that are good throughout."""
    n = int(SEGMENT_S * rate)
    at = np.arange(0, len(x) - n + 1, n // 2)
    if good is not None:
        at = [a for a in at if good[a:a + n].all()]
    window = sig.get_window("hann", n)
    power = [np.abs(np.fft.rfft(window * (x[a:a + n] - x[a:a + n].mean())))**2 for a in at]
    return np.fft.rfftfreq(n, 1 / rate), np.median(power, axis=0) * 2 / rate / np.sum(window**2)


def whitening(strain, good, rate):
    """Odd symmetric FIR that divides by the ASD of strain without its lines (a running median over 8 Hz), above
    LOWEST_HZ."""
    f, psd = welch(strain, rate, good)
    floor = np.array([np.median(psd[max(i - 8, 2 * LOWEST_HZ):i + 9]) for i in range(len(psd))[2 * LOWEST_HZ:]])
    floor = np.concatenate([np.full(2 * LOWEST_HZ, floor[0]), floor])
    floor[f > 0.44 * rate] = floor[f <= 0.44 * rate][-1]  # beyond it the decimated strain holds nothing
    rise = np.clip((f - LOWEST_HZ) / LOWEST_HZ, 0, 1)
    taps = np.fft.fftshift(np.fft.irfft(np.sin(rise * np.pi / 2)**2 / np.sqrt(floor * rate / 2)))
    half = int(WHITEN_S * rate)
    middle = len(taps) // 2
    return taps[middle - half:middle + half + 1] * np.hanning(2 * half + 3)[1:-1]


class Training:
    """Crops for the network, and its loss."""

    def __init__(self, data, bands, shift, means, scales, output_scale, seed):
        self.rate, self.shift, rate = int(data.rate), shift, int(data.rate)
        filled = np.where(data.good, data.strain, 0)
        taps = whitening(filled, data.good, rate) * output_scale
        target = sig.fftconvolve(filled / output_scale, taps, "same")
        self.target = torch.from_numpy(target.astype(np.float32))
        x = (np.nan_to_num(data.x) - means[:, None]) / scales[:, None]
        self.x = torch.from_numpy(x.astype(np.float32))
        self.edge = REACH + len(taps) // 2
        self.length = -(-(CROP_S * rate + 2 * self.edge) // FRAME) * FRAME
        self.first = np.concatenate([np.arange(a, b - self.length - shift + 1) for a, b in
                                     data.stretches(self.length + shift)] or [[]]).astype(int)
        if len(self.first) == 0:
            raise ValueError(f"no {self.length / rate:.1f} s of good data in one piece")
        padded = np.zeros(self.length)
        padded[:len(taps)] = taps
        self.response = torch.from_numpy(np.fft.rfft(np.roll(padded, -(len(taps) // 2))).real.astype(np.float32))
        self.n = SEGMENT_S * rate
        self.window = torch.from_numpy(sig.get_window("hann", self.n).astype(np.float32))
        f = np.fft.rfftfreq(self.n, 1 / rate)
        inside = in_bands(f, bands)
        self.bins = torch.from_numpy(np.flatnonzero(f >= LOWEST_HZ))  # to Nyquist: images follow from there
        self.inside = torch.from_numpy(inside[self.bins.numpy()])
        octaves = torch.from_numpy((1 / f[self.bins.numpy()]).astype(np.float32))[~self.inside]
        self.octaves = octaves / octaves.sum()  # outside, each octave weighs the same, as for the stage's gate
        self.floor = float(np.sum(np.hanning(self.n + 1)[:-1]**2))  # power of the whitened floor in a bin
        self.rng = np.random.default_rng(seed)

    def power(self, y):
        """[B, CROP_S] -> mean over crops and segments [bins]."""
        s = torch.fft.rfft(y.unfold(1, self.n, self.n // 2) * self.window)[..., self.bins]
        return (s.real**2 + s.imag**2).mean((0, 1))

    def loss(self, network, size, outside=OUTSIDE):
        at = self.rng.choice(self.first, size)
        x = torch.stack([self.x[:, a:a + self.length] for a in at])
        y = torch.stack([self.target[a + self.shift:a + self.shift + self.length] for a in at])
        p = torch.fft.irfft(torch.fft.rfft(network(x)) * self.response, self.length)
        keep = slice(self.edge, self.edge + CROP_S * self.rate)
        left = torch.log(self.power((y - p)[:, keep]) / self.power(y[:, keep]))[self.inside]
        added = torch.log1p(self.power(p[:, keep]) / self.floor)[~self.inside]
        return left.mean() + outside * (self.octaves * added).sum()


def fit(network, training, iterations, max_rate, say=print, batch=BATCH, stop=lambda: False):
    """Adam, one cosine: a short rise, then down to nothing. Leaves the network in evaluation mode."""
    optimiser = torch.optim.Adam(network.parameters(), weight_decay=1e-5)
    network.train()
    losses, began, line = [], time.process_time(), time.monotonic()
    for i in range(iterations):
        done = i / iterations  # first to find, then to be silent where there is nothing to find
        for group in optimiser.param_groups:
            group["lr"] = max_rate * min(1, 0.05 + done / 0.05) * 0.5 * (1 + np.cos(np.pi * done))
        loss = training.loss(network, batch, OUTSIDE * min(max(4 * done - 1, 0), 1))
        if not torch.isfinite(loss):
            raise ValueError(f"the loss is {float(loss)} after {i} iterations")
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        losses.append(float(loss))
        if time.monotonic() - line > 20 or i == iterations - 1:
            say(f"{i + 1:5d} iterations  {(time.process_time() - began) / 60:5.1f} CPU-min  "
                f"loss {np.mean(losses[-50:]):.4f}")
            line = time.monotonic()
        if stop():
            break
    network.eval()


def predict(network, metadata, data):
    """What the network says is noise, in strain [n] at its own rate: the whole of the data at once, shifted to
    where it belongs. The first and last samples have seen the ends."""
    means, scales = (np.array([float(v) for v in metadata[k].split(",")]) for k in ("means", "scales"))
    shift, n = int(metadata.get("shift_samples", 0)), data.x.shape[1]
    x = ((np.nan_to_num(data.x) - means[:, None]) / scales[:, None]).astype(np.float32)
    out, piece = np.zeros(n), 64 * FRAME * FRAME
    with torch.no_grad():
        for at in range(0, n, piece):
            a, b = max(at - REACH, 0) // FRAME * FRAME, min(at + piece + REACH, n)
            crop = np.zeros((len(x), -(-(b - a) // FRAME) * FRAME), np.float32)
            crop[:, :b - a] = x[:, a:b]
            y = network(torch.from_numpy(crop[None]))[0].numpy()
            out[at:at + piece] = y[at - a:min(at + piece, n) - a]
    return np.roll(out, shift) * float(metadata["output_scale"])


def ratios(raw, cleaned, rate, bands, good=None):
    """Of each band: mean over bins of the ratio of ASDs, the integrated one, the worst bin; the same outside."""
    f, a = welch(raw, rate, good)
    _, b = welch(cleaned, rate, good)
    r = np.sqrt(b / a)

    def of(m):
        return {"mean": round(float(r[m].mean()), 4), "integrated": round(float(np.sqrt(b[m].sum() / a[m].sum())), 4),
                "worst": round(float(r[m].max()), 4)}
    out = {f"{lo:g}-{hi:g}": of((f >= lo) & (f < hi)) for lo, hi in bands}
    wide = [(lo - 2, hi + 2) for lo, hi in bands]
    out["outside"] = of((f >= 8) & (f < min(0.45 * rate, 1000)) & ~in_bands(f, wide))
    return out


def evaluate(network, metadata, data, extra=()):
    """{band: figures} of the network, of the ideal subtraction (or None)."""
    bands = bands_of(metadata["bands"]) + list(extra)
    good = data.good.copy()
    good[:2 * REACH] = good[-2 * REACH:] = False
    ours = ratios(data.strain, data.strain - predict(network, metadata, data), data.rate, bands, good)
    ideal = None
    if data.coupled is not None:
        ideal = ratios(data.strain, data.strain - data.coupled, data.rate, bands, good)
    return ours, ideal


def show(ours, ideal):
    for band, r in ours.items():
        beside = "" if ideal is None else f"   (ideal {ideal[band]['mean']:.3f} {ideal[band]['integrated']:.3f})"
        print(f"{band:>12} Hz  mean {r['mean']:.3f}  integrated {r['integrated']:.3f}  worst bin {r['worst']:.3f}{beside}")


def write_card(path, network, metadata, data, recipe, ours, ideal):
    """NET.card.yaml beside the file: what it is, how it was made, what it did on these data."""
    with open(path, "rb") as f:
        sha = hashlib.sha256(f.read()).hexdigest()
    rate, shift = float(metadata["sample_rate"]), int(metadata["shift_samples"])
    card = {"model": {"name": metadata["name"], "sha256": sha},
            "network": {"witnesses": network.channels, "parameters": sum(p.numel() for p in network.parameters()), "rate": f"{rate:g}Hz",
                        "bands": metadata["bands"], "look_ahead_ms": round(1e3 * (REACH - shift) / rate, 1)},
            "recipe": recipe,
            "figures": {"of": f"{data.names[0][:2]}, {data.seconds} s from GPS {data.start:.0f}, which it was not trained on; ratios of ASDs after "
                              "and before, 2 s Hann segments, median, at the network's rate; outside: 8 Hz to 0.9 of Nyquist without the "
                              "bands and 2 Hz beside them", "ours": ours, "ideal": ideal},
            "date": datetime.date.today().isoformat()}
    with open(os.path.splitext(path)[0] + ".card.yaml", "w") as f:
        yaml.safe_dump(card, f, sort_keys=False, width=110, allow_unicode=True, default_flow_style=None)


def standardised(metadata, data):
    """metadata with the witnesses' means and scales on these data, and an output_scale: strain in the bands, of its
    geometric mean over frequency."""
    x = data.x[:, data.good]
    f, psd = welch(data.strain, data.rate, data.good)
    inside = in_bands(f, bands_of(metadata["bands"]))
    scale = np.sqrt(np.exp(np.log(psd[inside]).mean()) * inside.sum() / SEGMENT_S)
    return {**metadata, "means": ",".join(f"{v:.9g}" for v in x.mean(1)), "scales": ",".join(f"{v:.9g}" for v in x.std(1)),
            "output_scale": f"{scale:.9g}"}


def load(o, metadata):
    return Witnessed(o.files, o.from_ or metadata["strain"], metadata["witnesses"].split(","), float(metadata["sample_rate"]),
                     o.begin, o.end)


def begin(o):
    """A network with everything still to learn -> network, metadata, data."""
    for name in ("detector", "bands", "rate", "witnesses"):
        if not getattr(o, name):
            raise ValueError(f"--{name} (or --start) is needed")
    found = sorted({c for path in o.files for c in channels(path)})
    names = [c for p in o.witnesses for c in found if fnmatch.fnmatch(c, f"{o.detector}:{p}")]
    if not names:
        raise ValueError(f"no channel is like {' '.join(o.witnesses)}")
    metadata = {"name": o.name or os.path.splitext(os.path.basename(o.out))[0], "strain": o.strain or f"{o.detector}:STRAIN",
                "sample_rate": f"{o.rate:g}", "witnesses": ",".join(names), "bands": o.bands, "shift_samples": o.shift or 0}
    data = load(o, metadata)
    return Cleaner(len(names)), standardised(metadata, data), data


def go_on(o):
    """The network of --start; of another detector, with the same channels of that one -> network, metadata, data."""
    network, metadata = read_onnx(o.start)
    metadata |= {k: v for k, v in (("name", o.name), ("bands", o.bands), ("shift_samples", o.shift), ("strain", o.strain)) if v}
    was = metadata["strain"].split(":")[0]
    if o.detector in (None, was):
        return network, metadata, load(o, metadata)
    for key in ("strain", "witnesses"):
        metadata[key] = metadata[key].replace(was + ":", o.detector + ":")
    data = load(o, metadata)
    return network, standardised(metadata, data), data


def train(o):
    torch.manual_seed(o.seed)
    network, metadata, data = go_on(o) if o.start else begin(o)
    max_rate = o.learning_rate or (MAX_RATE / 4 if o.start else MAX_RATE)
    means, scales = (np.array([float(v) for v in metadata[k].split(",")]) for k in ("means", "scales"))
    training = Training(data, bands_of(metadata["bands"]), int(metadata["shift_samples"]), means, scales,
                        float(metadata["output_scale"]), o.seed)
    print(f"{metadata['name']}: {network.channels} witnesses, {data.seconds} s from GPS {data.start:.0f}, "
          f"{sum(p.numel() for p in network.parameters())} parameters", flush=True)
    fit(network, training, o.iterations, max_rate, lambda text: print(text, flush=True), o.batch)
    digest = write_onnx(network, o.out, metadata)
    print(f"{o.out}: SHA-256 {digest}")


def main():
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = options.add_subparsers(dest="command", required=True)
    for name in ("train", "evaluate"):
        c = commands.add_parser(name)
        c.add_argument("files", nargs="+", help="recordings")
        c.add_argument("--begin", type=float, help="GPS")
        c.add_argument("--end", type=float, help="GPS")
        c.add_argument("--from", dest="from_", metavar="CHANNEL", help="take strain from here: NAME or NAME+NAME")
        if name == "evaluate":
            c.add_argument("--model", required=True)
            c.add_argument("--extra", default="", help="bands beside the network's own")
            c.add_argument("--card", metavar="RECIPE", help="write the model's card, with this said of how it was made")
            continue
        c.add_argument("--out", required=True, help="the ONNX file to write")
        c.add_argument("--start", help="ONNX file whose weights to go on from")
        c.add_argument("--name", help="of the network (default: as the file)")
        c.add_argument("--detector")
        c.add_argument("--strain", help="channel that will be cleaned (default: H1:STRAIN)")
        c.add_argument("--witnesses", nargs="+", help="patterns, without the detector")
        c.add_argument("--bands", help="57-63,118-122")
        c.add_argument("--rate", type=float, help="of the network, Hz")
        c.add_argument("--shift", type=int, help="samples: column i gives the noise at i + shift")
        c.add_argument("--iterations", type=int, default=1000)
        c.add_argument("--batch", type=int, default=BATCH, help="crops of 8 s an iteration")
        c.add_argument("--learning-rate", type=float)
        c.add_argument("--seed", type=int, default=1)
    o = options.parse_args()
    torch.set_num_threads(1)  # two threads on a busy machine are slower than one
    try:
        if o.command == "train":
            train(o)
        else:
            network, metadata = read_onnx(o.model)
            data = load(o, metadata)
            ours, ideal = evaluate(network, metadata, data, bands_of(o.extra) if o.extra else ())
            show(ours, ideal)
            if o.card:
                write_card(o.model, network, metadata, data, o.card, ours, ideal)
    except (ValueError, OSError) as e:
        sys.exit(f"deepclean.py: {e}")


if __name__ == "__main__":
    main()
