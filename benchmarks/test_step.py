from collections.abc import Callable

import pytest

from .cases import Case


@pytest.mark.work("step")
def test_step(case: Case, bench: Callable[[Case], None]) -> None:
    bench(case)
