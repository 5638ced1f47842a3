"""pi0 doctor: checkpoint, parameters, limits and live graph compared before the arm moves."""
