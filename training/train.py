# SPDX-License-Identifier: GPL-3.0-or-later
"""Trains the detection network on a bank of windows. Two stages: the weights that rank (binary
cross-entropy, one-cycle learning rate, moving average of the weights), then, these frozen, the small
head that tells the arrival time (cross-entropy over 128 columns a second).

    train.py --data DATA --out RUN.pt [--windows 400000] [--pool 16] [--seed 1]

Prints a line a minute, writes RUN.pt as it goes, and continues from it when it is there. Time is
counted in minutes of CPU (one thread), the schedule in windows: a busy machine changes nothing.
"""
import argparse
import copy
import os
import time

import numpy as np
import torch
from torch.nn import functional

from batches import Bank, Batches
from network import ARRIVAL, HOP, RATE_HZ, WINDOW, Network

BATCH = 64
MAX_RATE = 3e-3
MINE_AT = (0.1, 0.3, 0.5, 0.7, 0.85)  # of the schedule, when noise is mined anew
MINE_PAIRS = 1300  # of segments: about a day of two detectors
MINE_KEEP = 3000
EMA = 0.998
ARRIVAL_LAG_S = 0.015  # the head answers this much after the arrival, when merger and ringdown are in
ARRIVAL_SPREAD = 0.7  # columns: width of the target


def schedule(done):
    """Learning rate of a one-cycle run, `done` of it behind: up over 30 %, then down to 0.1 %."""
    if done < 0.3:
        return MAX_RATE * (0.04 + 0.96 * 0.5 * (1 - np.cos(np.pi * done / 0.3)))
    return MAX_RATE * (0.001 + 0.999 * 0.5 * (1 + np.cos(np.pi * (done - 0.3) / 0.7)))


def smallest_snr(done, last):
    """Curriculum: loud signals first."""
    return max(14 + (last - 14) * done / 0.5, last)


def average(mean, network):
    with torch.no_grad():
        for a, b in zip(mean.state_dict().values(), network.state_dict().values()):
            if a.dtype.is_floating_point:
                a.mul_(EMA).add_(b, alpha=1 - EMA)
            else:
                a.copy_(b)


