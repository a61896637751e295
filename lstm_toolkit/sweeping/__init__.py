"""Measures many configurations."""
