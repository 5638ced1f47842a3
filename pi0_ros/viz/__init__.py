"""Markers, path and ghost robot of the predicted trajectory, for RViz."""
