"""Reading, writing and matching rosbag2 recordings."""
