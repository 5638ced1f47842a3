"""What every ROS node of this package, and every command that talks to one, shares."""
