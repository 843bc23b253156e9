"""torch behind the protocol of `base`: on a GPU through CUDA, or on the CPU.

Everything here imports torch: the registry alone reaches it, by name and when it is chosen.
"""
