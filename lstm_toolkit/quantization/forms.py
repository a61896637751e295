"""The forms of a float file that quantizing it to integers needs."""

import dataclasses

from lstm_toolkit.passes.plain.lower import UNROLLED, Write


@dataclasses.dataclass(frozen=True)
class FloatForms:
    """A float file.

    Attributes:
        tflite: the file that is quantized.
        unrolled: the same with its recurrent layers unrolled, if they are loops, of which no ranges can be taken.
        whole: the same with each recurrent layer as one op; None if the file is not made of such.
        write: makes plain ops of such a layer, such as they are in `tflite`.
    """

    tflite: bytes
    unrolled: bytes | None = None
    whole: bytes | None = None
    write: Write = UNROLLED
