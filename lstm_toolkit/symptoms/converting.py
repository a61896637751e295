"""Symptoms that are met when a model is converted, or in what comes out."""

from lstm_toolkit.symptoms.values import Symptom

_CONVERT = "lstm-toolkit convert model.keras -o model.tflite"
_DIAGNOSE = "lstm-toolkit diagnose model.tflite"
_ONE_OP = """The LSTM is one `UNIDIRECTIONAL_SEQUENCE_LSTM`, and the file was compared with the model, several calls in
    a row."""

CONVERTING = (
    Symptom(
        code="tensor-list-reserve",
        title="Conversion fails on TensorListReserve",
        signs=("Keras LSTM with open batch size None cannot be converted", "tensor list ops lowering"),
        messages=(
            "'tf.TensorListReserve' op requires element_shape to be static during TF Lite transformation pass",
            "failed to legalize operation 'tf.TensorListReserve' that was explicitly marked illegal",
            "Lowering tensor list ops is failed. Please consider using Select TF ops and disabling "
            "`_experimental_lower_tensor_list_ops` flag in the TFLite converter object.",
        ),
        meaning="""Keras's LSTM is a loop that collects its outputs in a list of tensors. The converter can turn this
            list into one tensor only if it knows the whole shape of an element, and the batch of your model is open
            (`None`). What the message advises gives a file that most runtimes cannot run.""",
        see="lstm-toolkit diagnose model.keras",
        shows="open-batch",
        mend=_CONVERT,
        after=_ONE_OP + " The batch is 1, or what `--batch-size` says.",
        threads=("tensorflow/tensorflow#62849", "tensorflow/tensorflow#68797", "tensorflow/tensorflow#53101"),
    ),
    Symptom(
        code="flex-ops",
        title="The file needs Select TensorFlow ops",
        signs=(
            "flex delegate TensorListReserve TensorListSetItem TensorListStack",
            "model.export litert of a Keras LSTM does not run",
        ),
        messages=(
            "Select TensorFlow op(s), included in the given model, is(are) not supported by this interpreter. Make "
            "sure you apply/link the Flex delegate before inference.",
            "Node number ... (FlexTensorListReserve) failed to prepare.",
        ),
        meaning="""The file holds ops of TensorFlow itself, which need a part of TensorFlow on the device (the Flex
            delegate). It was converted with `SELECT_TF_OPS`, or by `model.export(format="litert")`, which allows
            these ops without asking. For an LSTM they are the lists in which the loop collects its outputs.""",
        see=_DIAGNOSE,
        shows="flex-op",
        mend=_CONVERT,
        after=_ONE_OP + " No op of TensorFlow is left.",
        threads=("tensorflow/tensorflow#62097", "google-ai-edge/LiteRT#41", "tensorflow/tensorflow#77704"),
    ),
    Symptom(
        code="unresolved-custom-op",
        title="A custom op is unresolved, and it is a TensorFlow op",
        signs=("allow_custom_ops TensorListReserve custom op",),
        messages=(
            "Encountered unresolved custom op: TensorListReserve.",
            "Node number ... (TensorListReserve) failed to prepare.",
        ),
        meaning="""The converter was told to let pass what it cannot convert (`allow_custom_ops = True`), and so it
            did. No runtime has an op of this name: it is the list of TensorFlow in which the loop of an LSTM
            collects its outputs.""",
        see="lstm-toolkit inspect model.tflite",
        shows="TensorListReserve",
        mend=_CONVERT,
        after=_ONE_OP,
        threads=("tensorflow/tensorflow#44424", "tensorflow/tensorflow#37003"),
    ),
    Symptom(
        code="while-instead-of-lstm",
        title="An LSTM became a WHILE loop instead of UNIDIRECTIONAL_SEQUENCE_LSTM",
        signs=(
            "Keras 3 LSTM not fused in TFLite since TensorFlow 2.16 or 2.17",
            "WHILE op in place of fused UnidirectionalSequenceLSTM",
            "WHILE loop hangs or is slow on microcontroller board",
            "fused or non-fused by Keras version",
        ),
        messages=(),
        meaning="""Keras 2 marked its LSTM as one, and the converter made a fused op of it. Keras 3 does not, and
            what comes out is a loop over time in subgraphs of its own, with some twenty small ops a step. A
            microcontroller runs each of them through the interpreter, step by step, which can look as if it hung.""",
        see=_DIAGNOSE,
        shows="loop-lstm",
        mend="lstm-toolkit repair model.tflite -o mended.tflite",
        after="""The loop in the file becomes the fused op, without the source model. Or convert the Keras model:
            `lstm-toolkit convert model.keras -o model.tflite`, with `--target micro` for a microcontroller.""",
        threads=("tensorflow/tensorflow#126061", "tensorflow/tflite-micro#3674", "google-ai-edge/LiteRT#41"),
    ),
    Symptom(
        code="rnn-of-cells",
        title="RNN(LSTMCell(...)) is not fused",
        signs=("LSTMCell in RNN layer becomes while loop", "RNN of cells too large when unrolled"),
        messages=(),
        meaning="""Only `layers.LSTM` of Keras 2 is marked for the converter. `layers.RNN` around an `LSTMCell`
            computes the same and comes out as a loop, or as one copy of the cell a step with `unroll=True`.""",
        see=_DIAGNOSE,
        shows="loop-lstm",
        mend=_CONVERT,
        after=_ONE_OP + " Stacked cells become one op each.",
        threads=("tensorflow/tflite-micro#1243", "tensorflow/tflite-micro#1570"),
    ),
    Symptom(
        code="states-in-and-out",
        title="An LSTM that takes and gives its states becomes a loop",
        signs=("initial_state and return_state LSTM not fused", "hidden states manipulation streaming while loop"),
        messages=(),
        meaning="""The model has h and c as inputs and outputs, to go on where it was. The fused op keeps its states
            inside, so the converter makes a loop of such a layer, with Keras 2 too.""",
        see=_DIAGNOSE,
        shows="loop-lstm",
        mend=_CONVERT,
        after="""The states are copied into the fused op before a call and out of it after. For a model without
            states of its own, `--state explicit` adds them.""",
        threads=("tensorflow/tensorflow#62775", "tensorflow/tensorflow#41023"),
    ),
    Symptom(
        code="no-trackable",
        title="from_concrete_functions does not fuse what from_keras_model fuses",
        signs=("from_saved_model converts LSTM to fused op but from_concrete_functions does not",),
        messages=(
            "Please consider providing the trackable_obj argument in the from_concrete_functions. Providing without "
            "the trackable_obj argument is deprecated and it will use the deprecated conversion path.",
        ),
        meaning="""Without the object that owns the variables, the converter inlines every function before it looks
            for those that are marked as an LSTM.""",
        see=_DIAGNOSE,
        shows="loop-lstm",
        mend='lstm_toolkit.convert(model).save("model.tflite")',
        after="""With the stock converter, pass the model as second argument: `from_concrete_functions([function],
            model)`.""",
        threads=("tensorflow/tensorflow#41653",),
    ),
    Symptom(
        code="unset-variable",
        title="A variable is read that nothing set",
        signs=(
            "resource variables ReadVariableOp not initialized in converted LSTM",
            "VAR_HANDLE without initial value",
        ),
        messages=("variable != nullptr was not true.Node number ... (READ_VARIABLE) failed to invoke.",),
        meaning="""The weights of a Keras 3 model stand behind objects of its own, in which the converter does not
            find TensorFlow's variables. Given such a model as second argument of `from_concrete_functions`, it
            leaves the weights out, and the file reads variables that nobody sets.""",
        see=_DIAGNOSE,
        shows="unset-variable",
        mend='lstm_toolkit.convert(model).save("model.tflite")',
        after="The weights are constants of the file.",
        threads=("tensorflow/tensorflow#46006",),
    ),
    Symptom(
        code="mlir-to-flatbuffer",
        title="The model cannot be translated, for it never saw an input",
        signs=("model not built input shapes have not been set converter",),
        messages=(
            "Could not translate MLIR to FlatBuffer.",
            "cannot be saved because the input shapes have not been set. Usually, input shapes are automatically "
            "determined from calling `.fit()` or `.predict()`.",
        ),
        meaning="""The model has no shapes yet, so there is nothing to convert: a `Sequential` without `Input`, or a
            subclass that was never called. With tf_keras the converter goes on and says only that it could not write
            the file. It says the same where a model has several functions of its own.""",
        see="",
        shows="",
        mend="""
specification = tf.TensorSpec([1, 7, 5])  # batch, time, features
lstm_toolkit.convert(model, input_signature=[specification]).save("model.tflite")""",
        after="",
        threads=("tensorflow/tensorflow#124220", "Leonardo-Blanger/detr_tensorflow#8"),
    ),
    Symptom(
        code="unrolled",
        title="An LSTM is unrolled into small ops, and the file grows with every time step",
        signs=(
            "LSTM unrolled and decomposed after conversion litert-torch ai-edge-torch",
            "unroll=True thousands of FULLY_CONNECTED LOGISTIC TANH MUL ops",
        ),
        messages=(),
        meaning="""Each time step has its own copy of the cell's arithmetic. PyTorch's converter always does so;
            TensorFlow's does with `unroll=True`, which was once the advice for microcontrollers.""",
        see=_DIAGNOSE,
        shows="unrolled-lstm",
        mend=_CONVERT,
        after=_ONE_OP
        + """ What `unroll` says does not matter. A PyTorch module converts in the same way, with example inputs as
            `input_signature`. Where there is only the file, as from PyTorch's converter,
            `lstm-toolkit repair model.tflite -o mended.tflite` makes the op of the steps.""",
        threads=("google-ai-edge/litert-torch#53", "tensorflow/tensorflow#37023"),
    ),
    Symptom(
        code="masks",
        title="A mask keeps an LSTM from being fused, or is ignored",
        signs=(
            "Masking layer or mask_zero ignored by fused LSTM",
            "padding changes the result in TFLite",
            "Embedding mask_zero LSTM becomes while loop",
        ),
        messages=(),
        meaning="""The fused op knows no mask. The converter makes a loop of a layer that gets one; and where an LSTM
            was fused without its mask, padded steps are computed like any other, which nobody says.""",
        see="lstm-toolkit inspect model.tflite",
        shows="WHILE",
        mend=_CONVERT,
        after="""The mask is computed around the fused op, exactly: padding on either side, holes, and rows without a
            valid step.""",
        threads=("tensorflow/tensorflow#49936", "onnx/tensorflow-onnx#1871"),
    ),
    Symptom(
        code="stateful-variables",
        title="A stateful LSTM brings VAR_HANDLE, ASSIGN_VARIABLE and CALL_ONCE",
        signs=("VAR_HANDLE requires resource variables stateful LSTM", "cannot convert stateful=True LSTM"),
        messages=("Input 0 of node ... was passed float from ... incompatible with expected resource.",),
        meaning="""A stateful layer keeps its states in variables, which become resource variables of the file, set
            once by a subgraph of their own. Small devices need room for them, and the LSTM is a loop beside them.
            With some ways into the converter it fails instead.""",
        see="lstm-toolkit inspect model.tflite",
        shows="VAR_HANDLE",
        mend=_CONVERT,
        after="""The states are those of the fused op, and live on from call to call; with `--state explicit` they
            are inputs and outputs.""",
        threads=("tensorflow/tflite-micro#2101", "tensorflow/tensorflow#38312", "tensorflow/tensorflow#37659"),
    ),
    Symptom(
        code="gru",
        title="A GRU becomes a loop, which does not run on small runtimes",
        signs=("GRU while loop TFLite", "no fused op for GRU"),
        messages=(),
        meaning="There is no fused op for a GRU, so the converter writes a loop of some twenty ops a step.",
        see="lstm-toolkit inspect model.tflite",
        shows="WHILE",
        mend=_CONVERT + " --lowering unrolled",
        after="""Plain ops without variables: the product with the input is computed once for all steps, and one copy
            of the rest a step. `--lowering loop` keeps long sequences small.""",
        threads=("tensorflow/tensorflow#97941", "tensorflow/tensorflow#56734"),
    ),
)
