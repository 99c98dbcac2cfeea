# SPDX-License-Identifier: GPL-3.0-or-later
"""Is the false-alarm rate that an event carries true? The short form of benchmarks/far.py, where the reasoning is: ten
minutes of simulated noise with glitches, clusters of 3 s, nearly every one an event. An error of 1.5 in T cannot be
told from chance in so short a time (30 events more or less sqrt(30)), so it is one of 3 that must be refused; the long
form refuses 1.5, and here the judge itself does, on FARs that are made up."""

import sys

import numpy as np

from flow import ROOT, check, finish, folder, run

sys.path.insert(0, str(ROOT / "benchmarks"))
from far import LEAST_P, Candidates, events, excursion_p, graph, judge, power, say, two_sided  # noqa: E402

SECONDS, YOUNG_S, SLIDES, THRESHOLD, LEVEL = 600, 180, 16, -2.7, 250

# The judge itself, on FARs that are true by construction: a point process of unit rate in (hours, FAR).
rng = np.random.default_rng(1)
HOURS, HIGHEST = 29.5, 20


def made(scale):
    n = rng.poisson(HIGHEST * 3 * HOURS)
    far = rng.uniform(0, HIGHEST * 3, n) * scale
    seconds = np.sort(rng.uniform(600, 600 + HOURS * 3600, n))
    one = np.column_stack([seconds, -far, far, np.ones(n)]), 600 + HOURS * 3600
    return judge(Candidates([one], 600, 100, -1e9), (10, 1), HIGHEST)


p = {scale: np.array([made(scale)["least_p"] for _ in range(60)]) for scale in (1, 1.5, 1 / 1.5)}
refused = {scale: int((least <= LEAST_P).sum()) for scale, least in p.items()}
check(refused[1] <= 3, f"{refused[1]} of 60 true sets of 30 h are refused (four tests at {LEAST_P} each: 0.7 at most)")
check(min(refused[1.5], refused[1 / 1.5]) >= 59,
      f"of sets with an error of 1.5 in T {refused[1.5]} and {refused[1 / 1.5]} of 60 are refused")
check(abs(two_sided(20, 10, 1e9) - 2 * 0.0034543) < 1e-5, "two-sided p of 20 where 10 are expected: 0.0069 (Poisson)")
check(abs(excursion_p(2.2414) - 0.05) < 1e-4, "a Brownian motion leaves +-2.2414 with a probability of 0.05")

with folder() as work:
    with open(f"{work}/g.yaml", "w") as f:
        f.write(graph(3, SECONDS, SLIDES, f"{work}/j.sqlite", THRESHOLD, "2048Hz", "3s", "15min"))
    status, _, err = run("run", "--quiet", f"{work}/g.yaml")
    check(status == 0, f"{SECONDS} s of noise are searched beside {SLIDES} slides {err if status else ''}")
    c = Candidates([(events(f"{work}/j.sqlite"), SECONDS)], YOUNG_S, SLIDES, THRESHOLD)

check(c.whole(LEVEL), f"all candidates up to a FAR of {LEVEL}/h are there, each with the live one")
true = judge(c, (LEVEL, LEVEL / 3), LEVEL)
say("FAR", true)
check(true["least_p"] > LEAST_P, f"the FARs are true (least p {true['least_p']:.2g})")
for wrong in (3, 1 / 3):
    sure = power(LEVEL * c.live_h, SLIDES, wrong)
    bad = judge(c, (LEVEL, LEVEL / 3), LEVEL, wrong)
    check(bad["least_p"] <= LEAST_P and sure > 0.8,
          f"with T x {wrong:.2g} they are not: least p {bad['least_p']:.2g} (the count alone finds it with {sure:.2f})")
finish()
