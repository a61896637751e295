"""What is wrong with a `.tflite` file, and what can be mended."""
