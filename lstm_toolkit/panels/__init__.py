"""What the panels of `widgets` compute and draw."""
