"""Traces a PyTorch module: `torch.export` and litert-torch make its file, and the module itself is compared with it.

What is called and exported is a copy of the module, in eval mode and float32, so that the module stays as it is.
"""

import contextlib
import copy
import functools
import importlib.util
import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from lstm_toolkit.errors import ConversionError
from lstm_toolkit.passes.torch_marks import name_layers
from lstm_toolkit.process_state import alone, replaced_here
from lstm_toolkit.runtime.random_inputs import RandomInputs
from lstm_toolkit.runtime.scratch import scratch_folder
from lstm_toolkit.sources.array_source import ArraySource, Layout
from lstm_toolkit.sources.keras_files import first_line
from lstm_toolkit.sources.torch_calls import CalledModule
from lstm_toolkit.sources.torch_values import examples_of, to_array
from lstm_toolkit.sources.traced import Arrays, InputSpec, LayerReport, StockFile, TracedModel, TraceOptions
from lstm_toolkit.stock import torch_worker
from lstm_toolkit.tflite import files, graph
from lstm_toolkit.tflite.recurrent import FUSED_OPS
from lstm_toolkit.tflite.types import Model
from lstm_toolkit.weights.operands import LSTM_COMPOSITE, SIMPLE_RNN_COMPOSITE

_OWN = {
    "batch_size": "a PyTorch module's file has the batch of its example inputs; pass others, and leave {} out",
    "time_steps": "a PyTorch module's file has the time steps of its example inputs; pass others, and leave {} out",
    "time_major": "a PyTorch module says itself how its sequences lie; give its layers batch_first=False, and leave {} "
    "out",
}
"""Options that example inputs or the module settle."""

_SCOPE = f"{CalledModule.__module__}.{CalledModule.__qualname__}/"


def trace(model: Any, options: TraceOptions) -> TracedModel:
    """Exports a PyTorch module and has it converted by litert-torch.

    Args:
        model: the `torch.nn.Module`.
        options: how; the signature are example inputs, as `examples_of` takes them.

    Raises:
        ConversionError: if it cannot be exported or converted, or not with these options.
    """
    for name, reason in _OWN.items():
        if getattr(options, name):
            raise ConversionError(reason.format(name))
    if not is_installed():
        raise ConversionError(
            'a PyTorch module is converted by litert-torch, which is not installed; pip install "lstm_toolkit[torch]"'
        )
    torch_worker.start()
    name = type(model).__name__
    module = _copied(model)
    examples = examples_of(module, options.input_signature)
    with alone(), torch.no_grad():
        buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
        called = CalledModule(module, examples, options.state)
        _check_calls(called, options)
        changed = [name for name, buffer in module.named_buffers() if not torch.equal(buffer, buffers[name])]
        if changed:
            raise _changing(name, changed[0])
        tensors = [*examples.tensors.values(), *called.zeros.values()]
        program = _exported(called, tensors, name)
    _check_program(program, name)
    with scratch_folder() as folder:
        path = Path(folder) / "program.pt2"
        torch.export.save(program, path)
        answer = torch_worker.converted({"path": str(path)})
    if isinstance(answer, dict):
        raise _refusal(answer, name)
    model_in_file = files.read_model(answer)
    inputs = _name_values(model_in_file, called.outputs)
    names = (*examples.tensors, *called.zeros)
    nothing: Any = None
    layers = tuple(_report(layer, kind, options) for layer, kind in name_layers(model_in_file).items())
    return TracedModel(
        name=name,
        batch=None,
        function=StockFile(files.write_model(model_in_file), (), "litert-torch"),
        trackable=nothing,
        input_names=names,
        inputs=tuple(InputSpec(shape, dtype, name) for name, (shape, dtype) in zip(names, inputs, strict=True)),
        layers=layers,
        source=TorchSource(called, tensors),
        random_inputs=_random_inputs(module, tensors),
    )


