# SPDX-License-Identifier: GPL-3.0-or-later
"""How many cleaning networks one core runs in real time: DeepClean's with 21 witnesses at 4096 Hz, in hops of 1/16 s,
each with weights, past, samples and output of its own (`bench_denoise`: many do not fit into a cache together). Beside
it, in turns on the same core, PyTorch and ONNX Runtime with the same network as it is published: windows of 1 s, 16 of
them a second, or 512, each computed anew, in whichever batch is fastest. Processor time; medians over the rounds.
Writes benchmarks/results/denoise-DATE.json.

    benchmarks/bench_denoise.py [--rounds 3] [--seconds 0.6] [--peers FOLDER] [--core N] [--program FILE] [--quick]

The peers come as bench_nn.py's do. --quick: a shipped network, no peers, no file."""

import argparse
import datetime
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests" / "long"))
from peers import DEFAULT, Peers  # noqa: E402
from result import calm, save  # noqa: E402
from flow import ROOT, check, finish  # noqa: E402

NETWORKS = (1, 16, 100, 400)
HOPS = (256, 64)  # samples: 16 and 64 hops a second
BATCHES = (1, 32, 128)
PUBLISHED = (16, 512)  # windows a second
BAR = 400

arguments = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
arguments.add_argument("--rounds", type=int, default=3)
arguments.add_argument("--seconds", type=float, default=0.6, help="of each measurement in each round")
arguments.add_argument("--peers", type=pathlib.Path, default=DEFAULT)
arguments.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)))
arguments.add_argument("--program", default=str(ROOT / "build" / "benchmarks" / "bench_denoise"))
arguments.add_argument("--quick", action="store_true", help="does it work at all?")
options = arguments.parse_args()


def ours(path, networks, hop, rate=4096, seconds=None):
    out = subprocess.run([options.program, path, "--networks", str(networks), "--hop", str(hop), "--rate", str(rate),
                          "--seconds", str(seconds or options.seconds)], text=True, stdout=subprocess.PIPE, check=True)
    return json.loads(out.stdout)


def medians(trials):
    return {k: float(f"{statistics.median(t[k] for t in trials):.5g}") for k in trials[0] if isinstance(trials[0][k], (int, float))}


if options.quick:
    one, many = (ours(ROOT / "models" / "deepclean-demo.onnx", n, 32, 512, 0.05) for n in (1, 5))
    check(one["hop_us"] > 0 and one["networks_in_real_time"] > 0, "a network was measured")
    check(many["networks"] == 5 and many["channels"] == one["channels"] and many["rounds"] > 0, "and five of them together")
    broken = subprocess.run([options.program, __file__], stderr=subprocess.PIPE, text=True)
    check(broken.returncode == 1 and broken.stderr.count("\n") == 1, "what is no network is refused in one line")
    finish()

load = calm()
os.sched_setaffinity(0, {options.core})
peers = Peers(options.peers)
with tempfile.TemporaryDirectory(prefix="gwstream-") as folder:
    path = f"{folder}/deepclean.onnx"
    peers.ask(export="deepclean", to=path, model="")
    trials = {(n, hop): [] for n in NETWORKS for hop in HOPS}
    theirs = {(engine, batch): [] for engine in ("torch", "onnxruntime") for batch in BATCHES}
    for _ in range(options.rounds):
        for key in trials:
            trials[key].append(ours(path, *key))
        for batch in BATCHES:
            peers.ask(open="deepclean", file=path, batch=batch, compile=False)
            for engine in ("torch", "onnxruntime"):
                theirs[engine, batch].append(peers.ask(run=engine, seconds=options.seconds))
versions = peers.ask(versions=1)
peers.close()

rows = [medians(t) for t in trials.values()]
print("networks   hop     us a hop   in real time on one core")
for r in rows:
    print(f"{r['networks']:8.0f} {r['hop_samples']:5.0f} {r['hop_us']:12.2f} {r['networks_in_real_time']:10.0f}")
published = []
for engine in ("torch", "onnxruntime"):
    rates = {batch: statistics.median(t["inferences_per_s"] for t in theirs[engine, batch]) for batch in BATCHES}
    best = max(rates, key=rates.get)
    row = {"engine": engine, "windows_per_s": {str(b): float(f"{r:.5g}") for b, r in rates.items()}, "best_batch": best,
           "networks_in_real_time": {str(p): float(f"{rates[best] / p:.4g}") for p in PUBLISHED}}
    published.append(row)
    print(f"{engine:12s} {rates[best]:.0f} windows/s in batches of {best}: "
          + ", ".join(f"{rates[best] / p:.3g} networks at {p} windows/s" for p in PUBLISHED))
many = next(r for r in rows if r["networks"] == BAR and r["hop_samples"] == HOPS[0])["networks_in_real_time"]
print(f"{'holds' if many >= BAR else 'falls short'}: {many:.0f} networks in real time on one core, measured with {BAR} (at least {BAR})")
ratios = {str(p): float(f"{many / max(r['networks_in_real_time'][str(p)] for r in published):.4g}") for p in PUBLISHED}
print("times the faster peer: " + ", ".join(f"{v:.1f} at {p} windows/s" for p, v in ratios.items()))
save(f"denoise-{datetime.date.today().isoformat()}", rounds=options.rounds, seconds=options.seconds, threads=1, load_before=load,
     load_after=calm(99), peers=versions, networks=rows, published_form=published, times_the_faster_peer=ratios,
     bars=[{"bar": "networks of 21 channels at 4096 Hz in 1/16-s hops on one core", "value": many, "at_least": BAR,
            "holds": bool(many >= BAR)}])
sys.exit(0 if many >= BAR else 1)
