"""Symptoms that are met when a file runs on the LiteRT interpreter or on CompiledModel."""

from lstm_toolkit.symptoms.values import Symptom

_RUN = """
run = lstm_toolkit.Runner("model.tflite")
y = run(x)"""

RUNNING = (
    Symptom(
        code="second-call",
        title="The second call gives another result than the first",
        signs=(
            "same input different output TFLite LSTM every invoke",
            "reset_all_variables needed between calls",
            "previous inference affects the next one",
        ),
        messages=(),
        meaning="""The states of a fused LSTM live in the interpreter, and a call starts where the last one ended.
            Keras starts at zero each time; nothing in the file says so.""",
        see="lstm-toolkit diagnose model.tflite",
        shows="state-leak",
        mend="lstm-toolkit repair model.tflite -o mended.tflite",
        after="""The file clears its states itself, at every call, on every runtime. (`reset_all_variables` does from
            outside, in Python; there is none in some other languages.) The same command takes off a clip of the cell
            at 10, which Keras does not have.""",
        threads=("tensorflow/tensorflow#47813", "tensorflow/flutter-tflite#111", "tensorflow/tensorflow#46620"),
    ),
    Symptom(
        code="dimension-mismatch",
        title="An input with open time steps has shape [1, 1, ...]",
        signs=("input shape 1 1 dynamic time steps sequence length None", "variable sequence length input shape"),
        messages=("Cannot set tensor: Dimension mismatch. Got ... but expected 1 for dimension 1 of input",),
        meaning="""The number of steps is open in the file, which stores 1 for it. The interpreter takes this for the
            size until the input is resized.""",
        see="lstm-toolkit inspect model.tflite",
        shows="-1",
        mend=_RUN,
        after="""`Runner` resizes inputs as needed. With the interpreter: `resize_tensor_input`, then
            `allocate_tensors`. To fix the number in the file: `lstm-toolkit convert model.keras -o model.tflite
            --time-steps 7`.""",
        threads=("tensorflow/tensorflow#38776", "breizhn/DTLN#6"),
    ),
    Symptom(
        code="batch-of-fused",
        title="A fused LSTM cannot be resized to another batch",
        signs=("fused LSTM multiple batch size resize_tensor_input",),
        messages=(
            "NumElements(output_state) != static_cast<int64_t>(n_batch) * n_output (...)Node number ... "
            "(UNIDIRECTIONAL_SEQUENCE_LSTM) failed to prepare.",
        ),
        meaning="""The states of the op are tensors of the file, with one row a row of the batch. They do not grow
            with the input.""",
        see="lstm-toolkit inspect model.tflite",
        shows="[1, 7, 5]",
        mend="lstm-toolkit convert model.keras -o model.tflite --batch-size 3",
        after="Make one file a size of the batch. Time steps may stay open.",
        threads=("tensorflow/tensorflow#50598", "tensorflow/tensorflow#51561"),
    ),
    Symptom(
        code="batch-of-loop",
        title="The loop of an LSTM cannot be resized to another batch",
        signs=("WHILE loop LSTM batch size resize RESHAPE failed",),
        messages=(
            "num_input_elements != num_output_elements (...)Node number ... (RESHAPE) failed to prepare.",
            "XNNPack delegate failed to reshape runtimeNode number ... (TfLiteXNNPackDelegate) failed to prepare.",
        ),
        meaning="""The batch was fixed when the model was converted, and stands in constants all over the loop: in
            shapes, and in the states that it starts from.""",
        see="lstm-toolkit inspect model.tflite",
        shows="[1, 7, 5]",
        mend="lstm-toolkit convert model.keras -o model.tflite --batch-size 3",
        after="Make one file a size of the batch.",
        threads=("tensorflow/tensorflow#43480", "tensorflow/tensorflow#37706"),
    ),
    Symptom(
        code="type-of-input",
        title="The input has another type than the file",
        signs=("float64 numpy input interpreter float32",),
        messages=("Cannot set tensor: Got value of type FLOAT64 but expected type FLOAT32 for input ..., name:",),
        meaning="""NumPy computes in float64 unless it is told otherwise, and the interpreter converts nothing.""",
        see="lstm-toolkit inspect model.tflite",
        shows="float32",
        mend=_RUN,
        after="`Runner` takes any floats for a float input. With the interpreter: `x.astype(np.float32)`.",
        threads=("tensorflow/tensorflow#34296", "aiden-dai/ai-tflite-opencv#1"),
    ),
    Symptom(
        code="internal-reference",
        title="The interpreter says that there is a reference to internal data",
        signs=("interpreter.tensor reference held",),
        messages=(
            "There is at least 1 reference to internal data in the interpreter in the form of a numpy array or "
            "slice. Be sure to only hold the function returned from tensor() if you are using raw data access.",
        ),
        meaning="""An array that `interpreter.tensor(index)()` gave is memory of the interpreter, which may move when
            it runs or is resized. So it refuses while the array is alive, also as a slice, or in a variable of a
            debugger or of a notebook.""",
        see="",
        shows="",
        mend=_RUN,
        after="`Runner` returns copies. With the interpreter: `get_tensor(index)` in place of `tensor(index)()`.",
        threads=("google-coral/tflite#42", "larq/compute-engine#581"),
    ),
    Symptom(
        code="null-tensor",
        title="The inside of an LSTM cannot be read from the interpreter",
        signs=("read gates hidden states intermediate tensors of LSTM from interpreter",),
        messages=("Tensor data is null. Run allocate_tensors() first",),
        meaning="""`get_tensor` reads what still lies in memory after a call. What a delegate computes is never
            there, other memory is used again, and the gates of a fused op are no tensors at all.""",
        see="",
        shows="",
        mend="""
found = lstm_toolkit.gate_activations("model.tflite", x)
print(found.f.shape)  # the forget gate: batch, time, units""",
        after="",
        threads=("tensorflow/tensorflow#57971",),
    ),
    Symptom(
        code="interpreter-deprecated",
        title="tf.lite.Interpreter is deprecated",
        signs=("migrate from tf.lite.Interpreter to LiteRT",),
        messages=(
            "Warning: tf.lite.Interpreter is deprecated and is scheduled for deletion in TF 2.20. Please use the "
            "LiteRT interpreter from the ai_edge_litert package.",
        ),
        meaning="""The interpreter has a package of its own now, without TensorFlow. It runs the same files;
            TensorFlow 2.21 still has the old one.""",
        see="",
        shows="",
        mend=_RUN,
        after="`Runner` uses the new one, which is `ai_edge_litert.interpreter.Interpreter`.",
        threads=("OHF-Voice/micro-wake-word#85", "google-ai-edge/LiteRT#4049"),
    ),
    Symptom(
        code="variable-tensors",
        title="CompiledModel does not take variable tensors",
        signs=("LiteRT CompiledModel fused LSTM variable tensors", "failed to load model CompiledModel LSTM"),
        messages=("Variable tensors not yet supported.", "Failed to load model from buffer"),
        meaning="""The states of every fused LSTM are variable tensors, and LiteRT's newer interface refuses any file
            that has one, wherever it comes from.""",
        see="lstm-toolkit diagnose model.tflite --target compiled",
        shows="variable-tensors",
        mend="lstm-toolkit convert model.keras -o model.tflite --target compiled",
        after="""The LSTM is plain ops without variables. `lstm-toolkit lower model.tflite -o lowered.tflite` does
            the same to a file.""",
        threads=("google-ai-edge/LiteRT/blob/main/litert/core/model/model_load.cc",),
    ),
)
