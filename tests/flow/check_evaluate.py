# SPDX-License-Identifier: GPL-3.0-or-later
"""`gwstream evaluate` on a few injections: its figures against numpy's from the journals that it leaves, its intervals
against scipy's, its thresholds against counting; the card is one that `detect` takes; what is finished is not made
again; three pairs of detectors are judged by the one event that is made of their words; and bad input, or Ctrl-C half way, is
one clear line. There is no network for pairs with V1 yet: the shipped one, under a name that says so, takes its place."""

import glob
import hashlib
import json
import os
import signal
import sqlite3
import subprocess
import time

import h5py
import numpy as np
import yaml
from scipy.stats import binomtest, norm

from flow import MODEL, PROGRAM, ROOT, check, finish, folder, run

START, HOPS, SLIDE = 1400000000, 400000, 3
SNRS, EACH = (8, 20), 5
BINS = (5, 7, 10, 15, 20, 30, 70)


def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff


def archive(path, statistic, model, name="noise", detectors="H1,L1"):
    """A background of one slide as the stage `background` leaves it (pipeline/stages/chance_file.h)."""
    n = len(statistic)
    hop = START + 100 + np.arange(n)[:, None] * 9 + np.array([[0, -SLIDE]])
    tables = [np.array([SLIDE], "i8"), statistic.astype("f4"), hop.astype("i8"), np.array([[START, START + HOPS]], "i8"),
              np.zeros((0, 2), "i8"), np.array([[START, 1, 1]], "i8")]
    with h5py.File(path, "w") as f:
        for key, text in (("format", "gwstream-background-1"), ("name", name), ("model", model), ("detectors", detectors)):
            f.attrs[key] = np.bytes_(text)
        for key, value in (("hop_frames", 32), ("cluster_frames", 256), ("need_hops", 2), ("crc32c", crc32c(b"".join(t.tobytes() for t in tables)))):
            f.attrs[key] = np.uint32(value)
        for key, value in (("hop_s", 1.), ("floor", -1.), ("slid_s", HOPS - SLIDE), ("exclusive_slid_s", HOPS - SLIDE), ("distinct_s", HOPS)):
            f.attrs[key] = np.float64(value)
        f.attrs["now_hop"] = np.int64(START + HOPS - 1)
        for key, table in zip(("offset_hops", "statistic", "hop", "fit", "withdrawn", "spells"), tables):
            f[key] = table


def injections(path):
    """What a journal says was injected, in time."""
    with sqlite3.connect(path) as db:
        return [json.loads(d) for d, in db.execute("SELECT detail FROM injections ORDER BY gps_ns")]


def read(path):
    """The injections of a journal as numpy judges them: (unit SNR, ratio, chirp mass, statistic or nan, error, latency)."""
    truths = injections(path)
    with sqlite3.connect(path) as db:
        first = dict(db.execute("SELECT id, due_ns FROM events WHERE phase = 'first' ORDER BY number DESC").fetchall())
        last = {i: (g, s) for i, g, s in db.execute("SELECT id, gps_ns, statistic FROM events ORDER BY number")}
    rows = []
    for t in truths:
        arrival = max(round(g * 1e9) for g in t["gps"].values())
        near = min(last, key=lambda i: abs(last[i][0] - arrival), default=None)
        hit = near is not None and abs(last[near][0] - arrival) <= 500000000
        g, s = last[near] if hit else (np.nan, np.nan)
        rows.append((t["network_snr"] * t["distance_mpc"], min(t["snr"].values()) / max(t["snr"].values()), t["chirp_mass"],
                     s, (g - arrival) / 1e9, (first[near] - arrival) / 1e9 if hit else np.nan))
    return np.array(rows)


def distance(snr, value):
    """(3 int value(rho) rho^-4 drho)^(1/3), by adding up."""
    rho = np.linspace(snr[0], snr[-1], 200001)
    y = np.interp(rho, snr, value) * rho ** -4
    return (3 * (np.sum((y[1:] + y[:-1]) / 2) * (rho[1] - rho[0]) + value[-1] / 3 / snr[-1] ** 3)) ** (1 / 3)


def one_line(what, args, words, status=None):
    got, _, err = run("evaluate", "--quiet", *args)
    lines = err.strip().splitlines()
    check(got in ((1, 2) if status is None else (status,)) and len(lines) == 1 and all(w in lines[0] for w in words), f"{what}: {err.strip()}")


