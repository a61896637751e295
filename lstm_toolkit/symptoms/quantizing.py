"""Symptoms that are met when a file is quantized."""

from lstm_toolkit.symptoms.values import Symptom

_INT8 = """
conversion = lstm_toolkit.convert(model, quantization="int8", representative_dataset=samples)
conversion.save("model.tflite")"""

QUANTIZING = (
    Symptom(
        code="calibrator-crash",
        title="Python ends with a segmentation fault while an LSTM is quantized",
        signs=(
            "segfault core dumped representative_dataset LSTM GRU int8 quantization",
            "TFLite converter crashes while calibrating WHILE loop",
        ),
        messages=(),
        meaning="""The calibrator reads a tensor of a `WHILE` loop that is not allocated any more, as the report
            found, and takes the process with it. Every LSTM of Keras 3 is such a loop for the stock converter.""",
        see="lstm-toolkit diagnose model.tflite",
        shows="loop-lstm",
        mend=_INT8,
        after="""The fused op has no loop, and calibrating runs in a process of its own. On the command line:
            `lstm-toolkit convert model.keras -o model.tflite --quantization int8 --representative-dataset
            samples.npz`.""",
        threads=("tensorflow/tensorflow#75140", "tensorflow/tensorflow#62281", "tensorflow/tensorflow#41305"),
    ),
    Symptom(
        code="int16x8",
        title="16x8 quantization of an LSTM is refused",
        signs=("int16 activations int8 weights LSTM not supported",),
        messages=("Quantization to 16x8-bit not yet supported for op: 'UNIDIRECTIONAL_SEQUENCE_LSTM'.",),
        meaning="""The quantizer knows the fused op with int8 activations only. (Its cell state has 16 bits there
            too.)""",
        see="lstm-toolkit inspect model.tflite",
        shows="UNIDIRECTIONAL_SEQUENCE_LSTM",
        mend=_INT8,
        after="""The report says how far the int8 file is from the float one on samples that it was not calibrated
            with. `quantization="int16x8"` gives 16 bits too: in plain ops, and with `target="micro"` in the fused op,
            for which TensorFlow Lite Micro alone has a kernel.""",
        threads=("tensorflow/tensorflow#59626",),
    ),
    Symptom(
        code="int8-both-ways",
        title="An int8 bidirectional LSTM is far off",
        signs=(
            "int8 BiLSTM accuracy drops after post-training quantization",
            "bidirectional LSTM quantized wrong results large error",
        ),
        messages=(),
        meaning="""The quantizer gives the two outputs that are joined one scale, and changes it at the LSTM's output
            alone. The kernel takes one scale for output and state, so the numbers are stretched, by 20 to 29 percent
            of the largest in our measurements, and nothing is said.""",
        see="lstm-toolkit diagnose model.tflite",
        shows="int8-scales",
        mend="lstm-toolkit repair model.tflite -o mended.tflite",
        after="""Output and state have one scale again, with a `QUANTIZE` where another is needed. The same file is
            off by 2 percent then.""",
        threads=("tensorflow/tensorflow#49927",),
    ),
)
