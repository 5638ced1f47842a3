"""The suite of faults: what is done to a running node, and who judges it."""