PAIRS = {"hl": "H1,L1", "hv": "H1,V1", "lv": "L1,V1"}
SET = """sources: {here: {kind: sim, rate: 2048Hz, detectors: [H1, L1, V1], sensitivity: [1, 1, 1.4]}}
stages:
  w: {kind: whiten, from: here}
"""


def play(work, pair):
    """The shipped network's weights for another pair of detectors -> (file, SHA-256)."""
    data = open(MODEL, "rb").read()
    check(data.count(b"H1,L1") == 1, f"a network that plays one for {pair}")
    data = data.replace(b"H1,L1", pair.encode())
    with open(f"{work}/{pair}.onnx", "wb") as f:
        f.write(data)
    return f"{work}/{pair}.onnx", hashlib.sha256(data).hexdigest()


def read_set(path, edge):
    """What merged events make of a journal's injections: (detectors, searches, found at one a day, error of the best word at
    the later of its detectors, {detector: error}), None where nothing was found."""
    truths = injections(path)
    with sqlite3.connect(path) as db:
        last = {i: e for i, *e in db.execute("SELECT id, gps_ns, detectors, stream, detail FROM events ORDER BY number")}
    for t in truths:
        at = {d: round(g * 1e9) for d, g in t["gps"].items()}
        near = [e for e in last.values() if abs(e[0] - max(at[d] for d in e[1].split(","))) <= 500000000]
        check(len(near) <= 1, "at most one event an injection" + "".join(f": {e[1]}" for e in near))
        if not near:
            yield None
            continue
        (gps, detectors, stream, detail), = near
        said = json.loads(detail)
        words = {b["stream"]: b for b in said["branches"]}
        check(said["trials"] == 3 and set(detectors.split(",")) == set(",".join(b["detectors"] for b in words.values()).split(",")),
              f"   {detectors}: the words of {', '.join(words)}, one of {said['trials']} searches")
        yield (detectors, set(words), any(b["statistic"] >= edge[s]["one_per_day"] for s, b in words.items()),
               1e-6 * (gps - max(at[d] for d in words[stream]["detectors"].split(","))),
               {d: 1e-6 * (float(a["gps"]) * 1e9 - at[d]) for d, a in said["arrivals"].items()})


