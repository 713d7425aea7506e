"""The smoke test tests what was installed, and type checkers see through both packages from outside."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MISTAKEN = """
import torch
import s4aug
import s4aug_train

view = s4aug.RandomAffine(15)(torch.rand(1, 3, 8, 8))
view.picture
s4aug.Perturbation(s4aug.RandomAffine(15))(view.image, value=None)
s4aug_train.fti
"""


def run(*command, folder, **environment):
    return subprocess.run(
        [sys.executable, *command], cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True
    )


@pytest.mark.slow
def test_the_smoke_test_refuses_a_source_tree(tmp_path):
    ended = run(ROOT / "tests" / "packaging" / "smoke.py", folder=tmp_path, PYTHONPATH=str(ROOT))
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"s4aug comes from {ROOT / 's4aug'}; install the wheel")


@pytest.mark.slow
def test_a_type_checker_finds_a_users_mistakes(tmp_path):
    (tmp_path / "user.py").write_text(MISTAKEN)
    strict = ("--strict", "--follow-imports=silent", "--cache-dir", tmp_path / "cache")
    ended = run("-m", "mypy", *strict, "user.py", folder=tmp_path, MYPYPATH=str(ROOT))
    found = [line.partition(" error: ")[0] for line in ended.stdout.splitlines() if " error: " in line]
    assert found == ["user.py:7:", "user.py:8:", "user.py:9:"], ended.stdout
