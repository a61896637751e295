"""Reads off a file whether a runtime takes it. Each fact here has a test that asks the runtime itself.

TensorFlow Lite Micro's LSTM kernel refuses the variants of the op when memory is allocated (`ValidateTensorStatus` in
`lstm_eval.cc`). It runs two kinds of files wrongly and without a word: int8 weights beside float inputs, which it reads
as floats, and an LSTM with another cell activation than tanh, for which it computes tanh or nothing.
"""

from collections.abc import Iterator
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from lstm_toolkit.tflite import graph
from lstm_toolkit.tflite.recurrent import RecurrentOp, is_read_behind, recurrent_ops, states_are_given
from lstm_toolkit.tflite.types import Model
from lstm_toolkit.weights.operands import (
    ABSENT,
    BIASES,
    INPUT_WEIGHTS,
    LAYER_NORM_COEFFICIENTS,
    OPERANDS,
    PEEPHOLE_WEIGHTS,
    RECURRENT_WEIGHTS,
    STATES,
)

TARGETS = ("litert", "compiled", "micro")
"""The LiteRT interpreter, LiteRT's `CompiledModel`, and TensorFlow Lite Micro."""

_MICRO_OPS_TEXT = """
    ABS ADD ADD_N ARG_MAX ARG_MIN ASSIGN_VARIABLE AVERAGE_POOL_2D BATCH_MATMUL BATCH_TO_SPACE_ND BROADCAST_ARGS
    BROADCAST_TO CALL_ONCE CAST CEIL CONCATENATION CONV_2D COS CUMSUM DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE
    DIV DYNAMIC_UPDATE_SLICE ELU EMBEDDING_LOOKUP EQUAL EXP EXPAND_DIMS FILL FLOOR FLOOR_DIV FLOOR_MOD
    FULLY_CONNECTED GATHER GATHER_ND GREATER GREATER_EQUAL HARD_SWISH IF L2_NORMALIZATION L2_POOL_2D LEAKY_RELU LESS
    LESS_EQUAL LOG LOGICAL_AND LOGICAL_NOT LOGICAL_OR LOGISTIC LOG_SOFTMAX MAXIMUM MAX_POOL_2D MEAN MINIMUM
    MIRROR_PAD MUL NEG NOT_EQUAL PACK PAD PADV2 PRELU QUANTIZE READ_VARIABLE REDUCE_ALL REDUCE_MAX REDUCE_MIN RELU
    RELU6 RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR REVERSE_V2 ROUND RSQRT SELECT_V2 SHAPE SIN SLICE SOFTMAX
    SPACE_TO_BATCH_ND SPACE_TO_DEPTH SPLIT SPLIT_V SQRT SQUARE SQUARED_DIFFERENCE SQUEEZE STRIDED_SLICE SUB SUM SVDF
    TANH TRANSPOSE TRANSPOSE_CONV UNIDIRECTIONAL_SEQUENCE_LSTM UNPACK VAR_HANDLE WHILE ZEROS_LIKE
"""
MICRO_OPS = frozenset(_MICRO_OPS_TEXT.split())
"""Builtin ops that the interpreter of TensorFlow Lite Micro has (PyPI package `tflite-micro`)."""

MICRO_LSTM = "UNIDIRECTIONAL_SEQUENCE_LSTM"
"""The one recurrent op that TensorFlow Lite Micro has."""

_FLOAT_AND_INTEGER = ("FULLY_CONNECTED", "CONV_2D", "DEPTHWISE_CONV_2D", MICRO_LSTM)
"""Ops whose kernels in LiteRT also take int8 weights beside float inputs."""


def why_not_lstm(op: RecurrentOp) -> str | None:
    """Why TensorFlow Lite Micro's kernel does not compute a `MICRO_LSTM` as LiteRT does; None if it does."""
    if len(op.operator.inputs) != len(OPERANDS):
        return f"the op has {len(op.operator.inputs)} operands, and the kernel takes {len(OPERANDS)}"
    there = op.operands.keys()
    if op.is_coupled:
        return "its input gate is coupled to the forget gate, and the kernel computes only one of its own"
    variants = {
        "peephole weights": PEEPHOLE_WEIGHTS,
        "a projection": ("projection_weights", "projection_bias"),
        "layer normalization": LAYER_NORM_COEFFICIENTS,
    }
    for variant, names in variants.items():
        if there & set(names):
            return f"it has {variant}, which the kernel does not compute"
    missing = [name for name in ("input", *INPUT_WEIGHTS, *RECURRENT_WEIGHTS, *BIASES, *STATES) if name not in there]
    if missing:
        return f"it has no {missing[0]}, which the kernel asks for"
    if len(graph.shape_of(op.tensor("recurrent_to_output_weights"))) != 2:
        return "its recurrent weights are diagonals, and the kernel takes matrices"
    if len(graph.shape_of(op.tensor("input"))) != 3:
        return "its input has no time axis, and the kernel takes sequences"
    if getattr(op.options, "fusedActivationFunction", None) != schema.ActivationFunctionType.TANH:
        return "its cell activation is not tanh, which the kernel computes all the same"
    return None


def micro_lstms(model: Model) -> Iterator[tuple[RecurrentOp, str]]:
    """Yields op and reason for each LSTM of a `ModelT` that `why_not_lstm` refuses."""
    for op in recurrent_ops(model):
        reason = why_not_lstm(op) if op.name == MICRO_LSTM else None
        if reason:
            yield op, reason


def why_not_int16_lstm(op: RecurrentOp) -> str | None:
    """Why a float `MICRO_LSTM` that the kernel takes cannot be 16x8 there; None if it can."""
    if op.shuts_gates:
        return "it shuts its gates at padded steps by weights of 1e4, beside which the others vanish in 8 bits"
    if any(is_read_behind(op, state) for state in op.states):
        return "its last state is given on, and nothing there reads it in int16"
    if states_are_given(op):
        return "its state is given from outside, and nothing there sets it in int16"
    return None


def int16_lstms(model: Model) -> Iterator[RecurrentOp]:
    """Yields the LSTMs of a `ModelT` with int16 inputs and int8 weights, for which Micro alone has a kernel."""
    for op in recurrent_ops(model):
        if op.name == MICRO_LSTM and op.tensor("input").type == schema.TensorType.INT16:
            yield op


def hybrids(model: Model) -> Iterator[tuple[Any, Any]]:
    """Yields subgraph and op for each op with int8 weights beside a float input, which Micro refuses or gets wrong."""
    for subgraph in model.subgraphs:
        for operator in subgraph.operators:
            if graph.operator_name(model, operator) not in _FLOAT_AND_INTEGER:
                continue
            kinds = [subgraph.tensors[index].type for index in operator.inputs if index != ABSENT]
            if kinds[:1] == [schema.TensorType.FLOAT32] and schema.TensorType.INT8 in kinds:
                yield subgraph, operator


def open_inputs(model: Model) -> list[str]:
    """Names of the inputs of a `ModelT` with an open size, for which Micro takes whatever number stands in the file."""
    main = model.subgraphs[0]
    return [graph.text(main.tensors[index].name) for index in main.inputs if -1 in graph.shape_of(main.tensors[index])]


def has_float16(model: Model) -> bool:
    """Whether a `ModelT` holds float16, for which Micro has no kernels."""
    return any(t.type == schema.TensorType.FLOAT16 for subgraph in model.subgraphs for t in subgraph.tensors)
