#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Three detectors, a detect stage and a background for each pair, one event a signal: found by the pairs that have
data, with the detectors that see it and a rate times the pairs that search. V1 is missing for five seconds: in a
recording, where the same comes out in any block length; and live, where its client falls silent and the others go on.
Exit 0 / 1 / 77."""
import atexit
import os
import pathlib
import subprocess
import sys
import threading
import time

import h5py
import numpy as np

import flow
from flow import check

sys.path.insert(0, str(flow.ROOT / "tests" / "clients"))
import feed as client  # noqa: E402

RATE, BLOCK, T0 = 2048, 128, 1400000040  # a whole minute
FROM, END = T0 + 120, T0 + 142.5  # of all runs that need no background; the search begins 6.5 s later
LOST = (T0 + 130.5, T0 + 135.5)  # V1
SIGNALS = (127.4, 131.9, 140.4)  # in all three; 1.4 s after V1 is lost; 4.9 s after it is back
VIRGO = str(flow.ROOT / "models" / "bbh-virgo.onnx")
WORK = flow.folder()
work = pathlib.Path(WORK.name)

SKY = "{gps: %.1f, mass1: 36, mass2: 30, network_snr: 33, ra: %.4f, dec: 1.2, psi: 0.5}"
SIM = """
sources:
  sky: {kind: sim, seed: 11, start: %d, duration: %.1fs, rate: 2048Hz, detectors: [H1, L1, V1], block: 1s,
        signals: [%s]}
sinks:
  keep: {kind: record, from: sky, path: sky.h5}
  alerts: {kind: alerts, from: sky, journal: sim.sqlite, print: truth.jsonl, print_injections: true}
"""
GRAPH = """
sources:
  sky: {%s}
stages:
  white: {kind: whiten, from: sky, warmup: 4s}
  hl: {kind: detect, from: [white.H1, white.L1], model: %s, refractory: 4s}
  hv: {kind: detect, from: [white.H1, white.V1], model: %s, refractory: 4s}
  lv: {kind: detect, from: [white.L1, white.V1], model: %s, refractory: 4s}%s
sinks:
  alerts: {kind: alerts, from: [hl, hv, lv%s], journal: %s.sqlite, print: %s.jsonl, refractory: 4s, background_least: 2min}
