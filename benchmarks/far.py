# SPDX-License-Identifier: GPL-3.0-or-later
"""Is the false-alarm rate that an event carries true? Hours of simulated noise with glitches and no signal are searched
beside their own live background; how many events there are at FAR <= 10/h and <= 1/h, and how the FARs of all
candidates are spread, is compared with what the FARs themselves say.

    python3 benchmarks/far.py [--seeds 3] [--hours 10] [--slides 100] [--work FOLDER] [--wrong-T 1.5] [--save]

A seed that is done stays in FOLDER with its events, so a long measurement can be stopped and started again. With
--wrong-T C the events are judged as if T had been C times as long. --save writes benchmarks/results/far-DATE.json.

What is expected. An event's FAR is (n + 1) / T, n: slid triggers at least as loud in the slid time T of the data before
it. "FAR <= k / T" is "louder than the k-th loudest slid trigger", and what noise does beyond that happens at a rate
whose mean is k / T (the rate above the k-th point of a Poisson process that was watched for T is Gamma(k) / T): with
the + 1, and not without it, the mean number of events with FAR <= f in a live time t is f t.

How far off it may be. Cut the data into blocks longer than a glitch. What the pair (block i of one detector, block j of
the other) does is h(i,j) = m + a_i + b_j + c_ij with uncorrelated parts: a and b are what a block's own glitches do
whatever they meet. The search sees h(i,i); S slides of the same data see the same a_i, b_i, and the mean of S c's:
slides beyond a few make the background no better, since they share a and b. But so does the search. With E the sum
over blocks j of the mean of all blocks before j,

    N - E = sum_i (a_i + b_i) (1 - ln(M/i)) + sum_i c_ii - sum_i c_i ln(M/i),  Var(c_i) = Var(c_ii) / S,

for M blocks, and as the integrals over (0,1) of (1 + ln u)^2 and of ln(u)^2 are 1 and 2,

    Var(N - E) = M (var a + var b + var c (1 + 2/S)) <= Var(N) (1 + 2/S);

where the first part of the run is left out while the background is young, the same holds with the blocks that are
left. So N is judged as a Poisson number is, with a variance that is larger by (1 + 2/S), whatever the slides share. (At
high rates N spreads less than that, because a cluster takes 8 s.)

What is judged, each at p > 0.003:
  count    N at 10/h and at 1/h, two-sided.
  KS       the FARs up to 20/h, divided by that, are uniform: is the shape right? T cancels here.
  rate KS  the largest |N(f) - f t| of any f up to 20/h, over sqrt(20/h t): a Brownian motion's largest excursion where
           the rate is what it says. One test of shape and scale; this is what an error of 1.5 in T fails.
"""

import argparse
import concurrent.futures
import datetime
import hashlib
import json
import os
import pathlib
import sqlite3
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests" / "long"))
from result import save  # noqa: E402
from flow import MODEL, PROGRAM, ROOT, check, finish, skip  # noqa: E402

try:
    import numpy as np
    from scipy import stats
except ImportError as e:
    skip(str(e))

START, LEAST_P = 1400000000, 0.003
CANDIDATE = -1.6  # noise of the shipped network gets there 120 times an hour


def graph(seed, seconds, slides, journal, candidate=CANDIDATE, rate="4096Hz", refractory="8s", least="1h"):
    """Noise with glitches through the whole chain; every cluster above `candidate` is an event. All three cluster by
    the same refractory time: where one makes fewer events of the same data, the rates are not true. The memory is
    longer than the run, so that more triggers are kept before the background's floor rises."""
    down = "" if rate == "2048Hz" else "\n  down: {kind: resample, from: sky, rate: 2048Hz}"
    return f"""sources:
  sky: {{kind: sim, seed: {seed}, start: {START}, duration: {seconds}s, rate: {rate}, block: 1s,
    glitches: {{rate: 1/30Hz, snr: [4, 80]}}}}
stages:{down}
  white: {{kind: whiten, from: {"down" if down else "sky"}}}
  search: {{kind: detect, from: white, model: "{MODEL}", hop: 1s,
    candidate: {candidate}, alert: 10, refractory: {refractory}}}
  noise: {{kind: background, of: search, from: white, model: "{MODEL}",
    slides: {slides}, floor: {candidate}, refractory: {refractory}, memory: 2d}}
sinks:
  alerts: {{kind: alerts, from: [search, noise], journal: "{journal}", print: none,
    background_least: {least}, refractory: {refractory}}}
"""


