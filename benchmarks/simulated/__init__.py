"""The simulated task evaluated at scale."""
