"""`convert`: from a Keras model to a checked `.tflite` file with fused LSTM ops."""

from __future__ import annotations

import dataclasses
import functools
import logging
import os
import re
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from lstm_toolkit.conversion import choice as choice_conversion
from lstm_toolkit.conversion import parity
from lstm_toolkit.conversion import target as target_conversion
from lstm_toolkit.conversion.report import Conversion, ConversionReport
from lstm_toolkit.errors import ConversionError
from lstm_toolkit.passes import bidirectional as bidirectional_pass
from lstm_toolkit.passes import graft, reset, stock_lstm, transposes
from lstm_toolkit.passes.plain.lower import lower_model
from lstm_toolkit.passes.plain.recurrence import FORMS
from lstm_toolkit.quantization import quantize as quantization_module
from lstm_toolkit.quantization.samples import Samples, check_early, read_samples
from lstm_toolkit.runtime.runner import Runner
from lstm_toolkit.runtime.targets import TARGETS
from lstm_toolkit.sources.source import trace
from lstm_toolkit.sources.traced import LayerReport, TraceOptions
from lstm_toolkit.stock.converter import run_converter
from lstm_toolkit.stock.worker import convert_elsewhere
from lstm_toolkit.tflite import files, graph, recurrent

if TYPE_CHECKING:
    from lstm_toolkit.sources.traced import TracedModel

logger = logging.getLogger("lstm_toolkit")


