"""Making and measuring the project's own weights. Serving never imports this package."""
