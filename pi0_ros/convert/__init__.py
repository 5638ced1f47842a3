"""The verb `pi0 convert`: any checkpoint to one directory, bags to a data set."""
