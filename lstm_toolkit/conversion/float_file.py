"""The float32 file that a model became, its comparison with the model, and inputs to compare other files with it on."""

import dataclasses
import re
from collections.abc import Sequence

import numpy as np

from lstm_toolkit.conversion import parity
from lstm_toolkit.conversion.owners import owners_in_file
from lstm_toolkit.conversion.report import Checked, ConversionReport
from lstm_toolkit.errors import ConversionError, InvalidModelError
from lstm_toolkit.passes.plain.lower import UNROLLED, Write
from lstm_toolkit.quantization.samples import Samples
from lstm_toolkit.runtime.compare import finite_share
from lstm_toolkit.runtime.first_run import refuse_ended
from lstm_toolkit.runtime.random_inputs import DOMAINS, Draw
from lstm_toolkit.runtime.runner import Runner
from lstm_toolkit.sources.traced import TracedModel
from lstm_toolkit.tflite import files

OUTSIDE = "take that out of the model, and compute it outside of the file"


@dataclasses.dataclass(frozen=True)
class FloatFile:
    """A float32 file, with what it was made of.

    Attributes:
        traced: the model.
        tflite: the bytes of the file.
        report: what became of each layer; nothing is verified yet.
        carried: the layers whose state the file carries.
        unrolled: the same file with its layers unrolled, to take ranges on; None if it was not asked for, or needed.
        whole: the same file with its layers whole; None if it was not asked for.
        write: makes plain ops of a layer, such as they are in this file.
    """

    traced: TracedModel
    tflite: bytes
    report: ConversionReport
    carried: frozenset[str]
    unrolled: bytes | None = None
    whole: bytes | None = None
    write: Write = UNROLLED

    def verify(
        self,
        samples: Sequence[parity.Inputs] = (),
        *,
        tflite: bytes | None = None,
        runtime: str = "interpreter",
        num_threads: int = 1,
    ) -> Checked:
        """Compares the file, or another one that was made of it, with the source, as `parity.verify` does."""
        # A function that is marked to carry its state in the file has none of its own.
        function_carries = self.traced.layers is None and bool(self.carried)
        tflite = tflite or self.tflite
        try:
            return parity.verify(
                tflite,
                self.traced,
                reset=function_carries,
                runtime=runtime,
                num_threads=num_threads,
                samples=samples,
            )
        except InvalidModelError as error:
            refuse_ended(tflite, error, remedy=OUTSIDE, runtime=runtime)
            found = re.search(r"(.*?)\.?Node number \d+ \((\w+)\) failed", str(error.__cause__))
            if found is None:
                raise
            raise ConversionError(
                f"LiteRT cannot run {found[2]} as {owners_in_file(files.read_model(tflite), found[2])} needs it "
                f"({found[1]}); {OUTSIDE}"
            ) from error


def random_samples(file: FloatFile, count: int = 8) -> Samples:
    """Random inputs to compare other files with a float32 file on: from a domain where its outputs are finite."""
    runner, found = Runner(file.tflite), []
    for domain in DOMAINS:
        random = np.random.default_rng(0)
        drawn = [parity.draw(file.traced, runner, random, Draw(domain=domain, turn=turn)) for turn in range(count)]
        samples = [dict(call.inputs) for call in drawn]
        found.append((finite_share(*(runner.outputs(**sample) for sample in samples)), samples))
        if found[-1][0] >= parity.LEAST_FINITE[0]:
            break
        runner.reset()
    return max(found, key=lambda each: each[0])[1]
