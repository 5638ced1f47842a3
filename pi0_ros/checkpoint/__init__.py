"""A checkpoint directory on disk to a model: formats of LeRobot and openpi, statistics, weights."""
