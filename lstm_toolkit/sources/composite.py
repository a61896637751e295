"""`composite`: marks a user's own recurrent function, so that `convert` makes one fused LSTM op of it."""

import functools
import inspect
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from lstm_toolkit.sources import marks
from lstm_toolkit.tflite.recurrent import ACTIVATIONS
from lstm_toolkit.weights.operands import GATES, LSTM_COMPOSITE, WEIGHT_OPERANDS
from lstm_toolkit.weights.packing import PACKED_KINDS, Packing

KERAS_INTERFACE = ("input", "h", "c", "kernel", "recurrent_kernel", "bias")
"""What the arguments of a function with the Keras interface are, in order."""

_STATES = ("h", "c")
_LETTERS = {"i": "input", "f": "forget", "c": "cell", "g": "cell", "o": "output"}
_numbers = itertools.count()


def composite(
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
    the op with the function itself, so that a function that is no LSTM, or is declared wrongly, is caught.

    Args:
        operands: what each argument of the function is: "input" [batch, time, inputs] (or [batch, inputs] for a single
            step), "h" [batch, outputs] and "c" [batch, units] if it starts from given states, and its weights: packed
            by gate, in the order of `gates` along the last axis,

                "kernel" [inputs, gates * units], "recurrent_kernel" [outputs, gates * units], or both in one,
                "joint_kernel" [inputs + outputs, gates * units]; "bias" [gates * units]; "layer_norm" [gates * units];
                "peephole" [gates but cell * units]; "recurrent_diagonal" [gates * units] (IndyLSTM);
                "projection" [units, outputs], "projection_bias" [outputs];

            or one by one under the names of the op's operands, in its shapes (`contract.WEIGHT_OPERANDS`). The function
            returns the outputs [batch, time, outputs], or these and the last c. This is option 2 of TensorFlow's guide.
        interface: "keras": the function takes (inputs, h, c, kernel, recurrent_kernel, bias) as Keras lays them out,
            and returns (last output, outputs, h, c). The stock converter fuses it; only the first two results may be
            used, and the states must be zeros. This is option 1 of the guide. Of the options below only `time_major`
            and `go_backwards` go with it.
        gates: order of the gates in packed weights: names, or letters ("ifco"; g is c). Without "input", the input gate
            is 1 minus the forget gate.
        gate_axis: axis of the matrices along which the gates are packed: -1, or 0 where the matrices are transposed.
        activation: of the cell: tanh, relu, relu6 or hard_tanh; the gates are sigmoid.
        cell_clip, proj_clip: bounds of the absolute value of c and of the projected output; 0 for none.
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
    declared = dict(operands or {})
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
    return lambda function: _declared_composite(function, declared, order, attributes)


def _gate_names(gates: str | Sequence[str]) -> tuple[str, ...]:
    names = tuple(_LETTERS.get(letter, letter) for letter in gates) if isinstance(gates, str) else tuple(gates)
    if sorted(names) not in (sorted(GATES), sorted(GATES[1:])):
        raise ValueError(f"gates must hold each of {', '.join(GATES)} once (input may be left out), got {list(names)}")
    return names


def _declared_composite(
    function: Callable[..., Any], declared: dict[str, str], gates: tuple[str, ...], attributes: dict[str, Any]
) -> Callable[..., Any]:
    signature = inspect.signature(function)
    known = ("input", *_STATES, *PACKED_KINDS, *WEIGHT_OPERANDS)
    name = getattr(function, "__name__", "composite")
    if list(declared) != list(signature.parameters) and set(declared) != set(signature.parameters):
        raise ValueError(f"{name} takes {list(signature.parameters)}, and operands declares {list(declared)}")
    unknown = sorted(set(declared.values()) - set(known))
    if unknown or len(set(declared.values())) < len(declared):
        raise ValueError(f"operands of {name} must be different ones of {', '.join(known)}; unknown: {unknown}")
    argument = {kind: each for each, kind in declared.items()}
    if "input" not in argument or len({"h", "c"} & set(argument)) == 1:
        raise ValueError(f"{name} needs an argument that is the input, and both or none of h and c")
    if attributes["carry"] and "h" in argument:
        raise ValueError(f"{name} carries its state, so it cannot also start from h and c")
    weights = [kind for kind in argument if kind not in ("input", *_STATES)]
    arguments = [argument[kind] for kind in ("input", *weights, *(state for state in _STATES if state in argument))]

    def body(*tensors: Any) -> Any:
        return function(**dict(zip(arguments, tensors, strict=True)))

    marked = marks.mark(body, LSTM_COMPOSITE, layer=name, weights=",".join(weights), **attributes)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        tensors = [tf.convert_to_tensor(bound.arguments[each]) for each in arguments]
        shapes = dict(zip(arguments, (tensor.shape for tensor in tensors), strict=True))
        sizes = _checked_sizes(name, shapes, argument, weights, gates, attributes["gate_axis"])
        outputs, *others = tf.nest.flatten(marked(*tensors))
        expected = [*tensors[0].shape[:-1], sizes.get("outputs")]
        if not outputs.shape.is_compatible_with(expected):
            raise ValueError(f"{name} must return outputs of shape {expected}, got {outputs.shape.as_list()}")
        outputs = tf.ensure_shape(outputs, expected)
        return (outputs, *others) if others else outputs

    return call


def _checked_sizes(
    name: str,
    shapes: Mapping[str, Any],
    argument: Mapping[str, str],
    weights: Sequence[str],
    gates: Sequence[str],
    gate_axis: int,
) -> dict[str, int]:
    for each, shape in shapes.items():
        if shape.rank is None:
            raise ValueError(f"{name}: argument {each} has no known rank, and the op needs one; set its shape")
    packed = {kind: shapes[argument[kind]].as_list() for kind in weights}
    names = {kind: f"{name}: argument {argument[kind]}" for kind in weights}
    sizes = Packing(gates=tuple(gates), gate_axis=gate_axis).sizes(packed, names)
    x = shapes[argument["input"]].as_list()
    if len(x) not in (2, 3) or sizes.get("inputs") not in (None, x[-1]):
        wanted = [None, None, sizes.get("inputs")]
        raise ValueError(f"{name}: argument {argument['input']} must have shape {wanted}, got {x}")
    for state, size in (("h", "outputs"), ("c", "units")):
        if state in argument and not shapes[argument[state]].is_compatible_with([None, sizes.get(size)]):
            given, wanted = shapes[argument[state]].as_list(), [None, sizes.get(size)]
            raise ValueError(f"{name}: argument {argument[state]} must have shape {wanted}, got {given}")
    return sizes


def _keras_composite(function: Callable[..., Any], *, time_major: bool, go_backwards: bool) -> Callable[..., Any]:
    signature = inspect.signature(function)
    name = getattr(function, "__name__", "composite")
    if len(signature.parameters) != len(KERAS_INTERFACE):
        raise ValueError(
            f"{name} takes {list(signature.parameters)}; with the Keras interface it takes {list(KERAS_INTERFACE)}"
        )

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
        parameters = dict(zip(KERAS_INTERFACE, signature.parameters, strict=True))
        shapes = dict(zip(signature.parameters, (tensor.shape for tensor in tensors), strict=True))
        _checked_sizes(name, shapes, parameters, KERAS_INTERFACE[3:], GATES, -1)
        last, outputs, *_ = marked(*tensors)
        return last, outputs

    return call
