"""Architectures in plain torch, for the torch backend and for training.

Everything here imports torch: nothing that serves on the CPU may import it. A manifest names an
architecture as "module:Class" (`Artefact.network`); see `load`.
"""
