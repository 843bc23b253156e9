"""Content moderation for images and video: the library, usable without web or queue."""

__version__ = "0.1.0"
