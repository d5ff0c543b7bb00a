"""Measurements behind every figure that the project claims. Each module prints one JSON line last."""
