# SPDX-License-Identifier: GPL-3.0-or-later
"""Trains the detection network on a bank of windows. First the weights that rank, in three legs (binary
cross-entropy, one-cycle learning rate, moving average of the weights), each from the average that the one
before has left; then, these frozen, the small head that tells the arrival time.

    train.py --data DATA --out RUN.pt [--seed 1]
    train.py --data DATA --out NEW.pt --start RUN.pt --legs 0      # only a new head for the arrival time
    train.py --data DATA --out NEW.pt --start RUN.pt --search virgo --keep-features   # for other pairs

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

import mining
from batches import Bank, Batches
from network import ARRIVAL, CHANNELS, PER_DETECTOR, RATE_HZ, SEARCHES, WINDOW, Network

BATCH = 64
# Windows shown, factor on the learning rate, whether noise is mined. One run with mining from the start was
# not tried.
LEGS = ((420000, 1.0, False), (260000, 0.6, True), (190000, 0.5, True))
SMALLEST_SNR = 7.0  # network SNR at the end of the first leg, and from then on
MAX_RATE = 3e-3
MINE_AT = (0.02, 0.35, 0.7)  # of the schedule, when noise is mined anew
MINE_KEEP = 3000
EMA = 0.998
ARRIVAL_LAG_S = 0.040  # the head answers this much after the arrival, when merger and ringdown are in
ARRIVAL_SPREAD = 0.45  # columns: width of the target
ARRIVAL_COLUMNS = 112  # of a window, its last: what the head is trained on
ARRIVAL_WINDOWS = 52000
ARRIVAL_BATCH, ARRIVAL_PASSES = 256, 2.5
MASS_EDGES = (7, 10, 15, 20, 30)  # Msun, chirp mass: the bins in which the mean error is to be none
BIAS_WEIGHT, BIAS_COLUMNS = 6.0, 0.5


def schedule(done, rise=0.3):
    """Learning rate of a one-cycle run, `done` of it behind: up over `rise` of it, then down to 0.1 %."""
    if done < rise:
        return MAX_RATE * (0.04 + 0.96 * 0.5 * (1 - np.cos(np.pi * done / rise)))
    return MAX_RATE * (0.001 + 0.999 * 0.5 * (1 + np.cos(np.pi * (done - rise) / (1 - rise))))


def smallest_snr(done):
    """Curriculum: loud signals first."""
    return max(14 + (SMALLEST_SNR - 14) * done / 0.5, SMALLEST_SNR)


def average(mean, network):
    with torch.no_grad():
        for a, b in zip(mean.state_dict().values(), network.state_dict().values()):
            if a.dtype.is_floating_point:
                a.lerp_(b, 1 - EMA)  # what does not learn stays to the last bit
            else:
                a.copy_(b)


def mine(network, make):
    make.mined = (mining.slid(network, make.bank, make.rng, MINE_KEEP // 2)
                  + mining.coincident(network, make.bank, make.search.light_s, make.rng, MINE_KEEP))


class Validation:
    """Fixed windows: noise and glitches together, and signals of some SNRs."""

    def __init__(self, bank, search, count):
        make = Batches(bank, search, np.random.default_rng(7))
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


def weights(network, state):
    """The averaged weights of a checkpoint, but for the head of the arrival time: that is trained last."""
    network.load_state_dict({k: v for k, v in state.items() if not k.startswith("score")}, strict=False)


def train(network, make, validation, path, leg, first, state, keep):
    """One leg: shows its windows to the network; resumes from `state`. keep: what the checkpoint holds
    besides. -> averaged network."""
    windows, rate, mines = leg
    mean = copy.deepcopy(network).eval()
    learns = [network.merged, network.head] + ([] if keep["features"] else [network.stem, network.per_detector])
    optimiser = torch.optim.Adam([p for part in learns for p in part.parameters()], weight_decay=1e-5)
    before, step, losses, steps = keep["cpu_s"], 0, [], windows // BATCH
    if state:
        network.load_state_dict(state["network"])
        mean.load_state_dict(state["mean"])
        optimiser.load_state_dict(state["optimiser"])
        before, step = state["cpu_s"], state["step"]
        make.rng = np.random.default_rng([step, 1])
    began, line = time.process_time(), time.monotonic()
    mine_at = [int(steps * part) for part in MINE_AT] if mines else []
    if mine_at and step > mine_at[0]:
        mine(mean, make)
    network.eval()
    for part in learns:
        part.train()
    while step < steps:
        if step in mine_at:
            mine(mean, make)
        for group in optimiser.param_groups:
            group["lr"] = schedule(step / steps) * rate
        x, label = make.batch(BATCH, smallest_snr(step / steps if first else 1))
        with torch.set_grad_enabled(not keep["features"]):
            features = network.features(torch.from_numpy(x))
        loss = functional.binary_cross_entropy_with_logits(network.pooled(features), torch.from_numpy(label))
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
            save(path, **{**keep, "cpu_s": spent}, network=network.state_dict(), mean=mean.state_dict(),
                 optimiser=optimiser.state_dict(), step=step)
            line, losses = time.monotonic(), []
    return mean


def arrival_features(network, make, count):
    """-> features of each detector [2 count][32][ARRIVAL_COLUMNS], the column in which the head is to
    answer, the chirp mass's bin."""
    skip = WINDOW // ARRIVAL - ARRIVAL_COLUMNS
    features = np.empty((count, CHANNELS, PER_DETECTOR[-1][0], ARRIVAL_COLUMNS), np.float16)
    column, chirp, done = np.empty((count, CHANNELS), np.float32), np.empty(count), 0
    while done < count:
        x = []
        while len(x) < min(100, count - done):
            window, arrivals = make.window("signal", 9.0)
            answer = [(a + ARRIVAL_LAG_S * RATE_HZ) / ARRIVAL - 0.5 - skip for a in arrivals]
            if min(answer) > 0 and max(answer) < ARRIVAL_COLUMNS - 2:  # the answer lies in the window
                m1, m2 = make.bank.mass[make.index]
                column[done + len(x)] = answer
                chirp[done + len(x)] = (m1 * m2) ** 0.6 / (m1 + m2) ** 0.2
                x.append(window)
        with torch.no_grad():
            f = network.features(torch.from_numpy(np.stack(x))).numpy()
        features[done:done + len(x)] = f.reshape(len(x), CHANNELS, -1, f.shape[3])[..., skip:]
        done += len(x)
    return (features.reshape(-1, *features.shape[2:]), column.reshape(-1),
            np.digitize(np.repeat(chirp, CHANNELS), MASS_EDGES))


