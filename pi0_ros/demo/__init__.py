"""pi0 demo: a simulated arm that does what it is told."""
