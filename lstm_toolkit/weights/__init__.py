"""The weights of an LSTM by gate, how frameworks pack them, and the arithmetic of the op in NumPy; no TensorFlow."""
