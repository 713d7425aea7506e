"""The Triton kernels, in processes of their own: whether they are interpreted is settled when Triton is loaded."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

# Kernels called by hand, and by the public functions.
FILES = [Path(__file__).with_name(name) for name in ("triton_warps.py", "triton_comparisons.py", "triton_calls.py")]
ROOT = FILES[0].parents[3]

pytestmark = pytest.mark.skipif(
    find_spec("triton") is None, reason="Triton is not installed; it comes with torch on Linux"
)


def run_cases(which="not slow", **environment):
    finished = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            *map(str, FILES),
            "-q",
            "-m",
            which,
            "-p",
            "no:cacheprovider",
            "--durations=5",
        ],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    print(finished.stdout[-20000:], finished.stderr[-5000:])
    assert finished.returncode == 0
    assert " passed" in finished.stdout


@pytest.mark.timeout(1200)
def test_interpreted_kernels_give_what_the_reference_gives():
    run_cases(TRITON_INTERPRET="1", CUDA_VISIBLE_DEVICES="", OMP_NUM_THREADS="1")


def test_kernels_compile_for_a_gpu_that_is_not_there():
    run_cases(TRITON_INTERPRET="0", CUDA_VISIBLE_DEVICES="")


@pytest.mark.slow
@pytest.mark.timeout(36000)
def test_interpreted_kernels_give_what_the_reference_gives_in_a_wide_sweep():
    run_cases("slow", TRITON_INTERPRET="1", CUDA_VISIBLE_DEVICES="", OMP_NUM_THREADS="1")


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_all_kernels_compile_for_a_gpu_that_is_not_there():
    run_cases("slow", TRITON_INTERPRET="0", CUDA_VISIBLE_DEVICES="")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.timeout(1200)
def test_kernels_on_the_gpu_give_what_the_reference_gives():
    run_cases(TRITON_INTERPRET="0")
