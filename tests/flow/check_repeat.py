# SPDX-License-Identifier: GPL-3.0-or-later
"""The same recording gives the same events: twice over, in any block length, at any speed, and from the
simulator itself instead of its recording."""

import sys

from flow import MODEL, check, finish, folder, lines, replay, run, without_wall

SIGNALS = ("gps=1400000016.31,mass1=36,mass2=30,network_snr=20,ra=2.1,dec=-0.9,psi=0.4,iota=0.7",
           "gps=1400000027.87,mass1=24,mass2=19,network_snr=25,ra=0.3,dec=0.4,psi=1.1,iota=0.3")


def same(a, b, what):
    check(len(a) == len(b) and [e["id"] for e in a] == [e["id"] for e in b], f"{what}: the same ids, {len(b)} messages")
    check([e["phase"] for e in a] == [e["phase"] for e in b], f"{what}: the same phases")
    worst_s = max((abs(x["gps"] - y["gps"]) for x, y in zip(a, b)), default=0)
    worst = max((abs(x["statistic"] - y["statistic"]) for x, y in zip(a, b)), default=0)
    check(worst_s <= 1 / 2048, f"{what}: times to a sample (worst {worst_s * 1e6:.1f} us)")
    check(worst <= 1e-3, f"{what}: statistics to 1e-3 (worst {worst:.1e})")


with folder() as work:
    strain = f"{work}/strain.hdf5"
    status, _, err = run("simulate", "--quiet", "--output", strain, "--duration", "36s", "--rate", "4096Hz", "--seed",
                         5, "--signal", SIGNALS[0], "--signal", SIGNALS[1])
    check(status == 0, "simulate 36 s with two mergers " + err)
    first = replay([strain], work=work)
    ids = {e["id"] for e in first}
    check(len(ids) == 2, f"two events are found ({len(ids)})")
    again = replay([strain], work=work)
    check(without_wall(first) == without_wall(again), "a second run gives the same events, byte for byte")
    for block in ("1/64s", "1/4s", "1s", "4s"):
        same(first, replay([strain], "--block", block, work=work), f"blocks of {block}")
    same(first, replay([strain], "--speed", "3", work=work), "at 3 times real time")
    if "--long" in sys.argv:
        same(first, replay([strain], "--speed", "1", work=work), "at 1x")

    # The simulator itself in front of the same search gives what its recording gives.
    graph = f"{work}/sim.yaml"
    signals = ", ".join("{" + s.replace("=", ": ").replace(",", ", ") + "}" for s in SIGNALS)
    with open(graph, "w") as f:
        f.write(f"""
sources:
  sky: {{kind: sim, seed: 5, start: 1400000000, duration: 36s, rate: 4096Hz, signals: [{signals}]}}
stages:
  down: {{kind: resample, from: sky, rate: 2048Hz}}
  white: {{kind: whiten, from: down}}
  search: {{kind: detect, from: white, model: "{MODEL}"}}
sinks:
  alerts: {{kind: alerts, from: search, journal: "{work}/sim.sqlite", print: stdout}}
""")
    status, out, err = run("run", "--quiet", graph)
    check(status == 0, "the same from the simulator " + err)
    same(first, lines(out), "simulator and recording")
finish()
