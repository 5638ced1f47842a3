"""pi0 compile: graphs ahead of time, and the scales of eight bits."""
