"""pi0 demo: a simulated arm that follows instructions."""
