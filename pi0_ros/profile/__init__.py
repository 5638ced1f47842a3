"""pi0 profile: where the time of an inference goes."""
