"""Tells what a `.tflite` file holds: operators, weights by gate, memory, arithmetic, and a drawing."""
