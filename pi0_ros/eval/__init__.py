"""pi0 eval: predictions against what the robot did."""