def convert(
    model: Any,
    *,
    input_signature: Any = None,
    batch_size: int | None = None,
    time_steps: int | None = None,
    lowering: str = "fused",
    state: str = "auto",
    bidirectional: str = "fused",
    quantization: str | None = None,
    representative_dataset: Any = None,
    io_dtype: str = "float32",
    time_major: bool = False,
    on_unsupported: str = "raise",
    max_error: float | None = None,
    time_budget: float = 30.0,
    target: str | None = None,
    verify: bool = True,
) -> Conversion:
    """Converts a model to a `.tflite` file in which every LSTM is a fused op, or plain ops.

    Args:
        model: a Keras 3 or tf_keras model or layer; the path of a `.keras` or `.h5` file, which is loaded in Keras's
            safe mode; an RNN or cell of `lstm_toolkit.lingvo` (a cell gives a file for one step, whose state carries);
            a function, or a callable `tf.Module`, of TensorFlow ops with Keras layers, a `lingvo.RNN` or functions
            marked by `composite` in it; bare weights, which are a `GateWeights`, a list of layers (each one of them,
            or a pair of both directions), or a `torch.nn.LSTM`; the folder of a SavedModel, or a concrete function,
            that was traced under `fusable_lstms`, by tf_keras, or with such functions.
        input_signature: a `tf.TensorSpec` an input, in the structure of the model's input, for a model that does not
            know its own (a subclassed model, a layer). Their names become the names of the inputs.
        batch_size: None keeps the model's own, and 1 where that is None; a fused op needs a fixed batch.
        time_steps: None keeps the model's own; dynamic time stays dynamic.
        lowering: "fused": every LSTM and simple RNN is a fused op. "unrolled": they, and GRUs and layers with other
            activations, are plain ops without variable tensors, step after step; the time must be fixed. "loop": the
            same as a loop over time. Only such files run on LiteRT's `CompiledModel`; no state can carry in them.
            "auto": what is fastest on this machine, on one thread. `report.automatic` is the table that it chose from,
            and `Conversion.runner` runs the file on the runtime that it is fastest on.
        state: "reset": every call of the file starts from zero, as a stateless Keras layer does. "carry": a call starts
            where the last one ended, as with stateful=True; `Runner.reset` starts anew. "explicit": h and c are
            inputs and outputs of the file, `NAME_h` and `NAME_c` of each layer. "auto": what each layer says.
            Layers that get an initial_state start from that in any case.
        bidirectional: "fused": both directions of a bidirectional layer are one op; "split": they are two, as they
            always are with quantization="int8".
        quantization: "dynamic": int8 weights, everything else float32, which also suits plain ops; "float16": float16
            weights; "int8": weights, inputs of ops and results are int8, which takes a representative_dataset, fixed
            time, and a fused lowering. The report compares the file with the float32 one.
        representative_dataset: typical inputs to take int8 ranges on: an array [samples, ...] for a model with one
            input, a dict of them by input name, or a function that returns an iterable of samples (or the iterable
            itself), each a list or a dict by input name. Every fifth sample is kept for the comparison.
        io_dtype: "float32", or "int8" with quantization="int8": of the inputs and outputs of the file.
        time_major: the file's sequence inputs and outputs are [time, batch, ...]. Sequences are inputs of rank 3 and
            more, integer or boolean inputs of rank 2, and outputs of rank 3 and more.
        on_unsupported: "raise", or "keep": the stock lowering stands for a recurrent layer that cannot be fused
            exactly, and the report says so.
        max_error: with lowering="auto" and no quantization, the largest error that int8 weights may cause in any
            output, relative to the largest value of that output; None leaves weights float32.
        time_budget: seconds after which lowering="auto" tries no further way.
        target: the runtime that the file is for, which then settles what is left at its default. "litert": the LiteRT
            interpreter. "compiled": LiteRT's `CompiledModel`; layers are plain ops. "micro": TensorFlow Lite Micro;
            directions are split, a coupled input gate gets weights of its own, and where a layer is none that the
            kernel takes, all are a loop of plain ops. With `verify`, the file is also run on the target, where that is
            installed, and compared with the LiteRT interpreter. None: any of them may or may not run it.
        verify: whether to compare the file with the source model, on random inputs, several calls in a row.

    Masks (`Embedding(mask_zero=True)`, `Masking`, `mask=`) are converted for padding on the right: the file takes the
    number of valid steps of a row as its length, for rows of any length, also none. A mask that is known while tracing
    and has padding elsewhere is refused; where a mask comes out of the data, the file treats a row with holes or with
    padding on the left as one whose padding is on the right, and so differs from Keras. (Beware that
    `keras.utils.pad_sequences` pads on the left unless it is told padding="post".)

    Returns:
        The file and the report. Input and output names are the model's own (outputs without names are `output_0`,
        `output_1`, ...). Layers in mixed precision compute in float32, as their weights are.

    Raises:
        ConversionError: if something cannot be converted exactly; names the layer, the reason and the remedy.
        InvalidModelError: if the path is not a Keras model.
        ParityError: if the file computes something else than the model.
        ValueError: for options that do not go together, and a representative_dataset that does not fit.
    """
    options = {name: value for name, value in locals().items() if name not in ("model", "target")}
    _check_options(
        batch_size,
        time_steps,
        state=state,
        bidirectional=bidirectional,
        on_unsupported=on_unsupported,
        lowering=lowering,
    )
    if target not in (None, *TARGETS):
        raise ValueError(f"target must be one of {', '.join(TARGETS)} or None, got {target!r}")
    _check_quantization(quantization, representative_dataset, io_dtype, lowering)
    choice_conversion.check_options(lowering, quantization, max_error, time_budget)
    if target is not None:
        return target_conversion.convert_for(target, functools.partial(convert, model), options)
    logger.info("loading TensorFlow")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    trace_options = TraceOptions(
        input_signature=input_signature,
        batch_size=batch_size,
        time_steps=time_steps,
        time_major=time_major,
        state=state,
        on_unsupported=on_unsupported,
        plain=lowering in FORMS,
    )
    merge = bidirectional == "fused" and quantization != "int8"
    if lowering == "auto":
        from lstm_toolkit.conversion.fastest import convert_fastest

        return convert_fastest(
            model,
            trace_options=trace_options,
            merge=merge,
            kind=quantization,
            max_error=max_error,
            time_budget=time_budget,
            verify=verify,
        )
    traced = trace(model, trace_options)
    samples = _samples(traced, representative_dataset) if quantization == "int8" else None
    logger.info("converting")
    tflite, report, carried = lowered(traced, merge=merge, form=lowering)
    if verify:
        logger.info("verifying")
        # A function that is marked to carry its state in the file has none of its own.
        function_carries = traced.layers is None and bool(carried)
        report = dataclasses.replace(report, max_abs_error=parity.verify(tflite, traced, reset=function_carries))
    if quantization is not None:
        tflite, report = _quantized(tflite, report, quantization, samples or random_samples(tflite, traced), io_dtype)
    return Conversion(tflite, report)


