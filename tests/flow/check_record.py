# SPDX-License-Identifier: GPL-3.0-or-later
"""Recordings, read by h5py: exact values in both layouts; while they are written; after kill -9; over a full disk;
and recorded again from their own replay."""

import glob
import os
import pathlib
import resource
import signal
import subprocess
import time

import h5py
import numpy as np
from flow import PROGRAM, ROOT, check, finish, folder, run, state_of, wait_until

RATE, AUX_RATE, CHANNELS = 4096, 1024, 100
SIM = f"{{kind: sim, detectors: [H1], rate: {RATE}Hz, auxiliary: {{channels: {CHANNELS}, rate: {AUX_RATE}Hz}}, seed: 5"


def graph(work, name, text):
    path = pathlib.Path(work) / name
    path.write_text(text)
    return path


def series(work, stem):
    return sorted(glob.glob(f"{work}/{stem}-*.hdf5"))


def tables(file, stream):
    g = file["gwstream"][stream]
    return g["dq"][()], g["absent"][()], dict(g.attrs)


def joined(files, stream):
    """What the rows of all files say is there, in order: sample numbers, samples [channel][sample], and the holes
    (first, samples, reason)."""
    numbers, samples, holes = [], [], []
    for name in files:
        with h5py.File(name, "r") as f:
            if stream not in f["gwstream"]:
                continue
            rows, _, about = tables(f, stream)
            data = f[stream]["samples"] if about["layout"] == "wide" else None
            for r in rows:
                if r["gap_reason"]:
                    holes.append((int(r["sample0"]), int(r["n_samples"]), about["gap_reasons"][r["gap_reason"]].decode()))
                    continue
                first = int(r["sample0"] - about["sample0"])
                stop = first + int(r["n_samples"])
                if data is not None:
                    samples.append(data[:, first:stop])
                else:
                    samples.append(np.stack([f[p.decode()][first:stop] for p in f["gwstream"][stream]["paths"][()]]))
                numbers.append(np.arange(r["sample0"], r["sample0"] + r["n_samples"]))
    numbers, samples = np.concatenate(numbers), np.concatenate(samples, axis=1)
    order = np.argsort(numbers)
    return numbers[order], samples[:, order], sorted(holes)


def whole(holes):
    """Holes of one reason that touch are one."""
    out = []
    for first, n, reason in holes:
        if out and out[-1][0] + out[-1][1] == first and out[-1][2] == reason:
            out[-1] = (out[-1][0], out[-1][1] + n, reason)
        else:
            out.append((first, n, reason))
    return out


def same(x, y):
    return x.shape == y.shape and x.dtype == y.dtype and x.tobytes() == y.tobytes()


def both_layouts(work):
    status, _, err = run("run", "--quiet", graph(work, "both.yaml", f"""
sources: {{sky: {SIM}, duration: 5s}}}}
sinks:
  wide: {{kind: record, from: sky, path: "{work}/wide.hdf5", every: 2s, chunk: 16KiB}}
  gwpy: {{kind: record, from: sky, path: "{work}/gwpy.hdf5", layout: gwpy}}
"""))
    check(status == 0, f"records in both layouts: exit {status} {err.strip()}")
    files = series(work, "wide")
    check([os.path.basename(f) for f in files] == [f"wide-{1400000000 + k}-2.hdf5" for k in (0, 2, 4)],
          f"a file every 2 s: {[os.path.basename(f) for f in files]}")
    for stream, channels, rate in (("sky.H1", 1, RATE), ("sky.aux", CHANNELS, AUX_RATE)):
        n, x, holes = joined(files, stream)
        m, y, _ = joined([f"{work}/gwpy.hdf5"], stream)
        check(x.shape == (channels, 5 * rate) and not holes, f"{stream}: {x.shape}, no hole")
        check(bool((n == np.arange(1400000000 * rate, 1400000005 * rate)).all()) and bool((n == m).all()),
              f"{stream}: sample numbers")
        check(same(x, y), f"{stream}: both layouts hold the same bits")
        check(bool(np.isfinite(x).all()) and float(x.std()) > 0, f"{stream}: numbers, and not all alike")
    with h5py.File(files[0], "r") as f:
        names = [c.decode() for c in f["sky.aux/channels"][()]]
        with h5py.File(f"{work}/gwpy.hdf5", "r") as g:
            check(names == [p.decode().split("/")[-1] for p in g["gwstream/sky.aux/paths"][()]], "channel names")
        s = f["sky.aux/samples"]
        check(s.chunks[1] == AUX_RATE // 16 and s.chunks[0] * s.chunks[1] * 4 <= 16384 and s.chunks[0] > 1,
              f"chunks of {s.chunks}")
        check(s.attrs["start_gps"] == 1400000000 and s.attrs["rate_hz"] == AUX_RATE, "start and rate")
        check(f["gwstream"].attrs["complete"] == 1, "closed as it should be")
    return files


