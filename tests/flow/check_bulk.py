# SPDX-License-Identifier: GPL-3.0-or-later
"""whiten_bulk in whole graphs: real recordings come out with unit deviation and quiet outside the band; a new filter
leaves no step; the same samples for any block length, also when blocks are collected from another process; beside the
search's own whitening, both give what each gives alone; `check` says what it takes; a graph goes on from its checkpoint."""

import os
import pathlib
import re
import subprocess

import h5py
import numpy as np

from flow import DATA, PROGRAM, ROOT, check, finish, folder, run

HIGHPASS, LOWPASS = (20.0, 30.0), (0.88, 0.95)
RECORDINGS = ("strain-4k/H-H1_LOSC_4_V2-1126259446-32.hdf5", "strain-4k/L-L1_LOSC_4_V2-1126259446-32.hdf5",
              "strain-16k/H-H1_GWOSC_16KHZ_R1-1126259447-32.hdf5", "strain-16k/L-L1_GWOSC_16KHZ_R1-1126259447-32.hdf5")


def in_band(rate):
    """What the ramps leave of the standard deviation of white noise."""
    nyquist = rate / 2
    f = (np.arange(1 << 18) + 0.5) / (1 << 18) * nyquist
    rise = lambda a, b: np.sin(np.pi / 2 * np.clip((f - a) / (b - a), 0, 1)) ** 2  # noqa: E731
    return np.sqrt(np.mean((rise(*HIGHPASS) * (1 - rise(LOWPASS[0] * nyquist, LOWPASS[1] * nyquist))) ** 2))


def graph(work, text, name="graph"):
    path = f"{work}/{name}.yaml"
    pathlib.Path(path).write_text(text)
    return path


def runs(work, text, name="graph"):
    """-> stderr of a run that must end well"""
    status, _, err = run("run", graph(work, text, name), cwd=work)
    if status:
        print(err)
        check(False, f"{name} runs")
    return err


def recorded(path):
    """-> ([channel, sample] with NaN in holes, first GPS second, rate)"""
    with h5py.File(path) as f:
        sets = []
        f.visititems(lambda n, d: sets.append(d) if isinstance(d, h5py.Dataset) and not n.startswith("gwstream") else None)
        x0, dx = float(sets[0].attrs["x0"]), float(sets[0].attrs["dx"])
        return np.array([d[:] for d in sets], "f8"), x0, round(1 / dx)


def check_recordings(work):
    if not DATA.is_dir():
        print(f"skip real recordings: no folder {DATA} (set GWSTREAM_DATA)")
        return
    for path in RECORDINGS:
        for phase, average, hop, decimate in (("minimum", "mean", "1s", 1), ("minimum", "median", "1/4s", 4),
                                              ("linear", "mean", "1/4s", 1)):
            if "16k" in path and phase == "linear":
                continue
            runs(work, f"""
sources: {{sky: {{kind: replay, files: ["{DATA / path}"], block: 1/16s}}}}
stages: {{white: {{kind: whiten_bulk, from: sky, phase: {phase}, hop: {hop}, decimate: {decimate}, psd: {{average: {average}}}}}}}
sinks: {{disk: {{kind: record, from: white, path: out.hdf5, overwrite: true}}}}
""")
            y, start, rate = recorded(f"{work}/out.hdf5")
            at = start + np.arange(y.shape[1]) / rate
            y = y[0][~np.isnan(y[0]) & (np.abs(at - 1126259462.4) > 1)]  # without the signal, which is not noise
            s = y.std() / in_band(rate)
            p = np.abs(np.fft.rfft(y * np.hanning(len(y)))) ** 2
            f = np.fft.rfftfreq(len(y), 1 / rate)
            share = lambda a, b: p[(f >= a) & (f < b)].sum() / p.sum()  # noqa: E731
            what = f"{path.split('/')[1][:4]} {rate * decimate} Hz, {phase} phase, {average}, hop {hop}, to {rate} Hz"
            check(len(y) > 20 * rate and abs(s - 1) < 0.05, f"{what}: deviation {s:.3f} of the expected (1.00 +- 0.05)")
            check(share(0, 20) < 0.02 and share(490, 520) < 0.05, f"{what}: {100 * share(0, 20):.2f} % of the variance "
                  f"below 20 Hz (< 2), {100 * share(490, 520):.2f} % in 490-520 Hz (< 5)")


