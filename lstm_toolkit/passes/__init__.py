"""Passes: each takes a model file, matches fully, edits it in place, and returns what it changed."""
