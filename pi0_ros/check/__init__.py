"""What people run before an arm moves: the doctor, and the node's overhead on a machine."""
