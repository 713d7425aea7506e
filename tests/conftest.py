"""For all tests: no example is timed, for machines are shared and first calls compile; workers share the cores."""

import os

import pytest
from hypothesis import settings

# Asserts in modules that tests share say what was compared, as those in tests do.
pytest.register_assert_rewrite("tests.s4aug", "tests.s4aug_train")

settings.register_profile("s4aug", deadline=None, max_examples=50)
# Of tests/fuzz, and of all other properties: pytest --hypothesis-profile=nightly
settings.register_profile("nightly", deadline=None, max_examples=500, print_blob=True)
settings.load_profile("s4aug")

# With as many workers as cores, threads would wait for each other; processes that tests start have one too.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """A worker keeps to files, whose runs and compiled kernels serve all their tests, until it has nothing to do."""
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log) if config.getvalue("dist") == "load" else None
