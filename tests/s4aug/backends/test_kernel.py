"""Kernels are compiled wherever they can be kept, and also where nothing can be written."""

import pytest

pytest.importorskip("numba")
from numba import njit
from numba.core import caching

from s4aug.backends.numba.kernel import kernel, reassociating_kernel


def doubled(x):
    return 2 * x


@pytest.mark.parametrize("decorator", [kernel, reassociating_kernel])
def test_where_kernels_cannot_be_kept_they_are_compiled_all_the_same(decorator, monkeypatch):
    monkeypatch.setattr(caching.CompileResultCacheImpl, "_locator_classes", [])
    with pytest.raises(RuntimeError, match="no locator available"):
        njit(cache=True)(doubled)
    assert decorator(doubled)(21) == 42


@pytest.mark.parametrize("decorator", [kernel, reassociating_kernel])
def test_kernels_are_kept_where_they_can_be(decorator, monkeypatch, tmp_path):
    monkeypatch.setattr("numba.core.config.CACHE_DIR", str(tmp_path))
    assert decorator(doubled)(21) == 42
    assert list(tmp_path.rglob("test_kernel.doubled-*.nbc"))
