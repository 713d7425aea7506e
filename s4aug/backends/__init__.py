"""Backends of the warp: siblings that never import each other."""