"""
NOISE = """
  nhl: {kind: background, of: hl, from: [white.H1, white.L1], model: %s, slides: 4}
  nhv: {kind: background, of: hv, from: [white.H1, white.V1], model: %s, slides: 4}
  nlv: {kind: background, of: lv, from: [white.L1, white.V1], model: %s, slides: 4}""" % (flow.MODEL, VIRGO, VIRGO)


def graph(source, noise, words, name):
    return GRAPH % (source, flow.MODEL, VIRGO, VIRGO, noise, words, name, name)


def run(name, text):
    (work / f"{name}.yaml").write_text(text)
    status, out, err = flow.run("run", "--quiet", f"{name}.yaml", cwd=work)
    check(status == 0, f"{name}: exit 0" + (f" ({err})" if status else ""))
    if status:
        flow.finish()


def events(name):
    text = (work / f"{name}.jsonl").read_text()
    return flow.lines(text[:text.rfind("\n") + 1])  # it may still be written


def simulate():
    """(truth of each signal, {detector: samples from T0 on})"""
    angle = [1.309 + 7.292e-5 * (T0 + s - 1400000171) for s in SIGNALS]  # it stands where it stood at ...171
    run("sim", SIM % (T0, END - T0, ", ".join(SKY % (T0 + s, a) for s, a in zip(SIGNALS, angle))))
    truth = [e["parameters"] for e in events("truth")]
    with h5py.File(work / "sky.h5") as f:
        return truth, {d: f[f"{d}:STRAIN"][:] for d in ("H1", "L1", "V1")}


def check_truth(truth):
    """Optimal SNR in quadrature over all three (antenna factors and delays: tests/unit/test_detector.c)."""
    for t in truth:
        snr = t["snr"]
        check(abs(np.sqrt(sum(s * s for s in snr.values())) - 33) < 0.01 and min(snr.values()) > 15,
              "a signal in three detectors: SNR " + ", ".join(f"{d} {s:.1f}" for d, s in snr.items()))


def write_recording(strain):
    for name, detectors, span in (("a", "H1 L1", (T0, END)), ("b", "V1", (T0, LOST[0])), ("c", "V1", (LOST[1], END))):
        with h5py.File(work / f"rec-{name}.h5", "w") as f:
            for d in detectors.split():
                x = f.create_dataset(f"{d}:STRAIN", data=strain[d][int((span[0] - T0) * RATE):int((span[1] - T0) * RATE)])
                x.attrs.update({"x0": span[0], "dx": 1 / RATE, "name": f"{d}:STRAIN", "channel": f"{d}:STRAIN", "unit": "strain"})


def replay(name, block, noise=""):
    source = f"kind: replay, files: [rec-a.h5, rec-b.h5, rec-c.h5], block: {block}, start: {T0 if noise else FROM}"
    run(name, graph(source, noise, ", nhl, nhv, nlv" if noise else "", name))
    return flow.without_wall(events(name))


def last_words(all_events):
    """The final word of each id, in time."""
    last = {e["id"]: e for e in all_events}
    return sorted((e for e in last.values()), key=lambda e: e["gps"])


def check_events(what, said, truth):
    found = [[e for e in last_words(said) if abs(e["gps"] - t["geocentre_gps"]) < 0.1] for t in truth]
    check([len(f) for f in found] == [1, 1, 1], f"{what}: each of the three signals is one event")
    if [len(f) for f in found] != [1, 1, 1]:
        return []
    sets = (["H1", "L1", "V1"], ["H1", "L1"], ["H1", "L1", "V1"])
    for (e,), t, who, trials in zip(found, truth, sets, (3, 1, 3)):
        words = {b["stream"]: b for b in e["branches"]}
        best = min(b["noise_rate_hz"] for b in words.values())
        check(e["phase"] == "final" and e["detectors"] == who and e["trials"] == trials,
              f"{what}: {e['gps'] - T0:.3f} s: {'+'.join(e['detectors'])}, one of {e['trials']} searches")
        check(abs(e["noise_rate_hz"] / (trials * best) - 1) < 1e-6, f"{what}: its rate is the best pair's times {trials}")
        off = {d: 1e3 * (float(a["gps"]) - t["gps"][d]) for d, a in e["arrivals"].items()}
        check(list(sorted(off)) == who and max(map(abs, off.values())) < 25,
              f"{what}: arrivals at " + ", ".join(f"{d} {ms:+.1f} ms" for d, ms in off.items()))
        check(all(set(b["detectors"].split(",")) <= set(who) for b in words.values()) and len(words) == len(who) * (len(who) - 1) // 2,
              f"{what}: with the words of {', '.join(words)}")
    return [f[0] for f in found]


def check_command(t):
    """`gwstream replay` writes such a graph by itself."""
    files = [f"rec-{name}.h5" for name in "abc"]
    options = ["replay", "--quiet", "--start", T0 + 108, "--end", T0 + 130, "--journal", "command.sqlite", "--model", flow.MODEL]
    status, out, err = flow.run(*options, "--model", VIRGO, *files, cwd=work)
    found = last_words(flow.lines(out))
    check(status == 0 and len(found) == 1 and found[0]["trials"] == 3 and abs(found[0]["gps"] - t["geocentre_gps"]) < 0.1,
          "gwstream replay: one event of " + ", ".join(b["stream"] for e in found for b in e["branches"]) + err)
    status, out, err = flow.run(*options, "--yaml", *files, cwd=work)
    check(status == 0 and out.count("kind: detect") == 1 and "V1 is not searched" in err, f"gwstream replay: {err.strip()[-80:]}")
    status, out, err = flow.run(*options, "--yaml", "--model", VIRGO, "--challenge", "c.h5", *files, cwd=work)
    check(status == 2 and "3 searches of H1, L1, V1" in err, f"gwstream replay: {err.strip()}")


def check_replay(truth):
    base = replay("base", "1/16s")
    finals = check_events("recording", base, truth)
    for name, block in (("long", "1s"), ("short", "1/64s")):
        check(replay(name, block) == base, f"recording: the same in blocks of {block}")
    for f in finals:
        sets = [e["detectors"] for e in base if e["id"] == f["id"]]
        check(all(set(a) <= set(b) for a, b in zip(sets, sets[1:])),
              "recording: a pair that joins changes the detectors, not the id: " + ", ".join("+".join(s) for s in sets))
    _, listed, _ = flow.run("alerts", "list", "--journal", "base.sqlite", cwd=work)
    check(sum("H1,L1,V1" in line for line in listed.splitlines()) == 2, "recording: the journal has the detectors")
    slid = replay("slid", "1/16s", NOISE)
    finals = check_events("with backgrounds", slid, truth)
    sets = [[b for b in e["branches"] if b["stream"] == e["stream"]][0]["noise_rate_hz"] for e in finals]
    check(all(e.get("background", {}).get("source") == "live" for e in finals) and len(set(e["id"] for e in slid)) < 8,
          "with backgrounds: rates are the slides' of the pair: " + ", ".join(f"{1 / r:.0f} s" for r in sets))
    check_command(truth[0])
    return [f["id"] for f in finals]


def start_live(name, strain, options=""):
    """(process, a client for each detector)"""
    listen = f"ipc://@gwstream-sets-{name}-{os.getpid()}"
    streams = ", ".join(f"{d}: {{channels: 1, rate: 2048Hz, samples: float64, unit: strain}}" for d in strain)
    (work / f"{name}.yaml").write_text(graph(f"kind: live, listen: '{listen}'{options}, streams: {{{streams}}}", "", "", name))
    with open(work / f"{name}.log", "w") as log:
        p = subprocess.Popen([flow.PROGRAM, "run", f"{name}.yaml"], cwd=work, stdout=subprocess.DEVNULL, stderr=log)
    atexit.register(p.kill)
    until = time.monotonic() + 20
    while (work / f"{name}.log").read_text().count("listens at") < 3 and time.monotonic() < until:
        time.sleep(0.05)
    feeds = {d: client.Feed(f"{listen}-{i}", {"rate": [RATE, 1], "dtype": "float64", "channels": 1, "block_samples": BLOCK,
                                              "detector": d, "unit": "strain"}, crc=False)
             for i, d in enumerate(strain)}
    return p, feeds


def give(feed, strain, k):
    i = int((FROM - T0) * RATE) + k * BLOCK
    feed.give(T0 * RATE + i, strain[i:i + BLOCK].tobytes(), BLOCK)


def run_live(strain):
    """Fills `live`: clients ended well, exit status, events when V1 came back; once more if this process was held up so
    long that all three of its clients were late."""
    for name in ("live", "live2"):
        live.clear()
        if feed_live(name, strain) < 0.4:
            break
        print("held up: " + name, flush=True)


def feed_live(name, strain):
    """Seconds for which none of the clients was looked after, at most."""
    p, feeds = start_live(name, strain)
    begin, when_back = time.monotonic(), None
    looked, held_up = begin, 0
    for k in range(int((END - FROM) * RATE) // BLOCK):
        at = FROM + k * BLOCK / RATE
        while time.monotonic() < begin + (k + 1) * BLOCK / RATE:
            for f in feeds.values():
                f.pump(0.005)
            held_up, looked = max(held_up, time.monotonic() - looked), time.monotonic()
        if p.poll() is not None:
            live["status"] = p.returncode
            return 0
        for d, f in feeds.items():
            if d == "V1" and LOST[0] <= at < LOST[1]:
                continue
            if d == "V1" and at == LOST[1]:
                when_back = events(name)
            give(f, strain[d], k)
    live.update(name=name, ended=all([f.end(10) for f in feeds.values()]), status=p.wait(20), when_back=when_back or [])
    return held_up


def check_live(truth, ids):
    check(live.get("ended"), "live: the clients end well")
    check(live.get("status") == 0, "live: exit 0")
    if not live.get("ended"):
        print((work / f"{live.get('name', 'live')}.log").read_text())
        return
    said = (work / f"{live['name']}.log").read_text()
    check("V1 is more than 500 ms late" in said and "V1 is back" in said, "live: it says that V1 is late and back")
    finals = check_events("live", events(live["name"]), truth)
    check([e["id"] for e in finals] == ids, "live: the same events as in the recording, by their ids")
    check(any(e["id"] == ids[1] for e in live["when_back"]), "live: the pair that is left told its event while V1 was away")


def check_early_end(strain, ids):
    """As fast as it goes, words wait for the slowest branch; not for one whose detector has ended."""
    p, feeds = start_live("early", strain, ", pace: 0")
    lost, all_told = int((LOST[0] - FROM) * RATE) // BLOCK, int((SIGNALS[2] - 1 - (FROM - T0)) * RATE) // BLOCK
    for k in range(all_told):
        if k == lost:
            check(feeds["V1"].end(10), "early end: V1's client ends well")
            del feeds["V1"]
        for d, f in feeds.items():
            while len(f.kept) >= f.keep and p.poll() is None:  # all of them, for they wait for each other
                for g in feeds.values():
                    g.pump(0.005)
            if p.poll() is None:
                give(f, strain[d], k)
    until, told = time.monotonic() + 10, []
    while ids[1] not in told and time.monotonic() < until:
        for d in ("H1", "L1"):
            feeds[d].pump(0.05)
        told = [e["id"] for e in events("early") if e["phase"] == "final"]
    check(told == ids[:2], "early end: the event of the others is told while they go on")
    check(all([feeds[d].end(10) for d in ("H1", "L1")]) and p.wait(20) == 0, "early end: exit 0")


def check_refusals():
    good = graph("kind: sim, rate: 2048Hz, detectors: [H1, L1, V1], duration: 10s", "", "", "x")
    for change, why in ((("[white.H1, white.L1]", "white"), "one stage for each pair"),
                        (("[white.H1, white.L1]", "[white.H1, white.V1]"), "detector L1 is missing"),
                        (("[white.H1, white.V1]", "[white.H1, white.L1]"), "wants H1,V1 or L1,V1")):
        (work / "bad.yaml").write_text(good.replace(*change))
        status, _, err = flow.run("check", "bad.yaml", cwd=work)
        check(status == 2 and why in err, f"{change[1]} for {change[0]}: {err.strip()}")


truth, strain = simulate()
live = {}
thread = threading.Thread(target=run_live, args=(strain,), daemon=True)  # 32 s, beside the others
thread.start()
check_refusals()
check_truth(truth)
write_recording(strain)
ids = check_replay(truth)
check_early_end(strain, ids)
thread.join(58)
check_live(truth, ids)
flow.finish()
