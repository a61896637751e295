"""How the weights of an LSTM stand in packed arrays: a value that is declared once, then split, packed or drawn."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class Kind:
    """What a packed array holds, with the gates along its last axis.

    Attributes:
        axes: the size of each axis as a formula. A sum has one part for each of its terms, "gates * units" one part for
            each gate, "gates but cell * units" one for each gate but the cell gate.
        operands: the op's operand for each term of the first axis, with {} for the name of the gate.
    """

    axes: tuple[str, ...]
    operands: tuple[str, ...]

    def gates(self, order: Sequence[str]) -> tuple[str, ...]:
        """The gates of `order` that have a part; none where the array belongs to no gate."""
        if not self.axes[-1].startswith("gates"):
            return ()
        return tuple(gate for gate in order if gate != "cell" or "but cell" not in self.axes[-1])


PACKED_KINDS = {
    "kernel": Kind(("inputs", "gates * units"), ("input_to_{}_weights",)),
    "recurrent_kernel": Kind(("outputs", "gates * units"), ("recurrent_to_{}_weights",)),
    "joint_kernel": Kind(("inputs + outputs", "gates * units"), ("input_to_{}_weights", "recurrent_to_{}_weights")),
    "recurrent_diagonal": Kind(("gates * units",), ("recurrent_to_{}_weights",)),
    "peephole": Kind(("gates but cell * units",), ("cell_to_{}_weights",)),
    "bias": Kind(("gates * units",), ("{}_gate_bias",)),
    "layer_norm": Kind(("gates * units",), ("{}_layer_norm_coefficients",)),
    "projection": Kind(("units", "outputs"), ("projection_weights",)),
    "projection_bias": Kind(("outputs",), ("projection_bias",)),
}
"""Every kind of packed array by name."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Block:
    """A part of a packed array that becomes one operand.

    Attributes:
        gate: name of the gate, or None where the operand belongs to no gate.
        start, stop: the part, for each axis of the packed array.
        transposed: whether the op takes it transposed.
        operand: of the fused op.
    """

    gate: str | None
    start: tuple[int, ...]
    stop: tuple[int, ...]
    transposed: bool
    operand: str

    @property
    def slices(self) -> tuple[slice, ...]:
        """The part as NumPy takes it: `packed[block.slices]`."""
        return tuple(map(slice, self.start, self.stop))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the operand."""
        size = tuple(b - a for a, b in zip(self.start, self.stop, strict=True))
        return size[::-1] if self.transposed else size

    def part(self, packed: Array) -> Array:
        """What the op takes of a packed array, as a view: cut out, and transposed where it is."""
        part = packed[self.slices]
        return part.T if self.transposed else part


@dataclasses.dataclass(frozen=True, kw_only=True)
class Packing:
    """How the weights of one LSTM stand in arrays. `split` runs it, `pack` runs it backwards, and pictures draw it.

    Attributes:
        gates: their order in every packed array; without "input" for a coupled input gate.
        gate_axis: axis of the matrices along which the gates are packed: -1, or 0 where matrices are transposed.
        arrays: kind of each array, a key of `PACKED_KINDS`, by its name; by default they are named like their kinds.
            Arrays of one kind are added.
        forget_gate_bias: a number that the cell adds to the bias of its forget gate. The op has no such option, so the
            operand has it added, in float32.
        holder: what has such arrays, for messages.
        couples: whether it may have a coupled input gate.
    """

    gates: tuple[str, ...]
    gate_axis: int = -1
    arrays: Mapping[str, str] = dataclasses.field(default_factory=lambda: {kind: kind for kind in PACKED_KINDS})
    forget_gate_bias: float = 0.0
    holder: str = "this packing"
    couples: bool = True

    def coupled(self) -> "Packing":
        """The same without an input gate."""
        return dataclasses.replace(self, gates=tuple(gate for gate in self.gates if gate != "input"))

    def renamed(self, form: str) -> "Packing":
        """The same with other names of the arrays; `form` has {} for the present one."""
        return dataclasses.replace(self, arrays={form.format(name): kind for name, kind in self.arrays.items()})

    def shape(self, name: str, *, units: int, outputs: int, inputs: int = 0) -> tuple[int, ...]:
        """Shape of an array of these sizes."""
        count = len(self.gates)
        sizes = {"inputs": inputs, "outputs": outputs, "inputs + outputs": inputs + outputs, "units": units}
        sizes |= {"gates * units": count * units, "gates but cell * units": (count - 1) * units}
        return self._turned([sizes[axis] for axis in PACKED_KINDS[self.arrays[name]].axes])

    def blocks(self, name: str, shape: Sequence[int], inputs: int = 0) -> tuple[Block, ...]:
        """The parts of an array. They cover it once; first those of the first operand, by gate in the packed order.

        Args:
            name: of the array.
            shape: of the array.
            inputs: the input size, which the shape of a joint kernel does not tell.

        Raises:
            ValueError: for a shape that cannot be split into as many gates.
        """
        kind = PACKED_KINDS[self.arrays[name]]
        gates = kind.gates(self.gates) or ("",)
        cuts = []
        for axis, size in zip(kind.axes, self._turned(shape), strict=True):
            count = len(gates) if axis.startswith("gates") else 1
            if size % count:
                raise ValueError(f"{name} of shape {list(shape)} cannot be split into {count} gates")
            bounds = [number * size // count for number in range(count + 1)]
            cuts.append(itertools.pairwise([0, inputs, size] if "+" in axis else bounds))
        owners = itertools.product(kind.operands, gates)
        return tuple(
            Block(
                gate=gate or None,
                start=self._turned([start for start, _ in part]),
                stop=self._turned([stop for _, stop in part]),
                transposed=len(shape) == 2 and self.gate_axis == -1,
                operand=operand.format(gate),
            )
            for (operand, gate), part in zip(owners, itertools.product(*cuts), strict=True)
        )

    def sizes(self, shapes: Mapping[str, Sequence[int]], names: Mapping[str, str] | None = None) -> dict[str, int]:
        """Checks that shapes fit together.

        Args:
            shapes: of the arrays by name. What has a name that is not in `arrays` is not looked at.
            names: what to call each array in a message.

        Returns:
            The sizes `units`, `outputs` and `inputs`, as far as the shapes tell them.

        Raises:
            ValueError: naming what does not fit, with expected and actual shape.
        """
        own: dict[str, tuple[int, ...]] = {}
        for name, shape in shapes.items():
            axes = PACKED_KINDS[self.arrays[name]].axes if name in self.arrays else shape
            if len(shape) != len(axes):
                raise ValueError(f"{(names or {}).get(name, name)} must be {list(axes)}, got shape {list(shape)}")
            own[self.arrays.get(name, name)] = self._turned(shape)
        packed = [own[kind] for kind in ("joint_kernel", "kernel", "recurrent_diagonal", "bias") if kind in own]
        if "projection" in own:
            units, outputs = own["projection"]
        elif "recurrent_kernel" in own:
            units = outputs = own["recurrent_kernel"][0]
        elif packed:
            units = outputs = packed[0][-1] // len(self.gates)
        else:
            return {}
        told = {"units": units, "outputs": outputs}
        if "kernel" in own:
            told["inputs"] = own["kernel"][0]
        elif "joint_kernel" in own:
            told["inputs"] = own["joint_kernel"][0] - outputs
        self.check(shapes, told, names)
        return told

    def check(
        self, shapes: Mapping[str, Sequence[int]], sizes: Mapping[str, int], names: Mapping[str, str] | None = None
    ) -> None:
        """Holds shapes against sizes, with the arguments and errors of `sizes`."""
        for name, shape in shapes.items():
            expected = list(self.shape(name, **sizes) if name in self.arrays else shape)
            if list(shape) != expected:
                what = f"{names[name]} ({self.arrays[name]}, {len(self.gates)} gates)" if names else name
                raise ValueError(f"{what} must have shape {expected}, got {list(shape)}")

    def split(self, arrays: Mapping[str, npt.NDArray[Any]]) -> dict[str, Array]:
        """Splits packed arrays by name into operands of the op by name. An array of another name stays as it is.

        Raises:
            ValueError: for shapes that do not fit together; the message has expected and actual.
        """
        sizes = self.sizes(shapes_of(arrays))
        operands: dict[str, Array] = {}
        kinds = set()
        for name, array in arrays.items():
            if name not in self.arrays:
                operands[name] = array
                continue
            for block in self.blocks(name, array.shape, sizes.get("inputs", 0)):
                part = block.part(array)
                operands[block.operand] = operands[block.operand] + part if self.arrays[name] in kinds else part
            kinds.add(self.arrays[name])
        return self._biased(operands, self.forget_gate_bias)

    def pack(self, operands: Mapping[str, Array]) -> dict[str, Array]:
        """Packs operands by name into new arrays by name, float32; of two arrays of a kind, the second is zeros.

        Raises:
            ValueError: for operands that the arrays cannot hold; the message names them.
        """
        packing = self if "input_to_input_weights" in operands else self.coupled()
        operands = packing._biased(operands, -self.forget_gate_bias)
        units, inputs = operands["input_to_forget_weights"].shape
        outputs = len(operands.get("projection_weights", range(units)))
        packed: dict[str, Array] = {}
        left, kinds = shapes_of(operands), set()
        for name, kind in self.arrays.items():
            shape = packing.shape(name, units=units, outputs=outputs, inputs=inputs)
            blocks = packing.blocks(name, shape, inputs)
            wanted = {block.operand: block.shape for block in blocks}
            if kind in kinds:
                packed[name] = np.zeros(shape, np.float32)
            elif wanted.items() <= left.items():
                packed[name] = np.empty(shape, np.float32)
                for block in blocks:
                    block.part(packed[name])[:] = operands[block.operand]
                kinds.add(kind)
                left = {operand: left[operand] for operand in left if operand not in wanted}
        extra = list(left)
        if extra or not (self.couples or "input_to_input_weights" in operands):
            reason = f"there are {extra}" if extra else "the input gate is coupled to the forget gate"
            raise ValueError(f"{self.holder} cannot hold these weights: {reason}")
        return packed

    def _turned(self, axes: Sequence[int]) -> tuple[int, ...]:
        """From the axes that `Kind` declares to those of an array, and back."""
        return tuple(axes)[:: -1 if self.gate_axis == 0 else 1]

    def _biased(self, operands: Mapping[str, Array], added: float) -> dict[str, Array]:
        """The operands with a number added to the bias of the forget gate; biases that are not there are zeros."""
        if not added:
            return dict(operands)
        zeros = np.zeros(len(operands["input_to_forget_weights"]), np.float32)
        biases = {name: operands.get(name, zeros) for name in (f"{gate}_gate_bias" for gate in self.gates)}
        # The key is the op's operand, an array; the number of the same name is an option of cells.
        biases["forget_gate_bias"] = biases["forget_gate_bias"] + np.float32(added)
        return {**operands, **biases}


def shapes_of(arrays: Mapping[str, npt.NDArray[Any]]) -> dict[str, tuple[int, ...]]:
    """The shapes of arrays by name."""
    return {name: array.shape for name, array in arrays.items()}
