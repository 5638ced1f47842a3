"""The operators of pi0: one module per backend."""
