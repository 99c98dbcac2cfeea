#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""The networks that gravitational-wave groups bring, built in PyTorch with seeded weights and exported to ONNX.

usage: export.py FOLDER [NAME ...] [--opset N] [--batch N] [--dynamic] [--dynamo [--external]]  (no NAME: list them)

Writes NAME.onnx, NAME-in.npy and NAME-out.npy (what PyTorch makes of the input). Used by check_networks.py and by
benchmarks/nn_peers.py; runs with PyTorch 1.13 (Debian) and newer. --dynamo: torch.export instead of TorchScript, for
which a new PyTorch and onnxscript are needed; tests/networks/dynamo/ was written so. --external: weights beside it.
The architectures are described, not copied: DeepClean's convolutional autoencoder, the 1-D ResNets of the field with
each of its normalisations, a WaveNet, autoencoders with skips, an encoder of transformers, an LSTM."""
import argparse
import inspect
import pathlib
import sys

import numpy as np
import torch
from torch import nn
from torch.nn import functional


# ---- normalisations ----

class GroupNorm(nn.Module):
    """As the field's ResNets compute it: variance by E[x^2] - E[x]^2, means over each channel first, scale and shift
    worked out before the long axis is touched. `groups` None: one a channel."""

    def __init__(self, channels, groups=None, eps=1e-5):
        super().__init__()
        self.channels, self.groups, self.eps = channels, groups or channels, eps
        self.weight = nn.Parameter(torch.ones(channels, 1))
        self.bias = nn.Parameter(torch.zeros(channels, 1))

    def forward(self, x):
        each = self.groups == self.channels
        mean, square = x.mean(-1, keepdims=each), (x ** 2).mean(-1, keepdims=each)
        if not each:
            n = self.channels // self.groups
            both = torch.stack([mean, square], dim=1).reshape(-1, 2, self.groups, n).mean(-1, keepdims=True)
            both = both.expand(-1, -1, -1, n).reshape(-1, 2, self.channels, 1)
            mean, square = both[:, 0], both[:, 1]
        scale = self.weight / (square - mean ** 2 + self.eps) ** 0.5
        return (self.bias - scale * mean) + x * scale


NORMS = {
    "batch": nn.BatchNorm1d,
    "group16": lambda c: GroupNorm(c, 16),
    "group4": lambda c: GroupNorm(c, 4),
    "each": GroupNorm,
    "torch-group4": lambda c: nn.GroupNorm(4, c),
    "torch-group16": lambda c: nn.GroupNorm(16, c),
    "torch-instance": lambda c: nn.InstanceNorm1d(c, affine=True),
}


# ---- networks ----

class DeepClean(nn.Module):
    """Witnesses [B, C, T] -> noise [B, T]: five convolutions, four transposed ones, one more. T: a multiple of 16."""

    def __init__(self, channels=21, act=nn.Tanh):
        super().__init__()
        layers, c = [nn.Conv1d(channels, channels, 7, 1, 3), nn.BatchNorm1d(channels), act()], channels
        for o in (8, 16, 32, 64):
            layers += [nn.Conv1d(c, o, 7, 2, 3), nn.BatchNorm1d(o), act()]
            c = o
        for o in (32, 16, 8, channels):
            layers += [nn.ConvTranspose1d(c, o, 7, 2, 3, output_padding=1), nn.BatchNorm1d(o), act()]
            c = o
        self.layers = nn.Sequential(*layers, nn.Conv1d(c, 1, 7, 1, 3))

    def forward(self, x):
        return self.layers(x).reshape(x.shape[0], -1)


class Basic(nn.Module):
    grow = 1

    def __init__(self, i, o, kernel, stride, dilation, norm):
        super().__init__()
        pad = kernel // 2
        self.first = nn.Conv1d(i, o, kernel, stride, pad, bias=False)
        self.second = nn.Conv1d(o, o, kernel, 1, pad * dilation, dilation=dilation, bias=False)
        self.norm1, self.norm2 = norm(o), norm(o)
        self.skip = nn.Sequential(nn.Conv1d(i, o, 1, stride, bias=False), norm(o)) if stride > 1 or i != o else None

    def forward(self, x):
        y = self.norm2(self.second(torch.relu(self.norm1(self.first(x)))))
        return torch.relu(y + (x if self.skip is None else self.skip(x)))


class Bottleneck(nn.Module):
    grow = 4

    def __init__(self, i, o, kernel, stride, dilation, norm):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv1d(i, o, 1, bias=False), norm(o), nn.ReLU(),
            nn.Conv1d(o, o, kernel, stride, kernel // 2 * dilation, dilation=dilation, bias=False), norm(o), nn.ReLU(),
            nn.Conv1d(o, 4 * o, 1, bias=False), norm(4 * o))
        self.skip = nn.Sequential(nn.Conv1d(i, 4 * o, 1, stride, bias=False), norm(4 * o)) \
            if stride > 1 or i != 4 * o else None

    def forward(self, x):
        return torch.relu(self.body(x) + (x if self.skip is None else self.skip(x)))


class ResNet(nn.Module):
    """Strain [B, C, T] -> logit [B, 1]."""

    def __init__(self, layers, norm, width=64, channels=2, kernel=3, block=Basic, dilation=1):
        super().__init__()
        norm = NORMS[norm]
        self.stem = nn.Sequential(nn.Conv1d(channels, width, 7, 2, 3, bias=False), norm(width), nn.ReLU(),
                                  nn.MaxPool1d(3, 2, 1))
        blocks, c = [], width
        for stage, n in enumerate(layers):
            o = width << stage
            for i in range(n):
                stride = 2 if stage > 0 and i == 0 else 1
                blocks.append(block(c, o, kernel, stride, 1 if i == 0 else dilation, norm))
                c = o * block.grow
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(c, 1)

    def forward(self, x):
        return self.head(torch.flatten(functional.adaptive_avg_pool1d(self.blocks(self.stem(x)), 1), 1))


class Small(nn.Module):
    """One channel, one second: for every channel of a large array of sensors."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv1d(1, 8, 16, 4, 6), nn.ReLU(), nn.Conv1d(8, 16, 8, 4, 2), nn.ReLU(),
                                  nn.Conv1d(16, 32, 8, 4, 2), nn.ReLU())
        self.head = nn.Linear(32, 1)

    def forward(self, x):
        return self.head(self.body(x).mean(-1))


