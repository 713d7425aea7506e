from collections.abc import Callable

import pytest

from .cases import Case


@pytest.mark.work("forward+backward")
def test_gradient(case: Case, bench: Callable[[Case], None]) -> None:
    bench(case)


@pytest.mark.work("backward")
def test_backward_alone(case: Case, bench: Callable[[Case], None]) -> None:
    bench(case)
