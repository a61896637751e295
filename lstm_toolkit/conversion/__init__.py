"""`convert`: from a request to a checked file."""
