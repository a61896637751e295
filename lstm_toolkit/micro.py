"""Makes what TensorFlow Lite Micro needs: the ops to register, the size of the arena, a C array, a project to flash."""

import dataclasses
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lstm_toolkit.display.tables import Table, Tabular
from lstm_toolkit.doctor.diagnose import diagnose
from lstm_toolkit.errors import InvalidModelError
from lstm_toolkit.projects.folder import check_folder, write_folder
from lstm_toolkit.projects.recording import record
from lstm_toolkit.projects.texts import check_kind, project_files, sources_of
from lstm_toolkit.runtime.targets import MICRO_OPS
from lstm_toolkit.runtime.trial import random_calls, run_on
from lstm_toolkit.tflite import files, graph

_METHODS = {
    "AVERAGE_POOL_2D": "AddAveragePool2D",
    "BATCH_MATMUL": "AddBatchMatMul",
    "CONV_2D": "AddConv2D",
    "CUMSUM": "AddCumSum",
    "DEPTHWISE_CONV_2D": "AddDepthwiseConv2D",
    "L2_POOL_2D": "AddL2Pool2D",
    "MAX_POOL_2D": "AddMaxPool2D",
    "PADV2": "AddPadV2",
    "UNIDIRECTIONAL_SEQUENCE_LSTM": "AddUnidirectionalSequenceLSTM",
}
"""Methods whose names do not follow from the names of their ops (`micro_mutable_op_resolver.h`)."""

_KEYWORD_TEXT = """
    alignas alignof and and_eq asm auto bitand bitor bool break case catch char char16_t char32_t char8_t class
    co_await co_return co_yield compl concept const const_cast consteval constexpr constinit continue decltype
    default delete do double dynamic_cast else enum explicit export extern false float for friend goto if inline
    int long main mutable namespace new noexcept not not_eq nullptr operator or or_eq private protected public
    register reinterpret_cast requires restrict return short signed sizeof static static_assert static_cast struct
    switch template this thread_local throw true try typedef typeid typename union unsigned using virtual void
    volatile wchar_t while xor xor_eq
"""
_KEYWORDS = frozenset(_KEYWORD_TEXT.split())
"""Words that C or C++ does not allow as names."""

_BYTES_A_LINE = 16

_ARENA_STEP = 16
"""Arenas are aligned to this many bytes."""


@dataclasses.dataclass(frozen=True, repr=False)
class MicroReport(Tabular):
    """What TensorFlow Lite Micro needs to run a file.

    Attributes:
        ops: how often each op is in the file, over all subgraphs.
        arena_size: bytes of the smallest tensor arena, in steps of 16, in which the file ran on this machine; None if
            it was not run. Pointers here have 64 bits: a microcontroller of 32 bits needs less, and kernels that are
            optimized for it perhaps more.
        file_size: bytes of the file, which stay in flash.
        constant_size: the part of them that is weights and other constants.
    """

    ops: Mapping[str, int]
    arena_size: int | None
    file_size: int
    constant_size: int

    @property
    def resolver(self) -> str:
        """The C++ lines that register the ops: one `MicroMutableOpResolver` with room for just them."""
        lines = [f"tflite::MicroMutableOpResolver<{len(self.ops)}> resolver;"]
        return "\n".join([*lines, *(f"resolver.{method_name(op)}();" for op in self.ops)]) + "\n"

    def tables(self) -> tuple[Table, ...]:
        """Sizes, and the ops with the methods that register them."""
        arena = "not measured" if self.arena_size is None else f"{self.arena_size:,}"
        sizes = [("tensor arena (RAM)", arena), ("file (flash)", f"{self.file_size:,}")]
        sizes.append(("of it constants", f"{self.constant_size:,}"))
        ops = [(op, count, f"resolver.{method_name(op)}();") for op, count in self.ops.items()]
        title = f"Ops to register: MicroMutableOpResolver<{len(ops)}>"
        return (Table("TensorFlow Lite Micro", ("what", "bytes"), sizes), Table(title, ("op", "count", "C++"), ops))

    def to_dict(self) -> dict[str, Any]:
        """The report as values that JSON can hold."""
        return dataclasses.asdict(self) | {"ops": dict(self.ops), "resolver": self.resolver}


def micro_report(model: bytes | str | os.PathLike[str], *, run: bool = True, time_limit: float = 60.0) -> MicroReport:
    """Says what TensorFlow Lite Micro needs to run a file.

    Args:
        model: the bytes or the path of a `.tflite` file.
        run: whether to look for the smallest arena, by running the file in a process of its own.
        time_limit: seconds that this may take.

    Returns:
        The ops to register, the arena if the file ran, and the sizes of what stays in flash.

    Raises:
        InvalidModelError: if the file cannot be read, or cannot run there; names the op and the remedy.
        LstmToolkitError: with `run`, if `tflite-micro` is not installed; names the remedy.
    """
    data = files.read_bytes(model)
    unpacked = files.read_model(data)
    for finding in diagnose(data, target="micro"):
        if finding.severity == "error":
            raise InvalidModelError(
                f"TensorFlow Lite Micro cannot run this model: {finding.location}: {finding.message}; {finding.remedy}"
            )
    arena_size = None
    if run:
        (trial,) = run_on("micro", [(data, random_calls(data, count=1))], arena=True, time_limit=time_limit)
        if trial.refused is not None:
            raise InvalidModelError(f"TensorFlow Lite Micro cannot run this model: {trial.refused}")
        arena_size = trial.arena_size
    constants = sum(len(buffer.data) for buffer in unpacked.buffers if buffer.data is not None)
    return MicroReport(dict(sorted(graph.count_operators(unpacked).items())), arena_size, len(data), constants)


