"""The forms of a float file that quantizing it to integers needs."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class FloatForms:
    """A float file.

    Attributes:
        tflite: the file that is quantized.
        unrolled: the same with its recurrent layers unrolled, if they are loops, of which no ranges can be taken.
    """

    tflite: bytes
    unrolled: bytes | None = None
