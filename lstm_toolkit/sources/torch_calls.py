"""A PyTorch module on a flat list of tensors, its recurrent layers with the states that `convert` was asked for."""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from lstm_toolkit.errors import ConversionError
from lstm_toolkit.sources.torch_values import Examples, called, outputs_of
from lstm_toolkit.stock.torch_ops import KINDS
from lstm_toolkit.tflite.recurrent import numbered


@dataclasses.dataclass(frozen=True)
class Call:
    """A call of a recurrent layer that was given no states.

    Attributes:
        name: path of the layer in the module, with a number from its second call on.
        layer: the layer.
        last: the states that it ended with: h, and of an LSTM c.
    """

    name: str
    layer: Any
    last: tuple[Any, ...]

    @property
    def states(self) -> dict[str, Any]:
        """These by name."""
        return {f"{self.name}_{kind}": state for kind, state in zip("hc", self.last, strict=False)}


class CalledModule(torch.nn.Module):
    """See the module.

    Args:
        module: in eval mode, with hooks of its own from now on.
        examples: of its inputs.
        state: "auto", "reset", "carry" or "explicit".

    Attributes:
        calls: those of the last call of the module.
        zeros: what explicit states start from, by name; empty without such.
        outputs: names of the outputs, explicit states behind the others.
        carried: the states that layers carry, by the name of the call; a source reads and clears them.
        marks: whether recurrent layers are marked, and not computed.
    """

    def __init__(self, module: Any, examples: Examples, state: str) -> None:
        super().__init__()
        self.module = module
        self._examples, self._state = examples, state
        self.calls: list[Call] = []
        self.zeros: dict[str, Any] = {}
        self.carried: dict[str, tuple[Any, ...]] = {}
        self._given: Iterator[Any] = iter(())
        self._names: set[str] = set()
        self._name = ""
        self._starts = False
        self.marks = False
        self._paths = {id(layer): path for path, layer in module.named_modules()}
        for layer in module.modules():
            if isinstance(layer, torch.nn.RNNBase):
                layer.register_forward_pre_hook(self._before, with_kwargs=True)
                layer.register_forward_hook(self._behind)
        first = outputs_of(called(self._fresh(), examples))
        if state == "explicit":
            states = {name: value for call in self.calls for name, value in call.states.items()}
            self.zeros = {name: torch.zeros_like(value) for name, value in states.items()}
            first |= states
        self.outputs = tuple(first)

    @property
    def carries(self) -> bool:
        """Whether layers start where they ended in the call before."""
        return self._state == "carry"

    def forward(self, *tensors: Any) -> list[Any]:
        """Calls the module; explicit states are behind its own inputs, and behind its own outputs."""
        count = len(self._examples.tensors)
        self._given = iter(tensors[count:])
        with _Marking(self) if self.marks else contextlib.nullcontext():
            outputs = list(outputs_of(self._examples.call(self._fresh(), tensors[:count])).values())
        if self._state == "explicit":
            outputs += [value for call in self.calls for value in call.states.values()]
        return outputs

    def _fresh(self) -> Any:
        self.calls, self._names = [], set()
        return self.module

    def _before(self, layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        path = self._paths[id(layer)] or layer.mode.partition("_")[0].lower()
        name = numbered(path, self._names)
        self._names.add(name)
        given = {**dict(zip(("input", "hx"), args, strict=False)), **kwargs}
        if isinstance(given["input"], torch.nn.utils.rnn.PackedSequence):
            raise ConversionError(
                f"layer {path!r} ({type(layer).__name__}) is called on a PackedSequence, whose lengths no file can "
                "hold; call it on the padded tensor itself, and give the file one sequence at a time, as long as it is"
            )
        self._name, self._starts = name, given.get("hx") is None
        if not self._starts:
            return None
        start: Any = self.carried.get(name)
        if self.zeros:
            start = tuple(next(self._given) for _ in range(2 if layer.mode == "LSTM" else 1))
        if start is None:
            return None
        return (given["input"], start if layer.mode == "LSTM" else start[0]), {}

    def _behind(self, layer: Any, _: Any, results: Any) -> None:
        if self._starts:
            last = results[1] if layer.mode == "LSTM" else (results[1],)
            self.calls.append(Call(self._name, layer, tuple(last)))
        self._name, self._starts = "", False

    def marked(self, kind: str, args: Any) -> tuple[Any, ...]:
        """Marks a call of PyTorch's function for recurrent layers, which has these arguments.

        Raises:
            ConversionError: if it drops out what it computes.
        """
        x, start, weights, has_biases, count, dropout, train, both_ways, batch_first = args
        name = self._name
        if not name:
            name = numbered(kind.partition("_")[0].lower(), self._names)
            self._names.add(name)
        if dropout and train:
            raise ConversionError(
                f"layer {name!r} has its dropout on, so that its results differ from call to call; let forward leave "
                "it in eval mode"
            )
        # Those that the layer makes itself are zeros.
        start = [] if self._starts and not self.zeros else list(start) if kind == "LSTM" else [start]
        carry = self._starts and self.carries
        options = (has_biases, count, both_ways, batch_first, kind, name, carry)
        return tuple(torch.ops.lstm_toolkit.layers(x, start, list(weights), *options))


class _Marking(TorchFunctionMode):
    """While it is open, PyTorch's functions for recurrent layers become marks, in this thread.

    What they compute step by step takes `torch.export` a hundred times as long.
    """

    def __init__(self, called: CalledModule) -> None:
        super().__init__()
        self._called = called

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kind = KINDS.get(getattr(function, "__name__", "").removesuffix(".input"))
        # A PackedSequence has its batch sizes there, and so one argument more before the flags.
        if kind is not None and len(args) == 9 and isinstance(args[3], bool):
            return self._called.marked(kind, args)
        return function(*args, **(kwargs or {}))
