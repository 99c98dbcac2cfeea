#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""`gwstream alerts` against Python's sqlite3, csv and json, and numpy's quantiles: the same journal, read past all our
code. And its orders, where no run holds the journal (beside one: check_listen.py).

usage: check_alerts_command.py GWSTREAM JOURNAL_DRIVER
"""
import csv
import io
import json
import os
import pathlib
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time

import numpy

MERGERS = 40
MODEL = os.environ.get("GWSTREAM_MODEL", str(pathlib.Path(__file__).resolve().parents[2] / "models" / "bbh-small.onnx"))
STALLED = """
sources:
  sky: {{kind: live, listen: "ipc://@gwstream-stalled-{pid}", streams: {{
        H1: {{channels: 1, rate: 2048Hz, samples: float64, unit: strain}},
        L1: {{channels: 1, rate: 2048Hz, samples: float64, unit: strain}}}}}}
stages:
  white: {{kind: whiten, from: sky}}
  search: {{kind: detect, from: white, model: "{model}"}}
sinks:
  alerts: {{kind: alerts, from: search, journal: "{journal}", print: "{journal}.lines"}}
"""
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
          and " < 1 per 12 d " in lines[1], lines[1])  # the driver's 1e-6 Hz is 1/T: nothing as loud was seen
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
    refused(2, "belongs to 'alerts list'", "show", "G0000000000000007", "--limit", "3")
    refused(2, "belongs to 'alerts list'", "show", "G0000000000000007", "--since", "1400000000")

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
    refused(2, "--csv belongs to 'alerts export'", "list", "--csv")
    refused(2, "No such file", "list", cwd="/")
    refused(2, "not an SQLite file", "--journal", "all.jsonl")
    rc, out, err = alerts("--help")
    check(rc == 0 and "efficiency" in out and not err, "--help")

    # figures against numpy's
    rc, out, err = alerts("stats", "--json")
    s = json.loads(out)
    first = [r for r in rows if r["phase"] == "first"]
    last = {r["id"]: r for r in rows}

    def same_spread(got, values):
        want = numpy.quantile(numpy.array(values) / 1e9, [0.5, 0.9, 0.95, 0.99, 1])
        return got["n"] == len(values) and numpy.allclose([got[k] for k in ("median_s", "p90_s", "p95_s", "p99_s", "max_s")],
                                                          want, rtol=0, atol=1e-6)

    def wall(r, t):
        return r["anchor_wall_ns"] + t - r["anchor_data_ns"]
    check(rc == 0 and same_spread(s["latency"]["signal"], [r["due_ns"] - last[r["id"]]["gps_ns"] for r in first])
          and same_spread(s["latency"]["data"], [r["ingest_ns"] - wall(r, r["due_ns"]) for r in first])
          and same_spread(s["latency"]["pipeline"], [r["committed_ns"] - r["ingest_ns"] for r in first])
          and same_spread(s["latency"]["local"], [r["published_ns"] - wall(r, last[r["id"]]["gps_ns"]) for r in first]),
          "stats --json: numpy's quantiles of the same times")
    check(s["phases"] == {"first": 40, "update": 80, "final": 40, "retracted": 0} and s["events"] == s["timed"] == 40
          and s["noise_rate"]["1/month to 1/d"] == 40 and s["brokers"] == [], "stats --json: how many of what")
    rc, out, err = alerts("stats", "--since", "1400000220")
    check(rc == 0 and out.startswith("events      3: 0 above") and "data      last sample -> seen" in out, "stats --since")
    rc, out, err = alerts("stats", "--since", "1500000000")
    check(rc == 0 and "no events at or after that time" in out, "stats of nothing")

    # orders where no run holds the journal
    rc, out, err = alerts("retract", "G0000000000000005", "--reason", 'a "hardware" injection')
    check(rc == 0 and "retracted in the journal; the next run tells it" in out, f"retract: {out.strip()}")
    rc, out, err = alerts("show", "G0000000000000005")
    check("retracted" in out and 'because     a \\"hardware\\" injection' in out and "not yet" in out, "show says why")
    rc, out, err = alerts("export", "-n", "50")
    e = json.loads(out.splitlines()[-1])
    check(e["phase"] == "retracted" and e["reason"] == 'a "hardware" injection' and e["id"] == "G0000000000000005",
          "export has it with its reason")
    refused(2, "has been retracted already, at 20", "retract", "G0000000000000005", "--reason", "again")
    refused(2, "no event", "retract", "G9", "--reason", "x")
    refused(2, "begins more than one id", "retract", "G00", "--reason", "x")
    refused(2, "wants --reason", "retract", "G0000000000000006")
    refused(2, "wants an event's id", "retract", "--reason", "x")
    refused(2, "say it in 1 to 200", "retract", "G0000000000000006", "--reason", "")
    refused(2, "no plain text", "retract", "G0000000000000006", "--reason", "two\tcolumns")
    refused(2, "no broker has ever been served", "resend", "--refused")
    refused(2, "wants an event's id, --since GPS or --refused", "resend", "--broker", "gcn")
    refused(2, "not both", "export", "--brokers", "--injections")
    refused(2, "--reason belongs to 'alerts retract'", "resend", "G0000000000000006", "--reason", "x")

    subprocess.run([driver, journal, "none", "none", "0", "0"], check=True, stdout=subprocess.DEVNULL)
    with sqlite3.connect(journal) as db:
        told = list(db.execute("SELECT id, phase, recovered, published_ns IS NOT NULL FROM events WHERE run = 1 AND number > 160"))
        runs = db.execute("SELECT count(*) FROM runs").fetchone()[0]
    db.close()
    check(told == [("G0000000000000005", "retracted", 1, 1)] and runs == 2, f"the next run tells it {told}, and is number {runs}")

    # beside a run: what it still says of a withdrawn event is not told
    beside = work + "/beside.sqlite"
    search = subprocess.Popen([driver, beside, "none", "none", "1", "2000000"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(100):
        if alerts("list", "--json", "--journal", beside)[1]:
            break
        time.sleep(0.1)
    rc, out, err = alerts("retract", "G0", "--reason", "too early", "--journal", beside)
    search.wait()
    rc, out, err = alerts("export", "--journal", beside)
    told = [json.loads(t)["phase"] for t in out.splitlines()]
    check(told[-1] == "retracted" and "final" not in told, f"what follows a retraction is not told: {told}")
    os.unlink(beside)

    # beside a run whose source says nothing
    with open(work + "/stalled.yaml", "w", encoding="ascii") as f:
        f.write(STALLED.format(pid=os.getpid(), model=MODEL, journal=journal))
    search = subprocess.Popen([program, "run", "--quiet", work + "/stalled.yaml"], stderr=subprocess.DEVNULL)
    for _ in range(100):
        if os.path.exists(journal + ".lines"):
            break
        time.sleep(0.1)
    rc, out, err = alerts("retract", "G0000000000000008", "--reason", "nobody sends data")
    check(rc == 0 and "the run that holds the journal tells it" in out, f"retract while no data come: {out.strip()}{err.strip()}")
    search.send_signal(signal.SIGINT)
    check(search.wait(20) == 0, "and that run ends well")
    with open(journal + ".lines", encoding="utf-8") as f:
        check([json.loads(t)["phase"] for t in f] == ["retracted"], "it was told at once")
    os.unlink(journal + ".lines")
    os.unlink(work + "/stalled.yaml")

    left = sorted(os.listdir(work))
    check(left == ["all.jsonl", "gwstream.sqlite"], f"reading leaves nothing behind: {left}")
    shutil.rmtree(work)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