def bias(scores, off, bins):
    """Sum over the chirp-mass bins of the squared bias, in columns: a mean in which large errors count for
    little more than middling ones, since it is the median that is to be none. Cross-entropy alone leaves
    each signal near the middle of the population: heavy ones late, by milliseconds, light ones early."""
    near = torch.where(off.abs() < 4, scores, torch.full_like(scores, -1e9)).softmax(1)
    error = BIAS_COLUMNS * torch.tanh((near * off).sum(1) / BIAS_COLUMNS)
    each = [error[bins == k] for k in range(len(MASS_EDGES) + 1)]
    return sum(e.mean() ** 2 for e in each if len(e) > 3)


def train_arrival(network, make, count, seed):
    """Fits score1 and score2; everything else stays. The features are computed once."""
    network.eval()
    rng = np.random.default_rng([seed, 2])
    features, column, bins = arrival_features(network, make, count)
    share = 1 / np.sqrt(np.bincount(bins, minlength=len(MASS_EDGES) + 1)[bins])
    optimiser = torch.optim.Adam(list(network.score1.parameters()) + list(network.score2.parameters()))
    line, losses, steps = time.monotonic(), [], int(ARRIVAL_PASSES * len(features) / ARRIVAL_BATCH)
    grid = torch.arange(ARRIVAL_COLUMNS, dtype=torch.float32)
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = schedule(step / steps, rise=0.2)
        i = rng.choice(len(features), ARRIVAL_BATCH, p=share / share.sum())
        scores = network.arrival(torch.from_numpy(features[i].astype(np.float32))[:, :, None])
        off = grid - torch.from_numpy(column[i])[:, None]
        target = torch.exp(-0.5 * (off / ARRIVAL_SPREAD) ** 2)
        target = target / target.sum(1, keepdim=True)
        loss = (-(target * functional.log_softmax(scores, 1)).sum(1).mean()
                + BIAS_WEIGHT * bias(scores, off, torch.from_numpy(bins[i])))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss))
        if time.monotonic() - line >= 60 or step == steps - 1:
            print(f"arrival: {step + 1} of {steps} batches, loss {np.mean(losses[-100:]):.4f}", flush=True)
            line = time.monotonic()