class AutoEncoder(nn.Module):
    """Down and up again, with skips that are concatenated, cut or padded to match whatever the length."""

    def __init__(self, channels=2, widths=(8, 12, 16), groups=1):
        super().__init__()
        self.down, self.up, c = nn.ModuleList(), nn.ModuleList(), channels
        for o in widths:
            self.down.append(nn.Sequential(nn.Conv1d(c, o, 7, 2, 3, groups=groups), nn.BatchNorm1d(o), nn.ReLU()))
            c = o
        for i, o in zip(reversed(widths), (*reversed(widths[:-1]), channels)):
            self.up.append(nn.Sequential(nn.ConvTranspose1d(c, o, 7, 2, 3, output_padding=1, groups=groups),
                                         nn.BatchNorm1d(o), nn.ReLU()))
            c = 2 * o
        self.last = nn.Conv1d(channels, channels, 7, 1, 3)

    @staticmethod
    def match(x, n):
        less = n - x.shape[-1]
        left = torch.div(less, 2, rounding_mode="floor") if isinstance(less, torch.Tensor) else less // 2
        return functional.pad(x, (left, less - left))

    def forward(self, x):
        kept, length = [], x.shape[-1]
        for layer in self.down:
            kept.append(x)
            x = layer(x)
        for i, layer in enumerate(self.up):
            x = layer(x)
            skip = kept[-1 - i]
            x = self.match(x, skip.shape[-1])
            if i + 1 < len(self.up):
                x = torch.cat([x, skip], 1)
        return self.last(self.match(x, length))


