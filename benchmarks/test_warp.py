from collections.abc import Callable

import pytest

from .cases import Case


@pytest.mark.work("forward")
def test_warp(case: Case, bench: Callable[[Case], None]) -> None:
    bench(case)
