"""A cache of each test's own, for tests of the cache."""

from pathlib import Path

import pytest


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """The cache of one test."""
    monkeypatch.setenv("S4AUG_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"
