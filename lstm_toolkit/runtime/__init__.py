"""Runs `.tflite` files, here and on other runtimes, and compares what they compute."""
