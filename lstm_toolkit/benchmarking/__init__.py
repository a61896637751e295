"""Times models side by side."""
