"""The policy in another process."""
