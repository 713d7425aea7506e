"""How the kernels for the CPU read and write memory."""

import math

import pytest
import torch
from torch.testing import assert_close

from s4aug import AffineTransform, warp

pytest.importorskip("numba")
from s4aug.backends.numba import bilinear, pages
from s4aug.backends.numba import warp as kernels
from tests.s4aug.backends.numba_cases import (
    MODES,
    Case,
    assert_as_reference,
    assert_gradients_as_reference,
    assert_same_bits,
    gradients,
    pixels,
)

ALLOCATING = (kernels, bilinear, pages)
# How the pixels of an image [2, 3, h, 14] may lie.
LAYOUTS = {
    "contiguous": lambda image: image.contiguous(),
    "channels last": lambda image: image.contiguous(memory_format=torch.channels_last),
    "every second column": lambda image: image.repeat_interleave(2, -1)[..., ::2],
    "every second row": lambda image: image.repeat_interleave(2, -2)[..., ::2, :],
    "turned": lambda image: image.mT.contiguous().mT,
    "channels of another": lambda image: torch.cat([image, image], 1)[:, 1:4],
    "part of channels last": lambda image: torch.cat([image, image], 1).contiguous(memory_format=torch.channels_last)[
        :, :3
    ],
    "expanded over the batch": lambda image: image[:1].expand(2, -1, -1, -1),
    "expanded over channels": lambda image: image[:, :1].expand(-1, 3, -1, -1),
    "expanded over columns": lambda image: image[..., :1].expand(-1, -1, -1, 14),
    "with an offset": lambda image: torch.cat([image[:1], image])[1:],
    "batch last": lambda image: image.permute(1, 2, 3, 0).contiguous().permute(3, 0, 1, 2),
}


class TestLayouts:
    @pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
    @pytest.mark.parametrize("mode", MODES)
    def test_pixels_may_lie_in_any_order(self, mode, layout):
        case = Case(mode=mode)
        for dtype in (torch.float32, torch.uint8):
            image = layout(pixels((2, 3, 9, 14), torch.float32, case.random()).mul(100).clamp(0, 200).to(dtype))
            assert_as_reference(image, case.transform(), **case.options())

    @pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
    @pytest.mark.parametrize("mode", ["bilinear", "nearest"])
    def test_gradients_may_lie_in_any_order(self, mode, layout):
        case = Case(mode=mode, size=(11, 8), out_size=(9, 14), motion="gentle")
        given = layout(pixels((2, 3, 9, 14), torch.float32, case.random()))
        made = []
        for backend in ("numba", "torch"):
            made.append(gradients(case.image(), case.transform(), backend, given, **case.options()))
        assert_close(made[0], made[1], rtol=1e-4, atol=1e-4)

    @pytest.mark.parametrize("shape", [(2, 1, 9, 14), (2, 3, 1, 14), (2, 3, 9, 1), (2, 3, 1, 1), (1, 1, 1, 1)])
    @pytest.mark.parametrize("mode", ["bilinear", "nearest"])
    def test_sides_of_one_leave_the_order_of_pixels_open(self, mode, shape):
        case = Case(batch=shape[0], channels=shape[1], size=shape[2:], mode=mode, motion="any")
        for memory_format in (torch.contiguous_format, torch.channels_last):
            image = case.image().contiguous(memory_format=memory_format)
            assert_as_reference(image, case.transform(), **case.options())

    def test_a_mask_may_lie_in_any_order(self):
        case = Case(masked=True)
        options = case.options()
        row = torch.rand(2, 1, 9, 1, generator=case.random()) < 0.9
        twice = torch.cat([options["valid"]] * 2, 1)[:, 1:]
        turned = options["valid"].mT.contiguous().mT
        for mask in (row.expand(2, 1, 9, 14), twice, turned, options["valid"][:1].expand(2, 1, 9, 14)):
            shown, real = assert_as_reference(case.image(), case.transform(), **options | {"valid": mask})
            assert_same_bits(shown, warp(case.image(), case.transform(), **options | {"valid": mask.clone()}).image)
            assert 0 < real.double().mean() < 1

    def test_a_view_that_torch_has_yet_to_negate_is_read_as_negated(self):
        image = (
            torch.view_as_complex(torch.rand(2, 3, 9, 14, 2, generator=torch.Generator().manual_seed(1))).conj().imag
        )
        assert image.is_neg()
        case = Case()
        assert_as_reference(image, case.transform(), **case.options())


