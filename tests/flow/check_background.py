# SPDX-License-Identifier: GPL-3.0-or-later
"""The live background against the search itself: whitened data are recorded, slid by `replay`, searched by `detect`, and
its statistic clustered here; `background` on the same recording must have counted the same triggers in the same
time, whatever the blocks. And an event's false-alarm rate is the one that this background gives it."""

import json

import h5py
import numpy as np

from flow import MODEL, check, finish, folder, run

START, SECONDS, FRAMES, FLOOR, CLUSTER, NEED = 1400000000, 246, 32, -5.0, 8 * 32, 2
OFFSETS = (3, -3, 6, -6)


def graph(work, text):
    with open(f"{work}/graph.yaml", "w") as f:
        f.write(text)
    status, _, err = run("run", "--quiet", f"{work}/graph.yaml")
    if status != 0:
        check(False, f"{text}: {err}")
        finish()


def read(path, name):
    """Of a recording: {channel: (first sample's GPS, samples)}"""
    with h5py.File(path) as f:
        d = f[name]
        return float(d.attrs["x0"]), d[()]


def search(work, offset):
    """detect's statistic with L1 late by `offset` (H1, where it is negative), by second of the other: [second][frame]."""
    path = f"{work}/statistic.hdf5"
    late = f"offset: {{{'L1' if offset > 0 else 'H1'}: {abs(offset)}s}}" if offset else ""
    graph(work, f"""
sources: {{white: {{kind: replay, files: ["{work}/white.hdf5"], {late}}}}}
stages: {{search: {{kind: detect, from: white, model: "{MODEL}", hop: 1s}}}}
sinks: {{disk: {{kind: record, from: search, path: "{path}", overwrite: true, layout: gwpy, on_full: wait}}}}
""")
    x0, y = read(path, "H1,L1:STATISTIC")
    out = np.full((SECONDS + 10, FRAMES), np.nan)
    first = round((x0 - START) * FRAMES)
    out.reshape(-1)[first:first + len(y)] = y
    return out


def count(statistic, fit, offset, seconds):
    """Closed clusters of the first `seconds`."""
    n, peak, at = 0, None, 0
    for s in range(seconds):
        if not (fit[s] and s >= abs(offset) and fit[s - abs(offset)]):
            n, peak = n + (peak is not None), None
            continue
        for f in range(FRAMES):
            now = s * FRAMES + f
            if peak is not None and now - at > CLUSTER:
                n, peak = n + 1, None
            if statistic[s, f] >= FLOOR and (peak is None or statistic[s, f] > peak):
                peak, at = statistic[s, f], now
    return n


