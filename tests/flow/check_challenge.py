# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of the MLGWSC-1 challenge: searched by `gwstream replay`, whose event file is then scored by the
challenge's published rule. An event is true when it lies within its own `var` of the injection next to it;
the events of the background that are at least as loud give the false-alarm rate of a threshold. The files are as its
generate_data.py writes them (PyCBC's TimeSeries.save): compressed and shuffled, times as floating point, the simulated
sets from GPS 0 on, so that the names of the stretches are not in the order of time."""
import os
import sys

import h5py
import numpy as np

import flow

RATE_HZ = 2048
STRETCHES = ((1400000000, 44), (1400000100, 40))  # start, length: 56 s between them
SIGNALS = ((1400000021.3, 30, 28, 25), (1400000036.6, 22, 19, 14), (1400000127.4, 38, 30, 22))
LABEL = STRETCHES[0][0] - 96  # GPS 0 of the files: stretches "96" and "196"
MONTH_S = 30 * 86400


def simulate(work, seed, signals):
    """A challenge file -> its path."""
    path = f"{work}/{'fore' if signals else 'back'}ground-{seed}.hdf"
    with h5py.File(path, "w") as out:
        for number, (start, length) in enumerate(STRETCHES):
            made = f"{work}/made.hdf5"
            options = [o for t, m1, m2, snr in signals if start < t < start + length
                       for o in ("--signal", f"gps={t},mass1={m1},mass2={m2},network_snr={snr}")]
            status, _, err = flow.run("simulate", "--quiet", "--overwrite", "--output", made, "--rate", "4096Hz",
                                      "--start", start, "--duration", f"{length}s", "--seed", seed + number, *options)
            if status:
                flow.check(False, f"simulate: {err}")
            with h5py.File(made) as f:
                for detector in ("H1", "L1"):
                    # Every other sample after a half-band filter, as the challenge's own downsampling does.
                    x = np.fft.rfft(f[f"{detector}:STRAIN"][()])
                    x = np.fft.irfft(x[:len(x) // 2 + 1] / 2, length * RATE_HZ)
                    d = out.create_dataset(f"{detector}/{start - LABEL}", data=x, compression="gzip", compression_opts=1, shuffle=True)
                    d.attrs["start_time"], d.attrs["delta_t"] = float(start - LABEL), 1 / RATE_HZ
        out.attrs["detectors"] = ["H1", "L1"]
    return path


def search(path, work, *options):
    """-> rows (time, stat, var) of the event file."""
    events = path.replace(".hdf", "-events.hdf")
    status, out, err = flow.run("replay", "--quiet", "--model", flow.MODEL, "--journal", f"{events}.sqlite",
                                "--challenge", events, *options, path)
    flow.check(status == 0, f"replay --challenge {os.path.basename(path)}: exit 0{' ' + err if status else ''}")
    with h5py.File(events) as f:
        flow.check(sorted(f) == ["stat", "time", "var"]
                   and all(d.dtype == np.float64 and d.ndim == 1 for d in f.values()), "time, stat, var: float64")
        return np.array([f[k][()] for k in ("time", "stat", "var")]), flow.lines(out)


def score(fore, back, injected, duration_s):
    """-> share of injections found above each of the background's events, false alarms a month there; the
    events that are no injection's."""
    next_to = np.abs(fore[0][:, None] - injected[None]).argmin(1)
    true = np.abs(fore[0] - injected[next_to]) <= fore[2]
    loud = np.sort(back[1])
    found = [len(set(next_to[true & (fore[1] > s)])) / len(injected) for s in loud]
    return found, (len(loud) - np.arange(len(loud)) - 1) / duration_s * MONTH_S, fore[:, ~true]


def main():
    with flow.folder() as work:
        injected = np.array([s[0] for s in SIGNALS]) - LABEL
        duration = sum(length for _, length in STRETCHES)
        foreground, background = simulate(work, 11, SIGNALS), simulate(work, 11, ())
        fore, told = search(foreground, work)
        back, _ = search(background, work, "--candidate", "-4")
        found, far, false = score(fore, back, injected, duration)
        print(f"foreground {fore.tolist()}\nbackground: {back.shape[1]} events, statistic up to {back[1].max():.2f}")
        final = sorted((e["gps"], e["statistic"]) for e in {e["id"]: e for e in told}.values())
        flow.check(np.allclose(fore[:2].T, final, atol=1e-6), "one row an event, its last word, in the order of time")
        flow.check(found[-1] == 1 and far[-1] == 0, "all signals are louder than all of the noise")
        flow.check(false.shape[1] == 0, "and what was found is theirs")
        flow.check(back.shape[1] > 3 and np.all(np.diff(far) < 0), f"{far[0]:.0f} false alarms a month at the lowest")
        inside = [any(s < t < s + n for s, n in STRETCHES) for t in back[0] + LABEL]
        flow.check(all(inside), "nothing is found between the stretches")

        # What is wrong with a file is said in one line.
        def refused(text, change):
            bad = f"{work}/bad.hdf"
            with h5py.File(background) as a, h5py.File(bad, "w") as b:
                for name in a:
                    a.copy(name, b)
                change(b)
            status, _, err = flow.run("replay", "--quiet", "--journal", f"{work}/bad.sqlite",
                                      "--challenge", f"{work}/bad-events.hdf", bad)
            flow.check(status == 2 and text in err and len(err.strip().splitlines()) == 1 and "bad.hdf" in err
                       and not os.path.exists(f"{work}/bad-events.hdf"), f"refused: {err.strip()[-150:]}")

        def overlap(f):
            f["H1/196"].attrs["start_time"] = 126.

        def rate(f):
            f["L1/196"].attrs["delta_t"] = 1 / 4096

        def step(f):
            del f["L1/196"].attrs["delta_t"]

        refused("overlap", overlap)
        refused("4096", rate)
        refused("delta_t is missing", step)
        refused("detector", lambda f: f.move("H1", "Hanford"))
        status, _, err = flow.run("replay", "--quiet", "--challenge", f"{work}/none/e.hdf", "--journal",
                                  f"{work}/n.sqlite", background)
        flow.check(status == 2 and "folder does not exist" in err, f"refused: {err.strip()[-100:]}")
    flow.finish()


if __name__ == "__main__":
    try:
        main()
    except ImportError as e:
        flow.skip(str(e))
    sys.exit(0)
