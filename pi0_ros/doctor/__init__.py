"""pi0 doctor: checkpoint, parameters, limits and a robot compared before the arm moves."""