class WaveNet(nn.Module):
    """Dilated gated convolutions, padded on the left only: it streams."""

    def __init__(self, channels=2, width=16, depth=6):
        super().__init__()
        self.stem = nn.Conv1d(channels, width, 1)
        self.filter = nn.ModuleList(nn.Conv1d(width, width, 2, dilation=2 ** i) for i in range(depth))
        self.gate = nn.ModuleList(nn.Conv1d(width, width, 2, dilation=2 ** i) for i in range(depth))
        self.mix = nn.ModuleList(nn.Conv1d(width, width, 1) for _ in range(depth))
        self.last = nn.Conv1d(width, 1, 1)

    def forward(self, x):
        x = self.stem(x)
        total = 0
        for i, (f, g, m) in enumerate(zip(self.filter, self.gate, self.mix)):
            y = functional.pad(x, (2 ** i, 0))
            y = m(torch.tanh(f(y)) * torch.sigmoid(g(y)))
            x, total = x + y, total + y
        return self.last(torch.relu(total))


class Mixed(nn.Module):
    """One of each activation and pooling."""

    def __init__(self, channels=3, width=12):
        super().__init__()
        acts = [nn.LeakyReLU(0.1), nn.ELU(), nn.PReLU(width), nn.GELU(), nn.SiLU(), nn.Softplus(), nn.Hardswish(),
                nn.SELU(), nn.Sigmoid(), nn.ReLU6()]
        layers, c = [], channels
        for i, act in enumerate(acts):
            layers += [nn.Conv1d(c, width, 5, padding=2), act]
            c = width
            if i == 3:
                layers.append(nn.MaxPool1d(3, 2, 1))
            if i == 6:
                layers.append(nn.AvgPool1d(2, 2))
        self.body = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(width * 64, 8), nn.Tanh(), nn.Linear(8, 3))

    def forward(self, x):
        return functional.softmax(self.head(self.body(x)), -1)


