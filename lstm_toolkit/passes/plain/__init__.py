"""Recurrent ops become plain ops, without variable tensors."""
