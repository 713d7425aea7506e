"""The paper's tables: which runs they are made of, how these are worked off, and ours beside the paper's figures."""
