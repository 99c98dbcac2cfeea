# SPDX-License-Identifier: GPL-3.0-or-later
"""gwstream report: its figures against scipy on the same files, a page that stands alone and is well formed, recordings
of every kind it takes, and bad input: one clear line, and never half a page."""

import hashlib
import html.parser
import os
import re
import resource

import h5py
import numpy as np
import scipy.signal as sig
import yaml

import flow
from flow import check, finish, folder, run

RATE, START, SECONDS = 2048, 1400000000, 96
GRAPH = """
sources:
  sky: {{kind: sim, seed: 9, start: {start}, duration: {seconds}s, rate: {rate}Hz, detectors: [H1, L1], asd: design-plain,
    excess: false, lines: false, parts: {parts}, witnesses: {{rate: 512Hz, channels: [{{name: MAINS, line: 60Hz}}, {{name: JITTER, band: [8Hz, 35Hz]}}],
      couplings: [{{of: MAINS, height: 30}}, {{of: JITTER, height: 5}}]}}}}
sinks: {{disk: {{kind: record, from: sky, path: "{path}", on_full: wait, {more}}}}}
"""
VOID = {"meta", "img", "br"}


class Page(html.parser.HTMLParser):
    """Tags that match, what is referred to, and the tables' cells."""

    def __init__(self, text):
        super().__init__()
        self.open, self.wrong, self.refers, self.tables, self.cell = [], 0, [], [], None
        self.feed(text)
        self.close()
        self.wrong += len(self.open)

    def handle_starttag(self, tag, attrs):
        self.refers += [v for k, v in attrs if k in ("src", "href", "action", "data", "srcset")]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append((dict(attrs).get("class"), []))
        elif tag == "tr":
            self.tables[-1][1].append([])
        elif tag in ("td", "th"):
            self.cell = ""

    def handle_endtag(self, tag):
        self.wrong += not self.open or self.open.pop() != tag
        if tag in ("td", "th"):
            self.tables[-1][1][-1].append(self.cell)
            self.cell = None

    def handle_data(self, data):
        if self.cell is not None:
            self.cell += data

    def rows(self, name):
        return {row[0]: row[1:] for kind, rows in self.tables if kind == name for row in rows[1:]}


def report(work, *args, name="r.html"):
    """(status, complaint or page)"""
    path = f"{work}/{name}"
    status, out, err = run("report", *args, "--output", path)
    return status, Page(open(path, encoding="utf-8").read()) if status == 0 else err, out


def put(f, name, x, rate=RATE, start=START):
    d = f.create_dataset(name, data=x)
    for key, value in {"x0": float(start), "dx": 1 / rate, "xunit": "s", "unit": "strain", "name": name, "channel": name}.items():
        d.attrs[key] = value


