"""One plan, from the model to the checked file: source, stock file, passes, finish, verify, quantize, report."""

import dataclasses
import functools
import logging
import sys
from collections.abc import Callable, Mapping
from typing import Any

import click
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from lstm_toolkit.conversion.float_file import OUTSIDE, FloatFile, random_samples
from lstm_toolkit.conversion.owners import kept_in_function, refuse_foreign, refuse_loops
from lstm_toolkit.conversion.plans import UNROLLED_STEPS, Plan
from lstm_toolkit.conversion.report import Conversion, ConversionReport
from lstm_toolkit.conversion.request import Request
from lstm_toolkit.conversion.stock_file import stock_file
from lstm_toolkit.errors import ConversionError
from lstm_toolkit.passes import bidirectional, graft, reset, stock_lstm, transposes
from lstm_toolkit.passes.for_micro import suit_micro
from lstm_toolkit.passes.micro_ops import use_micro_ops
from lstm_toolkit.passes.plain.lower import lower_model
from lstm_toolkit.passes.plain.sequence import emit
from lstm_toolkit.passes.unrolled.fuse import UnrolledOutcome, fuse_unrolled, unrolled_outcomes
from lstm_toolkit.quantization.forms import FloatForms
from lstm_toolkit.quantization.quantize import CALIBRATED, quantize
from lstm_toolkit.quantization.samples import Samples, read_samples
from lstm_toolkit.runtime.first_run import first_run
from lstm_toolkit.sources.keras_files import backend_of
from lstm_toolkit.sources.source import trace
from lstm_toolkit.sources.traced import NOT_IN_THE_FILE, LayerReport, StockFile, TracedModel, TraceOptions
from lstm_toolkit.tflite import files, graph
from lstm_toolkit.tflite.recurrent import recurrent_ops
from lstm_toolkit.tflite.types import Model
from lstm_toolkit.weights.operands import CELL_COMPOSITE, OPERANDS_OF

logger = logging.getLogger("lstm_toolkit")


def run_plan(model: Any, request: Request, plan: Plan) -> Conversion:
    """Converts a model by a plan.

    Raises:
        ConversionError, InvalidModelError, ParityError, ValueError: as `convert`.
    """
    traced, samples = trace_for(model, request, plan)
    logger.info("converting")
    file = lowered(traced, plan)
    report = file.report
    if request.verify:
        logger.info("verifying")
        report = dataclasses.replace(report, checked=file.verify(samples))
    else:
        first_run(file.tflite, remedy=OUTSIDE)
    if request.quantization is None and not request.calibrates:
        return Conversion(file.tflite, report)
    logger.info("quantizing")
    compared = samples if request.calibrates else random_samples(file)
    return _quantized(dataclasses.replace(file, report=report), request, compared)


def trace_for(model: Any, request: Request, plan: Plan) -> tuple[TracedModel, Samples]:
    """Traces a model as a plan needs it; reads the representative dataset, beyond whose range no input is drawn."""
    options = TraceOptions(
        input_signature=request.input_signature,
        batch_size=request.batch_size,
        time_steps=request.time_steps,
        time_major=request.time_major,
        state=request.state,
        on_unsupported=plan.on_unsupported,
        plain=plan.is_plain,
        merge=plan.merge and not plan.is_plain,
        for_micro=request.target == "micro",
    )
    traced = _traced(model, options)
    if request.representative_dataset is None:
        return traced, []
    samples = _representative_samples(traced, request)
    columns = [[each[name] for each in samples] for name in traced.input_names]
    limits = tuple(
        None if arrays[0].dtype.kind not in "fiu" else (min(map(np.min, arrays)), max(map(np.max, arrays)))
        for arrays in columns
    )
    random_inputs = dataclasses.replace(traced.random_inputs, limits=limits)
    return dataclasses.replace(traced, random_inputs=random_inputs), samples


def _traced(model: Any, options: TraceOptions) -> TracedModel:
    if backend_of(model) is None:
        return trace(model, options)
    from lstm_toolkit.conversion.other_backends import trace_elsewhere

    return trace_elsewhere(model, options)


@dataclasses.dataclass
class _Work:
    """A file on its way through the passes.

    Attributes:
        model: the file.
        traced: what the stock converter made it of.
        plan: which form its layers get.
        form: "fused", "unrolled" or "loop".
        became: the op, or for plain ops the class, of each layer by name.
        unrolled: the file with its layers unrolled, where the plan needs both.
        whole: the file before its layers were lowered, where the plan needs both.
        merged: the layers that became half of a bidirectional op.
        carried: the layers whose state the file carries.
        cells: what was called step by step, and became an op or did not.
    """

    model: Model
    traced: TracedModel
    plan: Plan
    form: str
    became: Mapping[str, str] = dataclasses.field(default_factory=dict)
    unrolled: Model | None = None
    whole: Model | None = None
    merged: Mapping[str, str] = dataclasses.field(default_factory=dict)
    carried: frozenset[str] = frozenset()
    cells: tuple[LayerReport, ...] = ()

    @property
    def models(self) -> tuple[Model, ...]:
        """The file in all its forms."""
        return tuple(each for each in (self.model, self.unrolled, self.whole) if each is not None)


