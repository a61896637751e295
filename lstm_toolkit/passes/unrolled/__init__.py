"""Passes: LSTMs that a converter laid out step by step become fused ops."""
