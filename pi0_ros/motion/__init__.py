"""An action chunk to a trajectory within the joints' limits: numpy only, no ROS."""
