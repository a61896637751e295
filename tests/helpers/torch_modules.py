"""PyTorch modules with recurrent layers, their sizes all different. It imports PyTorch."""

import copy
from typing import NamedTuple

import numpy as np
import torch
from torch import nn


class Both(NamedTuple):
    sequence: torch.Tensor
    last: torch.Tensor


class Attended(nn.Module):
    """A convolution before the layer, attention and a Linear behind it, and a dict of outputs."""

    def __init__(self):
        super().__init__()
        self.before = nn.Conv1d(3, 4, 3, padding=1)
        self.recurrent = nn.LSTM(4, 5, batch_first=True)
        self.score, self.head = nn.Linear(5, 1), nn.Linear(5, 2)

    def forward(self, signal):
        y, _ = self.recurrent(torch.relu(self.before(signal.transpose(1, 2))).transpose(1, 2))
        weights = torch.softmax(self.score(y), dim=1)
        return {"logits": self.head((weights * y).sum(dim=1)), "weights": weights}


class Layers(nn.Module):
    """A layer with any options, its last states returned."""

    def __init__(self, kind=nn.LSTM, **options):
        super().__init__()
        self.recurrent = kind(3, 5, **options)

    def forward(self, x):
        return self.recurrent(x)


class Continued(nn.Module):
    """States in and out."""

    def __init__(self, **options):
        super().__init__()
        self.encoder = nn.ModuleDict({"one": nn.LSTM(3, 5, batch_first=True, **options)})
        self.head = nn.Linear(self.encoder["one"].proj_size or 5, 2)

    def forward(self, x, states):
        y, states = self.encoder["one"](x, states)
        return self.head(y), states


class Mixed(nn.Module):
    """Tokens and features, each kind of layer, and names for the outputs."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(11, 4)
        self.gru, self.rnn = nn.GRU(6, 5, batch_first=True), nn.RNN(5, 3, nonlinearity="relu", batch_first=True)
        self.lstm = nn.LSTM(3, 4, batch_first=True)

    def forward(self, tokens, *, features):
        y, _ = self.gru(torch.cat([self.embedding(tokens), features], 2))
        y, _ = self.lstm(self.rnn(y)[0])
        return Both(y, y[:, -1])


class Stepwise(nn.Module):
    """A cell that is called step by step."""

    def __init__(self):
        super().__init__()
        self.cell = nn.LSTMCell(3, 5)

    def forward(self, x):
        h, c = x.new_zeros(len(x), 5), x.new_zeros(len(x), 5)
        outputs = []
        for step in x.unbind(1):
            h, c = self.cell(step, (h, c))
            outputs.append(h)
        return torch.stack(outputs, 1)


class Twice(nn.Module):
    """A layer that is called twice."""

    def __init__(self):
        super().__init__()
        self.shared = nn.LSTM(5, 5, batch_first=True)

    def forward(self, x):
        return self.shared(self.shared(x)[0])[0]


class Packed(nn.Module):
    """A PackedSequence."""

    def __init__(self):
        super().__init__()
        self.packed = nn.LSTM(3, 5, batch_first=True)

    def forward(self, x):
        lengths = torch.tensor([7, 4])
        sequence = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True)
        return nn.utils.rnn.pad_packed_sequence(self.packed(sequence)[0], batch_first=True)[0]


class Wrapped(nn.Module):
    """A layer, and what a function makes of its output."""

    def __init__(self, function=lambda y: y):
        super().__init__()
        self.recurrent, self.function = nn.LSTM(3, 5, batch_first=True), function

    def forward(self, x):
        return self.function(self.recurrent(x)[0])


class Counting(nn.Module):
    """A buffer that changes at each call."""

    def __init__(self):
        super().__init__()
        self.recurrent = nn.LSTM(3, 5, batch_first=True)
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x):
        self.count += 1
        return self.recurrent(x)[0] + self.count


def randomized(module, seed=0):
    """The module with random weights of such a size that every gate is used."""
    random = np.random.default_rng(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.from_numpy(random.normal(0, 0.6, parameter.shape)))
    return module


def expected(module, *args, **kwargs):
    """What a module computes in eval mode and float32, in the structure that it has."""
    with torch.no_grad():
        return copy.deepcopy(module).eval().float()(*args, **kwargs)
