"""`composite`: marks a user's own recurrent function, so that `convert` makes one fused LSTM op of it."""

import dataclasses
import functools
import inspect
import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import tensorflow as tf

from lstm_toolkit.sources import marks
from lstm_toolkit.tflite.recurrent import ACTIVATIONS
from lstm_toolkit.weights.frameworks import KERAS
from lstm_toolkit.weights.operands import GATES, LSTM_COMPOSITE, WEIGHT_OPERANDS
from lstm_toolkit.weights.packing import PACKED_KINDS, Packing

KERAS_INTERFACE = ("input", "h", "c", "kernel", "recurrent_kernel", "bias")
"""What the arguments of a function with the Keras interface are, in order."""

_STATES = ("h", "c")
_LETTERS = {"i": "input", "f": "forget", "c": "cell", "g": "cell", "o": "output"}
_numbers = itertools.count()


def composite(  # noqa: PLR0913 (public)
    *,
    operands: Mapping[str, str] | None = None,
    interface: str | None = None,
    gates: str | Sequence[str] = GATES,
    gate_axis: int = -1,
    activation: str = "tanh",
    cell_clip: float = 0.0,
    proj_clip: float = 0.0,
    forget_gate_bias: float = 0.0,
    time_major: bool = False,
    go_backwards: bool = False,
    carry: bool = False,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Marks a function of your own as a fused LSTM. Exactly one of `operands` and `interface` is given.

    The function runs and trains as before. `convert` replaces each of its calls by one op, and its `verify` compares
    the op with the function itself, so a function that is not an LSTM, or is declared wrongly, is caught.

    Args:
        operands: what each argument of the function is: "input" [batch, time, inputs] (or [batch, inputs] for a single
            step), "h" [batch, outputs] and "c" [batch, units] if it starts from given states, and its weights: packed
            by gate, in the order of `gates` along the last axis,

                "kernel" [inputs, gates * units], "recurrent_kernel" [outputs, gates * units], or both in one,
                "joint_kernel" [inputs + outputs, gates * units]; "bias" [gates * units]; "layer_norm" [gates * units];
                "peephole" [gates but cell * units]; "recurrent_diagonal" [gates * units] (IndyLSTM);
                "projection" [units, outputs], "projection_bias" [outputs];

            or one by one under the names of the op's operands (`weights.operands.WEIGHT_OPERANDS`), in its shapes. The
            function returns the outputs [batch, time, outputs], or these and the last c. This is option 2 of
            TensorFlow's guide.
        interface: "keras": the function takes (inputs, h, c, kernel, recurrent_kernel, bias) as Keras lays them out,
            and returns (last output, outputs, h, c). The stock converter fuses it; only the first two results may be
            used, and the states must be zeros. This is option 1 of the guide. Of the options below only `time_major`
            and `go_backwards` go with it.
        gates: order of the gates in packed weights: names, or letters ("ifco"; g is c). Without "input", the input gate
            is 1 minus the forget gate.
        gate_axis: axis of the matrices along which the gates are packed: -1, or 0 where the matrices are transposed.
        activation: of the cell: tanh, relu, relu6 or hard_tanh; the gates are sigmoid.
        cell_clip: bound of the absolute value of c; 0 for none.
        proj_clip: the same of the projected output.
        forget_gate_bias: what the function adds to the bias of the forget gate.
        time_major: input and outputs are [time, batch, ...].
        go_backwards: the function runs the sequence backwards (Keras interface only).
        carry: in the file, a call starts where the last one ended (not beside "h" and "c").

    Returns:
        A decorator. The function that it gives takes what the decorated one takes, as tensors or arrays, and returns
        the same; with the Keras interface only (last output, outputs).

    Raises:
        ValueError: at decoration, for arguments that are not declared, unknown operands, gates or options; at a call,
            for ranks and shapes that do not fit, naming the argument, the expected and the actual shape.
    """
    if (operands is None) == (interface is None):
        raise ValueError("give either operands (the function declares its own arguments) or interface='keras'")
    if interface is not None:
        if interface != "keras":
            raise ValueError(f'interface must be "keras", got {interface!r}')
        return lambda function: _keras_composite(function, time_major=time_major, go_backwards=go_backwards)
    order = _gate_names(gates)
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {activation!r}")
    if gate_axis not in (0, -1) or go_backwards:
        raise ValueError("gate_axis must be 0 or -1, and go_backwards goes with interface='keras' only")
    attributes = {
        "gates": ",".join(order),
        "gate_axis": gate_axis,
        "activation": activation,
        "cell_clip": float(cell_clip),
        "proj_clip": float(proj_clip),
        "forget_gate_bias": float(forget_gate_bias),
        "time_major": time_major,
        "carry": carry,
    }
    declared, packing = dict(operands or {}), Packing(gates=order, gate_axis=gate_axis)
    return lambda function: _declared_composite(function, Declaration(_name(function), declared, packing), attributes)


def _gate_names(gates: str | Sequence[str]) -> tuple[str, ...]:
    names = tuple(_LETTERS.get(letter, letter) for letter in gates) if isinstance(gates, str) else tuple(gates)
    if sorted(names) not in (sorted(GATES), sorted(GATES[1:])):
        raise ValueError(f"gates must hold each of {', '.join(GATES)} once (input may be left out), got {list(names)}")
    return names


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__name__", "composite")


@dataclasses.dataclass(frozen=True)
class Declaration:
    """What a function is declared to take.

    Attributes:
        name: of the function.
        operands: what each argument is: "input", "h", "c" or a kind of weights.
        packing: how its weights are packed.
    """

    name: str
    operands: Mapping[str, str]
    packing: Packing = KERAS

    @property
    def weights(self) -> list[str]:
        """The kinds of weights."""
        return [kind for kind in self.operands.values() if kind not in ("input", *_STATES)]

    @property
    def arguments(self) -> list[str]:
        """The arguments in the order of the op: the input, the weights, the states."""
        argument = {kind: each for each, kind in self.operands.items()}
        return [argument[kind] for kind in ("input", *self.weights, *_STATES) if kind in argument]

    def check(self, parameters: Collection[str], *, carry: bool) -> None:
        """Raises ValueError if the arguments are not the function's parameters, or not those of an LSTM."""
        name, kinds = self.name, set(self.operands.values())
        packed = ("input", *_STATES, *PACKED_KINDS)
        if set(self.operands) != set(parameters):
            raise ValueError(f"{name} takes {list(parameters)}, and operands declares {list(self.operands)}")
        unknown = sorted(kinds - {*packed, *WEIGHT_OPERANDS})
        if unknown or len(kinds) < len(self.operands):
            known = f"{', '.join(packed)}, or fields of GateWeights"
            raise ValueError(f"operands of {name} must be different ones of {known}; unknown: {unknown}")
        if "input" not in kinds or len(kinds & set(_STATES)) == 1:
            raise ValueError(f"{name} needs an argument that is the input, and both or none of h and c")
        if carry and "h" in kinds:
            raise ValueError(f"{name} carries its state, so it cannot also start from h and c")

    def sizes(self, shapes: Mapping[str, tf.TensorShape]) -> dict[str, int]:
        """The sizes `units`, `inputs` and `outputs`, as far as the shapes of the arguments tell them.

        Raises:
            ValueError: if they do not fit together; names the argument, the expected and the actual shape.
        """
        for each, shape in shapes.items():
            if shape.rank is None:
                raise ValueError(f"{self.name}: argument {each} has no known rank, and the op needs one; set its shape")
        given = {kind: shapes[each].as_list() for each, kind in self.operands.items()}
        names = {kind: f"{self.name}: argument {each}" for each, kind in self.operands.items()}
        sizes = self.packing.sizes(given, names)
        inputs = sizes.get("inputs")
        if len(given["input"]) not in (2, 3) or inputs not in (None, given["input"][-1]):
            raise ValueError(f"{names['input']} must have shape {[None, None, inputs]}, got {given['input']}")
        for state, size in (("h", sizes.get("outputs")), ("c", sizes.get("units"))):
            if state in given and not tf.TensorShape(given[state]).is_compatible_with([None, size]):
                raise ValueError(f"{names[state]} must have shape {[None, size]}, got {given[state]}")
        return sizes


def _declared_composite(
    function: Callable[..., Any], declaration: Declaration, attributes: dict[str, Any]
) -> Callable[..., Any]:
    name, signature = declaration.name, inspect.signature(function)
    declaration.check(signature.parameters, carry=attributes["carry"])
    arguments = declaration.arguments

    def body(*tensors: Any) -> Any:
        return function(**dict(zip(arguments, tensors, strict=True)))

    marked = marks.mark(body, LSTM_COMPOSITE, layer=name, weights=",".join(declaration.weights), **attributes)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        tensors = [tf.convert_to_tensor(bound.arguments[each]) for each in arguments]
        sizes = declaration.sizes({each: tensor.shape for each, tensor in zip(arguments, tensors, strict=True)})
        outputs, *others = tf.nest.flatten(marked(*tensors))
        expected = [*tensors[0].shape[:-1], sizes.get("outputs")]
        if not outputs.shape.is_compatible_with(expected):
            raise ValueError(f"{name} must return outputs of shape {expected}, got {outputs.shape.as_list()}")
        outputs = tf.ensure_shape(outputs, expected)
        return (outputs, *others) if others else outputs

    return call


def _keras_composite(function: Callable[..., Any], *, time_major: bool, go_backwards: bool) -> Callable[..., Any]:
    name, parameters = _name(function), list(inspect.signature(function).parameters)
    if len(parameters) != len(KERAS_INTERFACE):
        raise ValueError(f"{name} takes {parameters}; with the Keras interface it takes {list(KERAS_INTERFACE)}")
    declaration = Declaration(name, dict(zip(parameters, KERAS_INTERFACE, strict=True)))

    def body(*tensors: Any) -> tuple[Any, ...]:
        results = tuple(function(*tensors))
        if len(results) != 4:
            raise ValueError(f"{name} must return (last output, outputs, h, c), got {len(results)} results")
        # The fifth result of Keras's own function tells the device that it ran on.
        return (*results, tf.constant(0.0))

    attributes = {"api_implements": f"lstm_{name}_{next(_numbers)}", "time_major": time_major}
    attributes |= {"go_backwards": go_backwards}
    marked = tf.function(body, experimental_attributes=attributes, autograph=False)

    @functools.wraps(function)
    def call(*args: Any) -> tuple[Any, Any]:
        tensors = [tf.convert_to_tensor(each) for each in args]
        if len(tensors) != len(KERAS_INTERFACE):
            raise ValueError(f"{name} takes {list(KERAS_INTERFACE)}, got {len(tensors)} arguments")
        declaration.sizes({each: tensor.shape for each, tensor in zip(parameters, tensors, strict=True)})
        last, outputs, *_ = marked(*tensors)
        return last, outputs

    return call