def method_name(op: str) -> str:
    """Name of the method of `MicroMutableOpResolver` that registers a builtin op.

    Raises:
        ValueError: if TensorFlow Lite Micro has no such op.
    """
    if op not in MICRO_OPS:
        raise ValueError(f"TensorFlow Lite Micro has no op {op}")
    return _METHODS.get(op) or "Add" + "".join(word.capitalize() for word in op.split("_"))


def c_array(model: bytes | str | os.PathLike[str], name: str = "model") -> tuple[str, str]:
    """Writes a file as an array of bytes for C and C++.

    Args:
        model: the bytes or the path of a `.tflite` file.
        name: of the array, aligned to 16 bytes; its length is the constant `NAME_length`.

    Returns:
        The text of the header `NAME.h` and of the source `NAME.cc`, which is C11 as well as C++11.

    Raises:
        InvalidModelError: if it is not a `.tflite` file.
        ValueError: if C or C++ does not allow the name, or reserves it.
    """
    data = files.read_bytes(model)
    _check_name(name)
    guard = f"{name.upper()}_H"
    header = f"""#ifndef {guard}
#define {guard}

#ifdef __cplusplus
extern "C" {{
#endif

extern const unsigned char {name}[];
extern const unsigned int {name}_length;

#ifdef __cplusplus
}}
#endif

#endif
"""
    lines = [data[start : start + _BYTES_A_LINE] for start in range(0, len(data), _BYTES_A_LINE)]
    rows = "\n".join("    " + " ".join(f"0x{byte:02x}," for byte in line) for line in lines)
    source = f"""#include "{name}.h"

#ifndef __cplusplus
#include <stdalign.h>
#endif

alignas(16) const unsigned char {name}[] = {{
{rows}
}};

const unsigned int {name}_length = {len(data)};
"""
    return header, source


def _check_name(name: str) -> None:
    # \Z: `$` would let a line end through.
    is_reserved = name in _KEYWORDS or "__" in name or bool(re.match(r"_[A-Z_]", name))
    if is_reserved or not re.match(r"[A-Za-z_][A-Za-z0-9_]{0,62}\Z", name):
        raise ValueError(f"name must be an identifier that C and C++ leave to programs, got {name!r}")


def save_c_array(
    model: bytes | str | os.PathLike[str], folder: str | os.PathLike[str], name: str = "model"
) -> tuple[Path, Path]:
    """Writes the two texts of `c_array` as `NAME.h` and `NAME.cc`, each whole or not at all, the source first.

    Returns:
        The paths of the header and the source.

    Raises:
        OSError: if they cannot be written.
        InvalidModelError, ValueError: as `c_array`.
    """
    paths = Path(folder) / f"{name}.h", Path(folder) / f"{name}.cc"
    header, source = c_array(model, name)
    for path in paths:
        files.check_writable(path)
    # The header is the same for all files, so that an old one fits a new source.
    for path, text in ((paths[1], source), (paths[0], header)):
        files.write_whole(path, text.encode())
    return paths


def save_project(
    model: bytes | str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    project: str,
    representative_dataset: Any = None,
    name: str = "model",
) -> MicroReport:
    """Writes a project to flash, which runs a file on a board and compares what comes out with what came out here.

    It holds the file as a C array, a resolver with just its ops, an arena as large as the file needs here and a quarter
    more, and the inputs and expected outputs of a few calls in a row: those of TensorFlow Lite Micro on this machine,
    which are compared with LiteRT's before, where that has the kernels. Its README has the commands.

    Args:
        model: the bytes or the path of a `.tflite` file.
        folder: to write, which is new or empty; it is written whole or not at all.
        project: "esp-idf", "arduino", or "generic", which is a Makefile for a computer and sources for any board.
        representative_dataset: inputs, as `convert` takes them, in the shapes of the file and the units of the model.
            The first five of those that `convert` holds back are taken. None takes random numbers.
        name: of the project. The array is `NAME_tflite`.

    Returns:
        What TensorFlow Lite Micro needs to run the file.

    Raises:
        InvalidModelError: if the file cannot be read, cannot run there, computes something else than on LiteRT, or has
            an op that the library for Arduino lacks.
        LstmToolkitError: if `tflite-micro` is not installed.
        ValueError: for an unknown project, a name that C or C++ does not allow, or samples that do not fit.
        OSError: if the folder is not empty, or cannot be written.
    """
    path, data, array = Path(folder), files.read_bytes(model), f"{name}_tflite"
    _check_name(name)
    header, source = c_array(data, array)
    check_kind(project)
    check_folder(path)
    report = micro_report(data, run=False)
    check_kind(project, report.ops)
    recording = record(data, representative_dataset)
    report = dataclasses.replace(report, arena_size=recording.arena_size)
    values = {
        "array": array,
        "resolver": report.resolver,
        "op_count": len(report.ops),
        "measured": recording.arena_size,
        "arena": math.ceil(recording.arena_size * 5 / 4 / _ARENA_STEP) * _ARENA_STEP,
        "file_size": f"{report.file_size:,}",
    }
    sources = sources_of(project, name)
    texts = project_files(project, name, recording, values)
    write_folder(path, texts | {f"{sources}{array}.h": header, f"{sources}{array}.cpp": source})
    return report
