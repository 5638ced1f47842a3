"""What every ROS node of this package shares: subscriptions and log lines."""