def _quantized(
    tflite: bytes, report: ConversionReport, kind: str, samples: Samples, io_dtype: str
) -> tuple[bytes, ConversionReport]:
    logger.info("quantizing")
    done = "calibrating" if kind == "int8" else None
    with click.progressbar(
        length=len(samples), label=done, file=sys.stderr, hidden=done is None or not sys.stderr.isatty()
    ) as bar:
        quantized, errors = quantization_module.quantize(
            tflite,
            kind,
            samples,
            calibrate=kind == "int8",
            io_dtype=io_dtype,
            progress=lambda number: bar.update(number - bar.pos),
        )
    ops = graph.count_operators(files.read_model(quantized))
    return quantized, dataclasses.replace(report, ops=ops, quantization=errors)


def _samples(traced: TracedModel, representative_dataset: Any) -> Samples:
    """The representative dataset, checked against the inputs of the traced model."""
    specs = traced.function.inputs[: len(traced.input_names)]
    shapes = [[size or -1 for size in spec.shape] for spec in specs]
    still_open = [name for name, shape in zip(traced.input_names, shapes, strict=True) if -1 in shape]
    if still_open:
        raise ConversionError(f"inputs {still_open} have open sizes, and int8 needs fixed ones; pass time_steps")
    dtypes = [spec.dtype.as_numpy_dtype for spec in specs]
    return read_samples(representative_dataset, traced.input_names, shapes, dtypes)


def random_samples(tflite: bytes, traced: TracedModel, count: int = 8) -> Samples:
    """Random inputs to compare a quantized file with the float one on."""
    random, shapes = np.random.default_rng(0), Runner(tflite).input_shapes
    names = traced.input_names
    fixed = [[parity.DYNAMIC_SIZES[0] if size < 0 else size for size in shapes[name]] for name in names]
    dtypes = [spec.dtype.as_numpy_dtype for spec in traced.function.inputs[: len(names)]]
    return [dict(zip(names, traced.random_inputs.draw(random, fixed, dtypes), strict=True)) for _ in range(count)]


_CHOICES = {
    "lowering": ("fused", *FORMS, "auto"),
    "state": ("auto", "reset", "carry", "explicit"),
    "bidirectional": ("fused", "split"),
    "on_unsupported": ("raise", "keep"),
}


def _check_options(batch_size: int | None, time_steps: int | None, **choices: str) -> None:
    for name, value in (("batch_size", batch_size), ("time_steps", time_steps)):
        if value is not None and (type(value) is not int or value < 1):
            raise ValueError(f"{name} must be a positive integer or None, got {value!r}")
    for name, choice in choices.items():
        if choice not in _CHOICES[name]:
            raise ValueError(f"{name} must be one of {', '.join(_CHOICES[name])}, got {choice!r}")


def _check_quantization(kind: str | None, representative_dataset: Any, io_dtype: str, lowering: str) -> None:
    if kind not in (None, *quantization_module.KINDS):
        raise ValueError(f"quantization must be one of {', '.join(quantization_module.KINDS)} or None, got {kind!r}")
    if io_dtype not in quantization_module.IO_DTYPES:
        raise ValueError(f"io_dtype must be float32 or int8, got {io_dtype!r}")
    if kind != "int8":
        if io_dtype != "float32":
            raise ValueError('io_dtype="int8" needs quantization="int8"')
        if representative_dataset is not None:
            raise ValueError('representative_dataset is for quantization="int8"')
        return
    if lowering != "fused":
        raise ValueError(
            f'quantization="int8" needs lowering="fused": the plain ops of lowering={lowering!r} would keep the cell '
            'state in 8 bits; pass quantization="dynamic"'
        )
    check_early(representative_dataset)


