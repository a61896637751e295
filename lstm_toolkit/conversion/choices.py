"""The values of options, apart from their checks, so that the command line starts without loading anything."""

CHOICES: dict[str, tuple[str | None, ...]] = {
    "lowering": ("fused", "unrolled", "loop", "auto"),
    "caches": ("cold", "hot"),
    "state": ("auto", "reset", "carry", "explicit"),
    "bidirectional": ("fused", "split"),
    "on_unsupported": ("raise", "keep"),
    "target": ("litert", "compiled", "micro", None),
    "quantization": ("dynamic", "float16", "int8", "int16x8", None),
    "io_dtype": ("float32", "int8", "int16", "uint8"),
}
"""The values that each option of `convert` can have, in Python and on the command line; io_dtype also two of them."""
