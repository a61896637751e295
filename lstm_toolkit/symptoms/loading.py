"""Symptoms that are met when a model is made or loaded."""

from lstm_toolkit.symptoms.values import Symptom

LOADING = (
    Symptom(
        code="time-major",
        title="Keras 3 does not know time_major",
        signs=("load old Keras 2 h5 file of an LSTM or GRU in Keras 3", "unrecognized keyword time_major"),
        messages=("Unrecognized keyword arguments passed to ...: {'time_major': False}",),
        meaning="""The file was written by Keras 2, whose recurrent layers had an argument `time_major` that Keras 3
            does not have. The argument stands in the file even where the model never used it.""",
        see="",
        shows="",
        mend="lstm-toolkit convert model.h5 -o model.tflite",
        after="""The file is loaded with tf_keras, if that is installed (`pip install tf_keras`). A file with the
            suffix `.keras` that Keras 2 wrote is told from one of Keras 3 in the same way.""",
        threads=("keras-team/keras#20750", "jongwon-han/RPNet#1"),
    ),
    Symptom(
        code="batch-shape",
        title="Keras 2 does not know batch_shape",
        signs=("load new Keras 3 file in old Keras 2, tf_keras or TensorFlow 2.15", "unrecognized keyword batch_shape"),
        messages=(
            "Error when deserializing class 'InputLayer' using config=",
            "Exception encountered: Unrecognized keyword arguments: ['batch_shape']",
        ),
        meaning="""The file was written by Keras 3, and Keras 2 reads it: an older TensorFlow, tf_keras, or a process
            in which `TF_USE_LEGACY_KERAS=1` is set.""",
        see="",
        shows="",
        mend="lstm-toolkit convert model.keras -o model.tflite",
        after="The file is loaded with Keras 3. In Python, `keras.saving.load_model` does the same.",
        threads=("tensorflow/tensorflow#66381", "tensorflow/tensorflow#64685"),
    ),
    Symptom(
        code="saved-model",
        title="Keras 3 does not load the folder of a SavedModel",
        signs=("load SavedModel folder in Keras 3", "TFSMLayer for an old LSTM model"),
        messages=(
            "File format not supported: filepath=... Keras 3 only supports V3 `.keras` files, legacy H5 format files",
        ),
        meaning="""`load_model` of Keras 3 reads single files alone. What tf_keras saved as a folder is a SavedModel;
            each LSTM in it is still marked as one, so that it can be converted as it is.""",
        see="",
        shows="",
        mend='conversion = lstm_toolkit.convert("saved_model")\nconversion.save("model.tflite")',
        after="""On the command line, `lstm-toolkit convert saved_model -o model.tflite`. A SavedModel is code, which
            runs when it is loaded. One that Keras 3 exported is refused, unless it was exported inside `with
            lstm_toolkit.fusable_lstms():`; then convert the Keras model itself.""",
        threads=("unicode-org/lstm_word_segmentation#28", "CCSI-Toolset/FOQUS#1202"),
    ),
    Symptom(
        code="lambda",
        title="A Lambda layer is not loaded",
        signs=("load model with Lambda layer", "unable to restore Lambda function in safe mode"),
        messages=("Requested the deserialization of a `Lambda` layer whose `function` is a Python lambda.",),
        meaning="""The file holds Python code, the function of a `Lambda` layer, which runs when the model does.
            Keras and `lstm-toolkit` load no such file by themselves.""",
        see="",
        shows="",
        mend="""
model = keras.saving.load_model("model.keras", safe_mode=False)  # runs code out of the file
lstm_toolkit.convert(model).save("model.tflite")""",
        after="Do so only with a file that you trust. A layer of your own with a `call` needs no `Lambda`.",
        threads=("keras-team/tf-keras#44", "thaler-lab/EnergyFlow#74"),
    ),
    Symptom(
        code="batch-input-shape",
        title="Keras 3 does not know batch_input_shape",
        signs=("batch_input_shape or batch_size passed to LSTM in Keras 3",),
        messages=("Unrecognized keyword arguments passed to ...: {'batch_input_shape': ...}",),
        meaning="""Code for Keras 2 gave the first layer the shape of its input. In Keras 3 an `Input` has it, with
            the size of the batch.""",
        see="",
        shows="",
        mend="""
model = keras.Sequential([keras.Input((7, 5), batch_size=1), keras.layers.LSTM(6, stateful=True)])
lstm_toolkit.convert(model).save("model.tflite")""",
        after="",
        threads=("keras-team/keras#20106",),
    ),
    Symptom(
        code="stateful-batch",
        title="A stateful layer needs a fixed batch",
        signs=("stateful LSTM dynamic batch size",),
        messages=(
            "When using `stateful=True` in a RNN, the batch size must be static. Found dynamic batch size: "
            "sequence.shape=",
        ),
        meaning="""A stateful layer keeps one state a row of the batch, so it has to know how many rows there are
            before it is called.""",
        see="",
        shows="",
        mend="""
model = keras.Sequential([keras.Input((7, 5), batch_size=2), keras.layers.LSTM(6, stateful=True)])
lstm_toolkit.convert(model).save("model.tflite")""",
        after="""In the file, the state lives on from call to call, as it does in Keras; `Runner.reset` clears it.
            With `state="explicit"` it is an input and an output instead.""",
        threads=("tensorflow/tensorflow#64061",),
    ),
    Symptom(
        code="use-cudnn",
        title="use_cudnn=True does not run, or cannot be traced, on a CPU",
        signs=("cuDNN LSTM on CPU", "CudnnRNNV3 in the graph of an LSTM", "convert LSTM trained on GPU with cudnn"),
        messages=(
            "use_cudnn=True was specified, but cuDNN is not supported for this layer configuration with this backend.",
        ),
        meaning="""The layer asks for NVIDIA's kernel, and there is none: no GPU, or a backend or a layer that has
            none. The weights are the same for every kernel.""",
        see="",
        shows="",
        mend="""
model.get_layer("recurrent").use_cudnn = "auto"
lstm_toolkit.convert(model).save("model.tflite")""",
        after="The argument is an attribute of each recurrent layer, and may be changed after training.",
        threads=("keras-team/keras#22274", "keras-team/keras#19647"),
    ),
)
