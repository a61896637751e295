"""Lingvo's LSTM cells as small TensorFlow modules, which `convert` takes."""

from lstm_toolkit.sources.lingvo_modules import RNN, LayerNormalizedLSTMCellSimple, LSTMCellSimple

__all__ = ("RNN", "LSTMCellSimple", "LayerNormalizedLSTMCellSimple")
