"""Symptoms that are met on TensorFlow Lite Micro."""

from lstm_toolkit.symptoms.values import Symptom

_CONVERT = "lstm-toolkit convert model.keras -o model.tflite --target micro"
_DIAGNOSE = "lstm-toolkit diagnose model.tflite --target micro"

MICRO = (
    Symptom(
        code="micro-op",
        title="An op is not found on a microcontroller",
        signs=("op not registered in resolver TFLite Micro bidirectional LSTM", "AllocateTensors failed missing op"),
        messages=("Didn't find op for builtin opcode", "Failed to get registration from op code"),
        meaning="""The runtime has no such op, or the resolver of the application did not add it. TensorFlow Lite
            Micro has one recurrent op, `UNIDIRECTIONAL_SEQUENCE_LSTM`; it has no `BIDIRECTIONAL_SEQUENCE_LSTM`, no
            `SELECT`, no `TILE` and no `REDUCE_ANY`.""",
        see=_DIAGNOSE,
        shows="micro-op",
        mend=_CONVERT,
        after="""Only ops that are there are used: two ops for the two directions, say. `lstm-toolkit export
            model.tflite -o folder` lists what the resolver has to add. Without the model, `lstm-toolkit repair
            model.tflite -o mended.tflite --target micro` writes such ops as others, if some compute the same.""",
        threads=("tensorflow/tflite-micro#622", "tensorflow/tensorflow#59042"),
    ),
    Symptom(
        code="micro-custom",
        title="A microcontroller finds no registration for CUSTOM",
        signs=("select tf ops on TFLite Micro custom op",),
        messages=("Failed to get registration from op code CUSTOM",),
        meaning="""The file needs an op of TensorFlow (Flex), or a custom op. TensorFlow Lite Micro has nothing for
            the former. For an LSTM of Keras it is the list in which the loop collects its outputs.""",
        see=_DIAGNOSE,
        shows="flex-op",
        mend=_CONVERT,
        after="",
        threads=("tensorflow/tflite-micro#1953",),
    ),
    Symptom(
        code="micro-hybrid",
        title="A microcontroller refuses int8 weights beside float inputs",
        signs=("hybrid models are not supported on TFLite Micro dynamic range quantization",),
        messages=(
            "Input type: FLOAT32 with filter type: INT8 not supported.",
            "Node FULLY_CONNECTED (number ...) failed to prepare with status 1",
        ),
        meaning="""The file was converted with `Optimize.DEFAULT` and without a representative dataset: weights of 8
            bits, and all else float. TensorFlow Lite Micro computes with floats or with integers alone.""",
        see=_DIAGNOSE,
        shows="micro-hybrid",
        mend=_CONVERT,
        after="""The file is float. For integers throughout, give samples: `lstm_toolkit.convert(model,
            target="micro", quantization="int8", representative_dataset=samples)`.""",
        threads=("tensorflow/tensorflow#64223", "tensorflow/tflite-micro#1556"),
    ),
    Symptom(
        code="micro-float16",
        title="A microcontroller refuses float16 weights",
        signs=("float16 quantized model TFLite Micro DEQUANTIZE",),
        messages=(
            "input->type == kTfLiteInt8 || input->type == kTfLiteInt16 || input->type == kTfLiteUInt8 was not true.",
            "Node DEQUANTIZE (number ...) failed to prepare with status 1",
        ),
        meaning="""Weights stored as float16 go through a `DEQUANTIZE` first, and TensorFlow Lite Micro has no kernel
            that reads float16.""",
        see=_DIAGNOSE,
        shows="micro-float16",
        mend=_CONVERT,
        after="The file is float32; int8 throughout is a quarter of it.",
        threads=("tensorflow/tflite-micro#2587",),
    ),
    Symptom(
        code="micro-arena",
        title="The tensor arena is too small",
        signs=("how large kTensorArenaSize for LSTM", "AllocateTensors fails arena size"),
        messages=(
            "Failed to allocate tail memory. Requested: ..., available ..., missing:",
            "Failed to allocate temp memory. Requested: ..., available ..., missing:",
        ),
        meaning="""All tensors, states and bookkeeping of the runtime lie in one array of the application, and it is
            used up. The numbers tell what the step that failed wanted, not what all need: the next step may fail
            again.""",
        see="lstm-toolkit inspect model.tflite",
        shows="arena, bytes at least",
        mend="lstm-toolkit export model.tflite -o .",
        after="""It looks for the smallest arena with which the file runs here, where pointers have 64 bits, and
            writes the file as a C array. A fused LSTM needs less than half of what a loop needs.""",
        threads=("tensorflow/tflite-micro#1458", "tensorflow/tflite-micro#2686"),
    ),
)
