"""Draws which weights go to which gate."""
