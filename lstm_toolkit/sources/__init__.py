"""Every kind of model becomes a `TracedModel`: a function whose recurrent layers are marked."""
