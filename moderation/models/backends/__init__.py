"""Runtimes behind one protocol: see `base`."""