def _on_model(run: Callable[[Model], object]) -> Callable[[_Work], object]:
    return functools.wraps(run)(lambda work: run(work.model))


def _graft(work: _Work) -> None:
    # Only in a function, whose marks were set before its batch was fixed, can the batch be unknown and yet settled.
    grafted = graft.graft(work.model, batch=work.traced.batch if work.traced.layers is None else None)
    work.became, work.carried = grafted.ops, grafted.carried


def _fuse_unrolled(work: _Work) -> None:
    if not _is_of_litert_torch(work.traced):
        return
    stay = work.plan.lowering == "unrolled" or work.plan.integers
    outcomes = (unrolled_outcomes if stay else fuse_unrolled)(work.model)
    work.became = {**work.became, **{each.name: each.op for each in outcomes if each.op and not stay}}
    work.cells = tuple(_cell_report(each, stays=stay or each.op is None) for each in outcomes)


def _cell_report(outcome: UnrolledOutcome, *, stays: bool) -> LayerReport:
    """What is said of a cell that a module calls step by step."""
    op = "unrolled" if stays else "loop" if outcome.op == "WHILE" else outcome.op or ""
    reason = outcome.reason or ("the module calls it step by step" if stays else None)
    reason = f"there is no fused op for {outcome.kind}" if op == "loop" else reason
    return LayerReport(outcome.name, f"{outcome.kind.split()[-1]}Cell", op, reason)


def _is_of_litert_torch(traced: TracedModel) -> bool:
    return isinstance(traced.function, StockFile) and traced.function.converter == "litert-torch"


def _merge_directions(work: _Work) -> None:
    if work.plan.merge and not work.plan.is_plain:
        work.merged = bidirectional.merge_bidirectional(work.model)


def _reset_states(work: _Work) -> None:
    reset.reset_states(work.model, keep=work.carried)


def _suit_micro(work: _Work) -> None:
    if work.plan.for_micro and not work.plan.is_plain:
        suit_micro(work.model, integers=work.plan.integers)


def _lower(work: _Work) -> None:
    if work.plan.by_length:
        work.form = "unrolled" if all(0 < steps <= UNROLLED_STEPS for steps in _steps(work.model)) else "loop"
    alike = work.plan.integers
    if alike and work.form == "loop":
        work.unrolled = files.read_model(files.write_model(work.model))
        lower_model(work.unrolled, form="unrolled", alike=True)
    if alike:
        work.whole = files.read_model(files.write_model(work.model))
    if work.plan.is_plain:
        work.became = lower_model(work.model, form=work.form, steps_per_turn=work.plan.steps_per_turn, alike=alike)
    else:
        # A PyTorch module may have GRUs beside its LSTMs.
        lower_model(work.model, form="loop", cells_only=True)


def _use_micro_ops(work: _Work) -> None:
    for model in work.models if work.plan.for_micro else ():
        use_micro_ops(model)


PASSES: tuple[Callable[[_Work], object], ...] = (
    _on_model(stock_lstm.remove_clip),
    _on_model(stock_lstm.unshare_states),
    _on_model(stock_lstm.name_states),
    _graft,
    _fuse_unrolled,
    _on_model(transposes.sink_transposes),
    _merge_directions,
    _reset_states,
    _suit_micro,
    _lower,
    _use_micro_ops,
)
"""The passes over the stock converter's file, in their order."""


def lowered(traced: TracedModel, plan: Plan) -> FloatFile:
    """Runs TensorFlow's converter on a traced model, and the passes on the file that it gives.

    Raises:
        ConversionError: if there is no recurrent layer, or something stands in the way.
    """
    work = _Work(files.read_model(stock_file(traced)), traced, plan, plan.lowering)
    for run in PASSES:
        run(work)
    for model in work.models:
        _name_inputs(model, traced.input_names)
        files.sign(model)
    ops = graph.count_operators(work.model)
    refuse_foreign(traced, set(ops) - {*vars(schema.BuiltinOperator)})
    if traced.layers is None:
        layers = _layers_of_function(work)
    else:
        layers = _layers_of_model(work, (*traced.layers, *work.cells))
    if not layers:
        if _is_of_litert_torch(traced):
            raise ConversionError(
                f"module {traced.name!r} calls no recurrent layer, so there is nothing to fuse; convert it with "
                "litert_torch.convert"
            )
        raise ConversionError(
            f"model {traced.name!r} calls no LSTM, so there is nothing to fuse; convert it with tf.lite.TFLiteConverter"
        )
    unrolled, whole = (None if each is None else files.write_model(each) for each in (work.unrolled, work.whole))
    tflite, report = files.write_model(work.model), ConversionReport(layers, ops)
    write = functools.partial(emit, form=work.form, steps_per_turn=plan.steps_per_turn)
    return FloatFile(traced, tflite, report, work.carried, unrolled, whole, write)


