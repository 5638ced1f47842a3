"""The node pi0_viz: markers, path and ghost robot of the predicted chunks, for RViz."""
