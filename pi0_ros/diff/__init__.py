"""pi0 diff: compares two replays."""
