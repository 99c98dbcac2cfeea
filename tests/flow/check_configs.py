# SPDX-License-Identifier: GPL-3.0-or-later
"""Every graph in configs/ passes `gwstream check`; the quickstart's merger is found, drawn and recorded; and its
recording, replayed, gives the same event under the same id."""

import os
import pathlib
import shutil

from flow import ROOT, check, finish, folder, lines, run

with folder() as work:
    os.mkdir(f"{work}/models")
    for path in (ROOT / "models").iterdir():
        os.symlink(path, f"{work}/models/{path.name}")
    os.mkdir(f"{work}/quickstart")
    text = (ROOT / "configs" / "quickstart.yaml").read_text()
    check("pace: 1\n" in text and "rate: 16384Hz" in text, "the quickstart runs in real time at 16384 Hz")
    text = text.replace("event.png}", "event.png, on_full: wait}").replace("overwrite: true}", "overwrite: true, on_full: wait}")
    check(text.count("on_full: wait") == 2, "on a machine that stands still it drops nothing")
    pathlib.Path(f"{work}/quick.yaml").write_text(text.replace("pace: 1\n", "pace: 8\n"))
    status, _, err = run("run", "--quiet", "quick.yaml", cwd=work)
    check(status == 0, "the quickstart at 8 times real time " + (err if status else ""))
    events = lines(pathlib.Path(f"{work}/quickstart/alerts.jsonl").read_text())
    ids = {e["id"] for e in events}
    check(len(ids) == 1, f"it finds one event ({len(ids)})")
    status, out, _ = run("alerts", "export", "--injections", "--json", "--journal", "quickstart/journal.sqlite", cwd=work)
    truth = lines(out)[0]
    final = [e for e in events if e["phase"] == "final"][-1] if events else {"gps": 0, "injection": False}
    check(abs(final["gps"] - truth["gps"]) < 0.02, f"{1e3 * (final['gps'] - truth['gps']):+.1f} ms from the injected time")
    check(final["injection"], "it is marked as an injection")
    png = pathlib.Path(f"{work}/quickstart/event.png").read_bytes()
    check(png[:8] == b"\x89PNG\r\n\x1a\n" and len(png) > 50000, f"the picture is there ({len(png)} bytes)")
    status, out, err = run("run", "--quiet", ROOT / "configs" / "replay.yaml", cwd=work)
    check(status == 0, "configs/replay.yaml runs " + (err if status else ""))
    check({e["id"] for e in lines(out)} == ids, "the same event from the recording, under the same id")
    shutil.rmtree(f"{work}/quickstart/replay.sqlite", ignore_errors=True)
    for path in sorted((ROOT / "configs").glob("*.yaml")):
        status, out, err = run("check", path, cwd=work)
        check(status == 0 and "threads" in out, f"check {path.name} {err}")
finish()
