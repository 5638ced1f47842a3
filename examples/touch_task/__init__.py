"""Teaching the small pi0 of the simulated arm; nothing that runs a robot imports this."""
