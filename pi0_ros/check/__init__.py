"""`pi0 check`: whether a device computes what it should, and how fast."""
