"""Where the time of a step goes: `python benchmarks/step_profile.py`.

The runtime has no profiler that Python can reach. So a step is measured by deletion: the layer is written unrolled with
only the first parts of its step, then with one part more, and so on. Each is timed at two lengths, in turn; the slope
is the time of a step, without what a call costs once.
"""

import dataclasses

import click
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from lstm_toolkit import GateWeights, Runner
from lstm_toolkit.passes.plain.cells import LstmCell
from lstm_toolkit.passes.plain.recurrence import Recurrence
from lstm_toolkit.passes.plain.sequence import emit
from lstm_toolkit.runtime.stopwatch import stopwatch
from lstm_toolkit.tflite import edit, files
from lstm_toolkit.tflite.builder import OpBuilder

PARTS = ("row taken, recurrent product", "input product added", "gates activated and taken apart", "state and output")
"""Of a step, in the order in which it computes them."""

LENGTHS = 20, 60


@dataclasses.dataclass(frozen=True)
class Begun(LstmCell):
    """An LSTM of which a step ends behind one of the parts; its state is a slice of what there is then."""

    last: str = PARTS[-1]

    def step(self, builder: OpBuilder, row: int, states: tuple[int | None, ...]) -> tuple[int, ...]:
        h, c = states
        if self.last == PARTS[-1] or h is None:
            return super().step(builder, row, states)
        assert c is not None
        if self.last == PARTS[0]:
            values = builder.fully_connected(h, self._packed("recurrent_to_{}_weights"))
        else:
            values = self._sums(builder, row, h)
        if self.last == PARTS[2]:
            opened = self._activated_at_once(builder, values)
            builder.unary("TANH", opened["cell"])
            return opened["output"], c
        return builder.slice(values, [0, 0], [1, self.weights.units]), c


def file_of(cell: LstmCell, steps: int) -> bytes:
    """A file with one layer, unrolled: [1, steps, input_size] to [1, steps, units]."""
    model, subgraph = schema.ModelT(), schema.SubGraphT()
    model.version, model.buffers, model.operatorCodes = 3, [schema.BufferT()], []
    model.subgraphs, model.signatureDefs, model.metadata = [subgraph], [], []
    subgraph.tensors, subgraph.name = [], b"main"
    inputs = edit.add_tensor(subgraph, "input", [1, steps, cell.weights.input_size])
    outputs = edit.add_tensor(subgraph, "outputs", [1, steps, cell.weights.units])
    recurrence = Recurrence("lstm", cell, inputs, outputs, start=(None, None), last=((), ()), batch=1, steps=steps)
    subgraph.operators = emit(model, subgraph, recurrence, form="unrolled")
    subgraph.inputs, subgraph.outputs = [inputs], [outputs]
    return files.write_model(model)


def weights_of(units: int, input_size: int) -> GateWeights:
    """Random weights that keep the gates away from their bounds."""
    random = np.random.default_rng(0)
    operands = {}
    for gate in ("input", "forget", "cell", "output"):
        operands[f"input_to_{gate}_weights"] = random.normal(0, input_size**-0.5, (units, input_size))
        operands[f"recurrent_to_{gate}_weights"] = random.normal(0, units**-0.5, (units, units))
        operands[f"{gate}_gate_bias"] = random.normal(0, 0.1, units)
    return GateWeights.from_operands(operands)


def profile(units: int, input_size: int, seconds: float) -> dict[str, tuple[float, int]]:
    """For each part the nanoseconds and the number of ops that it adds to a step."""
    calls, ops = {}, {}
    for part in PARTS:
        cell = Begun(weights_of(units, input_size), last=part)
        for steps in LENGTHS:
            data = file_of(cell, steps)
            values = np.random.default_rng(1).normal(size=(1, steps, input_size)).astype(np.float32)
            calls[part, steps] = Runner(data, runtime="compiled").bound(input=values)[0]
            ops[part, steps] = len(files.read_model(data).subgraphs[0].operators)
    times, span = stopwatch(calls, seconds), LENGTHS[1] - LENGTHS[0]
    found, before = {}, (0.0, 0)
    for part in PARTS:
        step = 1e3 * (times[part, LENGTHS[1]] - times[part, LENGTHS[0]]) / span
        count = (ops[part, LENGTHS[1]] - ops[part, LENGTHS[0]]) // span
        # All but the whole step end in a SLICE that the next part does not have.
        found[part] = step - before[0], count - before[1]
        before = step, count
    return found


@click.command()
@click.option("--units", type=click.IntRange(min=1), multiple=True, default=(20, 64, 128, 256), show_default=True)
@click.option("--input-size", type=click.IntRange(min=1), default=32, show_default=True)
@click.option("--seconds", type=click.FloatRange(min=0.1), default=20.0, show_default=True, help="For each size.")
def main(units: tuple[int, ...], input_size: int, seconds: float) -> None:
    """Prints, in Markdown, what each part of a step costs on CompiledModel: batch 1, one thread, float32."""
    profiles = [profile(each, input_size, seconds) for each in units]
    click.echo("| ns a step (ops) | " + " | ".join(f"{each} units" for each in units) + " |")
    click.echo("|---" * (len(units) + 1) + "|")
    for part in PARTS:
        click.echo(f"| {part} | " + " | ".join("{:.0f} ({})".format(*each[part]) for each in profiles) + " |")
    totals = [(sum(time for time, _ in each.values()), sum(count for _, count in each.values())) for each in profiles]
    click.echo("| whole step | " + " | ".join(f"{time:.0f} ({count})" for time, count in totals) + " |")


if __name__ == "__main__":
    main()
