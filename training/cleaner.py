# SPDX-License-Identifier: GPL-3.0-or-later
"""The cleaning network, DeepClean's: a convolutional autoencoder from witnesses to the noise that they make
in strain; its ONNX file, written with BatchNorm folded and read back to go on from. Used by deepclean.py and
retrain.py; knows nothing of data.

    witnesses [B, C, T] -> noise [B, T], T a multiple of 16

Column i depends on the inputs i - REACH ... i + REACH. It is trained to give the noise at i + shift: the
larger the shift, the less a stream has to wait for (REACH - shift samples).
"""
import hashlib
import os
import warnings

import numpy as np
import onnx
import torch
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torch.nn import functional

KERNEL, WIDTHS = 7, (8, 16, 32, 64)
REACH = 96  # samples: 3 + 3 (1 + 2 + 4 + 8) down, as much up again, and the last
FRAME = 16  # product of the strides
WINDOW = 4096  # samples of the ONNX file's input; a stream takes any


class Layer(nn.Module):
    """Convolution, BatchNorm unless it is folded already, tanh unless it is the last. Tensors are
    [B, C, 1, T]: 2-D with one row, channels last, is the form in which torch is fastest on a CPU."""

    def __init__(self, inputs, outputs, stride=1, up=False, folded=False, last=False):
        super().__init__()
        self.up, self.stride, self.last = up, stride, last
        shape = dict(kernel_size=(1, KERNEL), stride=(1, stride), padding=(0, 3))
        self.conv = (nn.ConvTranspose2d(inputs, outputs, output_padding=(0, 1), **shape) if up
                     else nn.Conv2d(inputs, outputs, **shape))
        self.norm = None if folded or last else nn.BatchNorm2d(outputs)

    def transposed(self, x):
        """conv(x) as an ordinary convolution that gives even and odd columns: four times as fast to train."""
        w = functional.pad(self.conv.weight, (0, 1)).permute(1, 0, 2, 3)
        phases = torch.cat([w[..., [5, 3, 1, 7]], w[..., [6, 4, 2, 0]]])
        y = functional.conv2d(functional.pad(x, (1, 2)), phases, self.conv.bias.repeat(2))
        b, c, _, n = y.shape
        return y.reshape(b, 2, c // 2, n).permute(0, 2, 3, 1).reshape(b, c // 2, 1, 2 * n)

    def forward(self, x):
        x = self.transposed(x) if self.up else self.conv(x)
        if self.norm is not None:
            x = self.norm(x)
        return x if self.last else torch.tanh(x)

    def weights(self):
        """Weight (ONNX's order) and bias, the BatchNorm inside; float32."""
        weight = self.conv.weight.detach().double()[:, :, 0]
        bias = self.conv.bias.detach().double()
        if self.norm is not None:
            n = self.norm
            scale = n.weight.detach().double() / torch.sqrt(n.running_var.double() + n.eps)
            weight = weight * (scale[None, :, None] if self.up else scale[:, None, None])
            bias = (bias - n.running_mean.double()) * scale + n.bias.detach().double()
        return weight.float().numpy(), bias.float().numpy()


class Cleaner(nn.Module):
    """channels: witnesses. folded: without BatchNorm, to be filled by load()."""

    def __init__(self, channels, folded=False):
        super().__init__()
        self.channels = channels
        widths = (channels,) + WIDTHS
        layers = [Layer(channels, channels, folded=folded)]
        layers += [Layer(a, b, 2, folded=folded) for a, b in zip(widths, widths[1:])]
        layers += [Layer(a, b, 2, up=True, folded=folded) for a, b in zip(widths[:0:-1], widths[-2::-1])]
        self.layers = nn.ModuleList(layers + [Layer(channels, 1, last=True)])
        self.to(memory_format=torch.channels_last)

    def forward(self, x):
        x = x[:, :, None].contiguous(memory_format=torch.channels_last)
        for layer in self.layers:
            x = layer(x)
        return x[:, 0, 0]


def write_onnx(network, path, metadata):
    """Writes the file (opset 13), whole or not at all. metadata: the gwstream.* keys. -> its SHA-256."""
    nodes, constants, x = [], [], "witnesses"
    for i, layer in enumerate(network.layers):
        weight, bias = layer.weights()
        constants += [numpy_helper.from_array(np.ascontiguousarray(v), f"layer{i}.{k}")
                      for k, v in (("weight", weight), ("bias", bias))]
        shape = dict(kernel_shape=[KERNEL], strides=[layer.stride], pads=[3, 3])
        if layer.up:
            shape["output_padding"] = [1]
        y = "noise" if layer.last else f"layer{i}"
        nodes.append(helper.make_node("ConvTranspose" if layer.up else "Conv",
                                      [x, f"layer{i}.weight", f"layer{i}.bias"], [y], name=y, **shape))
        x = y
        if not layer.last:
            x = f"layer{i}.tanh"
            nodes.append(helper.make_node("Tanh", [y], [x], name=x))
    f32 = TensorProto.FLOAT
    graph = helper.make_graph(
        nodes, "cleaner", [helper.make_tensor_value_info("witnesses", f32, [1, network.channels, WINDOW])],
        [helper.make_tensor_value_info("noise", f32, [1, 1, WINDOW])], constants)
    model = helper.make_model(graph, producer_name="gwstream-training",
                              opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 7
    keys = {**metadata, "format": 1, "kind": "denoise"}
    helper.set_model_props(model, {"gwstream." + k: str(v) for k, v in keys.items()})
    onnx.checker.check_model(model)
    data = model.SerializeToString()
    try:
        with open(path + ".part", "wb") as f:
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
        os.replace(path + ".part", path)
    except OSError:
        if os.path.exists(path + ".part"):
            os.unlink(path + ".part")
        raise
    return hashlib.sha256(data).hexdigest()


def read_onnx(path):
    """-> the network in its folded form, its gwstream.* metadata as a dictionary of text. ValueError: it is
    not a file of write_onnx."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the error says it
            model = onnx.load(path)
    except DecodeError as e:
        raise ValueError(f"{path}: not an ONNX file ({e})") from None
    metadata = {p.key.split(".", 1)[1]: p.value for p in model.metadata_props if p.key.startswith("gwstream.")}
    values = {v.name: numpy_helper.to_array(v) for v in model.graph.initializer}
    if metadata.get("kind") != "denoise" or "layer0.weight" not in values:
        raise ValueError(f"{path}: not a cleaning network of training/cleaner.py")
    network = Cleaner(values["layer0.weight"].shape[1], folded=True)
    with torch.no_grad():
        for i, layer in enumerate(network.layers):
            for name, to in (("weight", layer.conv.weight), ("bias", layer.conv.bias)):
                value = values.get(f"layer{i}.{name}")
                if value is None or value.size != to.numel():
                    raise ValueError(f"{path}: layer{i}.{name} is missing or of another shape")
                to.copy_(torch.from_numpy(value.copy()).reshape(to.shape))
    return network, metadata