def again(work, files, stem):
    """Replays recordings into another one; all streams must come out bit for bit, holes and all."""
    status, _, err = run("run", "--quiet", graph(work, stem + ".yaml", f"""
sources: {{old: {{kind: replay, files: [{', '.join('"' + str(f) + '"' for f in files)}]}}}}
sinks: {{tape: {{kind: record, from: old, path: "{work}/{stem}.hdf5", every: 2s, layout: wide}}}}
"""))
    check(status == 0, f"{stem}: replayed and recorded again: exit {status} {err.strip()}")
    found = [f for pattern in files for f in sorted(glob.glob(str(pattern)))]
    for stream, name in (("sky.H1", "old.H1"), ("sky.aux", "old.sky.aux")):
        a, b = joined(found, stream), joined(series(work, stem), name)
        check(bool((a[0] == b[0]).all()) and same(a[1], b[1]), f"{stem}: {stream}: {a[1].shape} samples, the same bits")
        told = [h for h in whole(b[2]) if h[2] != "absent"]  # where only another stream has anything
        check(whole(a[2]) == told, f"{stem}: {stream}: the same holes {told}")


def start(path, **more):
    return subprocess.Popen([PROGRAM, "run", "--quiet", str(path)], cwd=ROOT, stderr=subprocess.PIPE, text=True, **more)


def while_written_and_killed(work):
    live = graph(work, "live.yaml", f"""
sources: {{sky: {SIM}, pace: 1}}}}
sinks: {{tape: {{kind: record, from: sky, path: "{work}/live.hdf5", every: 1000s, flush: 100ms, on_full: wait}}}}
""")
    p = start(live)
    name, seen = f"{work}/live-1400000000-1000.hdf5", []
    for mode in ({}, {"swmr": True}, {}, {"swmr": True}):
        n, good, complete = 0, False, None
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                with h5py.File(name, "r", **mode) as f:
                    rows = tables(f, "sky.aux")[0]
                    n = int(rows["n_samples"].sum()) if len(rows) else 0
                    if n > (seen[-1] if seen else 0):
                        good = bool(np.isfinite(f["sky.aux/samples"][:, :n]).all())
                        complete = f["gwstream"].attrs["complete"]
                        break
            except (OSError, KeyError, RuntimeError, ValueError):
                if mode:
                    raise  # in the middle of a flush only a plain reader may see half of it
            time.sleep(0.05)
        seen.append(n)
        check(good and complete == 0, f"readable while it is written ({'swmr' if mode else 'plain'}): {n} samples so far")
    p.send_signal(signal.SIGKILL)
    p.wait()
    with h5py.File(name, "r") as f:
        rows, _, about = tables(f, "sky.aux")
        n = int(rows["n_samples"].sum())
        check(n >= seen[-1] and f["gwstream"].attrs["complete"] == 0 and
              bool(np.isfinite(f["sky.aux/samples"][:, :n]).all()), f"after kill -9 a plain reader finds {n} samples")
    again(work, [name], "revived")


