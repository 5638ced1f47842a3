"""pi0 view: recording, robot and predictions in a browser."""
