"""Observation to action chunk, numpy in and out: needs no ROS, so it runs in a notebook."""
