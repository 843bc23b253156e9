"""Videos: which moments are looked at, how frames are read, what is worth scoring."""
