"""Which backend is taken."""

import importlib
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch

import s4aug
from s4aug import BackendUnavailable, warp
from s4aug.kernels import INSTALLED
from tests.s4aug.operators_cases import MODES, SIZE, random, turned

pytest.importorskip("numba")

KERNELS = importlib.import_module("s4aug.backends.numba")


@pytest.fixture
def kernel_calls(monkeypatch):
    """How often the kernels ran."""
    calls, forward = [], KERNELS.forward

    def counted(*args, **options):
        calls.append(options["mode"])
        return forward(*args, **options)

    monkeypatch.setattr(KERNELS, "forward", counted)
    return calls


@pytest.fixture
def without_numba(monkeypatch):
    monkeypatch.setitem(INSTALLED, "numba", False)
    s4aug.kernels._tell_once.cache_clear()
    yield
    s4aug.kernels._tell_once.cache_clear()


class TestDispatch:
    @pytest.mark.parametrize("mode", MODES)
    def test_auto_takes_the_kernels_on_the_cpu(self, kernel_calls, mode):
        image = random(2, 3, *SIZE)
        warp(image, turned(), mode=mode)
        warp(image, turned(), mode=mode, backend="numba")
        assert kernel_calls == [mode, mode]
        warp(image, turned(), mode=mode, backend="torch")
        assert len(kernel_calls) == 2

    def test_another_device_is_refused_by_name_with_the_cure(self, kernel_calls):
        image, transform = torch.empty(2, 3, *SIZE, device="meta"), turned().to("meta")
        with pytest.raises(
            BackendUnavailable, match=r"'numba' has no kernels for images on meta; take 'auto' or 'torch'"
        ):
            warp(image, transform, backend="numba")
        assert warp(image, transform).image.device.type == "meta"
        assert kernel_calls == []

    def test_an_unknown_backend_is_refused_by_name_with_the_choices(self):
        with pytest.raises(BackendUnavailable, match=r"'cuda' is not there; choose one of auto, torch, numba"):
            warp(random(2, 3, *SIZE), turned(), backend="cuda")

    @pytest.mark.usefixtures("without_numba")
    def test_without_numba_auto_takes_the_reference_and_says_so_once(self, kernel_calls):
        image = random(2, 3, *SIZE)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            shown = [warp(image, turned()) for _ in range(3)]
        assert [(w.category, str(w.message)) for w in told] == [
            (RuntimeWarning, "numba is not installed: warps take the reference, which is slower")
        ]
        assert kernel_calls == []
        expected = warp(image, turned(), backend="torch")
        assert all(torch.equal(mine.image, expected.image) for mine in shown)

    @pytest.mark.usefixtures("without_numba")
    def test_without_numba_its_name_is_refused_and_the_reference_is_silent(self):
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            with pytest.raises(BackendUnavailable, match=r"needs the package numba, .* take 'auto' or 'torch'"):
                warp(random(2, 3, *SIZE), turned(), backend="numba")
            warp(random(2, 3, *SIZE), turned(), backend="torch")
        assert told == []

    @pytest.mark.parametrize("which", [0, 1])
    def test_statistics_that_carry_gradient_take_the_reference_and_are_refused_by_the_kernels(
        self, kernel_calls, which
    ):
        statistics = [torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.5, 0.6, 0.7])]
        statistics[which].requires_grad_()
        image = random(2, 3, *SIZE)
        with pytest.raises(
            BackendUnavailable, match=r"no gradient to the statistics of normalize; take 'auto' or 'torch'"
        ):
            warp(image, turned(), normalize=statistics, backend="numba")
        warp(image, turned(), normalize=statistics).image.sum().backward()
        assert statistics[which].grad.all()
        assert kernel_calls == []
        warp(image, turned(), normalize=[part.detach() for part in statistics])
        assert kernel_calls == ["bilinear"]

    @pytest.mark.parametrize("fill", [np.float32(0.5), np.float64(0.5), np.int64(3), np.uint8(255), True])
    @pytest.mark.parametrize("mode", MODES)
    def test_fill_may_be_any_number_that_the_reference_takes(self, mode, fill):
        shown, expected = (
            warp(random(2, 3, *SIZE), turned(), mode=mode, fill=fill, backend=backend) for backend in ("auto", "torch")
        )
        assert not expected.valid.all()
        assert torch.equal(shown.image, expected.image)

    def test_numba_is_loaded_by_the_first_warp_that_takes_it(self):
        code = (
            "import sys, torch, s4aug\n"
            "transform = s4aug.AffineTransform.identity(1, (3, 4))\n"
            "loaded = lambda: 'numba' in sys.modules\n"
            "seen = [loaded()]\n"
            "s4aug.warp(torch.ones(1, 1, 3, 4), transform, backend='torch'); seen.append(loaded())\n"
            "s4aug.warp(torch.ones(1, 1, 3, 4, device='meta'), transform.to('meta')); seen.append(loaded())\n"
            "s4aug.warp(torch.ones(1, 1, 3, 4), transform); seen.append(loaded())\n"
            "print(seen)"
        )
        told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        assert told.strip() == "[False, False, False, True]"
