"""What shows values in a terminal and in a notebook."""
