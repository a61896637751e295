"""Float ops become int16 ops with int8 weights (16x8), which LiteRT and TensorFlow Lite Micro compute alike."""
