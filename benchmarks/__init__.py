"""Benchmarks of s4aug beside its peers and the limit: `pytest benchmarks/ --benchmark`."""
