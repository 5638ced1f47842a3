"""The ROS 2 node around a policy: parameters, observations, trajectories, diagnostics."""