def check_set(work):
    noise, graph, archives = {}, SET, []
    for i, (name, pair) in enumerate(PAIRS.items()):
        model, sha = play(work, pair) if i else (MODEL, hashlib.sha256(open(MODEL, "rb").read()).hexdigest())
        noise[name] = -1 + .2 * i - np.log((np.arange(3000) + .5) / 3000) / 1.6
        archives += ["--background", f"{work}/n{name}.hdf5"]
        archive(archives[-1], noise[name], sha, f"n{name}", pair)
        streams = ", ".join(f"w.{d}" for d in pair.split(","))
        graph += f'  {name}: {{kind: detect, from: [{streams}], model: "{model}"}}\n'
        graph += f'  n{name}: {{kind: background, of: {name}, from: [{streams}], model: "{model}"}}\n'
    with open(f"{work}/set.yaml", "w") as f:
        f.write(graph + "sinks: {x: {kind: alerts, from: [hl, hv, lv, nhl, nhv, nlv, here], refractory: 7s}}\n")
    args = ["--config", f"{work}/set.yaml", "--out", f"{work}/set", "--injections", 4, "--snr", 30]
    status, out, err = run("evaluate", "--quiet", *args, *archives[:2], *archives[4:], *archives[2:4])
    check(status == 0 and "  in H1," in out and "  with hv" in out and "  at H1" in out, f"a set of three pairs: exit 0 and who found them {err}")
    with open(f"{work}/set/evaluate.json") as f:
        e = json.load(f)
    edge = {s["name"]: s["background"] for s in e["searches"]}
    check({s["name"]: s["model"]["detectors"] for s in e["searches"]} == PAIRS and e["trials"] == 3, "its searches and their detectors")
    for name in PAIRS:
        for rate, hz in (("one_per_hour", 1 / 3600), ("one_per_day", 1 / 86400)):
            want = next(x for x in -1 + .05 * np.arange(400) if (np.sum(noise[name].astype("f4") >= x - 1e-9) + 1) / (HOPS - SLIDE - 2) <= hz / 3)
            check(abs(edge[name][rate] - want) < 1e-6, f"{name}: threshold of {rate} of the set {edge[name][rate]:.2f}, by counting {want:.2f}")
    rows = [r for p in glob.glob(f"{work}/set/pieces/snr-*.sqlite") for r in read_set(p, edge)]
    hit = [r for r in rows if r]
    for rate, some in (("one_per_hour", hit), ("one_per_day", [r for r in hit if r[2]])):
        found = e["efficiency"][rate]["all"]["30"]
        check(found["found"] == len(some) and found["injected"] == len(rows) == 4, f"{rate}: {len(some)} of {len(rows)} found")
        told = {d: n[rate]["30"] for d, n in e["found_in"].items() if n[rate]["30"]}
        check(told == {d: sum(r[0] == d for r in some) for d in {r[0] for r in some}}, f"   in {told}")
        told = {s: n[rate]["30"] for s, n in e["found_with"].items()}
        check(told == {s: sum(s in r[1] for r in some) for s in PAIRS}, f"   with {told}")
    t = e["timing"]
    check(len(hit) >= 2 and t["all"]["n"] == len(hit) and abs(t["all"]["bias_ms"] - np.median([r[3] for r in hit])) < 2e-3, f"the best word's time: {t['all']['bias_ms']:+.2f} ms")
    for d in ("H1", "L1", "V1"):
        own = [r[4][d] for r in hit if d in r[4]]
        check(t[f"at_{d}"]["n"] == len(own) and (not own or abs(t[f"at_{d}"]["bias_ms"] - np.median(own)) < 2e-3), f"   at {d}: {len(own)} arrivals")
    with open(f"{work}/set/evaluate.html") as f:
        page = f.read()
    check(page.count('class="set"') == 2 and "in H1," in page and "at H1" in page, "and the page says it")
    piece = open(sorted(glob.glob(f"{work}/set/pieces/snr-*.yaml"))[0]).read()
    check(piece.count("kind: detect") == 3 and 'refractory: "7s"' in piece and len(glob.glob(f"{work}/set/pieces/snr-*.yaml")) == 1, "one run for all three")

    one_line("a card of a set", [*args, "--card", f"{work}/x.yaml"], ["--card", "3 searches"], 2)
    one_line("a model for a set", [*args, "--model", MODEL], ["--model", "3 searches"], 2)
    one_line("a search without its background", [*args, *archives[:4]], ["--background", "lv"], 2)
    with open(f"{work}/twice.yaml", "w") as f:
        f.write(graph.replace("  lv:", f'  hl2: {{kind: detect, from: [w.H1, w.L1], model: "{MODEL}"}}\n  lv:'))
    archive(f"{work}/whose.hdf5", noise["hl"], hashlib.sha256(open(MODEL, "rb").read()).hexdigest())
    one_line("an archive of one of two", ["--config", f"{work}/twice.yaml", *args[2:], "--background", f"{work}/whose.hdf5"], ["whose.hdf5", "of 2 searches"])


