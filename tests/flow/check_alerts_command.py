#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""`gwstream alerts` against Python's sqlite3, csv and json: the same journal, read past all our code.

usage: check_alerts_command.py GWSTREAM JOURNAL_DRIVER
"""
import csv
import io
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile

MERGERS = 40
failures = 0


def check(ok, what):
    global failures
    failures += not ok
    print(("ok    " if ok else "FAIL  ") + what)


def main():
    if len(sys.argv) != 3:
        print(__doc__)
        return 2
    program, driver = (os.path.abspath(a) for a in sys.argv[1:])
    work = tempfile.mkdtemp(prefix="gw-alerts-")
    journal = work + "/gwstream.sqlite"
    subprocess.run([driver, journal, f"ipc://{work}/pub", "none", str(MERGERS), "0"], check=True,
                   stdout=subprocess.DEVNULL)

    def alerts(*args, cwd=work):
        r = subprocess.run([program, "alerts", *args], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                           text=True)
        return r.returncode, r.stdout, r.stderr

    def refused(status, says, *args, **more):
        rc, out, err = alerts(*args, **more)
        check(rc == status and says in err and err.count("\n") == 1 and not out and err.count("alerts: ") <= 1,
              f"alerts {' '.join(args)}: exit {rc}, {err.strip()}")

    with sqlite3.connect(journal) as db:
        db.row_factory = sqlite3.Row
        rows = [dict(r) for r in db.execute("SELECT * FROM events ORDER BY number")]
    db.close()
    check(len(rows) == 4 * MERGERS, f"the journal has {len(rows)} rows")

    rc, out, err = alerts("export", "--csv")
    table = list(csv.DictReader(io.StringIO(out)))
    same = len(table) == len(rows) and all(
        t["id"] == r["id"] and t["phase"] == r["phase"] and int(t["serial"]) == r["serial"]
        and t["detectors"] == r["detectors"] and t["gps"].replace(".", "") == str(r["gps_ns"])
        and float(t["statistic"]) == r["statistic"] and float(t["latency_s"]) == r["latency_s"]
        for t, r in zip(table, rows))
    check(rc == 0 and same, "export --csv has every row, and its values to the last digit")

    rc, out, err = alerts("export", "--output", "all.jsonl")
    with open(work + "/all.jsonl", encoding="utf-8") as f:
        text = f.read().splitlines()
    check(rc == 0 and not out and text == [r["json"] for r in rows], "export writes the lines as published")
    check([json.loads(t)["serial"] for t in text[:4]] == [1, 1, 2, 1], "and they are JSON")

    rc, out, err = alerts()
    lines = out.splitlines()
    first = sorted(r["latency_s"] for r in rows if r["phase"] == "first")
    median = f"median {1e3 * (first[MERGERS // 2 - 1] + first[MERGERS // 2]) / 2:.0f} ms"
    check(rc == 0 and len(lines) == MERGERS + 3, f"list has a line an event ({len(lines)})")
    check(lines[1].split()[:4] == ["G0000000000000000", "final", "2024-05-17T16:53:02.000Z", "1400000000.000"]
          and "1 per 12 d" in lines[1], lines[1])
    check(median in lines[-1] and f"longest {1e3 * first[-1]:.0f} ms" in lines[-1], lines[-1])
    rc, out, err = alerts("list", "-n", "5", "--since", "1400000120", "--json")
    check([json.loads(t)["id"][-2:] for t in out.splitlines()] == ["23", "24", "25", "26", "27"],
          "list --limit --since --json: the last five")

    rc, out, err = alerts("show", "G0000000000000007")
    check(rc == 0 and out.count("statistic") == 4 and "update 2" in out, "show has the four phases of one event")
    rc, out, err = alerts("efficiency")
    check(rc == 0 and out.splitlines()[-1].split() == ["all", "40", "40", "100.0%", "0", "0.0%"], "efficiency: all found")
    check("8 to 10              4       4 100.0%" in out, "efficiency: four of 8 <= SNR < 10")
    rc, out, err = alerts("export", "--injections", "--csv")
    table = list(csv.DictReader(io.StringIO(out)))
    check(len(table) == MERGERS and json.loads(table[3]["parameters"]) == {"merger": 3, "network_snr": 8}
          and float(table[3]["network_snr"]) == 8 and table[3]["id"] == "G0000000000000003", "export --injections --csv")
    rc, out, err = alerts("export", "--injections")
    check([json.loads(t)["found"] for t in out.splitlines()] == [True] * MERGERS, "export --injections is JSON")

    # what a limit and a time mean, and where they mean nothing
    rc, out, err = alerts("export", "-n", "2")
    check([(json.loads(t)["id"][-2:], json.loads(t)["phase"]) for t in out.splitlines()] ==
          [(m, p) for m in ("26", "27") for p in ("first", "update", "update", "final")],
          "export --limit 2: all phases of the last two events")
    rc, out, err = alerts("export", "--injections", "--since", "1400000200", "-n", "3")
    check([json.loads(t)["parameters"]["merger"] for t in out.splitlines()] == [37, 38, 39],
          "export --injections --limit --since: the last three")
    rc, out, err = alerts("export", "--injections", "--since", "1400000220")
    check([json.loads(t)["parameters"]["merger"] for t in out.splitlines()] == [37, 38, 39],
          "export --injections --since")
    rc, out, err = alerts("efficiency", "--since", "1400000220")
    check(rc == 0 and out.splitlines()[-1].split()[:3] == ["all", "3", "3"], "efficiency --since")
    refused(2, "--limit belongs to", "efficiency", "--limit", "3")
    refused(2, "belong to 'alerts list'", "show", "G0000000000000007", "--limit", "3")
    refused(2, "belong to 'alerts list'", "show", "G0000000000000007", "--since", "1400000000")

    # the journal is never what an export writes over
    with open(journal, "rb") as f:
        before = f.read()
    os.symlink(journal, work + "/link")
    os.link(journal, work + "/hard.part")
    for name in (journal, "./gwstream.sqlite", "link", "hard.part", "hard"):
        refused(2, "would write over the journal", "export", "--output", name)
    with open(journal, "rb") as f:
        check(f.read() == before, "and it is as it was")
    os.unlink(work + "/link")
    os.unlink(work + "/hard.part")
    os.mkdir(work + "/folder")
    refused(2, "folder", "export", "--output", "folder")
    os.rmdir(work + "/folder")
    refused(2, "none/x", "export", "--output", "none/x")
    rc, out, err = alerts("export", "--output", "/dev/stdout")
    check(rc == 0 and out.splitlines() == text, "export --output /dev/stdout")
    os.symlink("elsewhere", work + "/to-elsewhere")
    rc, out, err = alerts("export", "--output", "to-elsewhere")
    with open(work + "/elsewhere", encoding="utf-8") as f:
        check(rc == 0 and f.read().splitlines() == text and os.path.islink(work + "/to-elsewhere"),
              "export through a link leaves the link")
    os.unlink(work + "/to-elsewhere")
    os.unlink(work + "/elsewhere")
    rc, out, err = alerts("export", "--output", "/dev/full")
    check(rc == 1 and "No space left" in err, f"export --output /dev/full: {err.strip()}")

    refused(2, "no event", "show", "G9")
    refused(2, "begins more than one id", "show", "G0")
    refused(2, "wants an event's id", "show")
    refused(2, "none of list, show", "lsit")
    refused(2, "unknown option", "--frob")
    refused(2, "wants a value", "--limit")
    refused(2, "whole number", "--limit", "0")
    refused(2, "GPS seconds", "--since", "yesterday")
    refused(2, "belong to", "list", "--csv")
    refused(2, "No such file", "list", cwd="/")
    refused(2, "not an SQLite file", "--journal", "all.jsonl")
    rc, out, err = alerts("--help")
    check(rc == 0 and "efficiency" in out and not err, "--help")

    left = sorted(os.listdir(work))
    check(left == ["all.jsonl", "gwstream.sqlite"], f"reading leaves nothing behind: {left}")
    shutil.rmtree(work)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
