from collections.abc import Callable

import pytest

from .cases import Case


@pytest.mark.work("objective")
def test_objective(case: Case, bench: Callable[[Case], None]) -> None:
    bench(case)
