#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ONNX file that training writes says what torch computes: evaluated node by node, from the
definitions of the operators, it gives the trained network's logit and arrival scores; a long stretch
evaluated at once gives the windows' logits; signals arrive as light and their label allow, for each search; a leg that
keeps the features changes nothing else. One line a check."""
import os
import sys
import tempfile

try:
    import numpy as np
    import onnx
    import torch
    from onnx import numpy_helper
except ImportError as e:
    print(f"skip: {e}")
    sys.exit(77)

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "training"))
import batches  # noqa: E402
import evaluate  # noqa: E402
import mining  # noqa: E402
import network as net  # noqa: E402
import timing  # noqa: E402
import train  # noqa: E402

failed = False


def check(name, good, seen):
    global failed
    failed |= not good
    print(f"{'ok  ' if good else 'FAIL'} {name}: {seen}")


def conv(x, weight, bias, attributes):
    """ONNX Conv, one dimension, in double precision by its definition."""
    stride, group, (left, right) = attributes["strides"][0], attributes["group"], attributes["pads"]
    x = np.pad(x, ((0, 0), (0, 0), (left, right)))
    out_channels, in_channels, kernel = weight.shape
    n = (x.shape[2] - kernel) // stride + 1
    y = np.zeros((x.shape[0], out_channels, n))
    each = out_channels // group
    for g in range(group):
        part = x[:, g * in_channels:(g + 1) * in_channels]
        for k in range(kernel):
            y[:, g * each:(g + 1) * each] += np.einsum(
                "oi,bin->bon", weight[g * each:(g + 1) * each, :, k],
                part[:, :, k:k + stride * (n - 1) + 1:stride])
    return y + bias[None, :, None]


def run_onnx(path, x):
    model = onnx.load(path)
    values = {w.name: numpy_helper.to_array(w).astype(np.float64 if w.data_type == 1 else np.int64)
              for w in model.graph.initializer}
    values["strain"] = x.astype(np.float64)
    for node in model.graph.node:
        a = {p.name: onnx.helper.get_attribute_value(p) for p in node.attribute}
        i = [values[name] for name in node.input]
        if node.op_type == "Conv":
            y = conv(*i, a)
        elif node.op_type == "Relu":
            y = np.maximum(i[0], 0)
        elif node.op_type == "Add":
            y = i[0] + i[1]
        elif node.op_type == "Slice":
            y = i[0][:, :, int(i[1][0]):]
        elif node.op_type == "GlobalAveragePool":
            y = i[0].mean(2, keepdims=True)
        elif node.op_type == "Flatten":
            y = i[0].reshape(i[0].shape[0], -1)
        elif node.op_type == "Gemm":
            y = i[0] @ (i[1].T if a.get("transB") else i[1]) + i[2]
        else:
            raise ValueError(node.op_type)
        values[node.output[0]] = y
    return values["logit"], values["arrival"], model


def random_network():
    torch.manual_seed(5)
    n = net.Network(16)
    for m in n.modules():  # as if trained: statistics and scales that are not 0 and 1
        if isinstance(m, torch.nn.BatchNorm2d):
            m.weight.data.uniform_(0.5, 1.5)
            m.bias.data.uniform_(-0.3, 0.3)
            m.running_mean.uniform_(-0.2, 0.2)
            m.running_var.uniform_(0.5, 1.5)
    n.head.weight.data.mul_(30)
    n.score2.weight.data.mul_(30)
    return n.eval()


class SmallBank:
    """White noise and one loud pulse, as batches.Bank holds them."""

    def __init__(self, rng):
        self.noise = [rng.standard_normal((2, 4 * net.WINDOW)).astype(np.float16) for _ in range(3)]
        self.signals = np.zeros((1, 2, batches.CROP), np.float16)
        self.signals[..., batches.CROP_ARRIVAL] = 1
        self.arrival = np.full((1, 2), batches.CROP_ARRIVAL)
        self.snr, self.mass = np.ones((1, 2)), np.array([[30, 20]])
        self.at, self.segment = np.array([batches.RATE_HZ]), np.array([0])


def check_searches(rng):
    for name, search in net.SEARCHES.items():
        make = batches.Batches(SmallBank(rng), search, rng)
        apart = {kind: np.array([abs(np.subtract(*make.window(kind, 10, 10)[1])) for _ in range(300)]) / net.RATE_HZ
                 for kind in ("signal", "delayed")}
        check(f"{name}: signals come no further apart than light", 0.9 * search.light_s < apart["signal"].max() <= search.light_s,
              f"{1e3 * apart['signal'].max():.1f} ms")
        check(f"{name}: what comes later than light is no signal", apart["delayed"].min() > search.light_s + 0.004,
              f"{1e3 * apart['delayed'].min():.1f} ms")
        snr = np.array([make.pair_snr(12, 0) for _ in range(300)])
        check(f"{name}: SNR of the pair", np.allclose(np.sum(snr ** 2, 1), 144) and (snr.min(1) / snr.max(1)).min() < 0.35,
              f"ratio from {(snr.min(1) / snr.max(1)).min():.2f}")
    t = np.arange(80) / net.RATE_HZ * net.ARRIVAL
    scores = np.zeros((1, 2, 80))
    scores[0, 0, 30], scores[0, 1, 33], scores[0, 1, 31] = 20, 20, 15  # 23.4 ms apart; 7.8 ms, less likely
    for name, column in (("hl", 31), ("virgo", 33)):
        mean, _ = timing.arrivals(scores, t[None], [t[-1]], 0.6, net.SEARCHES[name].light_s)
        check(f"{name}: arrivals as light allows", abs(mean[0, 1] - t[column]) < 1e-3, f"{1e3 * (mean[0, 1] - mean[0, 0]):.1f} ms apart")


def check_kept_features(n, rng):
    make = batches.Batches(SmallBank(rng), net.SEARCHES["virgo"], rng)
    before = {k: v.clone() for k, v in n.state_dict().items()}
    with tempfile.TemporaryDirectory() as folder:
        after = train.train(n, make, lambda _: "", os.path.join(folder, "x.pt"), (2 * train.BATCH, 1, False), False, None,
                            {"cpu_s": 0, "features": True}).state_dict()
    changed = {k.split(".")[0] for k in before if not torch.equal(before[k], after[k])}
    check("a leg that keeps the features changes the merged layers only", changed == {"merged", "head"}, sorted(changed))
    mining.SLID_PAIRS = 2
    make.mined = mining.slid(n, make.bank, rng, 5) + mining.coincident(n, make.bank, make.search.light_s, rng, 5)
    good = all(0 <= at <= make.bank.noise[s].shape[1] - net.WINDOW for pair in make.mined for s, at in pair)
    x, _ = make.window("mined", 10)
    check("mined noise is whole windows of the bank", good and len(make.mined) > 5 and x.shape == (2, net.WINDOW), len(make.mined))


def main():
    torch.set_num_threads(1)
    n = random_network()
    rng = np.random.default_rng(1)
    x = rng.standard_normal((1, 2, net.WINDOW)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "random.onnx")
        net.write_onnx(n, path, {"name": "random", "detectors": "H1,L1", "smoothing_frames": 4, "whitening": "none"})
        logit, arrival, model = run_onnx(path, x)
        size = os.path.getsize(path)
    with torch.no_grad():
        features = n.features(torch.from_numpy(x))
        want = float(n(torch.from_numpy(x))[0])
        scores = n.arrival(features.reshape(2, -1, 1, features.shape[3])).numpy()
    check("logit of the file is torch's", abs(float(logit[0, 0]) - want) < 1e-5 * max(1, abs(want)),
          f"{float(logit[0, 0]):.6f} {want:.6f}")
    worst = np.abs(arrival[0] - scores).max()
    check("arrival scores are torch's", arrival.shape == (1, 2, 192) and worst < 1e-4, f"{worst:.1e}")
    check("the file is under 2 MB", size < 2e6, size)
    keys = {p.key for p in model.metadata_props}
    need = {"gwstream." + k for k in ("format", "name", "detectors", "sample_rate", "window_samples",
                                      "hop_samples", "smoothing_frames", "pooling", "whitening")}
    check("the metadata is there", need <= keys, sorted(need - keys))

    long = torch.from_numpy(rng.standard_normal((1, 2, 4 * net.WINDOW)).astype(np.float32))
    with torch.no_grad():
        dense = n.dense(n.features(long))[0].numpy()
        ends = np.arange(net.WINDOW, long.shape[2] + 1, 7 * net.HOP)
        one = np.array([float(n(long[:, :, e - net.WINDOW:e])[0]) for e in ends])
    worst = np.abs(dense[ends // net.HOP - 1] - one).max()
    check("a long stretch gives the windows' logits", worst < 1e-5, f"{worst:.1e}")
    n.pool_frames = 48
    try:
        n.check()
        check("a pool that sees the padding is refused", False, "accepted")
    except ValueError as e:
        check("a pool that sees the padding is refused", True, e)

    check_searches(rng)
    check_kept_features(random_network(), rng)
    g = batches.glitch(rng, 12.0)
    check("a glitch has its SNR", abs(np.sqrt(np.sum(g * g)) - 12) < 1e-6, np.sqrt(np.sum(g * g)))
    counts = np.zeros(400, int)
    for loudest, edge in ((2, 201), (3, 301)):  # 2 in 3 days are (2 + 1) / 3 a day; 3 are too many
        counts[[100, 200, 300]] = [1000, 30, loudest]
        bar = evaluate.threshold(counts, 86400 * 3.0, 1 / 86400)
        check(f"the threshold of 1 a day, {loudest} louder in 3 days", abs(bar - (-10 + edge * 0.05)) < 1e-9,
              bar)
    y = np.full(32 * 60, -5.0, np.float32)
    y[[100, 200, 1000]] = [3, 4, 2]  # 100 and 200 lie within 8 s
    top = evaluate.cluster_maxima(y)
    check("one maximum a cluster", sorted(top[top > 0].tolist()) == [2, 4], top.tolist())
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