with folder() as work:
    graph(work, f"""
sources: {{sky: {{kind: sim, seed: 8, start: {START}, duration: {SECONDS}s, rate: 2048Hz, block: 1s, glitches: {{rate: 1/20Hz, snr: [4, 40]}}}}}}
stages: {{white: {{kind: whiten, from: sky}}}}
sinks: {{disk: {{kind: record, from: white, path: "{work}/white.hdf5", layout: gwpy, on_full: wait}}}}
""")
    said = {}
    for block in ("1s", "1/16s"):
        path = f"{work}/noise.hdf5"
        graph(work, f"""
sources: {{white: {{kind: replay, files: ["{work}/white.hdf5"], block: {block}}}}}
stages: {{noise: {{kind: background, from: white, model: "{MODEL}", slides: {len(OFFSETS)}, floor: {FLOOR}}}}}
sinks: {{disk: {{kind: record, from: noise, path: "{path}", overwrite: true, layout: gwpy, on_full: wait}}}}
""")
        said[block] = {k: read(path, f"H1,L1:BACKGROUND_{k}") for k in
                       ("TRIGGERS", "SLID_TIME", "DISTINCT_TIME", "ONE_PER_HOUR", "ONE_PER_DAY")}
    same = all(np.array_equal(said["1s"][k][1], said["1/16s"][k][1], equal_nan=True) for k in said["1s"])
    check(same, "blocks of 1 s and of 1/16 s: the same background, bit for bit")

    plain = search(work, 0)
    there = np.array([np.isfinite(plain[s]).any() for s in range(SECONDS)])
    first = int(np.flatnonzero(there)[0])  # its statistic is not there from the start of the second on
    here = np.zeros(SECONDS, bool)
    here[first - 1:] = True  # whole seconds of whitened data
    fit = np.array([all(s - i >= 0 and here[s - i] for i in range(NEED + 1)) for s in range(SECONDS)])
    x0, triggers = said["1s"]["TRIGGERS"]
    last = (START + SECONDS - 1) // 60 * 60 - START  # the newest count is of what lies before this second
    slid = sum(int(fit[s] and fit[s - abs(o)]) for o in OFFSETS for s in range(abs(o), last))
    check(said["1s"]["SLID_TIME"][1][-1] == slid, f"slid time: {said['1s']['SLID_TIME'][1][-1]:.0f} s, by hand {slid}")
    check(said["1s"]["DISTINCT_TIME"][1][-1] == fit[:last].sum(), f"distinct time: {fit[:last].sum()} s")
    each = [count(search(work, o), fit, o, last) for o in OFFSETS]
    check(sum(each) > 40 and abs(triggers[-1] - sum(each)) <= 0, f"triggers above {FLOOR}: {triggers[-1]:.0f}; detect on slid data, clustered here: {each}")

    # Events of a search beside it: once with each block length, and from the recording of what it searched.
    events = {}
    for block in ("1s", "1/16s"):
        graph(work, f"""
sources:
  sky: {{kind: sim, seed: 8, start: {START}, duration: 220s, rate: 2048Hz, block: {block}, glitches: {{rate: 1/20Hz, snr: [4, 40]}},
    signals: [{{gps: {START + 40.3}, mass1: 36, mass2: 30, network_snr: 25, ra: 2.1, dec: -0.9, psi: 0.4, iota: 0.7}},
              {{gps: {START + 190.3}, mass1: 36, mass2: 30, network_snr: 25, ra: 2.1, dec: -0.9, psi: 0.4, iota: 0.7}}]}}
stages:
  white: {{kind: whiten, from: sky}}
  search: {{kind: detect, from: white, model: "{MODEL}"}}
  noise: {{kind: background, of: search, from: white, model: "{MODEL}", slides: 40, floor: -5}}
sinks:
  alerts: {{kind: alerts, from: [search, noise], journal: "{work}/{block.replace('/', '-')}.sqlite", print: "{work}/lines", background_least: 600s}}
  disk: {{kind: record, from: noise, path: "{work}/noise.hdf5", overwrite: true, layout: gwpy, on_full: wait}}
""")
        with open(f"{work}/lines") as f:
            events[block] = [{k: v for k, v in json.loads(line).items() if k != "wall"} for line in f]
        open(f"{work}/lines", "w").close()
    check(events["1s"] == events["1/16s"] and len(events["1s"]) >= 4, f"the same {len(events['1s'])} messages, rates included, in blocks of 1 s and of 1/16 s")
    early, late = ([e for e in events["1s"] if abs(e["gps"] - START - t) < 1 and e["phase"] == "final"] for t in (40.3, 190.3))
    check(len(early) == len(late) == 1 and "background" not in early[0], "the first event comes before the background: it has the card's rate")
    b = late[0].get("background", {})
    x0, slid = read(f"{work}/noise.hdf5", "H1,L1:BACKGROUND_SLID_TIME")
    until = START + 190 - 60  # a minute before, and the last whole minute of that
    until -= until % 60
    at = round(until - x0)  # counted when this second came
    check(b.get("source") == "live" and b.get("until") == until and b["slid_s"] == slid[at],
          f"the second has that of the slides until GPS {until}: {slid[at]:.0f} s ({b})")
    louder = late[0]["noise_rate_hz"] * b["slid_s"] - 1  # the first signal, slid against noise, may be among them
    check(abs(louder - round(louder)) < 1e-6 and -1e-6 < louder < 10 and b["bound"] == (round(louder) == 0),
          f"its rate is ({abs(louder):.0f} + 1) / T")
finish()
