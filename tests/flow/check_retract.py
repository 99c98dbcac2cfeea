# SPDX-License-Identifier: GPL-3.0-or-later
"""An event is withdrawn when the data of a detector turn bad soon after it: once, with the reason, whatever the
block length; not long after, not for a mark that the search does not mind, not where the graph says never. Also where
the search was ended and begun anew between the event and the bad data."""

import shutil

import h5py
import numpy as np

from flow import MODEL, check, finish, folder, lines, replay, run

START, DURATION, MERGER = 1400000000, 30, 1400000016.31
RATE = 4096
DATA, CAT1, CAT2 = 1, 2, 4


def gwosc(path, detector, x, bad):
    """A file as GWOSC publishes them; `bad`: {second: bits that fail}."""
    with h5py.File(path, "w") as f:
        d = f.create_dataset("strain/Strain", data=x)
        d.attrs.update({"Npoints": len(x), "Xstart": START, "Xspacing": 1.0 / RATE})
        f["meta/Detector"] = detector
        f["quality/simple/DQmask"] = np.array([127 & ~bad.get(s, 0) for s in range(DURATION)], "u4")
        names = [b"DATA", b"CBC_CAT1", b"CBC_CAT2", b"CBC_CAT3", b"BURST_CAT1", b"BURST_CAT2", b"BURST_CAT3"]
        f["quality/simple/DQShortnames"] = np.array(names)
    return path


with folder() as work:
    status, _, err = run("simulate", "--quiet", "--output", f"{work}/sim.hdf5", "--duration", f"{DURATION}s", "--rate",
                         f"{RATE}Hz", "--seed", 5, "--start", START, "--signal",
                         f"gps={MERGER},mass1=36,mass2=30,network_snr=20,ra=2.1,dec=-0.9,psi=0.4,iota=0.7")
    check(status == 0, "simulate 30 s with a merger " + err)
    with h5py.File(f"{work}/sim.hdf5") as f:
        strain = {d: f[f"{d}:STRAIN"][:] for d in ("H1", "L1")}

    def files(h1={}, l1={}):
        return [gwosc(f"{work}/{d[0]}-{d}_SIM-{START}-{DURATION}.hdf5", d, strain[d], bad)
                for d, bad in (("H1", h1), ("L1", l1))]

    def phases(events):
        return [e["phase"] for e in events]

    events = replay(files(l1={19: CAT1}), work=work)
    check(phases(events)[0] == "first" and phases(events)[-2:] == ["final", "retracted"] and
          phases(events).count("retracted") == 1 and len({e["id"] for e in events}) == 1,
          f"L1 fails CBC_CAT1 three seconds after: {' '.join(phases(events))}")
    final, last = events[-2], events[-1]
    check(last.get("reason", "").startswith(f"data quality: CBC_CAT1 of L1 not good from about GPS {START + 19}.0, 2.7"),
          f"the reason: {last.get('reason')}")
    check(all(last[k] == final[k] for k in ("gps", "gps_error_s", "statistic", "detectors", "arrivals")) and
          "reason" not in final, "it is the same event in all else")
    check(abs(final["gps"] - MERGER) < 0.03 and 0 < final["gps_error_s"] < 0.02 and
          set(final["arrivals"]) == {"H1", "L1"} and
          abs(max(float(a["gps"]) for a in final["arrivals"].values()) - final["gps"]) < 2e-6,
          f"arrivals {final['arrivals']}, the later one is the event's")

    # Both detectors at once: which one the stage hears of first is chance, what it says is not.
    told = []
    for block in ("1/64s", "4s"):
        told.append(replay(files({18: DATA}, {18: DATA | CAT1}), "--block", block, work=work)[-1])
        check(told[-1].get("reason", "").startswith(f"data quality: DATA of H1 not good from about GPS {START + 18}.0"),
              f"both fail, blocks of {block}: {told[-1].get('reason')}")

    events = replay(files({19: CAT2}, {26: DATA}), work=work)
    check(phases(events)[-1] == "final", f"CBC_CAT2 three seconds after, DATA ten: {' '.join(phases(events))}")

    # Ended a second and a half after the event, begun anew in the same journal.
    def part(branches, journal, span, **bad):
        graph, stages = f"{work}/part.yaml", "".join(
            f'  {b}: {{kind: detect, from: white, model: "{MODEL}"}}\n' for b in branches)
        with open(graph, "w") as f:
            f.write(f"""
sources:
  sky: {{kind: replay, files: [{', '.join(files(**bad))}], {span}}}
stages:
  down: {{kind: resample, from: sky, rate: 2048Hz}}
  white: {{kind: whiten, from: down}}
{stages}
sinks:
  alerts: {{kind: alerts, from: [{', '.join(branches)}], journal: "{journal}", print: stdout}}
""")
        status, out, err = run("run", "--quiet", graph)
        check(status == 0, f"{' and '.join(branches)}, {span}: exit {status} " + (err if status else ""))
        return lines(out), err

    for branches in (["search"], ["one", "two"]):
        journal = f"{work}/{branches[0]}.sqlite"
        before, _ = part(branches, journal, "end: 1400000017.75")
        check(phases(before)[0] == "first" and phases(before)[-1] == "final", f"before the end: {' '.join(phases(before))}")
        if branches == ["search"]:
            for what, again, more in (("CBC_CAT2 soon, DATA late", 17, {"l1": {20: CAT2}, "h1": {25: DATA}}),
                                      ("bad from the start, late", 24, {"h1": {24: DATA}}),
                                      ("bad from the start", 23, {"h1": {23: DATA}})):
                shutil.copy(journal, f"{work}/copy.sqlite")
                after, _ = part(branches, f"{work}/copy.sqlite", f"start: 14000000{again}.75", **more)
                check(phases(after) == (["retracted"] if what == "bad from the start" else []),
                      f"{what}: {' '.join(phases(after)) or 'nothing'}")
        after, err = part(branches, journal, "start: 1400000017.75", l1={20: CAT1})
        check(phases(after) == ["retracted"] and after[0]["id"] == before[0]["id"] and
              after[0].get("reason", "").startswith(f"data quality: CBC_CAT1 of L1 not good from about GPS {START + 20}.0, 3.7"),
              f"after the start anew: {' '.join(phases(after))}: {after[-1].get('reason') if after else ''}")
        check("withdrawn" in err and len(err.splitlines()) == 1, f"it is logged: {err.strip()[25:]}")

    graph = f"{work}/never.yaml"
    with open(graph, "w") as f:
        f.write(f"""
sources:
  sky: {{kind: replay, files: [{', '.join(files(l1={19: CAT1}))}]}}
stages:
  down: {{kind: resample, from: sky, rate: 2048Hz}}
  white: {{kind: whiten, from: down}}
  search: {{kind: detect, from: white, model: "{MODEL}", retract: 0s}}
sinks:
  alerts: {{kind: alerts, from: search, journal: "{work}/never.sqlite", print: stdout}}
""")
    status, out, err = run("run", "--quiet", graph)
    check(status == 0 and phases(lines(out))[-1:] == ["final"], "retract: 0s: never " + err)
finish()