with folder() as work:
    sha = next(line for line in open(MODEL.replace(".onnx", ".card.yaml")) if "sha256" in line).split("sha256:")[1].strip(" }\n")
    noise = -1 - np.log((np.arange(3000) + .5) / 3000) / 1.6
    archive(f"{work}/noise.hdf5", noise, sha)
    common = ["--out", f"{work}/out", "--background", f"{work}/noise.hdf5", "--injections", EACH, "--snr", ",".join(map(str, SNRS))]

    # A card with the recipe of the weights is there already.
    with open(f"{work}/new.card.yaml", "w") as f:
        f.write(f"model: {{name: bbh-small, sha256: {sha}}}\nthresholds: {{candidate: 1, alert: 2}}\nbackground: {{live_time: 1s, bin_width: 1, first_bin: 0, counts: [1]}}\n"
                "recipe: # of these weights\n  windows: 17\n  why: 'because'\nlatency_ms: {first_crossing_median: 1}\nrecordings:\n- {file: a, events: 1}\n")
    status, out, err = run("evaluate", "--quiet", *common, "--card", f"{work}/new.card.yaml")
    check(status == 0 and "SNR 20" in out, f"evaluate: exit 0 and a table {err}")
    with open(f"{work}/out/evaluate.json") as f:
        e = json.load(f)

    bar = {"one_per_hour": e["background"]["one_per_hour"], "one_per_day": e["background"]["one_per_day"]}
    for name, rate in (("one_per_hour", 1 / 3600), ("one_per_day", 1 / 86400)):
        edges = -1 + .05 * np.arange(400)
        want = next(x for x in edges if (np.sum(noise.astype("f4") >= x - 1e-9) + 1) / (HOPS - SLIDE - 2) <= rate)
        check(abs(bar[name] - want) < 1e-6, f"threshold of {name}: {bar[name]:.2f}, by counting {want:.2f}")

    rows = {s: np.concatenate([read(p) for p in sorted(glob.glob(f"{work}/out/pieces/snr-{s}-*.sqlite"))]) for s in SNRS}
    check(all(len(r) == EACH for r in rows.values()), f"{EACH} injections at each SNR")
    found_any = 0
    for name in bar:
        for s in SNRS:
            hit = rows[s][:, 3] >= bar[name]
            got = e["efficiency"][name]["all"][str(s)]
            ci = binomtest(int(hit.sum()), EACH).proportion_ci(2 * norm.cdf(1) - 1, "wilson")
            found_any += hit.sum()
            check(got["found"] == hit.sum() and got["injected"] == EACH and abs(got["low"] - ci.low) < 1e-8 and abs(got["high"] - ci.high) < 1e-8,
                  f"{name}, SNR {s}: {got['found']} of {EACH}, {got['low']:.3f}-{got['high']:.3f}; scipy {ci.low:.3f}-{ci.high:.3f}")
            cells = e["efficiency"][name]["chirp_mass"]
            bins = [(rows[s][:, 2] >= low) & (rows[s][:, 2] < high) for low, high in zip(BINS, BINS[1:])]
            check(all(cells[f"{low}-{high}"][str(s)]["injected"] == b.sum() and cells[f"{low}-{high}"][str(s)]["found"] == (hit & b).sum()
                      for low, high, b in zip(BINS, BINS[1:], bins)), f"   by chirp mass: {[int(b.sum()) for b in bins]} injected")
        value = [np.mean(rows[s][:, 0] ** 3 * (rows[s][:, 3] >= bar[name])) for s in SNRS]
        got = e["efficiency"][name]["sensitive_distance"]["all"]["mpc"]
        check(abs(got / distance(SNRS, value) - 1) < 1e-6, f"{name}: sensitive distance {got:.1f} Mpc, numpy {distance(SNRS, value):.1f}")
    check(found_any > EACH, f"{found_any} found in all")

    hit = rows[20][:, 3] >= bar["one_per_hour"]
    error, late = 1e3 * rows[20][hit, 4], 1e3 * rows[20][hit, 5]
    got, told = e["timing"]["later_detector"]["20"], e["latency"]["20"]
    check(np.allclose([got["median_ms"], got["p90_ms"], got["bias_ms"]], [np.median(abs(error)), np.quantile(abs(error), .9), np.median(error)], atol=2e-3),
          f"times at SNR 20: median {got['median_ms']:.2f}, 90 % {got['p90_ms']:.2f}, bias {got['bias_ms']:.2f} ms")
    check(np.allclose([told["median_ms"], told["p90_ms"]], [np.median(late), np.quantile(late, .9)], atol=2e-3) and 0 < told["median_ms"] < 1000,
          f"latency at SNR 20: median {told['median_ms']:.0f}, 90 % {told['p90_ms']:.0f} ms of stream time")

    with open(f"{work}/out/evaluate.html") as f:
        page = f.read()
    pictures = glob.glob(f"{work}/out/evaluate-*.png")
    check("http" not in page.replace("http://www.w3.org", "") and page.count("data:image/") == len(pictures) == 4, "a page that stands alone, and its 4 pictures")
    check(all(open(p, "rb").read(8) == b"\x89PNG\r\n\x1a\n" for p in pictures), "which are PNG")

    with open(f"{work}/new.card.yaml") as f:
        card = yaml.safe_load(f)
    check(card["recipe"] == {"windows": 17, "why": "because"} and card["recordings"] == [{"file": "a", "events": 1}], "the card keeps what is not evaluate's")
    check(card["thresholds"] == {"candidate": bar["one_per_hour"], "alert": bar["one_per_day"]} and sum(card["background"]["counts"]) == len(noise) and
          card["latency_ms"]["first_crossing_median"] > 1 and card["efficiency"]["one_per_day"]["all"][20] == e["efficiency"]["one_per_day"]["all"]["20"]["efficiency"],
          "and has the new thresholds, counts and figures")

    # Again, by a graph of the user's: one piece is not there, the other is of another graph; --config wants one search.
    with open(f"{work}/graph.yaml", "w") as f:
        f.write(f'sources: {{here: {{kind: sim, rate: 4096Hz, start: 7, population: {{spacing: 9s}}, detectors: [L1, H1]}}}}\n'
                f'stages:\n  a: {{kind: resample, from: here, rate: 2048Hz}}\n  b: {{kind: whiten, from: a, checkpoint: "{work}/psd.hdf5"}}\n'
                f'  c: {{kind: detect, from: b, model: "{MODEL}", card: "{work}/new.card.yaml", hop: 1/16s, refractory: 9s}}\n'
                f'  d: {{kind: background, from: b, model: "{MODEL}"}}\nsinks: {{x: {{kind: alerts, from: c, publish: "tcp://127.0.0.1:5999"}}}}\n')
    status, out, err = run("check", "--quiet", f"{work}/graph.yaml")
    check(status == 0, f"detect takes the card {err}")
    before = {p: os.stat(p).st_mtime_ns for p in glob.glob(f"{work}/out/pieces/*.sqlite")}
    os.remove(sorted(glob.glob(f"{work}/out/pieces/snr-8-*.yaml"))[0])
    status, out, err = run("evaluate", "--quiet", "--json", *common)
    after = {p: os.stat(p).st_mtime_ns for p in before}
    again = [os.path.basename(p)[:6] for p in before if after[p] != before[p]]
    check(status == 0 and again == ["snr-8-"] and json.loads(out) == e, f"again: only {again} is made, the same figures {err}")
    status, out, err = run("evaluate", "--quiet", "--json", "--config", f"{work}/graph.yaml", "--out", f"{work}/config", *common[2:4], "--injections", 2, "--snr", 20, "--mass", "30,31")
    masses = [t["mass2"] for p in glob.glob(f"{work}/config/pieces/snr-20-*.sqlite") for t in injections(p)]
    check(len(masses) == 2 and min(masses) >= 30 and max(masses) <= 31, f"--mass: {masses}")
    check(status == 0 and json.loads(out)["efficiency"]["one_per_hour"]["all"]["20"]["found"] >= 1 and
          "refractory: \"9s\"" in open(glob.glob(f"{work}/config/pieces/snr-20-*.yaml")[0]).read() and not glob.glob(f"{work}/psd*"), f"with --config {err}")

    check_set(work)

    # What cannot be.
    out = ["--out", f"{work}/bad"]
    one_line("no model", [*out, "--model", "none.onnx"], ["none.onnx"])
    one_line("detectors that the network is not for", [*out, "--detectors", "H1,V1"], ["H1,V1", "for H1,L1"], 2)
    one_line("no number", [*out, "--snr", "8,x"], ["--snr", "'x'"], 2)
    one_line("twice", [*out, "--snr", "8,10,8"], ["twice"], 2)
    for mass, why in (("5", "least and the most"), ("80,5", "number from 80"), ("0.5,5", "'0.5'"), ("5,300", "'300'"), (",", "''")):
        one_line(f"masses {mass}", [*out, "--mass", mass], ["--mass", why], 2)
    one_line("no injections", [*out, "--injections", "0"], ["--injections"], 2)
    one_line("a folder that cannot be", ["--out", "/proc/no"], ["/proc/no"])
    one_line("a card that cannot be", [*out, "--card", f"{work}/no/card.yaml"], ["no/card.yaml"])
    one_line("a card that is none", [*out, "--card", f"{work}/graph.yaml"], ["graph.yaml", "no model card"])
    one_line("no archive", [*out, "--background", f"{work}/new.card.yaml"], ["new.card.yaml"])
    one_line("an archive of another model", [*out, "--background", f"{work}/other.hdf5"] if archive(f"{work}/other.hdf5", noise, "0" * 64) is None else [], ["other.hdf5", "SHA-256"])
    one_line("days that hours do not hold", [*out, "--days", "1000", "--hours", "1"], ["--hours"], 2)
    one_line("one a day of a minute", [*out, "--hours", "0.02", "--slides", "4"], ["--days"])
    check(len(glob.glob(f"{work}/bad/pieces/noise-*.yaml")) == 1, "whose noise stays for the next time")

    # Ctrl-C.
    p = subprocess.Popen([PROGRAM, "evaluate", "--quiet", "--jobs", "1", "--out", f"{work}/stop", *map(str, common[2:4]), "--injections", "500", "--snr", "9"],
                         cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not glob.glob(f"{work}/stop/pieces/*.run.yaml") and p.poll() is None:
        time.sleep(.02)
    one_line("two in one folder", ["--out", f"{work}/stop", *common[2:4]], ["another"])
    p.send_signal(signal.SIGINT)
    _, err = p.communicate(timeout=20)
    check(p.returncode == 1 and err.count("\n") == 1 and "goes on" in err, f"Ctrl-C: {err.strip()}")
    half = [f for f in glob.glob(f"{work}/stop/pieces/*.*") if not os.path.exists(f.split(".")[0] + ".yaml")]
    check(not half and not glob.glob(f"{work}/stop/pieces/*.run.yaml"), f"nothing half made is left {half}")
finish()
