"""The reference trainer: S4Net and its baselines, from a folder of tiles to an evaluated model."""
