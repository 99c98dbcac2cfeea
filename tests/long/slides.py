# SPDX-License-Identifier: GPL-3.0-or-later
"""The loudest trigger of an hour of time slides of the GW150914 recordings, the event itself (+-3 s) removed, is
quieter than the event. The whitened recordings, cut, closed to a ring and shifted against each other by
at least 3 s, go through the same detect stage. Slides of a ring this short are strongly correlated."""

import sys

import h5py
import numpy as np

from result import save
from flow import DATA, MODEL, check, finish, folder, lines, replay, run, skip

ARRIVAL = 1126259462.4395
PAIR = [DATA / "strain-4k" / n for n in ("H-H1_LOSC_4_V2-1126259446-32.hdf5", "L-L1_LOSC_4_V2-1126259446-32.hdf5")]
RATE = 2048
GRAPH = """
sources: {{archive: {{kind: replay, files: ["{file}"], block: 1s}}}}
stages: {{search: {{kind: detect, from: archive, model: "{model}", candidate: -8, hop: 1/4s}}}}
sinks: {{alerts: {{kind: alerts, from: search, journal: "{work}/slides.sqlite", print: none}},
         keep: {{kind: record, from: search, path: "{work}/statistic.hdf5", overwrite: true}}}}
"""

if not all(p.exists() for p in PAIR):
    skip(f"no recordings in {DATA}")
with folder() as work:
    events = replay(PAIR, "--whitened", f"{work}/white.hdf5", work=work)
    event = max((e["statistic"] for e in events if e["phase"] == "final"), default=-99)
    with h5py.File(f"{work}/white.hdf5") as f:
        strain = {d: f[f"{d}:STRAIN"][:] for d in ("H1", "L1")}
        x0 = f["H1:STRAIN"].attrs["x0"]
    t = x0 + np.arange(len(strain["H1"])) / RATE
    keep = (np.abs(t - ARRIVAL) > 3) & np.isfinite(strain["H1"]) & np.isfinite(strain["L1"])
    ring = {d: x[keep] for d, x in strain.items()}
    ring_s = keep.sum() / RATE
    searched, loudest, slides = 0.0, -99.0, 0
    step_s = 0.05
    for offset_s in np.arange(3, ring_s - 3, step_s):
        shifted = {"H1": ring["H1"], "L1": np.roll(ring["L1"], int(offset_s * RATE))}
        with h5py.File(f"{work}/white.hdf5") as f, h5py.File(f"{work}/slide.hdf5", "w") as g:
            for name in f:
                f.copy(name, g)
            for d, x in shifted.items():
                whole = np.full(len(t), np.nan, np.float32)
                whole[8 * RATE:8 * RATE + len(x)] = x
                g[f"{d}:STRAIN"][:] = whole
        with open(f"{work}/g.yaml", "w") as f:
            f.write(GRAPH.format(work=work, model=MODEL, file=f"{work}/slide.hdf5"))
        status, _, err = run("run", "--quiet", f"{work}/g.yaml")
        if status:
            check(False, err)
            break
        with h5py.File(f"{work}/statistic.hdf5") as f:
            s = f["H1,L1:STATISTIC"][:]
        s = s[np.isfinite(s)]
        searched += len(s) / 32
        loudest = max(loudest, float(s.max()))
        slides += 1
        if searched > 3600 * 1.02:
            break
    check(searched >= 3600, f"{searched:.0f} s of slides searched ({slides} offsets, ring of {ring_s:.1f} s)")
    check(loudest < event, f"the loudest of them is {loudest:.2f}, the event {event:.2f}")
    save("slides-gw150914", searched_s=round(searched, 1), slides=slides, offset_step_s=step_s, ring_s=round(ring_s, 2),
         loudest=round(loudest, 3), event=round(event, 3), model=MODEL.split("/")[-1])
finish()
