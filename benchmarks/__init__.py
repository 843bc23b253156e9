"""Measurements, each one command, printed as ratios of figures taken in one run."""