def events(journal):
    """Each cluster's last word: [seconds after the start, statistic, FAR in 1/h, from the live background?]"""
    with sqlite3.connect(f"file:{journal}?mode=ro", uri=True) as db:
        rows = db.execute("SELECT gps_ns, statistic, noise_rate_hz, detail FROM latest WHERE phase = 'final'"
                          " ORDER BY gps_ns")
        return [[t / 1e9 - START, x, f * 3600, '"source":"live"' in d] for t, x, f, d in rows]


# -- judging --------------------------------------------------------------------------------------------------------

class Candidates:
    """The candidates of all runs after their first `young_s` that have the live FAR, and the live time."""

    def __init__(self, runs, young_s, slides, threshold):
        late = [e[e[:, 0] >= young_s] for e in (np.array(e, float).reshape(-1, 4) for e, _ in runs)]
        live = [e[e[:, 3] > 0] for e in late]
        self.runs = [(e[:, 2], (seconds - young_s) / 3600) for e, (_, seconds) in zip(live, runs)]
        self.live_h = sum(h for _, h in self.runs)
        self.slides = slides
        every = np.concatenate(live)
        self.statistic, self.far = every[:, 1], every[:, 2]
        # Fainter than the threshold there are none, fainter than the background's floor they have no live FAR.
        self.faintest = max([threshold] + [x for e in late for x in e[e[:, 3] == 0, 1]])

    def whole(self, far):
        """Are all candidates of at most this FAR among them?"""
        below = self.statistic[self.far <= far]
        return len(below) > 0 and below.min() > self.faintest + 0.02


def law(expected, slides):
    """Of a number of events: Poisson's, wider by the slides' own chance."""
    r = expected * slides / 2
    return stats.nbinom(r, r / (r + expected))


def two_sided(n, expected, slides):
    d = law(expected, slides)
    return float(min(1, 2 * min(d.cdf(n), d.sf(n - 1))))


def power(expected, slides, factor):
    """How surely a count finds that T is said to be `factor` times as long as it is."""
    d, there = law(expected, slides), law(expected * factor, slides)
    low, high = d.ppf(LEAST_P / 2), d.isf(LEAST_P / 2)
    return float(there.cdf(low - 1) + there.sf(high))


def excursion_p(a):
    """A Brownian motion goes beyond +-a within [0, 1]."""
    k = np.arange(200)
    fall = np.exp(-np.pi ** 2 * (2 * k + 1) ** 2 / (8 * max(a, 0.05) ** 2))
    return float(np.clip(1 - 4 / np.pi * np.sum((-1.0) ** k / (2 * k + 1) * fall), 0, 1))


def judge(c, levels, highest, wrong_t=1.0):
    """Of FARs whose T is called wrong_t times as long as it was: figures, and the smallest p."""
    every = np.sort(c.far / wrong_t)
    far = every[every <= highest]
    out = {"counts": []}
    for level in levels:
        expected = level * c.live_h
        n = int((every <= level).sum())
        out["counts"].append({"far_per_h": level, "n": n, "expected": round(expected, 2),
                              "sigma": round((n - expected) / (expected * (1 + 2 / c.slides)) ** 0.5, 2),
                              "p": two_sided(n, expected, c.slides)})
    out["ks_n"] = len(far)
    out["ks_p"] = float(stats.kstest(far / highest, "uniform").pvalue) if len(far) else 0.0
    rank = np.arange(len(far) + 1)
    line = np.append(far, highest) * c.live_h
    steps = np.abs(rank - line).max(initial=0), np.abs(rank[1:] - line[:-1]).max(initial=0)
    out["rate_ks"] = float(max(steps) / (highest * c.live_h * (1 + 2 / c.slides)) ** 0.5)
    out["rate_ks_p"] = excursion_p(out["rate_ks"])
    out["least_p"] = min([k["p"] for k in out["counts"]] + [out["ks_p"], out["rate_ks_p"]])
    return out


def say(name, figures):
    for k in figures["counts"]:
        print(f"{name}: FAR <= {k['far_per_h']:g}/h: {k['n']} events, {k['expected']:.1f} expected "
              f"({k['sigma']:+.1f} sigma, p = {k['p']:.2g})")
    print(f"{name}: {figures['ks_n']} FARs: KS p = {figures['ks_p']:.2g}, rate KS p = {figures['rate_ks_p']:.2g}", flush=True)


# -- running --------------------------------------------------------------------------------------------------------

def program_hash():
    return hashlib.sha256(pathlib.Path(PROGRAM).read_bytes()).hexdigest()


