# SPDX-License-Identifier: GPL-3.0-or-later
"""The detection network: a small causal 1-D ResNet over two whitened detectors, and its ONNX writer.

The early layers are shared by the detectors ("siamese"; in the ONNX file a convolution of two groups
with equal weights), the later ones see both. Every convolution is padded on the left only and the head
averages the last frames, so a stream evaluated hop by hop gives exactly what a window gives.
Used by train.py and evaluate.py; knows nothing of data.

    strain [B, 2, 3072] -> logit [B, 1], arrival [B, 2, 192]
"""
import hashlib
from typing import NamedTuple

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torch.nn import functional

CHANNELS = 2  # detectors of a pair
RATE_HZ = 2048
WINDOW = 3072  # samples
HOP = 64  # samples a frame: product of all strides
ARRIVAL = 16  # samples a column of the arrival scores: product of the per-detector strides
STEM = (16, 16, 4)  # channels out, kernel, stride
PER_DETECTOR = ((24, 7, 2), (32, 7, 2))
MERGED = ((64, 5, 2), (64, 5, 2), (64, 9, 1))
ARRIVAL_HIDDEN, ARRIVAL_KERNEL = 24, 15


class Search(NamedTuple):
    """What a network is for."""
    detectors: str  # its pairs, as the metadata have them
    light_s: float  # light travel time, the longest of them
    apart_s: float  # a negative is a signal whose delay is longer than one that light allows, by this or more
    ratio: tuple  # of the SNR in the second detector to that in the first, bounds; () as in the bank


SEARCHES = {"hl": Search("H1,L1", 0.010012, 0.015, ()),
            "virgo": Search("H1,V1;L1,V1", 0.027288, 0.042, (0.25, 3.0))}


class Conv(nn.Module):
    """Causal convolution and BatchNorm. Tensors are [B, C, 1, L]: 2-D with one row, channels last, is
    the form in which torch is fastest on a CPU."""

    def __init__(self, inputs, outputs, kernel, stride):
        super().__init__()
        self.pad = max(kernel - stride, 0)
        self.conv = nn.Conv2d(inputs, outputs, (1, kernel), (1, stride), bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x):
        return self.norm(self.conv(functional.pad(x, (self.pad, 0))))

    def folded(self):
        """Weight [out, in, kernel] and bias [out] with the BatchNorm inside."""
        n = self.norm
        scale = (n.weight / torch.sqrt(n.running_var + n.eps)).detach().double()
        weight = self.conv.weight.detach().double()[:, :, 0] * scale[:, None, None]
        bias = n.bias.detach().double() - n.running_mean.double() * scale
        return weight.float().numpy(), bias.float().numpy()


class Block(nn.Module):
    """ReLU(conv(ReLU(conv strided)) + 1x1 strided)."""

    def __init__(self, inputs, outputs, kernel, stride):
        super().__init__()
        self.first = Conv(inputs, outputs, kernel, stride)
        self.second = Conv(outputs, outputs, kernel, 1)
        self.skip = Conv(inputs, outputs, 1, stride)

    def forward(self, x):
        return torch.relu(self.second(torch.relu(self.first(x))) + self.skip(x))


class Network(nn.Module):
    def __init__(self, pool_frames=16):
        super().__init__()
        self.pool_frames = pool_frames
        self.stem = Conv(1, *STEM)
        channels, self.per_detector, self.merged = STEM[0], nn.ModuleList(), nn.ModuleList()
        for outputs, kernel, stride in PER_DETECTOR:
            self.per_detector.append(Block(channels, outputs, kernel, stride))
            channels = outputs
        self.score1 = nn.Conv2d(channels, ARRIVAL_HIDDEN, (1, ARRIVAL_KERNEL))
        self.score2 = nn.Conv2d(ARRIVAL_HIDDEN, 1, (1, 1))
        channels *= CHANNELS
        for outputs, kernel, stride in MERGED:
            self.merged.append(Block(channels, outputs, kernel, stride))
            channels = outputs
        self.head = nn.Linear(channels, 1)
        self.to(memory_format=torch.channels_last)

    def detector_features(self, x):
        """[B, L] of any detector -> [B, 32, 1, L / 16]."""
        x = torch.relu(self.stem(x[:, None, None, :].contiguous(memory_format=torch.channels_last)))
        for block in self.per_detector:
            x = block(x)
        return x

    def features(self, x):
        """[B, 2, L] -> [B, 64, 1, L / 16], detector by detector."""
        b, d, length = x.shape
        f = self.detector_features(x.reshape(b * d, length))
        return f.reshape(b, d * f.shape[1], 1, f.shape[3]).contiguous(memory_format=torch.channels_last)

    def frames(self, f):
        """[B, 64, 1, L / 16] -> one logit a frame, before pooling [B, L / 64]."""
        for block in self.merged:
            f = block(f)
        return functional.linear(f[:, :, 0].transpose(1, 2), self.head.weight, self.head.bias)[..., 0]

    def forward(self, x):
        """Logits of windows, [B]."""
        return self.pooled(self.features(x))

    def pooled(self, f):
        """Features of windows -> logits [B]."""
        return self.frames(f)[:, -self.pool_frames:].mean(1)

    def dense(self, f):
        """Features of a long stretch -> the logit of the window that ends with each frame [B, L / 64].
        The first WINDOW / HOP - 1 frames have seen the padding and mean nothing."""
        y = functional.pad(self.frames(f), (self.pool_frames - 1, 0))
        return functional.avg_pool1d(y[:, None], self.pool_frames, 1)[:, 0]

    def arrival(self, f):
        """Features of one detector [B, 32, 1, n] -> arrival scores [B, n]."""
        h = torch.relu(self.score1(functional.pad(f, (ARRIVAL_KERNEL - 1, 0))))
        return self.score2(h)[:, 0, 0]

    def receptive_samples(self):
        """Samples that one frame, before pooling, depends on."""
        reach, step = STEM[1], STEM[2]
        for _, kernel, stride in PER_DETECTOR + MERGED:
            reach += (kernel - 1) * step + (kernel - 1) * step * stride
            step *= stride
        return reach

    def check(self):
        need = self.receptive_samples() + (self.pool_frames - 1) * HOP
        if need > WINDOW:
            raise ValueError(f"the pooled frames need {need} samples, the window has {WINDOW}")