class Poisoned:
    """`torch` but for fresh memory, which holds a pattern."""

    def __init__(self, number, flag):
        self.number, self.flag = number, flag
        self.made = 0

    def __getattr__(self, name):
        return getattr(torch, name)

    def empty(self, *shape, **options):
        self.made += 1
        fresh = torch.empty(*shape, **options)
        if fresh.dtype == torch.bool:
            return fresh.fill_(self.flag)
        return fresh.fill_(self.number if fresh.dtype.is_floating_point else 77)


class TestWriting:
    @pytest.mark.parametrize("poison", [(math.nan, True), (1e30, False)], ids=["nan", "number"])
    @pytest.mark.parametrize("padding", ["fill", "reflection"])
    @pytest.mark.parametrize("mode", MODES)
    def test_every_element_is_written_whatever_the_memory_held(self, monkeypatch, mode, padding, poison):
        for kind, masked, last in (
            ("gentle", False, False),
            ("gentle", True, True),
            ("far", False, False),
            ("lattice", False, True),
        ):
            case = Case(mode=mode, padding=padding, motion=kind, masked=masked, channels_last=last, size=(9, 14))
            clean = assert_gradients_as_reference(case)
            proxy = Poisoned(*poison)
            with monkeypatch.context() as patch:
                for module in ALLOCATING:
                    patch.setattr(module, "torch", proxy)
                assert_as_reference(case.image(), case.transform(), **case.options())
                dirty = assert_gradients_as_reference(case)
            assert proxy.made >= 4
            for mine, theirs in zip(dirty, clean, strict=True):
                assert (mine is None) == (theirs is None)
                assert mine is None or torch.equal(mine, theirs)

    def test_memory_left_as_it_was_is_seen(self, monkeypatch):
        monkeypatch.setattr(bilinear, "run", lambda kernel, chunks: None)
        for module in ALLOCATING:
            monkeypatch.setattr(module, "torch", Poisoned(math.nan, True))
        case = Case()
        with pytest.raises(AssertionError):
            assert_as_reference(case.image(), case.transform(), **case.options())

    @pytest.mark.parametrize("mode", MODES)
    def test_nothing_given_is_written_to(self, mode):
        case = Case(mode=mode, masked=True, normalized=True, motion="gentle")
        image, transform, options = case.image(), case.transform(), case.options()
        inverse = transform.inverse().matrix[:, :2].contiguous()
        given = torch.rand(2, 3, *case.out_size)
        handed = [image, options["valid"], *options["normalize"], given, transform.matrix, inverse]
        kept = [tensor.clone() for tensor in handed]
        for normalize in (options["normalize"], None):
            warp(image, transform, **options | {"backend": "numba", "normalize": normalize})
            gradients(image, transform, "numba", given, **options | {"normalize": normalize})
        for tensor, before in zip(handed, kept, strict=True):
            assert_same_bits(tensor, before)

    def test_results_share_no_memory_with_what_was_given(self):
        for mode in MODES:
            case = Case(mode=mode, out_size=(9, 14), masked=True)
            image, options = case.image(), case.options()
            shown, real = warp(image, AffineTransform.identity(2, (9, 14)), backend="numba", **options)
            assert shown.untyped_storage().data_ptr() != image.untyped_storage().data_ptr()
            assert real.untyped_storage().data_ptr() != options["valid"].untyped_storage().data_ptr()
