"""Fewer bits: calibration, int8, and how far a quantized file is from the float one."""
