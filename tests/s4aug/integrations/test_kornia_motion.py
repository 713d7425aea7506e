"""The augmentation moves as Kornia's does: its matrices and images, and what it gets wrong."""

import kornia.augmentation as K
import pytest
import torch
from torch.testing import assert_close

from s4aug import AffineTransform, warp
from s4aug.integrations.kornia import RandomAffine
from tests.s4aug.integrations.kornia_cases import RANGES, SIZE, draw, exact_matrix, ramp


def still(**values):
    """Values of a draw that does not move."""
    return {"angle": 0, "translations": 0, "scale": 1, "shear_x": 0, "shear_y": 0, **values}


class TestTheMotionIsKornias:
    @pytest.mark.parametrize("p", [0.5, 1.0])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_matrices_of_the_same_params_are_equal(self, dtype, p):
        ours, theirs = RandomAffine(**RANGES, p=p), K.RandomAffine(**RANGES, p=p)
        image = torch.rand(16, 1, *SIZE, dtype=dtype)
        params = draw(ours, image.shape)
        params["center"] = params["center"] + torch.randn(16, 2)
        ours(image, params=params)
        theirs(image, params=params)
        # Kornia computes in the dtype of the image; entries are up to 60 px.
        limit = 1e-5 if dtype == torch.float32 else 1e-12
        assert_close(ours.transform_matrix, theirs.transform_matrix, rtol=0, atol=limit)
        gate = (params["batch_prob"] > 0.5)[:, None, None]
        expected = torch.where(gate, exact_matrix(params), torch.eye(3, dtype=torch.float64))
        assert_close(ours.motion(params).matrix, expected, rtol=0, atol=1e-12)

    @pytest.mark.parametrize("align_corners", [False, True])
    @pytest.mark.parametrize("resample", ["nearest", "bilinear", "bicubic"])
    @pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-9), (torch.float32, 5e-5)])
    def test_images_agree_in_the_interior(self, dtype, atol, resample, align_corners):
        ours = RandomAffine(**RANGES, p=1.0, resample=resample, align_corners=align_corners)
        theirs = K.RandomAffine(**RANGES, p=1.0, resample=resample, align_corners=align_corners)
        image = torch.rand(4, 2, *SIZE, dtype=dtype)
        moved, params = ours(image), ours._params
        inside = warp(image, ours.motion(params), mode=resample).valid.expand_as(image)
        assert 0.5 < inside.double().mean() < 1
        # float32: the error of Kornia's coordinates, 4e-6 px, by slopes of up to 4 per px.
        difference = (moved - theirs(image, params=params))[inside].abs()
        # Its nearest pixel may be another one where the coordinate lies halfway.
        far = difference > atol
        assert far.double().mean() <= (1e-3 if resample == "nearest" and dtype == torch.float32 else 0)
        assert (moved[~inside] == 0).all()

    @pytest.mark.parametrize("padding_mode", ["border", "reflection"])
    def test_padding_by_content_agrees_everywhere(self, padding_mode):
        ours = RandomAffine(**RANGES, p=1.0, padding_mode=padding_mode)
        theirs = K.RandomAffine(**RANGES, p=1.0, padding_mode=padding_mode)
        image = torch.rand(4, 2, *SIZE, dtype=torch.float64)
        assert_close(ours(image), theirs(image, params=ours._params), rtol=0, atol=1e-9)

    @pytest.mark.parametrize("align_corners", [False, True])
    def test_whole_pixel_shifts_are_exact(self, align_corners):
        ours = RandomAffine(0.0, p=1.0, align_corners=align_corners)
        theirs = K.RandomAffine(0.0, p=1.0, align_corners=align_corners)
        image = torch.randn(2, 3, 17, 22)
        params = draw(ours, image.shape, **still(translations=[5, -3]))
        moved = ours(image, params=params)
        assert torch.equal(moved[:, :, :-3, 5:], image[:, :, 3:, :-5])
        assert moved[:, :, -3:].count_nonzero() == moved[..., :5].count_nonzero() == 0
        # float32 noise in Kornia's coordinates, times the largest slope.
        assert_close(moved, theirs(image, params=params), rtol=0, atol=1e-4)
        assert torch.equal(ours.inverse(moved, params=params)[:, :, 3:, :-5], image[:, :, 3:, :-5])

    @pytest.mark.parametrize("k", [1, 2, 3])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
    def test_quarter_turns_are_bit_exact_and_clockwise(self, dtype, k):
        image = torch.randn(2, 3, 16, 16).to(dtype)
        augment = RandomAffine((90.0 * k, 90.0 * k), p=1.0)
        moved = augment(image)
        assert torch.equal(moved, image.rot90(-k, (2, 3)))
        assert torch.equal(augment.inverse(moved), image)


class TestUnderAutocast:
    """At 2448 px, where a matrix in bf16 is off by 11 px."""

    @pytest.fixture
    def augment(self):
        return RandomAffine(15.0, (0.02, 0.2), (0.75, 1.25), 5.0, p=1.0)

    def test_pixels_are_sampled_at_the_float64_coordinates(self, augment):
        image = ramp(64, 2448)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            moved = augment(image)
            back = augment.inverse(moved)
        assert moved.dtype == torch.float32
        truth = AffineTransform(exact_matrix(augment._params), (64, 2448))
        expected, valid = warp(image.double(), truth)
        assert valid.sum() > 10000
        # The image's own float32 has steps of 2.4e-4 at 2448.
        assert_close(moved * valid, (expected * valid).float(), rtol=0, atol=5e-4)
        assert torch.equal(moved, augment(image, params=augment._params))
        assert torch.equal(back, augment.inverse(moved))

    def test_bf16_images_move_by_the_same_coordinates(self, augment):
        image = torch.rand(1, 1, 64, 2448).bfloat16()
        moved = augment(image)
        truth = AffineTransform(exact_matrix(augment._params), (64, 2448))
        assert torch.equal(moved, warp(image, truth).image)
        assert torch.equal(augment.inverse(moved), warp(moved, truth.inverse()).image)

    def test_boxes_and_keypoints_are_those_of_float64(self, augment):
        keys = ["image", "keypoints", "bbox_xyxy"]
        sequence = K.AugmentationSequential(augment, data_keys=keys)
        points, boxes = torch.rand(1, 9, 2) * 63, torch.tensor([[[2400.0, 3.0, 2440.0, 50.0]]])
        with torch.autocast("cpu", dtype=torch.bfloat16):
            _, moved_points, moved_boxes = moved = sequence(ramp(64, 2448), points, boxes)
            _, points_back, boxes_back = sequence.inverse(*moved)
        truth = AffineTransform(exact_matrix(augment._params), (64, 2448))
        assert_close(moved_points, truth.points(points.double()).float())
        assert_close(moved_boxes, truth.boxes(boxes.double()).float())
        # float32 has steps of 2.4e-4 at 2448.
        assert_close(points_back, points, rtol=0, atol=5e-4)
        assert_close(boxes_back, truth.inverse().boxes(moved_boxes.double()).float(), rtol=0, atol=5e-4)
