# SPDX-License-Identifier: GPL-3.0-or-later
"""Networks on one core: gwstream beside PyTorch and ONNX Runtime on the same files in the same run, one thread each,
rounds interleaved, medians; windows, streams, and the merged part alone that a time slide costs. The shares are of
the fused multiply-adds that this core does at most, measured in every round, for the operations of the plain sums:
above 1 where a layer needs fewer (kernels/cpu/conv_short.h). Writes benchmarks/results/nn-DATE.json.

    benchmarks/bench_nn.py [--rounds 3] [--seconds 0.4] [--peers FOLDER] [--core N] [--compile] [--quick]

The peers come into a virtual environment in FOLDER (default: gwstream-peers in the user's cache) by pip, as it is
configured here; the first time that takes minutes. --compile: torch.compile is tried too (minutes more). --quick: the
shipped network alone, no peers, no file."""

import argparse
import datetime
import json
import math
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests" / "long"))
from peers import DEFAULT, Peers  # noqa: E402
from result import calm, save  # noqa: E402
from flow import MODEL, PROGRAM, check, finish  # noqa: E402

ENGINES = ("gwstream", "torch", "onnxruntime")
# network, batches; the large ones only as large as a round allows
CASES = (("shipped", (1, 8, 32, 256)), ("deepclean", (1, 8, 32, 256)), ("resnet18", (1, 8, 32, 256)),
         ("resnet34-group", (1, 8, 32)), ("small", (1, 8, 32, 256)))
# network, what `gwstream model bench` is told: beside the peers' windows
STREAMS = (("shipped", "at 32 windows/s", ("--stream", "--hop", "64")),
           ("deepclean", "at 16 windows/s", ("--stream", "--hop", "256")),
           ("deepclean", "at 256 windows/s", ("--stream", "--hop", "16")))
PAIRS = (1, 8, 32, 256)

arguments = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
arguments.add_argument("--rounds", type=int, default=3)
arguments.add_argument("--seconds", type=float, default=0.4, help="of each measurement in each round")
arguments.add_argument("--peers", type=pathlib.Path, default=DEFAULT)
arguments.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)))
arguments.add_argument("--compile", action="store_true")
arguments.add_argument("--quick", action="store_true", help="does it work at all?")
options = arguments.parse_args()


def gwstream(path, *words):
    out = subprocess.run([PROGRAM, "model", "bench", path, "--json", "--seconds", str(options.seconds), *map(str, words)],
                         text=True, stdout=subprocess.PIPE, check=True)
    return json.loads(out.stdout.splitlines()[-1])


def median(trials, key):
    return statistics.median(t[key] for t in trials)


def summary(trials):
    """Medians over the rounds, and how far apart these were."""
    rates = [t["inferences_per_s"] for t in trials]
    out = {k: float(f"{median(trials, k):.5g}") for k in trials[0] if isinstance(trials[0][k], (int, float))}
    return out | {"least_and_most_per_s": [float(f"{f(rates):.5g}") for f in (min, max)]}


def windows(peers, name, path, batch):
    """All three on whole windows, in turn."""
    opened = peers.ask(open=name, file=path, batch=batch, compile=options.compile)
    trials = {e: [] for e in ENGINES}
    for n in range(options.rounds):
        for engine in ENGINES[n % 3:] + ENGINES[:n % 3]:
            trials[engine].append(gwstream(path, "--batch", batch) if engine == "gwstream"
                                  else peers.ask(run=engine, seconds=options.seconds))
    row = {"network": name, "batch": batch, **opened, **{e: summary(t) for e, t in trials.items()}}
    row["share_of_peak"] = median(trials["gwstream"], "share_of_peak")
    # of each round, so that what the machine was doing then counts for both
    row["ratio"] = {e: statistics.median(a["inferences_per_s"] / b["inferences_per_s"]
                                         for a, b in zip(trials["gwstream"], trials[e])) for e in ENGINES[1:]}
    row["of_faster_peer"] = min(row["ratio"].values())
    g = row["gwstream"]
    print(f"{name:15s} {batch:5d} {g['inferences_per_s']:12.1f} {row['torch']['inferences_per_s']:12.1f} "
          f"{row['onnxruntime']['inferences_per_s']:12.1f} {g['p50_us']:11.1f} {g['p99_us']:11.1f} "
          f"{row['share_of_peak']:7.2f} {row['of_faster_peer']:7.2f} x", flush=True)
    return row


def other(name, path, what, *words):
    """gwstream alone: a stream, or pairs."""
    trials = [gwstream(path, *words) for _ in range(options.rounds)]
    row = {"network": name, "what": what, "gwstream": summary(trials), "share_of_peak": median(trials, "share_of_peak")}
    g = row["gwstream"]
    print(f"{name:15s} {int(g['batch']):5d} {g['inferences_per_s']:12.1f} {'':25s} {g['p50_us']:11.1f} {g['p99_us']:11.1f} "
          f"{row['share_of_peak']:7.2f}           {what}", flush=True)
    return row


