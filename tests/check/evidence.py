#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which of the GPU's kernels have run on a real one as they are now?

Usage: evidence.py                      says so for every .cu of kernels/cuda, from the files in benchmarks/results/
       evidence.py --write FILE --logs FOLDER --failed 0|1      writes such a file (benchmarks/gpu.sh)

A file of evidence has a hash for each .cu, over itself and the headers of ours that it includes. A kernel without
evidence is no failure: continuous integration has no GPU. A file that cannot be read is. Exit status 0 or 1.
"""
import argparse
import datetime
import hashlib
import json
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]


def sources(path, seen):
    """The file and what it includes of ours below kernels/, in the order of first sight."""
    if path not in seen and (ROOT / path).is_file():
        seen.append(path)
        for found in re.findall(r'#\s*include\s*"(kernels/[^"]+)"', (ROOT / path).read_text()):
            sources(found, seen)
    return seen


def digest(path):
    h = hashlib.sha256()
    for part in sources(path, []):
        h.update((ROOT / part).read_bytes())
    return h.hexdigest()[:16]


def hashes():
    return {p.name: digest(p.relative_to(ROOT).as_posix()) for p in sorted((ROOT / "kernels/cuda").glob("*.cu"))}


def networks(path):
    """Rows of `gwstream model bench`, each network's behind a line with its name."""
    rows, name = [], {}
    for line in path.read_text().splitlines() if path.exists() else ():
        row = json.loads(line)
        name, rows = (row, rows) if "network" in row else (name, rows + [name | row])
    return rows


def write(path, logs, failed):
    lines = {log.stem: log.read_text(errors="replace").splitlines() for log in sorted(logs.glob("check_*.log"))}
    bench = logs / "bench.json"
    try:
        figures = json.loads(bench.read_text())
    except (OSError, ValueError) as e:
        figures, failed = {"error": f"bench_gpu left no result: {e}"}, True
    out = {"measured": "gpu", "date": datetime.date.today().isoformat(), "agreed": not failed, "evidence": hashes(),
           "checks": {name: [line for line in text if line.startswith(("cuda ", "check_"))] for name, text in lines.items()},
           "figures": figures, "networks": networks(logs / "networks.jsonl")}
    path.write_text(json.dumps(out, indent=2) + "\n")
    print("written to", path)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--write", type=pathlib.Path)
    parser.add_argument("--logs", type=pathlib.Path)
    parser.add_argument("--failed", type=int, default=0)
    parser.add_argument("--results", type=pathlib.Path, default=ROOT / "benchmarks/results")
    a = parser.parse_args()
    if a.write:
        write(a.write, a.logs, bool(a.failed))
        return 0
    bad, runs = 0, []
    for file in sorted(a.results.glob("*.json")):
        try:
            result = json.loads(file.read_text())
        except ValueError as e:
            print(f"{file.name}: not JSON: {e}")
            bad += 1
            continue
        if isinstance(result, dict) and "evidence" in result and result.get("agreed"):
            runs.append((result["date"], file.name, result["evidence"]))
    now = hashes()
    if not runs:
        print(f"no GPU evidence yet: {', '.join(now)} have only run through the emulator")
    for name, value in now.items() if runs else ():
        same = [(date, file) for date, file, known in runs if known.get(name) == value]
        ever = [date for date, _, known in runs if name in known]
        print(f"{name}: " + (f"ran on a GPU as it is, {same[-1][1]}" if same else
                             f"changed since its last run on a GPU ({max(ever)})" if ever else "never ran on a GPU"))
    return 1 if bad or not now else 0


if __name__ == "__main__":
    sys.exit(main())
