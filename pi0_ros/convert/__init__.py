"""The verb `pi0 convert`: any checkpoint to one self-contained directory."""
