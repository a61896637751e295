"""Runs files on the interpreter of TensorFlow Lite Micro, without the package."""

import subprocess
import sys

import numpy as np
from ai_edge_litert.interpreter import Interpreter

ON_MICRO = """
import sys, numpy as np
from tflite_micro import runtime
data = np.load(sys.argv[1], allow_pickle=True).item()
results = {}
for name, (tflite, calls, outputs) in data.items():
    interpreter = runtime.Interpreter.from_bytes(tflite, arena_size=1 << 20)
    results[name] = []
    for arrays in calls:
        for place, array in enumerate(arrays):
            interpreter.set_input(array, place)
        interpreter.invoke()
        results[name].append([np.array(interpreter.get_output(place)) for place in range(outputs)])
np.save(sys.argv[2], results, allow_pickle=True)
"""


def on_micro(folder, files):
    """The outputs of the calls in a row, in the order of each file's outputs, for many files in one process.

    `files` has bytes and calls by name; a call is the inputs in the order of the file.
    """
    sizes = {name: len(Interpreter(model_content=tflite).get_output_details()) for name, (tflite, _) in files.items()}
    asked = {name: (tflite, calls, sizes[name]) for name, (tflite, calls) in files.items()}
    np.save(folder / "asked.npy", asked, allow_pickle=True)
    program = [sys.executable, "-c", ON_MICRO, folder / "asked.npy", folder / "answers.npy"]
    subprocess.run(program, check=True, timeout=120, capture_output=True)
    return np.load(folder / "answers.npy", allow_pickle=True).item()
