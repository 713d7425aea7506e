from collections.abc import Callable

import pytest

from .cases import Case


@pytest.mark.work("pool")
def test_pool(case: Case, bench: Callable[[Case], None]) -> None:
    bench(case)
