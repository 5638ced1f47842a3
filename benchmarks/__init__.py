"""Measurements of this package, for those who change it; not installed."""
