"""`GateLayout`: for every number of packed LSTM weights, the operand of the fused op in which it stands, and where."""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from lstm_toolkit.display.tables import Table, Tabular
from lstm_toolkit.gate_pictures.sources import FRAMEWORKS, Half, PackedSource, read_source
from lstm_toolkit.weights.operands import ABSENT, GATES, OPERANDS_OF, WEIGHT_OPERANDS
from lstm_toolkit.weights.packing import PACKED_KINDS, Array, Block

LETTERS = {gate: gate[0] for gate in GATES}
"""The letter of each gate."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class GateBlock(Block):
    """A part of a packed array that becomes one operand.

    Attributes:
        gate: name of the gate, or None where the operand belongs to no gate.
        start, stop: the part, for each axis of the packed array; `slices` has the same as NumPy takes it.
        transposed: whether the op takes it transposed.
        operand, index: of the fused op.
        shape: in the operand's slot.
    """

    index: int


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class PackedArray:
    """An array as its framework stores it, with its parts.

    Attributes:
        name: of the array.
        values: float32, read-only.
        gates: order of the gates along `gate_axis`; empty where the array belongs to no gate.
        gate_axis: index of the axis along which the gates are packed.
        blocks: in the order of the gates; together they cover the array once.
    """

    name: str
    values: Array
    gates: tuple[str, ...]
    gate_axis: int
    blocks: tuple[GateBlock, ...]

    def __post_init__(self) -> None:
        values = np.array(self.values, np.float32)
        values.setflags(write=False)
        object.__setattr__(self, "values", values)

    def part(self, block: GateBlock) -> Array:
        """What a block puts into its slot: cut out, and transposed where it is."""
        return block.part(self.values)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class OperandSlot:
    """An operand of the fused op.

    Attributes:
        operand, index: its name and its place among the op's operands.
        gate: None for the projection.
        values: what the op reads, float32, or None where the operand is absent (tensor index -1 in a file).
        constant: number that the cell adds to what is in its packed array.
    """

    operand: str
    index: int
    gate: str | None
    values: Array | None
    constant: float = 0.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Destination:
    """Where one number of a packed array goes.

    Attributes:
        array, position, value: the number.
        gate: None for the projection.
        operand, index, slot_position: where it goes.
        slot_value: what stands there; another number only where something is added.
    """

    array: str
    position: tuple[int, ...]
    value: float
    gate: str | None
    operand: str
    index: int
    slot_position: tuple[int, ...]
    slot_value: float

    def __str__(self) -> str:
        text = (
            f"{self.array}{list(self.position)} = {self.value:.6g} → "
            f"{self.operand} (operand {self.index}) {list(self.slot_position)}"
        )
        return text if self.value == self.slot_value else f"{text} = {self.slot_value:.6g}, a sum"


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class GateLayout(Tabular):
    """How the packed weights of an LSTM fill the operand slots of the fused op. Printed, it is a table.

    Attributes:
        title: what the weights are of.
        framework: whose order it is: "Keras", "Lingvo" or "PyTorch".
        stored: whether the source itself stores the packed arrays; otherwise they are packed for the picture.
        op: name of the fused op.
        arrays: the packed arrays.
        slots: the operands in the op's order; of a group of operands that is partly there, also those that are not.
        absent: indices of the operands for weights that are not there.
    """

    title: str
    framework: str
    stored: bool
    op: str
    arrays: tuple[PackedArray, ...]
    slots: tuple[OperandSlot, ...]
    absent: tuple[int, ...]

    @property
    def gates(self) -> tuple[str, ...]:
        """The gates in their packed order."""
        return self.arrays[0].gates

    @property
    def order(self) -> str:
        """The packed order in letters: "i, f, c, o"."""
        return ", ".join(LETTERS[gate] for gate in self.gates)

    def array(self, name: str) -> PackedArray:
        """The packed array of a name.

        Raises:
            ValueError: if there is none; the message names those that there are.
        """
        for array in self.arrays:
            if array.name == name:
                return array
        raise ValueError(f"array must be one of {[array.name for array in self.arrays]}, got {name!r}")

    def slot(self, operand: str) -> OperandSlot:
        """The slot of an operand that is there.

        Raises:
            ValueError: if it is not.
        """
        for slot in self.slots:
            if slot.operand == operand and slot.values is not None:
                return slot
        there = [slot.operand for slot in self.slots if slot.values is not None]
        raise ValueError(f"operand must be one of {there}, got {operand!r}")

    def destination(self, array: str, *position: int) -> Destination:
        """Where one number of a packed array goes.

        Args:
            array: name of the packed array.
            position: index of the number, one integer an axis.

        Raises:
            ValueError: for an unknown array.
            IndexError: for a position outside of it.
        """
        packed = self.array(array)
        shape = packed.values.shape
        if len(position) != len(shape) or not all(0 <= at < size for at, size in zip(position, shape, strict=True)):
            raise IndexError(f"{array} has shape {list(shape)}, there is no {list(position)}")
        block = next(
            block
            for block in packed.blocks
            if all(a <= at < b for at, a, b in zip(position, block.start, block.stop, strict=True))
        )
        inside = tuple(at - start for at, start in zip(position, block.start, strict=True))
        inside = inside[::-1] if block.transposed else inside
        values = self.slot(block.operand).values
        assert values is not None
        return Destination(
            array=array,
            position=tuple(position),
            value=float(packed.values[position]),
            gate=block.gate,
            operand=block.operand,
            index=block.index,
            slot_position=inside,
            slot_value=float(values[inside]),
        )

    def notes(self) -> tuple[str, ...]:
        """What the table does not show: sums, and operands that are absent."""
        lines = []
        for slot in self.slots:
            names = [a.name for a in self.arrays for block in a.blocks if block.operand == slot.operand]
            if len(names) > 1 and slot.gate == self.gates[0]:
                lines.append(f"{' and '.join(names)} are added: the op has one bias a gate.")
            if slot.constant:
                alone = "" if names else ", and nothing else is in the biases"
                what = f"forget_gate_bias = {slot.constant:g} of the cell"
                lines.append(f"{what} is added to {slot.operand} (operand {slot.index}){alone}.")
        if self.absent:
            lines.append(f"Absent operands ({ABSENT} in the file): {_runs(self.absent)}.")
        return tuple(lines)

    def tables(self) -> tuple[Table, ...]:
        """The layout as one table, a row for each part of a packed array, in the packed order."""
        rows = [
            (
                f"{array.name} {list(array.values.shape)}",
                f"[{', '.join(map(_range, block.slices, array.values.shape))}]",
                block.gate or "",
                "transposed" if block.transposed else "as it is",
                block.operand,
                block.index,
                list(block.shape),
            )
            for array in self.arrays
            for block in array.blocks
        ]
        how = "as stored by" if self.stored else "packed in the order of"
        title = f"{self.title}: {how} {self.framework} ({self.order}), in the operand slots of {self.op}"
        header = ("packed array", "part", "gate", "goes in", "operand", "index", "shape")
        notes = [(note,) for note in self.notes()]
        return (Table(title, header, rows), *([Table("", ("notes",), notes)] if notes else []))


_GROUPS = tuple(
    {operand.format(gate): gate or None for operand in kind.operands for gate in kind.gates(GATES) or ("",)}
    for name, kind in sorted(PACKED_KINDS.items(), key=lambda item: item[0] == "layer_norm")
    if name not in ("joint_kernel", "recurrent_diagonal")
)
"""The op's operands for weights, in its order, each with its gate; those of a group are there together."""