class Transformer(nn.Module):
    """Patches of 16 samples, two encoder layers, mean, linear. Attention written out."""

    def __init__(self, channels=2, width=32, heads=4, depth=2):
        super().__init__()
        self.patch, self.heads = nn.Conv1d(channels, width, 16, 16), heads
        self.parts = nn.ModuleList(nn.ModuleDict({
            "norm1": nn.LayerNorm(width), "qkv": nn.Linear(width, 3 * width), "out": nn.Linear(width, width),
            "norm2": nn.LayerNorm(width), "up": nn.Linear(width, 2 * width), "down": nn.Linear(2 * width, width)})
            for _ in range(depth))
        self.head = nn.Linear(width, 6)

    def forward(self, x):
        x = self.patch(x).transpose(1, 2)
        b, n, w = x.shape
        for p in self.parts:
            q, k, v = (t.reshape(b, n, self.heads, w // self.heads).transpose(1, 2)
                       for t in p["qkv"](p["norm1"](x)).chunk(3, -1))
            a = functional.softmax(q @ k.transpose(2, 3) / (w // self.heads) ** 0.5, -1) @ v
            x = x + p["out"](a.transpose(1, 2).reshape(b, n, w))
            x = x + p["down"](functional.gelu(p["up"](p["norm2"](x))))
        return self.head(x.mean(1))


class Recurrent(nn.Module):
    """An LSTM over patches."""

    def __init__(self, channels=2, width=16):
        super().__init__()
        self.patch, self.lstm, self.head = nn.Conv1d(channels, width, 16, 16), nn.LSTM(width, width), nn.Linear(width, 1)

    def forward(self, x):
        y, _ = self.lstm(self.patch(x).permute(2, 0, 1))
        return self.head(y[-1])


# name: (how to build it, one input without its batch)
NETWORKS = {
    "deepclean": (DeepClean, (21, 4096)),
    "deepclean-relu": (lambda: DeepClean(act=nn.ReLU), (21, 4096)),
    "resnet18": (lambda: ResNet((2, 2, 2, 2), "batch"), (2, 2048)),
    "resnet34-group": (lambda: ResNet((3, 4, 6, 3), "group16"), (2, 3072)),
    "resnet34-torch-group": (lambda: ResNet((3, 4, 6, 3), "torch-group16"), (2, 3072)),
    "small": (Small, (1, 2048)),
    "narrow-batch": (lambda: ResNet((2, 2, 2, 2), "batch", 16), (2, 2048)),
    "narrow-group": (lambda: ResNet((2, 2, 2, 2), "group4", 16), (2, 1536)),
    "narrow-torch-group": (lambda: ResNet((2, 2, 2, 2), "torch-group4", 16), (2, 1536)),
    "narrow-each": (lambda: ResNet((2, 2, 2, 2), "each", 16), (2, 1536)),
    "narrow-instance": (lambda: ResNet((2, 2, 2, 2), "torch-instance", 16), (2, 1536)),
    "tiny-group": (lambda: ResNet((1, 1), "group4", 8), (2, 256)),
    "tiny-torch-group": (lambda: ResNet((1, 1), "torch-group4", 8), (2, 256)),
    "bottleneck": (lambda: ResNet((1, 2, 2, 1), "batch", 12, 3, kernel=7, block=Bottleneck, dilation=2), (3, 1024)),
    "autoencoder": (AutoEncoder, (2, 1004)),
    "autoencoder-groups": (lambda: AutoEncoder(groups=2), (2, 1024)),
    "wavenet": (WaveNet, (2, 1024)),
    "mixed": (Mixed, (3, 256)),
    "transformer": (Transformer, (2, 512)),
    "recurrent": (Recurrent, (2, 256)),
}


def build(name, seed=0):
    """The network in evaluation mode: weights that keep the signal's size, norms that have seen something."""
    torch.manual_seed(seed)
    net = NETWORKS[name][0]()
    for m in net.modules():
        if isinstance(m, (nn.Conv1d, nn.ConvTranspose1d)):
            spread = m.stride[0] if isinstance(m, nn.ConvTranspose1d) else 1
            nn.init.normal_(m.weight, std=(1.5 * spread * m.groups / (m.in_channels * m.kernel_size[0])) ** 0.5)
        if getattr(m, "weight", None) is not None and "Norm" in type(m).__name__:
            nn.init.uniform_(m.weight, 0.6, 1.4)
            nn.init.normal_(m.bias, std=0.1)
        if getattr(m, "running_var", None) is not None:
            m.running_mean.normal_(std=0.1)
            m.running_var.uniform_(0.6, 1.6)
    return net.eval()


def example(name, batch, seed=1):
    torch.manual_seed(seed)
    return torch.randn(batch, *NETWORKS[name][1])


def export(net, x, path, opset=17, dynamic=False, dynamo=False, external=False):
    """Writes the ONNX file. dynamic: the batch has no number in it."""
    more = {}
    if "dynamo" in inspect.signature(torch.onnx.export).parameters:
        more["dynamo"] = dynamo
    if dynamo:
        more["external_data"] = external
        if dynamic:
            more["dynamic_shapes"] = ({0: torch.export.Dim("batch")},)
    elif dynamic:
        more["dynamic_axes"] = {"x": {0: "batch"}, "y": {0: "batch"}}
    with torch.no_grad():
        torch.onnx.export(net, (x,), str(path), input_names=["x"], output_names=["y"], opset_version=opset, **more)
    if dynamo:
        forget_origin(path)


def forget_origin(path):
    """Takes out where in which source file of this machine each node comes from."""
    import onnx
    model = onnx.load(path, load_external_data=False)
    for part in (model.graph, *model.graph.node, *model.graph.input, *model.graph.output, *model.graph.value_info,
                 *model.graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""
    onnx.save(model, path)


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    arguments.add_argument("folder", nargs="?", type=pathlib.Path)
    arguments.add_argument("names", nargs="*")
    arguments.add_argument("--opset", type=int)
    arguments.add_argument("--batch", type=int, default=1)
    arguments.add_argument("--dynamic", action="store_true")
    arguments.add_argument("--dynamo", action="store_true")
    arguments.add_argument("--external", action="store_true")
    options = arguments.parse_args()
    if not options.folder or not options.names:
        print(*NETWORKS, sep="\n")
        return 2
    options.folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    for name in options.names:
        net, x = build(name), example(name, options.batch)
        export(net, x, options.folder / f"{name}.onnx", options.opset or (18 if options.dynamo else 17), options.dynamic,
               options.dynamo, options.external)
        with torch.no_grad():
            np.save(options.folder / f"{name}-in.npy", x.numpy())
            np.save(options.folder / f"{name}-out.npy", net(x).numpy())
    return 0


if __name__ == "__main__":
    sys.exit(main())