def lowered(traced: TracedModel, *, merge: bool, form: str) -> tuple[bytes, ConversionReport, frozenset[str]]:
    """Runs TensorFlow's converter on the traced model, and the passes on the file that it gives.

    Returns:
        The file, whose recurrent layers are fused ops or plain ones in a form; the report; and the states it carries.

    Raises:
        ConversionError: if there is no recurrent layer, or something stands in the way.
    """
    try:
        model = files.read_model(_stock_conversion(traced))
    except ConversionError as error:
        if traced.layers is None and "TensorList" in str(error):
            raise ConversionError(
                f"the function holds its recurrent layers as loops over an open batch, {_LOOPS}"
            ) from error
        raise
    stock_lstm.remove_clip(model)
    stock_lstm.unshare_states(model)
    stock_lstm.name_states(model)
    # Only in a function, whose marks were set before its batch was fixed, can the batch be unknown and yet settled.
    grafted = graft.graft(model, batch=traced.batch if traced.layers is None else None)
    transposes.sink_transposes(model)
    fused = form == "fused"
    merged = bidirectional_pass.merge_bidirectional(model) if merge and fused else {}
    reset.reset_states(model, keep=grafted.carried)
    forms = target_conversion.wanted()
    forms.prepare(model)
    form = forms.plain_form(model, form)
    plain = {} if fused else lower_model(model, form=form, steps_per_turn=forms.steps_per_turn)
    became = grafted.ops if fused else plain
    missing = [each.name for each in traced.layers or () if not each.reason and not _parts(each.name, became)]
    if missing:
        raise ConversionError(f"layers {missing} did not reach the file: no output depends on theirs")
    _name_inputs(model, traced.input_names)
    ops = graph.count_operators(model)
    foreign = sorted(set(ops) - set(vars(schema.BuiltinOperator)))
    if foreign:
        raise ConversionError(
            f"TensorFlow Lite has no op for {foreign}, which other layers of the model use; replace these layers"
        )
    if traced.layers is not None:
        final = merged if fused else {each.name: form for each in traced.layers if not each.reason}
        layers = tuple(dataclasses.replace(each, op=final.get(each.name, each.op)) for each in traced.layers)
    else:
        layers = tuple(LayerReport(*each, form) for each in plain.items()) or _layers_of(model)
        _settle_batch(model, traced.batch)
    if not layers:
        raise ConversionError(
            f"model {traced.name!r} calls no LSTM, so there is nothing to fuse; convert it with tf.lite.TFLiteConverter"
        )
    files.sign(model)
    return files.write_model(model), ConversionReport(layers, ops, None), grafted.carried


def _layers_of(model: Any) -> tuple[LayerReport, ...]:
    """The fused layers of a file that was made of a function.

    Raises:
        ConversionError: if there is none, but a loop.
    """
    names: list[str] = []
    layers = []
    for subgraph in model.subgraphs:
        for op in subgraph.operators:
            for state in recurrent.state_tensors(model, op)[:1]:
                op_name = graph.operator_name(model, op)
                names.append(recurrent.layer_of(subgraph.tensors[state]))
                layers.append(LayerReport(names[-1], "LSTM" if "LSTM" in op_name else "SimpleRNN", op_name))
    if not layers and graph.count_operators(model)["WHILE"]:
        raise ConversionError(f"the function holds its recurrent layers as loops, {_LOOPS}")
    return tuple(layers)


_LOOPS = (
    "so that they cannot be recognized any more; trace or export it again inside `with lstm_toolkit.fusable_lstms():`, "
    "or convert the Keras model itself (a function that tf_keras traced needs a fixed batch from the start); an LSTM "
    "of your own is to be marked by lstm_toolkit.composite"
)


def _settle_batch(model: Any, batch: int | None) -> None:
    """Writes the batch into the shapes of the outputs, where the function had left it open."""
    main = model.subgraphs[0]
    for tensor in (main.tensors[index] for index in main.outputs):
        if batch is not None and tensor.shapeSignature is not None and tensor.shapeSignature[0] < 0:
            tensor.shape[0] = tensor.shapeSignature[0] = batch


def _parts(layer: str, ops: Mapping[str, str]) -> list[str]:
    """The ops of a layer: one under its own name, or one for each of its stacked cells."""
    return [name for name in ops if name == layer or re.fullmatch(re.escape(layer) + r"_cell\d+", name)]


def _stock_conversion(traced: TracedModel) -> bytes:
    import tensorflow as tf

    if traced.layers is None:
        return convert_elsewhere(traced.function, traced.trackable)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([traced.function], traced.trackable)
    converter.allow_custom_ops = True
    return run_converter(converter)


def _name_inputs(model: Any, names: tuple[str, ...]) -> None:
    """Gives the inputs the model's own names, which may hold characters that a traced function cannot have."""
    for signature in model.signatureDefs:
        tensors = model.subgraphs[signature.subgraphIndex].tensors
        for entry in signature.inputs:
            name = names[int(graph.text(entry.name).removeprefix("input_"))]
            entry.name = name.encode()
            tensors[entry.tensorIndex].name = f"serving_default_{name}:0".encode()
