# SPDX-License-Identifier: GPL-3.0-or-later
"""The process that has PyTorch and ONNX Runtime in it (nn_peers.py), for bench_nn.py and bench_denoise.py: made on
first use in a virtual environment of its own, asked and answering in lines of JSON."""

import json
import os
import pathlib
import subprocess
import sys
import venv

HERE = pathlib.Path(__file__).resolve().parent
DEFAULT = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "gwstream-peers"
PACKAGES = ("torch", "onnxruntime", "onnx", "onnxscript", "numpy")


class Peers:
    def __init__(self, where):
        python = where / "bin" / "python"
        if not (where / "complete").exists():
            print(f"installing {', '.join(PACKAGES)} in {where}", flush=True)
            venv.create(where, with_pip=True, clear=True)
            subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
            (where / "complete").touch()
        self.process = subprocess.Popen([python, HERE / "nn_peers.py"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL, text=True)

    def ask(self, **question):
        print(json.dumps(question), file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit(f"the peers' process ended at {question}")
        return json.loads(answer)

    def close(self):
        self.process.stdin.close()
        self.process.wait()