def main():
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--data", required=True, help="folder that windows.py made")
    options.add_argument("--out", required=True, help="checkpoint to write, or to continue")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--start", help="finished checkpoint whose weights to begin with (fine-tuning)")
    options.add_argument("--legs", type=int, choices=range(len(LEGS) + 1), help="only the last so many legs; "
                         "0: only the head (default: all; from another's weights: 1)")
    options.add_argument("--search", choices=SEARCHES, help="what the network is for (default: hl, or what the "
                         "started one is for)")
    options.add_argument("--keep-features", action="store_true", help="what --start makes of each detector stays, the "
                         "arrival time with it; only the layers that see both detectors learn")
    options.add_argument("--scale", type=float, default=1, help="factor on the windows of all (for a trial)")
    options.add_argument("--pool", type=int, default=16, help="frames the head averages")
    o = options.parse_args()
    if o.keep_features and (not o.start or o.legs == 0):
        options.error("--keep-features needs --start, and a leg")
    torch.set_num_threads(1)  # two threads on a busy machine are slower than one
    bank = Bank(os.path.join(o.data, "train"))
    print(f"training on {bank}", flush=True)
    state = torch.load(o.out) if os.path.exists(o.out) else None
    if state and "windows" in state:
        print(f"{o.out}: finished already")
        return
    earlier = torch.load(o.start) if o.start else {"pool": o.pool, "cpu_s": 0.0, "windows": 0, "runs": []}
    name = o.search or earlier.get("search", "hl")
    search = SEARCHES[name]
    validation = Validation(Bank(os.path.join(o.data, "validate")), search, 3000)
    todo = (1 if o.start else len(LEGS)) if o.legs is None else o.legs
    done = {"pool": earlier["pool"], "cpu_s": earlier["cpu_s"], "search": name, "features": o.keep_features}
    mean, runs, shown = earlier.get("mean"), earlier["runs"], earlier["windows"]
    for number in range(len(LEGS) - todo, len(LEGS)):
        leg = (int(LEGS[number][0] * o.scale), *LEGS[number][1:])
        shown += leg[0]
        runs = runs + [f"{leg[0]} windows, rate {leg[1]:g}, {'mining' if leg[2] else 'no mining'}, {name}"
                       + (", features kept" if o.keep_features else "")]
        if state and state["leg"] > number:
            continue
        torch.manual_seed(o.seed)
        network = Network(earlier["pool"])
        network.check()
        if mean:
            weights(network, mean)
        make = Batches(bank, search, np.random.default_rng([o.seed, 0]))
        first = not o.start and number == len(LEGS) - todo
        mean = train(network, make, validation, o.out, leg, first, state, {**done, "leg": number}).state_dict()
        done["cpu_s"], state = torch.load(o.out)["cpu_s"], None
    torch.manual_seed(o.seed)
    network = Network(earlier["pool"])
    weights(network, mean)
    count = 0 if o.keep_features else int(ARRIVAL_WINDOWS * o.scale)
    began = time.process_time()
    if not o.keep_features:
        train_arrival(network, Batches(bank, search, np.random.default_rng([o.seed, 5])), count, o.seed)
    else:
        network.load_state_dict({k: v for k, v in earlier["mean"].items() if k.startswith("score")}, strict=False)
    save(o.out, mean=network.state_dict(), pool=network.pool_frames, windows=shown + count, runs=runs, search=name,
         cpu_s=done["cpu_s"] + time.process_time() - began, bank=str(bank), whitening=bank.whitening)


if __name__ == "__main__":
    main()
