"""A simulated SO-101 arm: its world and task, the controller it emulates, and its ROS node."""
