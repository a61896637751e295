"""Makes the files `litert_torch_*.tflite`: PyTorch's recurrent layers, as litert-torch 0.10 unrolls them.

It runs where litert-torch is installed: `python tests/data/unrolled/make_litert_torch.py`. Sizes are all different and
weights random, so that a file is right only if every one of them is in its place.
"""

from pathlib import Path

import litert_torch
import torch
from torch import nn

FOLDER = Path(__file__).parent


class Sequence(nn.Module):
    """A layer whose states nobody takes, perhaps with something before and behind it."""

    def __init__(self, layer, before=None, behind=None, last=False):
        super().__init__()
        self.layer, self.before, self.behind, self.last = layer, before, behind, last

    def forward(self, x):
        if self.before is not None:
            x = self.before(x.transpose(1, 2)).transpose(1, 2)
        y, _ = self.layer(x)
        if self.last:
            y = y[:, -1]
        return y if self.behind is None else self.behind(y)


class Attention(nn.Module):
    """Weights the steps by what a layer says of them."""

    def __init__(self, size):
        super().__init__()
        self.score = nn.Linear(size, 1)

    def forward(self, x):
        return (torch.softmax(self.score(x), dim=1) * x).sum(dim=1)


class State(nn.Module):
    """The state of a GRU or an RNN in and out."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x, h):
        return self.layer(x, h)


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

    def lstm(inputs, units, **options):
        return nn.LSTM(inputs, units, batch_first=True, **options)

    yield "one", Sequence(lstm(3, 4)), [(2, 5, 3)]
    yield "last", Sequence(lstm(2, 5), last=True), [(3, 4, 2)]
    yield "one_row", Sequence(lstm(4, 3)), [(1, 6, 4)]
    yield "time_first", Sequence(nn.LSTM(3, 5)), [(4, 2, 3)]
    yield "no_bias", Sequence(lstm(5, 4, bias=False)), [(2, 3, 5)]
    yield "two_layers", Sequence(lstm(3, 4, num_layers=2)), [(2, 5, 3)]
    yield "three_layers", Sequence(lstm(2, 3, num_layers=3), last=True), [(4, 5, 2)]
    yield "both_ways", Sequence(lstm(3, 4, bidirectional=True)), [(2, 5, 3)]
    yield "both_ways_two_layers", Sequence(lstm(2, 3, num_layers=2, bidirectional=True)), [(3, 4, 2)]
    yield "projection", Sequence(lstm(3, 5, proj_size=4)), [(2, 6, 3)]
    yield "projection_last", Sequence(lstm(4, 5, proj_size=2), last=True), [(3, 4, 4)]
    yield "states", States(lstm(3, 4)), [(2, 5, 3), (1, 2, 4), (1, 2, 4)]
    yield "states_two_layers", States(lstm(2, 5, num_layers=2)), [(3, 4, 2), (2, 3, 5), (2, 3, 5)]
    yield "linear", Sequence(lstm(3, 4), behind=nn.Linear(4, 2), last=True), [(2, 5, 3)]
    yield "convolution", Sequence(lstm(4, 5), before=nn.Conv1d(3, 4, 3, padding=1)), [(2, 6, 3)]
    yield "attention", Sequence(lstm(3, 4), behind=Attention(4)), [(2, 5, 3)]
    yield "gru", Sequence(nn.GRU(3, 4, batch_first=True)), [(2, 5, 3)]
    yield "rnn", Sequence(nn.RNN(3, 4, batch_first=True)), [(2, 5, 3)]
    yield "gru_last", Sequence(nn.GRU(2, 5, batch_first=True, bias=False), last=True), [(3, 4, 2)]
    yield "gru_both_ways", Sequence(nn.GRU(3, 4, batch_first=True, bidirectional=True)), [(2, 5, 3)]
    yield "gru_two_layers", Sequence(nn.GRU(4, 3, num_layers=2), behind=nn.Linear(3, 2)), [(5, 1, 4)]
    yield "gru_state", State(nn.GRU(3, 4, batch_first=True)), [(2, 5, 3), (1, 2, 4)]
    yield "rnn_state", State(nn.RNN(3, 5, batch_first=True)), [(2, 4, 3), (1, 2, 5)]
    yield "rnn_relu_both_ways", Sequence(nn.RNN(4, 3, nonlinearity="relu", bidirectional=True)), [(5, 2, 4)]


if __name__ == "__main__":
    for number, (name, module, shapes) in enumerate(kinds()):
        torch.manual_seed(number)
        inputs = tuple(torch.randn(shape) for shape in shapes)
        litert_torch.convert(module.eval(), inputs).export(str(FOLDER / f"litert_torch_{name}.tflite"))
