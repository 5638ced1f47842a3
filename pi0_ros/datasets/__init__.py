"""LeRobot data sets: an episode is read as a recording, and recordings become episodes."""
