"""The file that TensorFlow's converter makes of a traced model, on which the passes work."""

from lstm_toolkit.conversion.owners import named_refusal, refuse_loops
from lstm_toolkit.errors import ConversionError
from lstm_toolkit.sources.traced import StockFile, TracedModel
from lstm_toolkit.stock.converter import not_read_back, run_converter
from lstm_toolkit.stock.worker import convert_elsewhere


def stock_file(traced: TracedModel) -> bytes:
    """The file that TensorFlow's converter makes, with a CUSTOM op for each marked layer."""
    if isinstance(traced.function, StockFile):
        return traced.function.tflite
    import tensorflow as tf

    if traced.layers is not None:
        converter = tf.lite.TFLiteConverter.from_concrete_functions([traced.function], traced.trackable)
        converter.allow_custom_ops = True
        try:
            with not_read_back():
                return run_converter(converter)
        except ConversionError as error:
            raise named_refusal(traced, error) from error
    try:
        return convert_elsewhere(traced.function, traced.trackable)
    except ConversionError as error:
        if "TensorList" in str(error):
            refuse_loops(traced)
        raise