def is_installed() -> bool:
    """Whether litert-torch is there."""
    return importlib.util.find_spec("litert_torch") is not None


def _copied(model: Any) -> Any:
    """The module again, in eval mode, in float32 and on the processor.

    Raises:
        ConversionError: if it cannot be copied, or is one of TorchScript.
    """
    model = getattr(model, "_orig_mod", model)  # of what torch.compile returns
    if isinstance(model, torch.jit.ScriptModule):
        raise ConversionError(
            f"{type(model).__name__} is a module of TorchScript, which torch.export does not take; pass the module "
            "that it was made of"
        )
    try:
        module = copy.deepcopy(model)
    except Exception as error:  # whatever a module's own attributes raise
        raise ConversionError(
            f"{type(model).__name__} cannot be copied, which keeps it as it is: {first_line(str(error))}; let its "
            "attributes be parameters, buffers, modules and plain values"
        ) from error
    # The module of an ExportedProgram has no other mode than the one that it was exported in.
    with contextlib.suppress(NotImplementedError):
        module.eval()
    return module.cpu().float()


def _exported(called: CalledModule, tensors: Sequence[Any], name: str) -> Any:
    assigned: list[str] = []
    called.marks = True
    try:
        with replaced_here({(warnings, "warn"): functools.partial(_without_assignments, assigned)}):
            program = torch.export.export(called, tuple(tensors), strict=False)
    except ConversionError:
        raise
    except Exception as error:  # whatever PyTorch and the module's own code raise
        raise ConversionError(
            f"torch.export cannot trace {name}: {first_line(str(error))}; let no branch and no shape in its forward "
            "depend on what its inputs hold"
        ) from error
    finally:
        called.marks = False
    if assigned:
        raise _changing(name, assigned[0].removeprefix("module."))
    return program


def _changing(name: str, attribute: str) -> ConversionError:
    return ConversionError(
        f"{name} changes its {attribute!r} at each call, which a file cannot keep; make that an input and an output of "
        "forward"
    )


def _without_assignments(assigned: list[str], warn: Callable[..., None]) -> Callable[..., None]:
    """Makes a `warnings.warn` that collects what torch.export says of attributes which a call assigns."""

    def warned(message: Any, *args: Any, **kwargs: Any) -> None:
        names = re.findall(r"self\.(module[\w.]*)", str(message))
        if "assigned during export" not in str(message):
            warn(message, *args, **kwargs)
        # A recurrent layer keeps its parameters in a list beside their names, which follows them.
        assigned.extend(each for each in names if not each.endswith("._flat_weights"))

    return warned


def _check_calls(called: CalledModule, options: TraceOptions) -> None:
    """Refuses states that no file can carry."""
    for call in called.calls if options.state == "carry" else ():
        if options.plain or call.layer.mode == "GRU":
            raise ConversionError(
                f"layer {call.name!r} ({type(call.layer).__name__}) carries its state from call to call, and plain ops "
                'cannot; pass state="explicit"'
            )
        if sum(each.layer is call.layer for each in called.calls) > 1:
            raise ConversionError(
                f"layer {call.name!r} carries its state and is called more than once, so that one call goes on from "
                'where another ended; pass state="explicit"'
            )


def _check_program(program: Any, name: str) -> None:
    """Refuses a program that draws random numbers."""
    for node in program.graph.nodes:
        if torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ()) and _draws(node):
            raise ConversionError(
                f"{name} draws random numbers ({node.target}), so that its results differ from call to call; let it "
                "draw none in eval mode (F.dropout(x, p, self.training)), or make them an input"
            )


def _draws(node: Any) -> bool:
    """Whether an op that can draw random numbers does."""
    options = dict(zip((each.name for each in node.target._schema.arguments), node.args, strict=False)) | node.kwargs
    return bool(options.get("train", True))