def welch(x, seconds, high=None):
    f, p = sig.welch(x, RATE, "hann", seconds * RATE, seconds * RATE // 2, average="median")
    return f, p


def figures(raw, x, low, high, outside=()):
    f, before = welch(raw, 2)
    _, after = welch(x, 2)
    band = (f >= low) & (f < high)
    for a, b in outside:
        band &= ~((f > a - 2) & (f < b + 2))
    r = np.sqrt(after / before)
    loud = np.flatnonzero(band)[before[band].argmax()]
    worst = np.flatnonzero(band)[r[band].argmax()]
    return [r[band].mean(), np.sqrt(after[band].sum() / before[band].sum()), f[loud], r[loud], f[worst], r[worst]]


def bns_range(x):
    """As in kernels/range.h, with scipy's spectrum."""
    f, s = welch(x, 4)
    sun, mpc = 4.925490947641267e-6, 1.0292712503e14
    band = (f >= 10) & (f <= min(1 / (6**1.5 * np.pi * 2.8 * sun), 0.44 * RATE))
    total = np.sum(f[band]**(-7 / 3) / s[band]) * f[1]
    return np.sqrt(5 / 24) * np.pi**(-2 / 3) * (1.4 * 2**-0.2 * sun)**(5 / 6) * np.sqrt(4 * total) / 8 / 2.2648 / mpc


def close(cells, values):
    return all(abs(float(c) - v) <= 1e-3 * abs(v) for c, v in zip(cells, values))


def simulate(work, name, parts, more=""):
    path = f"{work}/{name}"
    with open(f"{work}/graph.yaml", "w") as f:
        f.write(GRAPH.format(start=START, seconds=SECONDS, rate=RATE, parts=parts, path=path, more=more or "layout: gwpy"))
    status, _, err = run("run", "--quiet", f"{work}/graph.yaml")
    if status != 0:
        check(False, err)
        finish()
    return path


def samples(path, name):
    with h5py.File(path) as f:
        found = []
        f.visit(lambda key: found.append(key) if key.split("/")[-1] == name else None)
        return f[found[0]][()]


with folder() as work:
    # what the denoise stage leaves behind: strain, the simulation's parts, and what was subtracted
    sky, parts = simulate(work, "sky.hdf5", "false"), simulate(work, "parts.hdf5", "true")
    raw, coupled = samples(sky, "H1:STRAIN"), samples(parts, "H1:STRAIN_COUPLED")
    check(abs(np.std(raw - samples(parts, "H1:STRAIN_NOISE"))) < 1e-9 * np.std(raw), "the simulation's noise is the strain, with the same seed")
    noise = 0.95 * coupled
    noise[:20 * RATE] = 0
    cleaned = f"{work}/cleaned.hdf5"
    seconds = np.arange(SECONDS)
    with h5py.File(cleaned, "w") as f:
        put(f, "H1:STRAIN_CLEANED", raw - noise)
        put(f, "H1:STRAIN_ASDR-mains", np.where(seconds < 8, np.nan, 0.4), 1)
        put(f, "H1:STRAIN_ASDR-mains_OUT", np.ones(SECONDS), 1)
        put(f, "H1:STRAIN_GATE-mains", (seconds >= 24).astype(float), 1)
        put(f, "H1:STRAIN_MODEL-mains", np.where(seconds < 48, 0x123456789abcd, 0x0edcba9876543).astype(float), 1)

    status, page, out = report(work, sky, parts, cleaned)
    check(status == 0, f"strain, parts and cleaned in three files: {out.splitlines()[0] if status == 0 else page}")
    text = open(f"{work}/r.html").read()
    check(page.wrong == 0, "every tag is closed")
    check(page.refers and all(r.startswith("data:") for r in page.refers), f"nothing is fetched: {len(page.refers)} pictures, all inside")
    check("<script" not in text and not re.search(r'url\(|@import|https?:', re.sub(r'base64,[^"]*', "", text)), "no script, no address")
    check(len(page.refers) == 11, f"spectra, two zooms, ratios, gates, range, three maps: {len(page.refers)}")
    for band, low, high in (("58-62", 58, 62), ("10-30", 10, 30)):
        cells = page.rows("figures")[band]
        after, ideal = figures(raw, raw - noise, low, high), figures(raw, raw - coupled, low, high)
        wanted = after + ideal[:2] + [after[0] / ideal[0]]
        check(close(cells, wanted), f"{band} Hz as scipy has it: mean {cells[0]}, ideal {cells[6]}, at {cells[2]} Hz {cells[3]}")
    cells = page.rows("figures")["32-64 elsewhere"]
    check(close(cells, figures(raw, raw - noise, 32, 64, [(58, 62), (10, 30)])), f"and beside the bands: mean {cells[0]}, worst bin {cells[5]}")
    for row, x in (("before", raw), ("after", raw - noise), ("ideal", raw - coupled)):
        check(close(page.rows("ranges")[row], [bns_range(x)]), f"range {row}: {page.rows('ranges')[row][0]} Mpc")
    coupling = page.rows("text")["mains"]
    check("123456789abcd" in coupling[2] and "0edcba9876543" in coupling[2] and f"{START + 48}" in coupling[2], "both networks, and when the second came")
    check(coupling[3] == "75.0 %", f"the gate was open {coupling[3]}")

    first = page.rows("figures")

    # what the denoise stage itself records
    config = yaml.safe_load(open(flow.ROOT / "configs" / "deepclean.yaml"))
    source = config["sources"]["sky"]
    source.update(duration="48s", pace=0, detectors=["H1"])
    del source["population"], source["glitches"]
    with open(f"{work}/clean.yaml", "w") as f:
        yaml.dump({"sources": {"sky": source}, "stages": {"clean_h1": config["stages"]["clean_h1"]},
                   "sinks": {"disk": {"kind": "record", "from": ["sky.H1", "clean_h1"], "path": f"{work}/run.hdf5", "layout": "gwpy", "every": "16s", "on_full": "wait"}}}, f)
    status, _, err = run("run", "--quiet", f"{work}/clean.yaml")
    check(status == 0, f"the sky and the networks of configs/deepclean.yaml, a file every 16 s {err}")
    status, page, out = report(work, f"{work}/run-*.hdf5", "--start", int(source["start"]) + 32)
    rows = page.rows("text") if status == 0 else {}
    for c in config["stages"]["clean_h1"]["couplings"]:
        sha = hashlib.sha256(open(flow.ROOT / c["model"], "rb").read()).hexdigest()
        cells = rows.get(c["name"], ["", "", "", ""])
        band = page.rows("figures").get(f"{c['name']} {cells[0].split(',')[0]}", ["nan"]) if rows else ["nan"]
        check(sha.startswith(cells[2]) and len(cells[2]) == 13 and cells[3] == "100.0 %" and float(band[0]) < 0.9, f"{c['name']}: {cells}, mean ratio {band[0]}")

    # any two of the three
    with h5py.File(f"{work}/noise.hdf5", "w") as f:
        put(f, "H1:STRAIN_NOISE", noise)
    status, page, _ = report(work, sky, parts, f"{work}/noise.hdf5")
    check(status == 0 and page.rows("figures") == first, "strain and what was subtracted give the same")
    status, page, _ = report(work, cleaned, f"{work}/noise.hdf5")
    check(status == 0 and page.rows("figures")["58-62"][:6] == first["58-62"][:6], "and so do cleaned strain and what was subtracted")

    # span, bands, detectors; files that follow each other; wide recordings
    status, page, _ = report(work, sky, cleaned, "--start", START + 30, "--end", START + 70, "--bands", "59-61")
    a, b = 30 * RATE, 70 * RATE
    check(status == 0 and close(page.rows("figures")["59-61"], figures(raw[a:b], (raw - noise)[a:b], 59, 61)), "--start, --end, --bands")
    halves = []
    for k, (a, b) in enumerate(((0, 40 * RATE), (44 * RATE, SECONDS * RATE))):
        halves.append(f"{work}/half{k}.hdf5")
        with h5py.File(halves[-1], "w") as f:
            put(f, "H1:STRAIN_CLEANED", (raw - noise)[a:b], start=START + a // RATE)
    status, page, _ = report(work, sky, *halves)
    f, p = np.fft.rfftfreq(2 * RATE, 1 / RATE), []
    for x in (raw, raw - noise):
        pieces = [sig.spectrogram(y, RATE, "hann", 2 * RATE, RATE, detrend="constant")[2] for y in (x[:40 * RATE], x[44 * RATE:])]
        p.append(np.median(np.concatenate(pieces, axis=1), axis=1))
    band = (f >= 58) & (f < 62)
    check(status == 0 and close(page.rows("figures")["58-62"], [np.sqrt(p[1] / p[0])[band].mean()]), "two files with a hole between: only what is there on both sides")
    text = open(f"{work}/r.html").read()
    check("<td>4.000</td><td>absent</td>" in text and f"{START + 40}.000" in text, "and the hole is told")
    wide = simulate(work, "wide.hdf5", "false", "layout: wide, every: 32s")
    status, page, _ = report(work, f"{work}/wide-*.hdf5", cleaned, "--strain", "H1:STRAIN")
    check(status == 0 and page.rows("figures")["58-62"] == first["58-62"][:6], f"strain from three wide files{'' if status == 0 else ': ' + page}")
    with h5py.File(f"{work}/other.hdf5", "w") as f:
        put(f, "L1:GDS-CALIB_STRAIN", raw)
        put(f, "L1:GDS-CALIB_STRAIN_CLEANED", raw - noise)
    status, page, out = report(work, sky, cleaned, f"{work}/other.hdf5")
    check(status == 0 and len([t for t in page.tables if t[0] == "figures"]) == 2 and "L1:GDS-CALIB_STRAIN" in out, "two strains, two parts of one page")

    # bad input
    def refused(what, code, words, *args):
        for leftover in ("r.html", "r.html.part"):
            if os.path.exists(f"{work}/{leftover}"):
                os.unlink(f"{work}/{leftover}")
        status, err, _ = report(work, *args)
        one = isinstance(err, str) and err.count("\n") == 1 and all(w in err for w in words)
        check(status == code and one and not any(n.startswith("r.html") for n in os.listdir(work)), f"{what}: {err.strip() if isinstance(err, str) else 'taken'}")

    def file_of(name, **channels):
        path = f"{work}/{name}"
        with h5py.File(path, "w") as f:
            for key, (x, rate) in channels.items():
                put(f, key.replace("__", ":"), x, rate)
        return path

    with open(f"{work}/text.hdf5", "w") as f:
        f.write("not HDF5")
    open(f"{work}/empty.hdf5", "w").close()
    zeros, loud = np.zeros(SECONDS * RATE), raw.copy()
    loud[50 * RATE:51 * RATE] = 1e300
    status, page, _ = report(work, file_of("zeros.hdf5", H1__STRAIN=(zeros, RATE), H1__STRAIN_NOISE=(zeros, RATE)))
    check(status == 0 and page.rows("figures")["58-62"][0] == "1", "all zero: a page, and nothing has changed")
    status, page, _ = report(work, file_of("loud.hdf5", H1__STRAIN=(loud, RATE), H1__STRAIN_NOISE=(noise, RATE)))
    check(status == 0 and 0.5 < float(page.rows("figures")["58-62"][0]) < 0.8, "a second of 1e300: left out")
    odd = "H1__<b>A&B\"STRAIN"
    status, page, _ = report(work, file_of("name.hdf5", **{odd: (raw, RATE), odd + "_NOISE": (noise, RATE)}))
    check(status == 0 and page.wrong == 0 and page.rows("figures") == {k: v[:6] for k, v in first.items()}, "a name that looks like HTML")
    refused("strain alone", 2, ["H1:STRAIN_CLEANED", "the files hold"], sky)
    refused("cleaned alone", 2, ["H1:STRAIN_CLEANED is there"], cleaned)
    refused("another strain", 2, ["H1:STRIAN", "cleaned were H1:STRAIN"], sky, cleaned, "--strain", "H1:STRIAN")
    refused("no such file", 2, ["no such file"], f"{work}/nothing.hdf5")
    refused("not HDF5", 2, ["not an HDF5 file"], sky, f"{work}/text.hdf5")
    refused("an empty file", 2, ["is empty"], f"{work}/empty.hdf5")
    refused("all NaN", 2, ["too little data"], sky, file_of("nan.hdf5", H1__STRAIN_CLEANED=(np.full(SECONDS * RATE, np.nan), RATE)))
    refused("too short", 2, ["too little data"], sky, cleaned, "--end", START + 5)
    refused("no common time", 2, ["nothing to report on"], sky, cleaned, "--start", START + 5000)
    refused("another rate", 2, ["1024", "2048"], sky, file_of("slow.hdf5", H1__STRAIN_CLEANED=(raw[::2], RATE // 2)))
    refused("a rate that is no strain's", 2, ["0.5 Hz"], file_of("odd.hdf5", H1__STRAIN=(raw[:100], 0.5), H1__STRAIN_CLEANED=(raw[:100], 0.5)))
    refused("bands that are none", 2, ["--bands"], sky, cleaned, "--bands", "62-58")
    refused("a band beyond Nyquist", 2, ["ends at 1024 Hz"], sky, cleaned, "--bands", "2000-3000")
    refused("no files", 2, ["which files"])
    refused("an unknown option", 2, ["--bandz"], "--bandz", "3", sky)
    status, _, err = run("report", sky, cleaned, "--output", f"{work}/no/such/r.html")
    check(status == 1 and err.count("\n") == 1 and "cannot be written" in err, f"a folder that is not there: {err.strip()}")
    status, _, err = run("report", sky, cleaned, "--output", cleaned)
    check(status == 2 and "is an input" in err and samples(cleaned, "H1:STRAIN_CLEANED").size, f"its own input: {err.strip()}")
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    with open(f"{work}/old.html", "w") as f:
        f.write("the report of yesterday")
    resource.setrlimit(resource.RLIMIT_FSIZE, (200000, limit[1])) # as a full disk
    status, _, err = run("report", sky, cleaned, "--output", f"{work}/old.html")
    resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    check(status == 1 and err.count("\n") == 1 and open(f"{work}/old.html").read() == "the report of yesterday" and not os.path.exists(f"{work}/old.html.part"),
          f"a disk that is full leaves the old page: {err.strip()}")
finish()
