"""The node's overhead on a machine."""
