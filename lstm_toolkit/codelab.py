"""What the codelabs need beside the toolkit: real data. What they also use stands here under one name.

Needs the extra `codelabs`.
"""

import dataclasses
import importlib.util
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_toolkit.display.gate_looks import draw_gate_order
from lstm_toolkit.display.picture import Picture
from lstm_toolkit.errors import ConversionError, InvalidModelError
from lstm_toolkit.inspection.arithmetic import operators_executed
from lstm_toolkit.process_state import load_tensorflow, replaced_here
from lstm_toolkit.runtime.integers import dequantized, quantized
from lstm_toolkit.runtime.scratch import scratch_folder
from lstm_toolkit.runtime.stopwatch import interleaved_medians
from lstm_toolkit.runtime.trial import is_installed, run_on, signature_names
from lstm_toolkit.stock import torch_worker
from lstm_toolkit.stock.converter import stock_conversion
from lstm_toolkit.tflite import graph
from lstm_toolkit.tflite.files import read_model
from lstm_toolkit.tflite.types import Tensor

# The codelabs import Keras after this module. What TensorFlow prints then, here it does not.
load_tensorflow()

__all__ = (
    "Images",
    "Missing",
    "Movements",
    "Picture",
    "draw_gate_order",
    "has_micro",
    "interleaved_medians",
    "litert_torch_conversion",
    "load_images",
    "load_movements",
    "needs_torch",
    "on_micro",
    "operators_executed",
    "stock_conversion",
)

_MOVEMENTS = Path(__file__).parent / "data" / "movements.npz"
_PER_UNIT = np.array([100, 100, 100, 50, 50, 50], np.float32)
_TEST_PEOPLE = (3, 7, 10)


@dataclasses.dataclass(frozen=True)
class Images:
    """Images of handwritten digits, split for training and testing.

    Attributes:
        x_train, x_test: [images, rows, columns], float32 in 0 to 1. Read as a sequence, a row is a time step.
        y_train, y_test: the digits, [images], integers 0 to 9.
    """

    x_train: npt.NDArray[np.float32]
    y_train: npt.NDArray[np.int64]
    x_test: npt.NDArray[np.float32]
    y_test: npt.NDArray[np.int64]


def load_images(source: str = "digits") -> Images:
    """Loads handwritten digits.

    Args:
        source: "digits", the 1,797 images of 8 x 8 pixels that scikit-learn ships (UCI, Alpaydin and Kaynak, 1998),
            of which every fifth is for testing; or "mnist", 70,000 of 28 x 28, which Keras downloads.

    Raises:
        ValueError: for another source.
    """
    if source == "digits":
        from sklearn.datasets import load_digits

        bundle = load_digits()
        images, labels = (bundle.images / 16).astype(np.float32), bundle.target
        test = np.arange(len(images)) % 5 == 0
        return Images(images[~test], labels[~test], images[test], labels[test])
    if source == "mnist":
        import keras

        (x_train, y_train), (x_test, y_test) = keras.datasets.mnist.load_data()
        x_train, x_test = ((x / 255).astype(np.float32) for x in (x_train, x_test))
        return Images(x_train, y_train.astype(np.int64), x_test, y_test.astype(np.int64))
    raise ValueError(f'source must be "digits" or "mnist", got {source!r}')


@dataclasses.dataclass(frozen=True)
class Movements:
    """Movements of the shoulder, recorded by a smartwatch, split by person for training and testing.

    Attributes:
        x_train, x_test: [windows, 16 steps, 6], float32, 5 steps a second: the acceleration along x, y and z in g, and
            the rotation about them in rad/s.
        y_train, y_test: the movements, [windows], integers that count `names`.
        names: of the seven movements.
    """

    x_train: npt.NDArray[np.float32]
    y_train: npt.NDArray[np.int64]
    x_test: npt.NDArray[np.float32]
    y_test: npt.NDArray[np.int64]
    names: tuple[str, ...] = (
        "pendulum",
        "abduction",
        "forward elevation",
        "internal rotation",
        "external rotation",
        "trapezius extension",
        "upright row",
    )