def _refusal(failure: torch_worker.Failure, name: str) -> ConversionError:
    where = f"module {failure['owner']!r} of {name}" if failure["owner"] else name
    return ConversionError(
        f"litert-torch cannot convert {where} ({failure['kind']}: {first_line(failure['message'])}); take that out of "
        "the module, and compute it outside of the file"
    )


def _name_values(model: Model, outputs: Sequence[str]) -> list[tuple[tuple[int, ...], np.dtype[Any]]]:
    """Numbers the inputs of a file of litert-torch, and names its outputs; returns shape and type of each input."""
    # With this mark, TensorFlow's quantizer leaves LSTMs float.
    model.metadata = [each for each in model.metadata or () if graph.text(each.name) != "keep_stablehlo_constant"]
    (signature,) = model.signatureDefs
    tensors = model.subgraphs[signature.subgraphIndex].tensors
    for entry in signature.outputs:
        entry.name = outputs[int(graph.text(entry.name).rpartition("_")[2])].encode()
    for tensor in tensors:
        tensor.name = graph.text(tensor.name).removeprefix(_SCOPE).encode()
    found = {}
    for entry in signature.inputs:
        number = int(graph.text(entry.name).rpartition("_")[2])
        entry.name = f"input_{number:04d}".encode()
        tensor = tensors[entry.tensorIndex]
        found[number] = tuple(graph.shape_of(tensor)), np.dtype(graph.DTYPES[tensor.type])
    return [found[number] for number in sorted(found)]


def _report(layer: str, kind: str, options: TraceOptions) -> LayerReport:
    """What is known of a layer before the passes.

    Raises:
        ConversionError: for a GRU where all layers have to be fused ops.
    """
    if kind != "GRU":
        return LayerReport(layer, kind, FUSED_OPS[LSTM_COMPOSITE if kind == "LSTM" else SIMPLE_RNN_COMPOSITE])
    if options.plain:
        return LayerReport(layer, kind, "loop")
    if options.on_unsupported == "raise":
        raise ConversionError(
            f'layer {layer!r} (GRU) cannot become a fused op: there is none for a GRU; pass lowering="unrolled" or '
            '"loop"'
        )
    return LayerReport(layer, kind, "loop", "there is no fused op for a GRU")


def _random_inputs(module: Any, tensors: Sequence[Any]) -> RandomInputs:
    """Numbers like those of the examples: integers lie between the lowest and the highest of these."""
    rows = [each.num_embeddings for each in module.modules() if isinstance(each, torch.nn.Embedding)]
    limits: list[tuple[float, float] | None] = []
    for tensor in tensors:
        if tensor.is_floating_point() or tensor.dtype == torch.bool or not tensor.numel():
            limits.append(None)
            continue
        low, high = int(tensor.min()), int(tensor.max())
        limits.append((low, high) if high else (low, min(rows, default=2) - 1))
    highest = max((each[1] for each in limits if each), default=1)
    return RandomInputs(integer_bound=int(highest) + 1, limits=tuple(limits))


class TorchSource(ArraySource):
    """The copy of the module, called as its user calls the module.

    Args:
        called: the copy.
        tensors: examples of what it takes.
    """

    def __init__(self, called: CalledModule, tensors: Sequence[Any]) -> None:
        # Nobody else has the copy, so that its values stay.
        super().__init__(Layout((), 0, time_major=False), lambda: (), apart=False)
        self._called, self._dtypes = called, [each.dtype for each in tensors]
        self._carried = called.carried

    def __call__(self, arrays: Arrays) -> dict[str, npt.NDArray[Any]]:
        """See `Source`."""
        given = [torch.tensor(array).to(dtype) for array, dtype in zip(arrays, self._dtypes, strict=True)]
        with torch.no_grad():
            values = self._called(*given)
        if self._called.carries:
            self._carried.update({call.name: call.last for call in self._called.calls})
        return dict(zip(self._called.outputs, map(to_array, values), strict=True))
