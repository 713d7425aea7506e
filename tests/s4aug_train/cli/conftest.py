"""What tests of the commands share: a finished run, and a demo set that a test may change."""

import shutil

import pytest

from tests.s4aug_train.cli.cli_cases import fit_arguments
from tests.s4aug_train.command import call


@pytest.fixture(scope="session")
def run(tmp_path_factory, demo_folder, shared_cache):
    """A finished run of 3 steps."""
    out = tmp_path_factory.mktemp("runs") / "first"
    result = call(*fit_arguments(demo_folder, out, "--steps", 3))
    return out, result


@pytest.fixture
def demo_copy(demo_folder, tmp_path):
    return shutil.copytree(demo_folder, tmp_path / "copy")
