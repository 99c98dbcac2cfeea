# SPDX-License-Identifier: GPL-3.0-or-later
"""What a live background keeps: its counts go on after kill -9 and a restart, never pairing data of two runs; a run's
counts as another's archive; archives merged and refused; what a live run skipped, skipped in a replay alike.

With --long also a run at pace 1 on a machine that stands still for 5 s, and so takes fewer slides, and its replay,
which must give the same counts bit for bit (three and a half minutes)."""

import os
import pathlib
import signal
import sqlite3
import subprocess
import sys
import time

import h5py
import numpy as np

from flow import MODEL, PROGRAM, ROOT, check, finish, folder, run

START, SECONDS, FLOOR, NEED = 1400000250, 480, -5.0, 2
OFFSETS = (3, -3, 6, -6)
FIRST = -(-START // 60) * 60 - START  # the first whole minute


def write(work, name, source, stage):
    path = f"{work}/{name}.yaml"
    with open(path, "w") as f:
        f.write(f"""
sources: {{white: {{kind: replay, files: ["{work}/white.hdf5"], block: 1s, {source}}}}}
stages:
  noise: {{kind: background, from: white, model: "{MODEL}", slides: {len(OFFSETS)}, floor: {FLOOR}, {stage}}}
sinks:
  disk: {{kind: record, from: noise, path: "{work}/{name}.hdf5", overwrite: true, layout: gwpy, on_full: wait}}
""")
    return path


def go(work, name, source="", stage=""):
    """{second after START: (slid time, triggers)}, and what the run said"""
    status, _, err = run("run", write(work, name, source, stage))
    if status != 0:
        return None, err
    out = {}
    with h5py.File(f"{work}/{name}.hdf5") as f:
        slid, triggers = (f[f"H1,L1:BACKGROUND_{k}"] for k in ("SLID_TIME", "TRIGGERS"))
        first = round(float(slid.attrs["x0"])) - START
        for i, (s, t) in enumerate(zip(slid[()], triggers[()])):
            out[first + i] = (s, t)
    return out, err


def slid(spans, until, on=lambda k, s: True):
    """Slid seconds before `until`, by hand: each span is a ring of its own."""
    n = 0
    for a, b in spans:
        for k, o in enumerate(OFFSETS):
            for s in range(a + NEED + abs(o), min(b, until)):
                n += all(on(k, s - i) for i in range(NEED + 1))
    return n


with folder() as work:
    with open(f"{work}/sim.yaml", "w") as f:
        f.write(f"""
sources: {{sky: {{kind: sim, seed: 8, start: {START}, duration: {SECONDS}s, rate: 2048Hz, block: 1s, glitches: {{rate: 1/20Hz, snr: [4, 40]}}}}}}
stages: {{white: {{kind: whiten, from: sky}}}}
sinks: {{disk: {{kind: record, from: white, path: "{work}/white.hdf5", layout: gwpy, on_full: wait}}}}
""")
    status, _, err = run("run", "--quiet", f"{work}/sim.yaml")
    check(status == 0, f"made {SECONDS} s of noise {err}")
    cold, _ = go(work, "cold")
    last = max(cold) + 1
    a = min(cold)  # whitened data begin
    check(cold[last - 1][0] == slid([(a, last)], (START + last - 1) // 60 * 60 - START), f"one run: {cold[last - 1][0]:.0f} s slid, as by hand")

    # Killed, at any moment, and begun again on what came after.
    keep = f'checkpoint: "{work}/kept.hdf5", checkpoint_replay: true'
    kept, until = f"{work}/kept-noise.hdf5", SECONDS
    for _ in range(5):  # until it was killed before its end, which is a quarter of a second after the checkpoint
        pathlib.Path(kept).unlink(missing_ok=True)
        killed = subprocess.Popen([PROGRAM, "run", "--quiet", write(work, "killed", "", keep)], cwd=ROOT,
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while not os.path.exists(kept) and killed.poll() is None:
            time.sleep(0.001)
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        with h5py.File(kept) as f:
            until = int(f.attrs["now_hop"]) + 1 - START
        if until < SECONDS - 60:
            break
    with h5py.File(kept) as f:
        counts = len(f["statistic"])
        check(f.attrs["slid_s"] == slid([(a, until)], until), f"kill -9: a checkpoint of the {until} s until then, {counts} triggers")
    again = until + 20  # the restart
    warm, err = go(work, "warm", f"start: {START + again}", keep)
    check(warm is not None and "warm start" in err, f"warm start: {[x for x in err.splitlines() if 'warm' in x]}")
    count = (START + last - 1) // 60 * 60 - START
    rings = [(a, until), (again, last)]
    check(warm[last - 1][0] == slid(rings, count), f"it goes on: {warm[last - 1][0]:.0f} s slid, by hand {slid(rings, count)}, no pair of two runs")
    check(warm[again][0] == slid([(a, until)], until), "and knows its counts from the first second")
    with h5py.File(kept) as f:
        check(int(f.attrs["now_hop"]) + 1 - START == last and len(f["fit"]) == 2 and len(f["spells"]) == 2, "its end is kept, with both runs")
        hops = f["hop"][()]
        check(np.all((hops < START + until).all(axis=1) | (hops >= START + again).all(axis=1)), "no trigger is of two runs")

    # Two runs apart, the one as archive of the other, and merged.
    go(work, "first", f"end: {START + 200}", f'checkpoint: "{work}/a.hdf5", checkpoint_replay: true')
    second, err = go(work, "second", f"start: {START + 200}", f'checkpoint: "{work}/b.hdf5", checkpoint_replay: true, archive: "{work}/a-noise.hdf5"')
    with h5py.File(f"{work}/a-noise.hdf5") as f, h5py.File(f"{work}/b-noise.hdf5") as g:
        a_s, b_s, triggers = float(f.attrs["slid_s"]), float(g.attrs["slid_s"]), len(f["statistic"]) + len(g["statistic"])
    check(second is not None and second[200][0] == a_s and second[last - 1][0] > a_s, f"an archive's {a_s:.0f} s count from the first second")
    status, text, err = run("background", "merge", f"{work}/b-noise.hdf5", f"{work}/a-noise.hdf5", "-o", f"{work}/ab.hdf5")
    with h5py.File(f"{work}/ab.hdf5") as f:
        check(status == 0 and f.attrs["slid_s"] == a_s + b_s and len(f["statistic"]) == triggers, f"merged: {a_s:.0f} + {b_s:.0f} s, {triggers} triggers")
    check(f"{triggers} triggers inclusive" in text, "and shown")
    status, _, err = run("background", "merge", f"{work}/ab.hdf5", f"{work}/a-noise.hdf5", "-o", f"{work}/aab.hdf5")
    check(status != 0 and "share time" in err and not os.path.exists(f"{work}/aab.hdf5"), f"the same time twice: {err.strip()}")
    _, err = go(work, "other", "", f'archive: "{work}/a-noise.hdf5", refractory: 9s')
    check("refractory" in err, f"other rules: {err.strip().splitlines()[-1]}")
    twice, _ = go(work, "again", "", f'archive: "{work}/a-noise.hdf5"')
    new = slid([(a, last)], count) - slid([(a, last)], 200)  # pairs whose later half the archive does not know
    check(twice[last - 1][0] == a_s + new, f"on the archive's own data too: {a_s:.0f} s and {new} s of what it does not know")
    card, err = go(work, "card", f"end: {START + 120}", "archive: card")
    check(card is not None and card[100][0] > 86400, f"the card's archive: {card and card[100][0]:.0f} s")

    # What a live run skipped.
    minute = (START + FIRST) // 60
    did = {minute: (4, 60), minute + 1: (2, 60), minute + 2: (2, 40), minute + 3: (4, 60), minute + 4: (4, 60), minute + 5: (3, 60)}
    db = sqlite3.connect(f"{work}/journal.sqlite")
    db.execute("CREATE TABLE background (stage TEXT, minute_gps INTEGER, slides_run INTEGER, hops INTEGER, slid_s REAL)")
    for m, (k, seconds) in did.items():
        db.execute("INSERT INTO background VALUES ('noise', ?, ?, ?, 0)", (m * 60, k, (1 << seconds) - 1))
    db.commit()
    db.close()
    skipped, err = go(work, "skipped", "", f'skipped: "{work}/journal.sqlite"')
    twice, _ = go(work, "twice", "", f'skipped: "{work}/journal.sqlite"')
    check(skipped == twice, "skipped alike in two replays")

    def fit(s):
        """Second s was slid, and NEED before it."""
        return all(a <= s - i and (START + s - i) % 60 < did.get((START + s - i) // 60 + 1, (0, 60))[1] for i in range(NEED + 1))

    def on(k, s):
        """k counts in second s: it runs in it and in NEED before, or has since the beginning."""
        return all(k < did.get((START + s - i) // 60, (4, 0))[0] if (START + s - i) // 60 >= minute and (START + s - i) // 60 in did else
                   (k < 3 if (START + s - i) // 60 > max(did) else True) for i in range(NEED + 1))

    by_hand = sum(fit(s) and fit(s - abs(o)) and on(k, s) for k, o in enumerate(OFFSETS) for s in range(a + abs(o), count))
    check(skipped[last - 1][0] == by_hand < cold[last - 1][0], f"{skipped[last - 1][0]:.0f} s slid where slides were skipped, by hand {by_hand}")
    _, err = go(work, "nothing", "", f'skipped: "{work}/none.sqlite"')
    check("no such journal" in err, "a journal that is not there is said")

    if "--long" in sys.argv:
        def live(name, pace, extra=""):
            with open(f"{work}/{name}.yaml", "w") as f:
                f.write(f"""
sources: {{sky: {{kind: sim, seed: 9, start: {START + 8}, duration: 196s, rate: 2048Hz, block: 1/16s, pace: {pace}, glitches: {{rate: 1/20Hz, snr: [4, 40]}}}}}}
stages:
  white: {{kind: whiten, from: sky}}
  search: {{kind: detect, from: white, model: "{MODEL}", candidate: -3, alert: 0}}
  noise: {{kind: background, of: search, from: white, model: "{MODEL}", slides: 40, floor: -5, {extra}}}
sinks:
  alerts: {{kind: alerts, from: [search, noise], journal: "{work}/{name}.sqlite", print: "{work}/{name}.lines", background_least: 60s}}
  disk: {{kind: record, from: noise, path: "{work}/{name}.hdf5", overwrite: true, layout: gwpy, on_full: wait}}
""")
            p = subprocess.Popen([PROGRAM, "run", "--quiet", f"{work}/{name}.yaml"], cwd=ROOT, stderr=subprocess.PIPE, text=True)
            if pace == 1:  # a machine that is too slow
                time.sleep(13)
                p.send_signal(signal.SIGSTOP)
                time.sleep(5)
                p.send_signal(signal.SIGCONT)
            err = p.communicate(timeout=300)[1]
            check(p.returncode == 0, f"{name} ran {err[-300:]}")
            with h5py.File(f"{work}/{name}.hdf5") as f:
                said = {k: f[f"H1,L1:BACKGROUND_{k}"][()] for k in ("ONE_PER_HOUR", "SLID_TIME", "DISTINCT_TIME", "TRIGGERS")}
            return {k: v.tobytes() for k, v in said.items()}, {k: float(v[-1]) for k, v in said.items()}
        one, end = live("live", 1)
        rows = sqlite3.connect(f"{work}/live.sqlite").execute("SELECT minute_gps, slides_run, hops, slid_s FROM background ORDER BY minute_gps").fetchall()
        check(rows and rows[0][1] == 31, f"at pace 1 it took fewer slides: {rows}")
        two, same_end = live("replayed", 0, f'skipped: "{work}/live.sqlite"')
        check(one == two, f"its replay says the same each second, bit for bit: at the end {same_end} (live {end})")
        told = [sqlite3.connect(f"{work}/{name}.sqlite").execute(
            "SELECT id, phase, serial, gps_ns, statistic, noise_rate_hz, background_s, detail FROM events ORDER BY number").fetchall()
            for name in ("live", "replayed")]
        rated = sum('"source":"live"' in e[-1] for e in told[0])
        check(told[0] == told[1] and rated >= 10,
              f"and so do its {len(told[0])} messages ({len(told[1])} replayed), with {rated} false-alarm rates of the live background")
        for a, b in [(a, b) for a, b in zip(*told) if a != b][:3]:
            print(f"   live     {a}\n   replayed {b}")
finish()