class Writer:
    """Collects nodes and weights of the graph."""

    def __init__(self):
        self.nodes, self.weights = [], []

    def constant(self, name, value):
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def node(self, op, inputs, output, **attributes):
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def conv(self, name, source, weight, bias, stride=1, group=1):
        """weight and bias of one group; the groups share them."""
        kernel = weight.shape[2]
        return self.node(
            "Conv",
            [source, self.constant(name + ".weight", np.concatenate([weight] * group)),
             self.constant(name + ".bias", np.concatenate([bias] * group))],
            name, kernel_shape=[kernel], strides=[stride], pads=[max(kernel - stride, 0), 0],
            dilations=[1], group=group)

    def block(self, name, source, block, stride, group=1):
        y = self.conv(name + ".first", source, *block.first.folded(), stride=stride, group=group)
        y = self.node("Relu", [y], name + ".relu")
        y = self.conv(name + ".second", y, *block.second.folded(), group=group)
        skip = self.conv(name + ".skip", source, *block.skip.folded(), stride=stride, group=group)
        y = self.node("Add", [y, skip], name + ".sum")
        return self.node("Relu", [y], name + ".out")


def write_onnx(network, path, metadata):
    """Writes the inference graph (opset 13, BatchNorm folded). metadata: the gwstream.* keys that are
    not properties of the network itself, `detectors` among them. Returns the SHA-256 of the file."""
    network.check()
    w, d = Writer(), CHANNELS
    x = w.conv("stem", "strain", *network.stem.folded(), stride=STEM[2], group=d)
    x = w.node("Relu", [x], "stem.out")
    for i, block in enumerate(network.per_detector):
        x = w.block(f"detector{i + 1}", x, block, PER_DETECTOR[i][2], group=d)
    plain = [(layer.weight.detach().numpy()[:, :, 0], layer.bias.detach().numpy())
             for layer in (network.score1, network.score2)]
    y = w.conv("score1", x, *plain[0], group=d)
    y = w.node("Relu", [y], "score1.out")
    w.conv("arrival", y, *plain[1], group=d)
    for i, block in enumerate(network.merged):
        x = w.block(f"merged{i + 1}", x, block, MERGED[i][2])
    x = w.node("Slice", [x, w.constant("pool.starts", np.array([-network.pool_frames], np.int64)),
                         w.constant("pool.ends", np.array([np.iinfo(np.int64).max], np.int64)),
                         w.constant("pool.axes", np.array([2], np.int64))], "last")
    x = w.node("GlobalAveragePool", [x], "mean")
    x = w.node("Flatten", [x], "flat", axis=1)
    w.node("Gemm", [x, w.constant("head.weight", network.head.weight.detach().numpy()),
                    w.constant("head.bias", network.head.bias.detach().numpy())], "logit", transB=1)
    f32 = TensorProto.FLOAT
    graph = helper.make_graph(
        w.nodes, "detector",
        [helper.make_tensor_value_info("strain", f32, [1, d, WINDOW])],
        [helper.make_tensor_value_info("logit", f32, [1, 1]),
         helper.make_tensor_value_info("arrival", f32, [1, d, WINDOW // ARRIVAL])],
        w.weights)
    model = helper.make_model(graph, producer_name="gwstream-training",
                              opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 7
    keys = {"format": "1", "sample_rate": RATE_HZ,
            "window_samples": WINDOW, "hop_samples": HOP,
            "pooling": f"mean of the last {network.pool_frames} frames"}
    keys.update(metadata)
    helper.set_model_props(model, {"gwstream." + k: str(v) for k, v in keys.items()})
    onnx.checker.check_model(model)
    data = model.SerializeToString()
    with open(path, "wb") as f:
        f.write(data)
    return hashlib.sha256(data).hexdigest()