def load_movements() -> Movements:
    """Loads 1,465 windows of 3.2 seconds of ten people, of whom three are for testing.

    They come with the package, from seglearn's `load_watch` (Burns et al., 2018, BSD-3-Clause). `data/movements.txt`
    beside this module has the source, the licence, and what was changed.
    """
    with np.load(_MOVEMENTS) as stored:
        windows, labels = stored["windows"] / _PER_UNIT, stored["movement"].astype(np.int64)
        test = np.isin(stored["person"], _TEST_PEOPLE)
    return Movements(windows[~test], labels[~test], windows[test], labels[test])


class Missing(Exception):
    """What a codelab needs is not installed. A notebook shows the message alone, and stops."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


def needs_torch() -> None:
    """Stops a codelab where PyTorch or litert-torch is not installed.

    Raises:
        Missing: if one of them is not; the message is one line, and says how it is installed.
    """
    if not all(map(importlib.util.find_spec, ("torch", "litert_torch"))):
        raise Missing(
            "This codelab needs PyTorch and litert-torch. In a cell of its own, run %pip install --extra-index-url "
            'https://download.pytorch.org/whl/cpu torch "litert-torch>=0.10,<0.11"; then run this cell again.'
        )


def litert_torch_conversion(module: Any, *examples: Any) -> bytes:
    """The `.tflite` file that litert-torch makes of a PyTorch module, as it is. It runs in a process of its own.

    Args:
        module: the `torch.nn.Module`, in eval mode.
        *examples: its inputs; the file takes their shapes.

    Raises:
        ConversionError: if litert-torch does not convert it; has its own words.
    """
    import torch

    with scratch_folder() as folder:
        path = Path(folder) / "program.pt2"
        # PyTorch warns of attributes of its own LSTM.
        with replaced_here({(warnings, "warn"): lambda _: lambda *_, **__: None}):
            torch.export.save(torch.export.export(module, examples), path)
        answer = torch_worker.converted({"path": str(path)})
    if isinstance(answer, dict):
        raise ConversionError(f"litert-torch does not convert this module: {answer['message']}")
    return answer


def has_micro() -> bool:
    """Whether TensorFlow Lite Micro's interpreter is installed; prints a line where it is not."""
    there = is_installed("micro")
    if not there:
        print("tflite-micro is not installed (its wheels are for Linux on x86-64), so its figures are left out.")
    return there


def on_micro(tflite: bytes, inputs: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
    """Calls a file in TensorFlow Lite Micro's interpreter, a row of the inputs after the other, without any reset.

    Args:
        tflite: a file for one row a call, with one input and one output.
        inputs: [calls, ...], float32; for an integer input they are quantized, as a program on a board has to.

    Returns:
        The output of each call, [calls, ...]; integers with a scale as the float32 numbers that they stand for.

    Raises:
        LstmToolkitError: if `tflite-micro` is not installed.
        InvalidModelError: if TensorFlow Lite Micro does not run the file; has its own words.
    """
    model = read_model(tflite)
    names, main = signature_names(model), model.subgraphs[0]
    (name,), (output,) = names["inputs"], names["outputs"]
    # The runner of LiteRT refuses a fused op in 16x8, which Micro alone has.
    taken, given = (_integers(main.tensors[index]) for index in (main.inputs[0], main.outputs[0]))
    calls = [{name: quantized(row[np.newaxis], taken)} for row in inputs]
    (trial,) = run_on("micro", [(tflite, calls)])
    if trial.refused is not None:
        raise InvalidModelError(f"TensorFlow Lite Micro cannot run this model: {trial.refused}")
    return np.concatenate([dequantized(each[output], given) for each in trial.outputs])


def _integers(tensor: Tensor) -> dict[str, Any]:
    dtype = np.dtype(graph.DTYPES[tensor.type])
    return {"dtype": dtype, "quantization": graph.scale_of(tensor) if dtype.kind in "iu" else (0.0, 0)}
