#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks that each room of the source includes only from the rooms it stands on.

Usage: layers.py [ROOT]. Prints one line per wrong include. Exit status 0, 1 when there is one, 77 when
there was nothing to look at. A header of a library is written <so.h>, one of ours "room/so.h".
"""
import re
import sys
from pathlib import Path

# The first pattern that matches a file's path says what it may include of ours, and which libraries it
# must not know. main.c, the commands and the table of kinds tie all rooms together.
TOP = r"pipeline/(main|kinds|cmd_\w+)\.[ch]"
HOUSE = r"pipeline/[^/]+"
CUDA = r"(cuda|cufft|cublas|cudnn|nccl|nvml)\w*\.h"
RULES = [
    (TOP, r".*", r"$^"),
    (r"kernels/.*", r"kernels/.*|pipeline/(error|device)\.h", r"(zmq|yaml|hdf5|sqlite3)\.h|sys/socket\.h"),
    (r"pipeline/stages/.*", rf"{HOUSE}|pipeline/stages/.*|kernels/.*", CUDA),
    (r"pipeline/.*", HOUSE, CUDA),
    (r"sources/.*", rf"sources/.*|{HOUSE}|kernels/.*", CUDA),
    (r"sinks/.*", rf"sinks/.*|{HOUSE}|kernels/.*", CUDA),
]
ROOMS = ["pipeline", "kernels", "sources", "sinks"]
SUFFIXES = {".c", ".h", ".cu", ".cuh", ".inc"}
INCLUDE = re.compile(r'^\s*#\s*include\s*(?:"([^"]+)"|<([^>]+)>)')


def rule_of(path):
    return next(rule for rule in RULES if re.fullmatch(rule[0], path))


def wrong_includes(root, path):
    _, allowed, forbidden = rule_of(path)
    for number, line in enumerate((root / path).read_text(errors="replace").splitlines(), 1):
        found = INCLUDE.match(line)
        if not found:
            continue
        ours, library = found.groups()
        where = f"{path}:{number}: "
        if library and re.fullmatch(forbidden, library):
            yield where + f"<{library}> is not for this room"
        if ours and not (root / ours).is_file():
            yield where + f'"{ours}" is no file from the top of the tree; write "room/file.h"'
        elif ours and not re.fullmatch(allowed, ours):
            yield where + f'"{ours}" is in a room that this one does not stand on'
        elif ours and re.fullmatch(TOP, ours) and not re.fullmatch(TOP, path):
            yield where + f'"{ours}" belongs to the program, not to a room'


def main():
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent
    paths = sorted(p.relative_to(root).as_posix() for room in ROOMS for p in (root / room).rglob("*")
                   if p.suffix in SUFFIXES and p.is_file())
    wrong = [text for path in paths for text in wrong_includes(root, path)]
    print(*wrong, sep="\n", end="\n" if wrong else "")
    print(f"{len(paths)} files, {len(wrong)} wrong includes")
    return 77 if not paths else 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