def mine(network, make):
    """The loudest stretches of about a day of slid training noise, as `network` sees it: the negatives it
    has most to learn from. -> for Batches.mined."""
    bank, loud = make.bank, []
    n = min(x.shape[1] for x in bank.noise) // (2 * RATE_HZ) * (2 * RATE_HZ)
    for _ in range(MINE_PAIRS):
        pair = make.rng.integers(len(bank.noise), size=2)
        x = np.stack([bank.noise[pair[d]][d, :n] for d in (0, 1)]).astype(np.float32)
        with torch.no_grad():
            y = network.dense(network.features(torch.from_numpy(x[None])))[0].numpy()
        y[:WINDOW // HOP] = -99
        y = y.reshape(-1, 2 * RATE_HZ // HOP)  # one in 2 s
        ends = (y.argmax(1) + y.shape[1] * np.arange(len(y)) + 1) * HOP
        loud += [(float(v), *pair, int(e) - WINDOW) for v, e in zip(y.max(1), ends) if v > -4]
    loud.sort(reverse=True)
    print(f"mined {min(len(loud), MINE_KEEP)} of noise; logits {loud[0][0]:.2f} "
          f"{loud[min(len(loud), MINE_KEEP) - 1][0]:.2f}", flush=True)
    return [w[1:] for w in loud[:MINE_KEEP]]


class Validation:
    """Fixed windows: noise and glitches together, and signals of some SNRs."""

    def __init__(self, bank, count):
        make = Batches(bank, np.random.default_rng(7))
        self.negative = np.stack([make.window(k, 0)[0] for k in ("noise", "glitch", "glitch_pair")
                                  for _ in range(count // 3)])
        self.signal = {s: np.stack([make.window("signal", s, s)[0] for _ in range(count // 10)])
                       for s in (8, 10, 12, 15)}

    def __call__(self, network):
        with torch.no_grad():
            def score(x):
                return np.concatenate([network(torch.from_numpy(p)).numpy()
                                       for p in np.array_split(x, len(x) // 100)])
            negative = np.sort(score(self.negative))
            bar = negative[-max(len(negative) // 300, 1)]
            return " ".join(f"{s}:{np.mean(score(x) > bar):.2f}" for s, x in self.signal.items())


def save(path, **state):
    torch.save(state, path + ".part")
    os.replace(path + ".part", path)


def train(network, make, validation, path, o, state):
    """Shows o.windows windows to the network; resumes from `state`. -> averaged network."""
    mean = copy.deepcopy(network).eval()
    optimiser = torch.optim.Adam(
        [p for n, p in network.named_parameters() if not n.startswith("score")], weight_decay=1e-5)
    before, step, losses, steps = 0.0, 0, [], o.windows // BATCH
    if state:
        network.load_state_dict(state["network"])
        mean.load_state_dict(state["mean"])
        optimiser.load_state_dict(state["optimiser"])
        before, step = state["cpu_s"], state["step"]
        make.rng = np.random.default_rng([step, 1])
    began, line = time.process_time(), time.monotonic()
    mine_at = [] if o.no_mining else [int(steps * part) for part in MINE_AT]
    if mine_at and step > mine_at[0]:
        make.mined = mine(mean, make)
    network.train()
    while step < steps:
        if step in mine_at:
            make.mined = mine(mean, make)
        for group in optimiser.param_groups:
            group["lr"] = schedule(step / steps) * o.rate
        snr = smallest_snr(1 if o.start else step / steps, o.smallest_snr)
        x, label = make.batch(BATCH, snr)
        loss = functional.binary_cross_entropy_with_logits(
            network(torch.from_numpy(x)), torch.from_numpy(label))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        average(mean, network)
        step += 1
        losses.append(float(loss))
        if time.monotonic() - line >= 60 or step == steps:
            spent = before + time.process_time() - began
            print(f"{spent / 60:5.1f} CPU-min  {step * BATCH:8d} windows  loss {np.mean(losses):.4f}  "
                  f"found at 1/300 of noise and glitches, by SNR  {validation(mean)}", flush=True)
            save(path, network=network.state_dict(), mean=mean.state_dict(), pool=network.pool_frames,
                 optimiser=optimiser.state_dict(), cpu_s=spent, step=step)
            line, losses = time.monotonic(), []
    return mean


def arrival_batch(make, size):
    x, column = [], []
    while len(x) < size:
        window, arrivals = make.window("signal", 9.0)
        if max(arrivals) + ARRIVAL_LAG_S * RATE_HZ < WINDOW - ARRIVAL:  # the answer lies in the window
            x.append(window)
            column.append([(a + ARRIVAL_LAG_S * RATE_HZ) / ARRIVAL - 0.5 for a in arrivals])
    return np.stack(x), np.array(column, np.float32)


def train_arrival(network, make, windows):
    """Fits score1 and score2; everything else stays."""
    network.eval()
    optimiser = torch.optim.Adam(list(network.score1.parameters()) + list(network.score2.parameters()))
    line, losses, steps = time.monotonic(), [], windows // BATCH
    grid = torch.arange(WINDOW // ARRIVAL, dtype=torch.float32)
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = schedule(step / steps)
        x, column = arrival_batch(make, BATCH)
        with torch.no_grad():
            f = network.features(torch.from_numpy(x))
            f = f.reshape(len(x) * 2, -1, 1, f.shape[3])
        target = torch.exp(-0.5 * ((grid - torch.from_numpy(column).reshape(-1, 1)) / ARRIVAL_SPREAD) ** 2)
        target = target / target.sum(1, keepdim=True)
        loss = -(target * functional.log_softmax(network.arrival(f), 1)).sum(1).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss))
        if time.monotonic() - line >= 60 or step == steps - 1:
            print(f"{step * BATCH:8d} windows  arrival loss {np.mean(losses[-100:]):.4f}", flush=True)
            line = time.monotonic()


def main():
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--data", required=True, help="folder that windows.py made")
    options.add_argument("--out", required=True, help="checkpoint to write, or to continue")
    options.add_argument("--windows", type=int, default=400000, help="to show to the network")
    options.add_argument("--arrival-windows", type=int, default=60000, help="to show to the arrival head")
    options.add_argument("--pool", type=int, default=16, help="frames the head averages")
    options.add_argument("--smallest-snr", type=float, default=7, help="network SNR at the end")
    options.add_argument("--start", help="finished checkpoint whose weights to begin with (fine-tuning)")
    options.add_argument("--rate", type=float, default=1, help="factor on the learning rate")
    options.add_argument("--no-mining", action="store_true", help="no mined noise: ordinary noise instead")
    options.add_argument("--seed", type=int, default=1)
    o = options.parse_args()
    torch.set_num_threads(1)  # two threads on a busy machine are slower than one
    torch.manual_seed(o.seed)
    bank = Bank(os.path.join(o.data, "train"))
    print(f"training on {bank}", flush=True)
    validation = Validation(Bank(os.path.join(o.data, "validate")), 3000)
    state = torch.load(o.out) if os.path.exists(o.out) else None
    if state and "windows" in state:
        print(f"{o.out}: finished already")
        return
    earlier = torch.load(o.start) if o.start else {"pool": o.pool, "cpu_s": 0.0, "windows": 0, "runs": []}
    network = Network(earlier["pool"])
    network.check()
    if o.start:
        network.load_state_dict(earlier["mean"])
    make = Batches(bank, np.random.default_rng([o.seed, 0]))
    mean = train(network, make, validation, o.out, o, state)
    train_arrival(mean, make, o.arrival_windows)
    this_run = f"{o.windows} windows, rate {o.rate:g}, {'no mining' if o.no_mining else 'mining'}"
    save(o.out, mean=mean.state_dict(), pool=mean.pool_frames,
         cpu_s=time.process_time() + (state["cpu_s"] if state else 0) + earlier["cpu_s"],
         windows=o.windows + o.arrival_windows + earlier["windows"], runs=earlier["runs"] + [this_run],
         bank=str(bank), whitening=bank.whitening)


if __name__ == "__main__":
    main()
