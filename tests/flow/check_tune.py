# SPDX-License-Identifier: GPL-3.0-or-later
"""`gwstream tune`: plans, keeps what is faster, says so; and what a run makes of a file that is none."""

import os
import pathlib

from flow import check, finish, folder, run

GRAPH = "sources: {a: {kind: sim, duration: 2s, rate: 4096Hz}}\nsinks: {n: {kind: null, from: a}}\n"
LENGTHS = ["--rate", "1000Hz", "--hop", "1/10s", "--taps", "1/10s", "--segment", "2/5s", "--decimate", "1"]

with folder() as name:
    work = pathlib.Path(name)
    (work / "g.yaml").write_text(GRAPH)
    wisdom = work / "new" / "x.wisdom"

    status, out, err = run("tune", *LENGTHS, "--seconds", "0.2", "--file", wisdom)
    rows = [line for line in out.splitlines() if "points" in line]
    check(status == 0 and len(rows) == 3 and all("by rule" in r for r in rows) and err == "",
          f"three transforms of these shapes are FFTW's: {len(rows)} planned and timed again")
    kept = any(r.endswith(": kept") for r in rows)
    check(wisdom.exists() == kept and [p.name for p in work.glob("new/*")] == ["x.wisdom"] * kept,
          "a file if a plan was kept, and nothing beside it" if kept else "no plan was kept: no file")

    status, out, _ = run("tune", "--rate", "16384Hz", "--decimate", "1", "--file", wisdom)
    check(status == 0 and "nothing to tune" in out, "our own transforms need no tuning")

    for words, said in ((["--hop", "x"], "--hop"), (["--hop", "1/3s"], "hop"), (["--seconds", "0"], "--seconds"),
                        (["--nonsense"], "--nonsense"), (["word"], "word"), (["--taps"], "--taps"), (["--decimate", "3"], "decimate")):
        status, _, err = run("tune", *words, "--file", wisdom)
        check(status == 2 and err.count("\n") == 1 and said in err, f"tune {' '.join(words)}: {err.strip()}")
    status, _, err = run("tune", *LENGTHS, "--seconds", "0.1", "--file", "/proc/none/x")
    check((status, err.count("\n")) == (1, 1) or (status, err) == (0, ""), f"a folder that cannot be made: {err.strip() or 'no plan was kept'}")

    for text, what in ((b"(fftw-3.3.10 fftwf_wisdom #x0 #x0 #x0 #x0\n", "of another library"), (b"nonsense", "no wisdom"),
                       (b"\0" * 5000, "zeros"), (b"(" * (1 << 22), "too long"), (None, "missing")):
        bad = work / "bad.wisdom"
        bad.unlink(missing_ok=True)
        if text is not None:
            bad.write_bytes(text)
        os.environ["GWSTREAM_WISDOM"] = str(bad)
        status, _, err = run("run", "--quiet", work / "g.yaml")
        warned = [line for line in err.splitlines() if "by rule" in line]
        check(status == 0 and len(warned) == 1 and "bad.wisdom" in warned[0], f"wisdom {what}: a warning, and the run goes on")
    if kept:
        os.environ["GWSTREAM_WISDOM"] = str(wisdom)
        status, _, err = run("run", "--quiet", work / "g.yaml")
        check(status == 0 and "by rule" not in err, "what tune wrote is read")
finish()