def searched(work, seed, seconds, slides, candidate, binary):
    """A seed's events; those of an earlier start with the same graph and program, if it came to its end."""
    path = work / f"seed-{seed}-{seconds}s-{slides}.json"
    journal = path.with_suffix(".sqlite")
    text = graph(seed, seconds, slides, journal, candidate)
    if path.exists():
        kept = json.loads(path.read_text())
        if (kept["graph"], kept["program"]) == (text, binary):
            return kept
    for old in work.glob(f"{journal.name}*"):
        old.unlink()
    yaml = path.with_suffix(".yaml")
    yaml.write_text(text)
    begun = time.monotonic()
    p = subprocess.Popen([PROGRAM, "run", "--quiet", str(yaml)], cwd=ROOT, stderr=open(path.with_suffix(".log"), "w"),
                         preexec_fn=lambda: os.nice(10))
    _, status, usage = os.wait4(p.pid, 0)
    p.returncode = os.waitstatus_to_exitcode(status)
    if p.returncode != 0:
        raise RuntimeError(f"seed {seed}: exit status {p.returncode}: {path.with_suffix('.log').read_text()[-500:]}")
    kept = {"graph": text, "program": binary, "events": events(journal), "wall_s": time.monotonic() - begun,
            "cpu_s": usage.ru_utime + usage.ru_stime}
    part = path.with_suffix(".part")
    part.write_text(json.dumps(kept))
    part.replace(path)
    print(f"seed {seed}: {seconds / 3600:g} h in {kept['wall_s']:.0f} s, {kept['cpu_s']:.0f} s of processor time, "
          f"{len(kept['events'])} candidates", flush=True)
    return kept


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    arguments.add_argument("--seeds", type=int, default=3)
    arguments.add_argument("--first-seed", type=int, default=700001)
    arguments.add_argument("--hours", type=float, default=10, help="of each seed")
    arguments.add_argument("--slides", type=int, default=100)
    arguments.add_argument("--candidate", type=float, default=CANDIDATE, help="threshold of the statistic, below a FAR of 30/h")
    arguments.add_argument("--young", type=float, default=600, help="seconds at the start that do not count")
    arguments.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="seeds at a time")
    arguments.add_argument("--work", type=pathlib.Path, default=pathlib.Path("/tmp/gwstream-far"))
    arguments.add_argument("--wrong-T", type=float, default=1.0, dest="wrong_t")
    arguments.add_argument("--save", action="store_true")
    o = arguments.parse_args()
    o.work.mkdir(parents=True, exist_ok=True)
    seconds, binary = round(o.hours * 3600), program_hash()
    with concurrent.futures.ThreadPoolExecutor(o.jobs) as pool:
        done = list(pool.map(lambda s: searched(o.work, s, seconds, o.slides, o.candidate, binary),
                             range(o.first_seed, o.first_seed + o.seeds)))

    levels, highest, wrong = (10, 1), 20, 1.5
    c = Candidates([(d["events"], seconds) for d in done], o.young, o.slides, o.candidate)
    enough = {f"T x {f:.3g}": {"count": power(highest * c.live_h, o.slides, f)} for f in (wrong, 1 / wrong)}
    for name, how in enough.items():
        print(f"an error of {name}: the count at {highest}/h alone finds it with {how['count']:.4f}")
    check(c.whole(highest * wrong), f"all candidates up to a FAR of {highest * wrong:g}/h are there, each with the live one "
          f"({c.live_h:.2f} h)")
    is_true = judge(c, levels, highest, o.wrong_t)
    say("FAR", is_true)
    check(is_true["least_p"] > LEAST_P, f"the FARs are true: every p above {LEAST_P} (least {is_true['least_p']:.2g})")
    refused = {}
    for factor in (wrong, 1 / wrong):
        name = f"T x {factor:.3g}"
        refused[name] = judge(c, levels, highest, o.wrong_t * factor)
        say(name, refused[name])
        sure = enough[name]["count"] > 0.99
        text = f"with {name} they are not: least p {refused[name]['least_p']:.2g}"
        if sure:
            check(refused[name]["least_p"] <= LEAST_P, text)
        else:
            print(f"(too short a run to tell: {text})")
    if o.save:
        save(f"far-{datetime.date.today().isoformat()}", seeds=o.seeds, hours=o.hours, slides=o.slides,
             live_h=round(c.live_h, 3), candidates=len(c.far), least_p_allowed=LEAST_P, true=is_true,
             wrong_T=refused, power=enough, glitches="1/30 Hz in each detector, SNR 4-80",
             each_seed=[{"live_h": round(h, 3), **{f"n_{f}_per_h": int((far <= f).sum()) for f in (1, 10, 20)}}
                        for far, h in c.runs],
             cpu_s=[round(d["cpu_s"]) for d in done], wall_s=[round(d["wall_s"]) for d in done], candidate=o.candidate,
             model=MODEL.split("/")[-1])
    finish()


if __name__ == "__main__":
    main()
