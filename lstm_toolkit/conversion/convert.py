"""`convert`: from a Keras model to a checked `.tflite` file with fused LSTM ops."""

import dataclasses
import logging
from typing import Any

from lstm_toolkit.conversion.fastest import convert_fastest
from lstm_toolkit.conversion.plans import plans_for
from lstm_toolkit.conversion.report import Conversion
from lstm_toolkit.conversion.request import Request
from lstm_toolkit.conversion.target import check_target, first_right
from lstm_toolkit.runtime.isolated import start_ahead
from lstm_toolkit.sources.source import is_torch_module, loaded

logger = logging.getLogger("lstm_toolkit")


def convert(  # noqa: PLR0913 (public)
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
    io_dtype: str | tuple[str, str] = "float32",
    time_major: bool = False,
    on_unsupported: str = "raise",
    max_error: float | None = None,
    time_budget: float = 30.0,
    caches: str = "cold",
    target: str | None = None,
    verify: bool = True,
) -> Conversion:
    """Converts a model to a `.tflite` file in which every LSTM is a fused op, or plain ops.

    Args:
        model: a Keras 3 or tf_keras model or layer; the path of a `.keras` or `.h5` file, which is loaded in safe mode,
            with tf_keras if Keras 2 wrote it; an RNN or cell of `lstm_toolkit.lingvo` (a cell gives a file for one
            step, whose state carries); a function, or a callable `tf.Module`, of TensorFlow ops with Keras layers, a
            `lingvo.RNN` or functions marked by `composite` in it; bare weights, which are a `GateWeights`, a list of
            layers (each one of them, or a pair of both directions), or a `torch.nn.LSTM`; the folder of a SavedModel,
            or a concrete function, that was traced under `fusable_lstms`, by tf_keras, or with such functions; or a
            PyTorch module with LSTM, GRU or RNN layers in it, with example inputs as input_signature. A
            SavedModel is code that runs when it is loaded. Files of Keras are loaded in another process first, with
            limits that the environment variables LSTM_TOOLKIT_MAX_MODEL_BYTES and LSTM_TOOLKIT_MAX_LOAD_SECONDS set.
        input_signature: a `tf.TensorSpec` an input, in the structure of the model's input, for a model that does not
            know its own (a subclassed model, a layer). Their names become the names of the inputs. For a Keras 3 model
            on another backend, `keras.Input` serves too. For a PyTorch module, example inputs, which fix all shapes: a
            tensor, a tuple of forward's arguments, or a dict of them by its parameters, whose names the inputs get.
        batch_size: None keeps the model's own, and 1 where that is None; a fused op needs a fixed batch.
        time_steps: None keeps the model's own; dynamic time stays dynamic.
        lowering: "fused": every LSTM and simple RNN is a fused op. "unrolled": they, and GRUs and layers with other
            activations, are plain ops without variable tensors, step after step; the time must be fixed. "loop": the
            same as a loop over time. Only such files run on LiteRT's `CompiledModel`; no state can carry in them.
            "auto": what is fastest on this machine, as `caches` says. `report.automatic` is the table that it chose
            from, and `Conversion.runner` runs the file on the runtime and the threads that it is fastest on.
        state: "reset": every call of the file starts from zero, as a stateless Keras layer does. "carry": a call starts
            where the last one ended, as with stateful=True; `Runner.reset` starts anew. "explicit": h and c are
            inputs and outputs of the file, `NAME_h` and `NAME_c` of each layer. "auto": what each layer says.
            Layers that get an initial_state start from that in any case.
        bidirectional: "fused": both directions of a bidirectional layer are one op; "split": they are two, as they
            always are with quantization="int8".
        quantization: "dynamic": int8 weights, everything else float32, which also suits plain ops; "float16": float16
            weights; "int8": weights, inputs of ops and results are int8, which takes a representative_dataset and fixed
            time; where a layer is none that the fused op's int8 kernel computes, such as a GRU, all are plain ops that
            keep int16 inside, as they are with lowering="unrolled" or "loop"; "int16x8": weights are int8 and
            everything else int16, in plain ops; with target="micro", LSTMs stay fused ops where its kernel takes them
            all, and only TensorFlow Lite Micro can run the file. The report compares the file with the float32 one.
        representative_dataset: typical inputs: an array [samples, ...] for a model with one input, a dict of them by
            input name, or a function that returns an iterable of samples (or the iterable itself), each a list or a
            dict by input name. Integer ranges are taken on them, and every fifth sample is kept for the comparison.
            With `verify`, no input is drawn beyond their range, and where random inputs say nothing about the file, it
            is compared with the model on them.
        io_dtype: of the inputs and outputs of the file: "float32"; "int8", "uint8" or "int16" with any quantization and
            with none, whose scales are taken on representative_dataset; or a pair, for inputs and for outputs. Inputs
            and outputs that hold integers without a scale, such as tokens, keep their type.
        time_major: the file's sequence inputs and outputs are [time, batch, ...]. Sequences are inputs of rank 3 and
            more, integer or boolean inputs of rank 2, and outputs of rank 3 and more.
        on_unsupported: "raise", or "keep": the stock lowering stands for a recurrent layer that cannot be fused
            exactly, and the report says so.
        max_error: with lowering="auto" and no quantization, the largest error that int8 weights may cause in any
            output, relative to the largest value of that output; None leaves weights float32.
        time_budget: seconds after which lowering="auto" tries no further way.
        caches: what lowering="auto" chooses by: "cold", calls between other work, which takes the caches, as apps do
            that call a model once a frame; "hot", calls in a row. It measures both.
        target: the runtime that the file is for, which then settles what is left at its default. "litert": the LiteRT
            interpreter. "compiled": LiteRT's `CompiledModel`; layers are plain ops. "micro": TensorFlow Lite Micro;
            directions are split, a coupled input gate gets weights of its own, where a layer is none that the kernel
            takes, all are a loop of plain ops, and ops that it lacks become others that compute the same. With
            `verify`, the file is also run on the target, where that is installed, and compared with the LiteRT
            interpreter. None: any of them may or may not run it.
        verify: whether to compare the file with the source model: on random inputs, three calls in a row, and then on
            zeros, on constant, tiny and large inputs. `report.checked` says what was compared. In any case the file
            runs for the first time in a process of its own, so that a crash of LiteRT is an error that names the op.

    Masks (`Embedding(mask_zero=True)`, `Masking`, `mask=`) may have any form: padding on the right or on the left,
    holes, and rows without a valid step. What stands at padded steps is never read.

    A Keras 3 model on JAX, PyTorch or another backend (KERAS_BACKEND) is saved into a temporary folder, and converted
    in another process on the TensorFlow backend. The file is compared here with the model itself, in its own backend.
    Classes and functions that are not Keras's own have to be registered with Keras, in modules that can be imported.

    A PyTorch module is exported by `torch.export` and converted by litert-torch, in another process and without
    TensorFlow, its recurrent layers whole. A copy of it, in eval mode and float32, is called and compared; the module
    stays as it is. LSTMs and RNNs are fused ops. A GRU, for which there is none, is a loop of plain ops unless
    `lowering` says otherwise. Cells that are called step by step become an op or a loop where the steps match. A dict
    or a NamedTuple names the outputs. With `state="explicit"`, `NAME_h` and `NAME_c` are a layer's states as PyTorch
    shapes them. Batch, time and layout are those of the example inputs and of the module, which fix all shapes:
    batch_size, time_steps and time_major are refused.

    Threads may convert at once, the same model too, and other threads may use it meanwhile: they get what they always
    get. Not even its states change. Only training it meanwhile can make the comparison fail. A process that was forked
    when TensorFlow was in use cannot convert; one that was spawned can.

    Returns:
        The file and the report. Input and output names are the model's own (outputs without names are `output_0`,
        `output_1`, ...). Layers in mixed precision compute in float32, as their weights are.

    Raises:
        ConversionError: if something cannot be converted exactly; names the layer, the reason and the remedy.
        InvalidModelError: if the path is not a Keras model, or one that claims or takes too much to load.
        ParityError: if the file computes something else than the model.
        ValueError: for options that do not go together, and a representative_dataset that does not fit.
    """
    request = Request(
        input_signature=input_signature,
        batch_size=batch_size,
        time_steps=time_steps,
        lowering=lowering,
        state=state,
        bidirectional=bidirectional,
        quantization=quantization,
        representative_dataset=representative_dataset,
        io_dtype=io_dtype,
        time_major=time_major,
        on_unsupported=on_unsupported,
        max_error=max_error,
        time_budget=time_budget,
        caches=caches,
        target=target,
        verify=verify,
    )
    is_module = is_torch_module(model, input_signature)
    if is_module and not request.is_timed and quantization != "int8":
        # Beside fused ops, a GRU is a loop of plain ops.
        request = dataclasses.replace(request, on_unsupported="keep")
    plans = plans_for(request)
    if not is_module:
        logger.info("loading TensorFlow")
    model = loaded(model)
    # It starts while TensorFlow traces.
    start_ahead()
    run = convert_fastest if request.is_timed else first_right
    conversion = run(model, request, plans)
    if request.target is not None:
        check_target(conversion, request.target, run=request.verify)
    return conversion
