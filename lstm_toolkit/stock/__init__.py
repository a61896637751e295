"""TensorFlow's own converter and quantizer, here and in a process of its own."""
