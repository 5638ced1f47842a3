"""What the model becomes on Ascend: the GE graph and its kernel nodes."""