def check_step(work):
    """White noise through a filter that changes, and through one that does not: at the change they agree."""
    y = []
    for update in (600, 9):
        runs(work, f"""
sources: {{sky: {{kind: sim, seed: 3, start: 1400000000, duration: 24s, rate: 4096Hz, detectors: [H1], lines: false}}}}
stages: {{white: {{kind: whiten_bulk, from: sky, hop: 1/4s, update: {update}s}}}}
sinks: {{disk: {{kind: record, from: white, path: out.hdf5, overwrite: true}}}}
""")
        y.append(recorded(f"{work}/out.hdf5")[0][0])
    d, sigma = y[1] - y[0], y[0][~np.isnan(y[0])].std()
    n = 4096 // 4
    moved = [k for k in range(len(d) // n) if np.abs(np.nan_to_num(d[k * n:(k + 1) * n])).max() > 0]
    at = moved[0] * n if moved else 0
    due = 4 * (9 - 1400000000 % 9)  # every 36 hops of the absolute grid
    while due < 4 * 8 + 1:
        due += 36
    check(moved and moved[0] == due, f"a new filter comes in hop {moved[:1]} of the recording ({due})")
    jump, later = np.abs(d[at:at + 8]).max() / sigma, np.nanstd(d[at + 2 * n:]) / sigma
    check(jump < 1e-3, f"where it does, the output moves by {jump:.1e} sigma (< 1e-3); a second later it differs by {later:.3f}")


WIDE = """
sources: {{wide: {{kind: sim, seed: 5, start: 1400000000, duration: 14s, rate: 2048Hz, block: {block}, detectors: [H1],
                   lines: false, auxiliary: {{channels: 33, rate: 2048Hz}}{node}}}}}
stages: {{white: {{kind: whiten_bulk, from: wide.aux, hop: 1s, psd: {{bins: 4Hz}}, warmup: 4s{to}}}}}
sinks: {{eye: {{kind: null, from: white{to}}}, rest: {{kind: null, from: wide.H1, read: none{node}}}}}
"""


def said(err, stage):
    m = re.search(rf"stage={stage} (\d+ blocks, \d+ samples, \d+ bytes, .* checksum \w+)", err)
    return m.group(1) if m else f"nothing of {stage}"


def check_blocks(work):
    wide = lambda block: runs(work, WIDE.format(block=block, node="", to=""))  # noqa: E731
    whole = said(wide("1s"), "eye")
    check("10 blocks, 20480 samples, 2703360 bytes, 4 gaps of 8192 samples" in whole, f"33 channels after 4 s of warm-up: {whole}")
    for block in ("1/4s", "1/16s"):
        other = said(wide(block), "eye")
        check(other == whole, f"hops of 1 s collected from blocks of {block}: the same {other.split()[-1]}")
    text = "nodes: {front: {}, back: {}}" + WIDE.format(block="1/16s", node=", node: front", to=", node: back")
    path = graph(work, text, "split")
    env = {**os.environ, "GWSTREAM_RUN": f"bulk-{os.getpid()}"}
    front = subprocess.Popen([PROGRAM, "run", "--quiet", "--node", "front", path], env=env, cwd=work)
    back = subprocess.run([PROGRAM, "run", "--node", "back", path], env=env, cwd=work, stderr=subprocess.PIPE, text=True, timeout=50)
    check(front.wait(20) == 0 and back.returncode == 0, "the same in two processes " + (back.stderr if back.returncode else ""))
    check(said(back.stderr, "eye") == whole, "collected from another process's memory: the same")


def check_check(work):
    text = WIDE.format(block="1/16s", node="", to="")
    status, out, err = run("check", graph(work, text), cwd=work)
    check(status == 0 and "look-ahead 1000.0 ms" in out, "check: the hop is look-ahead " + err)
    check(re.search(r"filters of 1 x 2048 taps, transforms of 4096; a channel: [\d.]+ KiB of past and PSD, [\d.]+ KiB of filter", out)
          is not None, "check: layout, and memory of a channel")
    big = (ROOT / "configs" / "node-cpu.yaml").read_text()
    sizes = []
    for channels in (10000, 20000):
        _, out, _ = run("check", graph(work, re.sub(r"channels: \d+", f"channels: {channels}", big)), cwd=work)
        amount, unit = re.search(r"whiten_bulk look-ahead +1000.0 ms +memory ([\d.]+) (\wiB)", out).groups()
        sizes.append(float(amount) * {"MiB": 1 / 1024, "GiB": 1}[unit])
    check(1.8 < sizes[1] / sizes[0] < 2.1, f"check: 10,000 channels take {sizes[0]:.1f} GiB, 20,000 take {sizes[1]:.1f}")
    for key, line in (("hop: 3/2s", 2), ("psd: {bins: 3Hz, segment: 1/2s}", 2), ("decimate: 5", 2)):
        status, _, err = run("check", graph(work, f"sources: {{a: {{kind: repeat, channels: 9, block: 1s}}}}\n"
                                            f"stages: {{w: {{kind: whiten_bulk, from: a, {key}}}}}\n"
                                            "sinks: {n: {kind: null, from: w}}\n"), cwd=work)
        check(status == 2 and err.count("\n") == 1 and f"graph.yaml:{line}:" in err, f"refused: {err.strip()}")


SEARCH = """
  sky: {kind: sim, seed: 7, start: 1400000000, duration: 14s, rate: 2048Hz, detectors: [H1, L1]}
"""
BULK = "  wide: {kind: repeat, start: 1400000000, channels: 64, rate: 4096Hz, block: 1s, duration: 14s}\n"


def check_two_classes(work):
    def sums(search, bulk):
        text = "sources:" + (SEARCH if search else "\n") + (BULK if bulk else "") + "stages:\n"
        text += "  own: {kind: whiten, from: sky, warmup: 5s}\n" if search else ""
        text += "  rest: {kind: whiten_bulk, from: wide, hop: 1s, warmup: 4s}\n" if bulk else ""
        text += "sinks:\n"
        text += "  eye: {kind: null, from: own}\n" if search else ""
        text += "  bin: {kind: null, from: rest}\n" if bulk else ""
        err = runs(work, text)
        return said(err, "eye"), said(err, "bin")

    own, rest = sums(True, False)[0], sums(False, True)[1]
    check("checksum" in own and "checksum" in rest and "640 absent" not in rest, f"alone: {own.split()[-1]}, {rest.split()[-1]}")
    check(sums(True, True) == (own, rest), "the search's own whitening and bulk whitening in one graph: the same samples as alone")


def check_checkpoint(work):
    def go(start):
        return runs(work, f"""
sources: {{wide: {{kind: repeat, start: {start}, channels: 20, rate: 2048Hz, block: 1s, duration: 12s}}}}
stages: {{white: {{kind: whiten_bulk, from: wide, checkpoint: psd.hdf5}}}}
sinks: {{eye: {{kind: null, from: white}}}}
""")

    check("of 16384 samples" in said(go(1400000000), "eye"), "a cold start is silent for 8 s")
    again = said(go(1400000100), "eye")
    check("1 gaps of 2048 samples" in again or "0 gaps" in again, f"from a checkpoint it is not: {again}")


with folder() as work:
    check_check(work)
    check_blocks(work)
    check_two_classes(work)
    check_checkpoint(work)
    check_step(work)
    check_recordings(work)
finish()