def gate_layout(
    source: Any, *, order: str | None = None, layer: int = 0, reverse: bool | None = None, node: int = 0
) -> GateLayout:
    """Lays the packed weights of an LSTM out over the operands of TensorFlow Lite's fused op.

    Args:
        source: a built Keras or tf_keras `LSTM`, `LSTMCell` or `Bidirectional`; a cell of `lstm_toolkit.lingvo` or an
            `RNN` of one; a `torch.nn.LSTM` or its `state_dict()`; a `.tflite` file as bytes, path or `Conversion`;
            `GateWeights`, or a pair (forward, backward) of them.
        order: "keras", "lingvo" or "pytorch" packs the weights as that framework would. None leaves them as the source
            stores them; where it stores them by gate, they are packed as Keras would, or Lingvo if Keras cannot.
        layer: of a PyTorch LSTM.
        reverse: of two directions, False takes the forward and True the backward one. None takes both.
        node: which of the fused LSTM ops of a file, in the order in which they run.

    Raises:
        TypeError: for another source.
        ValueError: for weights that are no LSTM's, a layer that is not built, an unknown order, or a layer,
            direction or node that is not there; the message has the reason.
        InvalidModelError: for a file that cannot be read or has no fused LSTM op.

    A quantized operand of a file is shown dequantized.
    """
    packed = read_source(source, order=order, layer=layer, node=node)
    halves = packed.halves
    if reverse is not None:
        if reverse and len(halves) == 1:
            raise ValueError(f"{packed.title} has no backward direction; pass reverse=False or None")
        halves = halves[1:] if reverse else halves[:1]
    return GateLayout(
        title=packed.title,
        framework=FRAMEWORKS[packed.order],
        stored=packed.stored,
        op=packed.op,
        arrays=tuple(array for half in halves for array in _arrays(packed, half)),
        slots=tuple(slot for half in halves for slot in _slots(packed, half)),
        absent=tuple(index for half in halves for index in _absent(packed, half)),
    )


def _arrays(source: PackedSource, half: Half) -> Iterator[PackedArray]:
    packing = half.packed.packing
    for name, values in half.packed.arrays.items():
        blocks = []
        for block in packing.blocks(name, values.shape, half.weights.input_size):
            operand = half.prefix + block.operand
            index = OPERANDS_OF[source.op].index(operand)
            blocks.append(GateBlock(**vars(block) | {"operand": operand, "index": index}))
        gates, axis = PACKED_KINDS[packing.arrays[name]].gates(packing.gates), packing.gate_axis % values.ndim
        yield PackedArray(name=name, values=values, gates=gates, gate_axis=axis, blocks=tuple(blocks))


def _slots(source: PackedSource, half: Half) -> Iterator[OperandSlot]:
    there = dict(half.weights.operands())
    for group in _GROUPS:
        for name, gate in group.items() if there.keys() & group.keys() else ():
            operand = half.prefix + name
            index = OPERANDS_OF[source.op].index(operand)
            constant = half.packed.packing.forget_gate_bias if name == "forget_gate_bias" else 0.0
            yield OperandSlot(operand=operand, index=index, gate=gate, values=there.get(name), constant=constant)


def _absent(source: PackedSource, half: Half) -> tuple[int, ...]:
    operands, there = OPERANDS_OF[source.op], dict(half.weights.operands())
    names = [half.prefix + name for name in WEIGHT_OPERANDS if name not in there]
    return tuple(operands.index(name) for name in names if name in operands)


def _range(part: slice, size: int) -> str:
    return ":" if part == slice(0, size) else f"{part.start}:{part.stop}"


def _runs(indices: Sequence[int]) -> str:
    """Indices as text: "9 to 11, 16"."""
    neighbours = itertools.groupby(enumerate(indices), lambda each: each[1] - each[0])
    runs = [[index for _, index in run] for _, run in neighbours]
    return ", ".join(f"{run[0]} to {run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs)
