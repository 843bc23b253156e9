"""Live streams: read, watched, scored as they come, alerts raised."""
