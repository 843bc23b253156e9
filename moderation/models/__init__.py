"""Models: manifests, weights, backends, batching, scoring."""
