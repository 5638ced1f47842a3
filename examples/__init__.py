"""Examples; not installed."""