def _steps(model: Model) -> list[int]:
    """The number of steps of each recurrent op, -1 where it is open."""
    found = []
    for subgraph in model.subgraphs:
        for operator in subgraph.operators:
            if graph.operator_name(model, operator) in (*OPERANDS_OF, CELL_COMPOSITE):
                shape = graph.shape_of(subgraph.tensors[operator.inputs[0]])
                time = 0 if getattr(operator.builtinOptions, "timeMajor", False) else 1
                found.append(1 if len(shape) < 3 else shape[time])
    return found


def _layers_of_model(work: _Work, layers: tuple[LayerReport, ...]) -> tuple[LayerReport, ...]:
    """The layers that were marked, with the ops that they became.

    Raises:
        ConversionError: if one is not in the file.
    """
    taken = [each for each in layers if not each.reason]
    missing = [each.name for each in taken if not any(map(each.owns, work.became))]
    if missing:
        raise ConversionError(f"layers {missing} did not reach the file: no output depends on theirs")
    if layers and all(each.op == NOT_IN_THE_FILE for each in layers):
        raise ConversionError(
            f"no output of model {work.traced.name!r} depends on its recurrent layers "
            f"{[each.name for each in layers]}, so there is nothing to fuse; take them out of the model, and "
            "convert it with tf.lite.TFLiteConverter"
        )
    final = dict.fromkeys((each.name for each in taken), work.form) if work.plan.is_plain else work.merged
    return tuple(dataclasses.replace(each, op=final.get(each.name, each.op)) for each in layers)


def _layers_of_function(work: _Work) -> tuple[LayerReport, ...]:
    """The layers that are in the file of a function, whose batch is written into its outputs.

    Raises:
        ConversionError: if there is none, but a loop.
    """
    main = work.model.subgraphs[0]
    for tensor in (main.tensors[index] for index in main.outputs):
        if work.traced.batch is not None and tensor.shapeSignature is not None and tensor.shapeSignature[0] < 0:
            tensor.shape[0] = tensor.shapeSignature[0] = work.traced.batch
    if work.plan.is_plain and work.became:
        return tuple(LayerReport(*each, work.form) for each in work.became.items())
    found = [(op.layer, op.name) for op in recurrent_ops(work.model)]
    layers = tuple(LayerReport(layer, "LSTM" if "LSTM" in name else "SimpleRNN", name) for layer, name in found)
    if not layers and graph.count_operators(work.model)["WHILE"]:
        refuse_loops(work.traced)
    return layers + tuple(
        LayerReport(name, layer_class, "stock lowering", "it could not be marked when the function was traced")
        for name, layer_class in kept_in_function(work.traced.function).items()
    )


def _name_inputs(model: Model, names: tuple[str, ...]) -> None:
    """Gives the inputs the model's own names, which may hold characters that a traced function cannot have."""
    for signature in model.signatureDefs:
        tensors = model.subgraphs[signature.subgraphIndex].tensors
        for entry in signature.inputs:
            name = names[int(graph.text(entry.name).removeprefix("input_"))]
            entry.name = name.encode()
            tensors[entry.tensorIndex].name = f"serving_default_{name}:0".encode()


def _representative_samples(traced: TracedModel, request: Request) -> Samples:
    """The representative dataset, checked against the inputs of the traced model."""
    shapes = [[-1 if size is None else size for size in spec.shape] for spec in traced.inputs]
    still_open = [name for name, shape in zip(traced.input_names, shapes, strict=True) if -1 in shape]
    if still_open and request.quantization in CALIBRATED:
        raise ConversionError(
            f"inputs {still_open} have open sizes, and {request.quantization} needs fixed ones; pass time_steps, or an "
            "input_signature"
        )
    dtypes = [spec.dtype for spec in traced.inputs]
    samples = read_samples(request.representative_dataset, traced.input_names, shapes, dtypes)
    for name in traced.input_names if request.calibrates else ():
        sizes = sorted({sample[name].shape for sample in samples})
        if len(sizes) > 1:
            raise ValueError(
                f"the samples of representative_dataset have different shapes of input {name!r}, such as "
                f"{list(sizes[0])} and {list(sizes[-1])}; give samples of one shape to take ranges on"
            )
    return samples


def _quantized(file: FloatFile, request: Request, samples: Samples) -> Conversion:
    report, calibrate = file.report, request.calibrates
    kept = [layer.name for layer in report.layers if layer.reason]
    if request.quantization in CALIBRATED and kept and report.ops["WHILE"]:
        raise ConversionError(
            f"layers {kept} cannot be {request.quantization}: their stock lowering is a loop, of which no ranges can "
            'be taken; pass quantization="dynamic" or "float16"'
        )
    bar = click.progressbar(
        length=len(samples), label="calibrating", file=sys.stderr, hidden=not (calibrate and sys.stderr.isatty())
    )
    with bar:
        quantized, errors = quantize(
            FloatForms(file.tflite, file.unrolled, file.whole, file.write),
            request.quantization,
            samples,
            calibrate=calibrate,
            io_dtypes=request.io_dtypes,
            progress=lambda number: bar.update(number - bar.pos),
        )
    ops = graph.count_operators(files.read_model(quantized))
    return Conversion(quantized, dataclasses.replace(report, ops=ops, quantization=errors))