def bar(bars, name, value, least):
    """One line: held, or how far from it."""
    print(f"{'holds     ' if value >= least else 'falls short'} {name}: {value:.4g} (at least {least:g})", flush=True)
    bars.append({"bar": name, "value": float(f"{value:.5g}"), "at_least": least, "holds": bool(value >= least)})


def judge(rows, streams, pairs, slides):
    """What the network engine is to show on one core."""
    bars, of = [], lambda name: [r for r in rows if r["network"] == name]  # noqa: E731
    bar(bars, "ResNet-18: share of the peak, every batch", min(r["share_of_peak"] for r in of("resnet18")), 0.75)
    ratios = [r["of_faster_peer"] for r in of("resnet18")]
    bar(bars, "ResNet-18: times the faster peer, every batch", min(ratios), 1.0)
    bar(bars, "ResNet-18: times the faster peer, geometric mean", math.prod(ratios) ** (1 / len(ratios)), 1.15)
    bar(bars, "DeepClean, windows: times the faster peer, every batch", min(r["of_faster_peer"] for r in of("deepclean")), 3)
    hop = next(s for s in streams if s["network"] == "deepclean")["gwstream"]["inferences_per_s"]
    peer = [max(r[e]["inferences_per_s"] for e in ENGINES[1:]) for r in of("deepclean")]
    bar(bars, "DeepClean, stream at 16/s: times the faster peer, which recomputes the window", hop / peer[0], 40)
    print(f"            the same beside that peer's best batch: {hop / max(peer):.1f}")
    bar(bars, "small: inferences/s on 0.7 core, best batch", 0.7 * max(r["gwstream"]["inferences_per_s"] for r in of("small")),
        100e3)
    for what, many in (("a slide's hop", slides), ("a slide's whole window of features", pairs)):
        cheaper = [p["gwstream"]["inferences_per_s"] / r["gwstream"]["inferences_per_s"] for p, r in zip(many, of("shipped"))]
        bar(bars, f"shipped: times a window of both detectors costs what {what} costs, every batch", min(cheaper), 3)
    return bars


if options.quick:
    options.seconds, options.rounds = 0.05, 1
    ones = [gwstream(MODEL, "--batch", 4), gwstream(MODEL, "--stream", "--hop", 64), gwstream(MODEL, "--pairs", "--batch", 4)]
    check(all(r["inferences_per_s"] > 0 and 0 < r["share_of_peak"] < 2 for r in ones), "windows, stream and pairs were measured")
    check(ones[1]["flop"] < ones[0]["flop"] / 4, "a hop costs less than a quarter of a window")
    check(ones[2]["flop"] < ones[0]["flop"] / 2, "a slide costs less than half a window")
    finish()

load = calm()
os.sched_setaffinity(0, {options.core})
peers = Peers(options.peers)
rows, streams, pairs, slides = [], [], [], []
print(f"{'network':15s} {'batch':>5s} {'gwstream/s':>12s} {'PyTorch/s':>12s} {'ONNX RT/s':>12s} {'p50 us':>11s} {'p99 us':>11s} "
      f"{'of peak':>7s} {'faster peer':>9s}")
with tempfile.TemporaryDirectory(prefix="gwstream-") as folder:
    paths = {}
    for name, batches in CASES:
        paths[name] = f"{folder}/{name}.onnx"
        peers.ask(export=name, to=paths[name], model=MODEL)
        rows += [windows(peers, name, paths[name], batch) for batch in batches]
    for name, what, words in STREAMS:
        streams.append(other(name, paths[name], "stream " + what, *words))
    for batch in PAIRS:
        pairs.append(other("shipped", MODEL, "slides, whole windows of features", "--pairs", "--batch", batch))
        slides.append(other("shipped", MODEL, "slides, a logit each hop", "--pairs", "--stream", "--batch", batch))
versions = peers.ask(versions=1)
peers.close()
bars = judge(rows, streams, pairs, slides)
save(f"nn-{datetime.date.today().isoformat()}", rounds=options.rounds, seconds=options.seconds, threads=1, load_before=load,
     load_after=calm(99), peers=versions, torch_compile_tried=options.compile,
     peak_GFLOP_per_s=round(statistics.median(r["gwstream"]["peak_flop_per_s"] for r in rows) * 1e-9, 1),
     bars=bars, windows=rows, streams=streams, slides=slides, slides_of_windows=pairs)
sys.exit(0 if all(b["holds"] for b in bars) else 1)
