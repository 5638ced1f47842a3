"""The race with LeRobot at the published size."""