def full_disk(work):
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (5_000_000, resource.RLIM_INFINITY))

    one = graph(work, "one.yaml", f"""
sources: {{sky: {SIM}, duration: 20s}}}}
sinks: {{tape: {{kind: record, from: sky, path: "{work}/one.hdf5", layout: gwpy, flush: 10ms}}}}
""")
    p = start(one, preexec_fn=limit)
    _, err = p.communicate(timeout=50)
    check(p.returncode == 1 and "File too large" in err and f"{work}/one.hdf5" in err,
          f"one file on a full disk: exit {p.returncode}, {err.strip()}")
    with h5py.File(f"{work}/one.hdf5", "r") as f:
        rows, _, about = tables(f, "sky.aux")
        n = int(rows["n_samples"].sum())
        paths = [p.decode() for p in f["gwstream/sky.aux/paths"][()]]
        check(f["gwstream"].attrs["complete"] == 0 and n > 0 and all(np.isfinite(f[p][:n]).all() for p in paths),
              f"what was flushed is there: {n} samples")
    many = graph(work, "many.yaml", f"""
sources: {{sky: {SIM}, duration: 48s, pace: 8}}}}
sinks: {{tape: {{kind: record, from: sky, path: "{work}/many.hdf5", every: 1000s, flush: 100ms}}}}
""")
    p, err = start(many, preexec_fn=limit), ""
    while "File too large" not in err and (line := p.stderr.readline()):
        err += line
    time.sleep(0.5)
    resource.prlimit(p.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    err += p.stderr.read()
    p.wait()
    n, x, holes = joined(series(work, "many"), "sky.aux")
    lost = sum(h[1] for h in holes)
    check(p.returncode == 1 and err.count("File too large") == 1 and "are lost for want of room" in err,
          f"a series on a full disk: exit {p.returncode}, {err.strip()}")
    check(lost > 0 and {h[2] for h in holes} == {"dropped"} and len(n) + lost == 48 * AUX_RATE and
          bool(np.isfinite(x).all()), f"it went on: {len(n)} samples are there, {lost} are said to be lost")
    again(work, [f"{work}/many-*.hdf5"], "mended")


def ring_on_command(work):
    p = start(graph(work, "ring.yaml", f"""
sources: {{sky: {SIM}, pace: 4}}}}
sinks:
  last: {{kind: ring, from: sky, path: "{work}/ring.hdf5", keep: 3s, before: 1s, on_full: wait}}
  tape: {{kind: record, from: sky, path: "{work}/beside.hdf5", every: 1000s, layout: wide, on_full: wait}}
"""))
    wait_until(lambda: (now := state_of(p.pid)) and now["data_ns"] - now["first_ns"] >= 4e9, "4 s of data")
    status, out, err = run("dump", p.pid, "last", "2s", f"{work}/dump.hdf5")
    check(status == 0, f"gwstream dump: {out.strip()} {err.strip()}")
    p.send_signal(signal.SIGTERM)
    _, err = p.communicate(timeout=50)
    check(p.returncode == 0, f"with a ring: exit {p.returncode}")
    for stream, rate in (("sky.H1", RATE), ("sky.aux", AUX_RATE)):
        n, x, holes = joined([f"{work}/dump.hdf5"], stream)
        m, y, _ = joined(series(work, "beside"), stream)
        check(rate <= len(n) <= 2.125 * rate and not holes, f"{stream}: {len(n)} samples of the last 2 s are dumped")
        check(same(x, np.ascontiguousarray(y[:, n[0] - m[0]:n[-1] + 1 - m[0]])), f"{stream}: the same bits as recorded")


with folder() as work:
    both_layouts(work)
    again(work, [f"{work}/wide-*.hdf5"], "wider")
    again(work, [f"{work}/gwpy.hdf5"], "narrow")
    while_written_and_killed(work)
    full_disk(work)
    ring_on_command(work)
finish()
