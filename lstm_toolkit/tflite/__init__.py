"""Reads, asks, edits and writes `.tflite` files as the objects of the schema."""
