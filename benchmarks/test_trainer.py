from collections.abc import Callable

import pytest

from .cases import Case


@pytest.mark.work("trainer")
def test_trainer(case: Case, bench: Callable[[Case], None]) -> None:
    bench(case)


@pytest.mark.work("script")
def test_script(case: Case, bench: Callable[[Case], None]) -> None:
    bench(case)
