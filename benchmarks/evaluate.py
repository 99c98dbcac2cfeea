# SPDX-License-Identifier: GPL-3.0-or-later
"""How good the search is, against its bars: `gwstream evaluate` in full for one network or several trainings of it, the
worst of which counts.

    benchmarks/evaluate.py [--out DIR] [--model F.onnx ... | --config F.yaml] [--days 10] [--hours 6] [--injections 1000] [--seed 1] [--save]

DIR (default: a temporary one) keeps the pieces, so that a second call goes on. --save writes benchmarks/results/evaluate.json.
About a quarter of an hour on two cores for each network. Exit status 1 where a bar is missed. With --config the searches of a graph
are judged, several as the one event that is made of their words (--days of each: 30 of three): there are no bars for
these, and --save writes evaluate-F.json. With --mass A,B both bodies have masses of that range, so that a few hundred are in
a bin of chirp mass that has few of all: only its bias is judged, and --save writes evaluate-mass-A-B.json.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path += [str(HERE.parent / "tests" / "long"), str(HERE.parent / "tests" / "flow")]
from flow import MODEL, PROGRAM, ROOT, check, finish  # noqa: E402
from result import calm, save  # noqa: E402

SNRS = ("8", "10", "12", "15", "20")
ALL = (.30, .60, .78, .88, .92)  # at one a day
EVEN = (.32, .63, .82, .92, .97)  # the same, detectors' SNRs in a ratio above 0.3
LEAST_BIN = 0.5  # of the best bin of chirp mass, from 7 solar masses on, at SNR 12
MEDIAN_MS, P90_MS, BIAS_MS, COVERED = 2.5, 8, 0.5, (.63, .73)  # SNR 12 and above
FEW = 300  # events: a median is known to a quarter of a millisecond or so


def evaluate(model, out, o):
    command = [PROGRAM, "evaluate", "--json", *(["--config", o.config] if o.config else ["--model", model]), "--out", str(out), "--days", str(o.days), "--hours", str(o.hours),
               "--injections", str(o.injections), "--seed", str(o.seed), "--snr", ",".join(SNRS), *(["--mass", o.mass] if o.mass else [])]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: exit status {done.returncode}")
    return json.loads(done.stdout)


def figures(e):
    """What the bars are about, of one evaluation."""
    day, timing = e["efficiency"]["one_per_day"], e["timing"]
    searches = e.get("searches") or [{"model": e["model"], "background": e["background"]}]
    of_set = {key: e[key] for key in ("searches", "trials", "found_in", "found_with") if key in e}
    for s in of_set.get("searches", ()):
        del s["background"]["counts"]
    bins = {k: v["12"]["efficiency"] for k, v in day["chirp_mass"].items() if v["12"]["efficiency"] is not None}
    return {"model": searches[0]["model"], **of_set, "slid_days": min(s["background"]["slid_s"] for s in searches) / 86400,
            "distinct_hours": min(s["background"]["distinct_s"] for s in searches) / 3600,
            "thresholds": [[s["background"][r] for r in ("one_per_hour", "one_per_day")] for s in searches] if of_set else
            [searches[0]["background"]["one_per_hour"], searches[0]["background"]["one_per_day"]],
            "all": [day["all"][s]["efficiency"] for s in SNRS],
            "all_interval": [[day["all"][s]["low"], day["all"][s]["high"]] for s in SNRS],
            "detector_ratio_over_0.3": [day["detector_ratio_over_0.3"][s]["efficiency"] for s in SNRS],
            "chirp_mass_at_12": bins, "lowest_bin_over_best": min(v for k, v in bins.items() if float(k.split("-")[0]) >= 7) / max(bins.values()),
            "one_per_hour_all": [e["efficiency"]["one_per_hour"]["all"][s]["efficiency"] for s in SNRS],
            "sensitive_distance_mpc": day["sensitive_distance"]["all"], "timing": timing["all"],
            "worst_bias_ms": max((abs(t["bias_ms"]) for t in timing["chirp_mass"].values() if t["n"]), default=None),
            "timing_by_chirp_mass": timing["chirp_mass"], "latency_ms": e["latency"]["all"],
            "events_without_injection": e["events_without_injection"]}


def judge_masses(f):
    for masses, t in f["timing_by_chirp_mass"].items():
        if t["n"] >= FEW:
            check(abs(t["bias_ms"]) < BIAS_MS, f"{f['model']['sha256'][:12]}: chirp mass {masses}: {t['n']} found at SNR 12 and above, bias {t['bias_ms']:+.2f} ms")


def judge(f):
    name = f["model"]["sha256"][:12]
    check(f["slid_days"] >= 9.9, f"{name}: {f['slid_days']:.2f} days of slides")
    for key, bar in (("all", ALL), ("detector_ratio_over_0.3", EVEN)):
        for snr, got, least in zip(SNRS, f[key], bar):
            check(got >= least, f"{name}: one a day, {key}, SNR {snr}: {got:.3f} (at least {least:.2f})")
    check(f["lowest_bin_over_best"] >= LEAST_BIN, f"{name}: lowest bin of chirp mass from 7 on is {f['lowest_bin_over_best']:.2f} of the best at SNR 12")
    t = f["timing"]
    check(t["median_ms"] <= MEDIAN_MS and t["p90_ms"] <= P90_MS, f"{name}: arrival, SNR 12 and above: median {t['median_ms']:.2f}, 90 % {t['p90_ms']:.2f} ms")
    check(f["worst_bias_ms"] < BIAS_MS, f"{name}: worst bias of a bin of chirp mass {f['worst_bias_ms']:.2f} ms")
    covered = t["within_sigma"]["share"]
    check(covered is not None and COVERED[0] <= covered <= COVERED[1], f"{name}: the stated sigma covers {covered}")


def main():
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--out")
    options.add_argument("--model", action="append")
    options.add_argument("--config")
    options.add_argument("--mass")
    options.add_argument("--days", type=float, default=10)
    options.add_argument("--hours", type=float, default=6)
    options.add_argument("--injections", type=int, default=1000)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--save", action="store_true")
    o = options.parse_args()
    load = calm() if o.save else None
    with tempfile.TemporaryDirectory(prefix="gwstream-") as scratch:
        out = pathlib.Path(o.out or scratch)
        out.mkdir(parents=True, exist_ok=True)
        found = [figures(evaluate(m, out / f"{i}", o)) for i, m in enumerate(o.model or [MODEL])]
    for f in found if not o.config else ():
        (judge_masses if o.mass else judge)(f)
    for d, n in found[0].get("found_in", {}).items():
        print(f"found in {d} at one a day: {n['one_per_day']}")
    worst = {key: [min(f[key][k] for f in found) for k in range(len(SNRS))] for key in ("all", "detector_ratio_over_0.3")}
    print(f"worst of {len(found)} at one a day: all {worst['all']}, ratio above 0.3 {worst['detector_ratio_over_0.3']}")
    if o.save:
        name = "evaluate" + (f"-{pathlib.Path(o.config).stem}" if o.config else "") + (f"-mass-{o.mass.replace(',', '-')}" if o.mass else "")
        save(name, load=load, injections_per_snr=o.injections, snr=SNRS, bars={"all": ALL, "detector_ratio_over_0.3": EVEN}, worst=worst, networks=found)
    finish()


if __name__ == "__main__":
    main()
