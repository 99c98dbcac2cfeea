# SPDX-License-Identifier: GPL-3.0-or-later
"""What recording and reading back cost beside plain pwrite and pread of the same bytes in the same round: 1,024
channels x 16 kHz float32 in 1/16-s blocks (4 MiB) to a file in the page cache; several chunk sizes, wider streams and
the other layout beside it. Rounds are interleaved and every second one begins with the other; medians. Writes
benchmarks/results/record-DATE.json.

    benchmarks/record.py [--program build/benchmarks/bench_record] [--rounds 9] [--folder /dev/shm] [--quick]"""

import argparse
import datetime
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests" / "long"))
from result import calm, save  # noqa: E402
from flow import ROOT, check, finish  # noqa: E402

MiB = 1 << 20
BAR = 0.8
# layout, channels, chunk, blocks; the first is the one that must hold.
SHAPES = (("wide", 1024, 4 * MiB, 128), ("wide", 1024, 2 * MiB, 128), ("wide", 1024, MiB, 128), ("wide", 1024, MiB // 4, 128),
          ("wide", 4096, 16 * MiB, 32), ("wide", 4096, 8 * MiB, 32), ("wide", 4096, 4 * MiB, 32), ("wide", 4096, MiB, 32),
          ("gwpy", 1024, 0, 32))

arguments = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
arguments.add_argument("--program", default=str(ROOT / "build" / "benchmarks" / "bench_record"))
arguments.add_argument("--rounds", type=int, default=9)
arguments.add_argument("--folder", default="/dev/shm", help="/dev/shm is memory alone; another one is that and its disk")
arguments.add_argument("--quick", action="store_true", help="one short round and no file: does it work at all?")
options = arguments.parse_args()
if options.quick:
    options.rounds = 1


def bench(folder, layout, channels, chunk, blocks, swap):
    blocks = 4 if options.quick else blocks
    words = [options.program, folder, "--layout", layout, "--channels", channels, "--chunk", chunk, "--blocks", blocks]
    out = subprocess.run([str(w) for w in words] + (["--swap"] if swap else []), text=True, stdout=subprocess.PIPE,
                         check=True)
    return json.loads(out.stdout)


load = 0 if options.quick else calm()
trials = {}
with tempfile.TemporaryDirectory(prefix="gwstream-", dir=options.folder) as folder:
    for n in range(options.rounds):
        for shape in SHAPES:
            trials.setdefault(shape, []).append(bench(folder, *shape, n % 2))

table = []
print(f"{'layout':6s} {'channels':>8s} {'chunk':>9s}   GB/s: pwrite record  pread   read   x pwrite  x pread")
for (layout, channels, chunk, blocks), all_ in trials.items():
    row = {"layout": layout, "channels": channels, "chunk_bytes": chunk, "blocks": blocks}
    row |= {k: round(statistics.median(t[k] for t in all_), 3) for k in all_[0]}
    row["record_of_pwrite_least_and_most"] = [f(t["record_of_pwrite"] for t in all_) for f in (min, max)]
    row["read_of_pread_least_and_most"] = [f(t["read_of_pread"] for t in all_) for f in (min, max)]
    table.append(row)
    print(f"{layout:6s} {channels:8d} {chunk / MiB:5.2f} MiB   {row['pwrite_GB_per_s']:12.2f} "
          f"{row['record_GB_per_s']:6.2f} {row['pread_GB_per_s']:6.2f} {row['read_GB_per_s']:6.2f} "
          f"{row['record_of_pwrite']:10.2f} {row['read_of_pread']:8.2f}")

if options.quick:
    check(all(r["record_GB_per_s"] > 0 and r["read_GB_per_s"] > 0 for r in table), "every shape was recorded and read")
    finish()
best = table[0]
check(best["record_of_pwrite"] >= BAR, f"recording: {best['record_of_pwrite']:.2f} x pwrite (at least {BAR})")
check(best["read_of_pread"] >= BAR, f"reading back: {best['read_of_pread']:.2f} x pread (at least {BAR})")
save(f"record-{datetime.date.today().isoformat()}", rounds=options.rounds, folder=options.folder, load_before=load,
     load_after=calm(99), record_of_pwrite=best["record_of_pwrite"], read_of_pread=best["read_of_pread"], shapes=table)
finish()
