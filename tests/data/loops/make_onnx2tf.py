"""Makes the files `onnx2tf_*.tflite`: PyTorch's LSTMs by way of ONNX, as onnx2tf 1.29 writes them, in a WHILE.

It runs where torch, onnx and onnx2tf are installed: `python tests/data/loops/make_onnx2tf.py`. Sizes are all different
and weights random, so that a file is right only if every one of them is in its place.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from torch import nn

FOLDER = Path(__file__).parent


class Sequence(nn.Module):
    """A layer whose states nobody takes."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        y, _ = self.layer(x)
        return y


class States(nn.Module):
    """States in and out."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x, h, c):
        y, (h, c) = self.layer(x, (h, c))
        return y, h, c


def kinds():
    """Yields name, module and the shapes of its inputs."""
    yield "one", Sequence(nn.LSTM(3, 5, batch_first=True)), [(2, 6, 3)]
    yield "both_ways", Sequence(nn.LSTM(4, 3, batch_first=True, bidirectional=True)), [(2, 5, 4)]
    yield "states", States(nn.LSTM(3, 4, batch_first=True)), [(2, 5, 3), (1, 2, 4), (1, 2, 4)]


def onnx2tf(module, shapes, name):
    """The bytes of onnx2tf's file."""
    inputs = tuple(torch.randn(shape) for shape in shapes)
    names = ["x", "h", "c"][: len(shapes)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.onnx"
        torch.onnx.export(module.eval(), inputs, path, dynamo=False, opset_version=17, input_names=names)
        command = [sys.executable, "-m", "onnx2tf", "-i", path, "-o", folder, "-n", "-kat", *names]
        subprocess.run(command, check=True)
        return (Path(folder) / f"{name}_float32.tflite").read_bytes()


if __name__ == "__main__":
    for number, (name, module, shapes) in enumerate(kinds()):
        torch.manual_seed(number)
        (FOLDER / f"onnx2tf_{name}.tflite").write_bytes(onnx2tf(module, shapes, name))
