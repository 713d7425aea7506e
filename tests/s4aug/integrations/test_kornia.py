"""The warp as a Kornia augmentation: Kornia's own generic checks, its matrices and images, and what it gets wrong."""

import copy
import pickle

import kornia.augmentation as K
import numpy as np
import pytest
import torch
from kornia.constants import DataKey, Resample
from torch.testing import assert_close

from s4aug import AffineTransform, ArgumentError, warp
from s4aug.integrations.kornia import RandomAffine

SIZE = (45, 61)
RANGES = {"degrees": (-40, 70), "translate": (0.2, 0.1), "scale": (0.7, 1.3, 0.8, 1.2), "shear": (-10, 12, -5, 8)}


@pytest.fixture(autouse=True)
def _seeded():
    # Kornia draws from torch's global state.
    torch.manual_seed(0)


def draw(augment, shape, **values):
    """The params of a draw, some of them set for every sample."""
    params = augment.forward_parameters(torch.Size(shape))
    for name, value in values.items():
        params[name] = torch.tensor(value, dtype=torch.float32).expand(params[name].shape).clone()
    return params


def still(**values):
    """Values of a draw that does not move."""
    return {"angle": 0, "translations": 0, "scale": 1, "shear_x": 0, "shear_y": 0, **values}


def exact_matrix(params):
    """The matrix of a draw in float64: shear about the centre, then scale, turn clockwise, shift."""
    rows = []
    for i in range(len(params["angle"])):
        angle = np.deg2rad(params["angle"][i].double().item())
        (cx, cy), (tx, ty), (sx, sy) = (params[n][i].double().tolist() for n in ("center", "translations", "scale"))
        kx, ky = (np.tan(np.deg2rad(params[n][i].double().item())) for n in ("shear_x", "shear_y"))
        turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
        slant = np.array([[1, 0, 0], [-ky, 1, 0], [0, 0, 1]]) @ np.array([[1, -kx, 0], [0, 1, 0], [0, 0, 1]])
        there, back = np.eye(3), np.eye(3)
        there[:2, 2], back[:2, 2] = (-cx, -cy), (cx + tx, cy + ty)
        rows.append(back @ turn @ np.diag([sx, sy, 1]) @ slant @ there)
    return torch.from_numpy(np.stack(rows))


def ramp(height, width):
    """An image [1, 2, H, W] that shows the source (x, y) of each pixel."""
    y, x = torch.meshgrid(torch.arange(float(height)), torch.arange(float(width)), indexing="ij")
    return torch.stack([x, y])[None]


class TestLikeAnyKorniaAugmentation:
    @pytest.mark.parametrize("resample", ["nearest", "BILINEAR", 2, Resample.BICUBIC])
    @pytest.mark.parametrize("padding_mode", ["zeros", "border", "reflection", "fill", 0])
    @pytest.mark.parametrize("same_on_batch", [False, True])
    @pytest.mark.parametrize("ranges", [{"degrees": 30.0}, RANGES, {"degrees": torch.tensor([1.0, 2.0]), "shear": 5.0}])
    def test_every_combination_of_arguments_moves_the_image(self, ranges, same_on_batch, padding_mode, resample):
        augment = RandomAffine(
            **ranges, resample=resample, padding_mode=padding_mode, same_on_batch=same_on_batch, p=1.0
        )
        image = torch.rand(2, 3, *SIZE)
        moved = augment(image)
        assert moved.shape == image.shape
        assert moved.isfinite().all()
        assert not torch.equal(moved, image)
        assert torch.equal(augment.transform_matrix[0], augment.transform_matrix[1]) == same_on_batch

    @pytest.mark.parametrize("shape", [(5, 7), (3, 5, 7), (1, 3, 5, 7), (4, 3, 5, 7), (0, 3, 5, 7)])
    @pytest.mark.parametrize("keepdim", [False, True])
    @pytest.mark.parametrize("p", [0.0, 0.5, 1.0])
    def test_the_rank_is_kept_on_request_both_ways(self, p, keepdim, shape):
        augment = RandomAffine(30.0, p=p, keepdim=keepdim)
        batched = (1,) * (4 - len(shape)) + shape
        moved = augment(torch.rand(shape))
        assert moved.shape == (shape if keepdim else batched)
        assert augment.inverse(moved).shape == moved.shape
        assert augment.transform_matrix.shape == (batched[0], 3, 3)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
    def test_image_and_matrix_keep_the_dtype(self, dtype):
        augment = RandomAffine(**RANGES, p=0.5)
        moved = augment(torch.rand(3, 2, *SIZE, dtype=dtype))
        assert moved.dtype == augment.transform_matrix.dtype == augment.inverse(moved).dtype == dtype

    def test_whole_number_images_are_refused_by_kornia(self):
        with pytest.raises(TypeError, match="torch.float32"):
            RandomAffine(30.0)(torch.ones(1, 1, 4, 4, dtype=torch.uint8))

    @pytest.mark.parametrize("padding_mode", ["zeros", "border", "reflection"])
    def test_the_gradient_is_that_of_the_output(self, padding_mode):
        augment = RandomAffine(**RANGES, p=0.5, padding_mode=padding_mode)
        params = draw(augment, (3, 1, 5, 6))
        params["batch_prob"] = torch.tensor([1.0, 0.0, 1.0])
        image = torch.rand(3, 1, 5, 6, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(lambda x: augment(x, params=params), (image,))
        assert torch.autograd.gradcheck(lambda x: augment.inverse(x, params=params), (image,))

    def test_the_gradient_reaches_the_params(self):
        augment = RandomAffine(**RANGES, p=1.0)
        params = draw(augment, (2, 1, *SIZE))
        params["angle"].requires_grad_()
        augment(ramp(*SIZE)[:, :1].expand(2, -1, -1, -1), params=params).sum().backward()
        assert (params["angle"].grad != 0).all()

    def test_skipped_samples_keep_their_bits_and_moved_ones_do_not_depend_on_them(self):
        sometimes, always = RandomAffine(**RANGES, p=0.5), RandomAffine(**RANGES, p=1.0)
        image = torch.rand(8, 2, *SIZE)
        moved = sometimes(image)
        gate = sometimes._params["batch_prob"] > 0.5
        assert 0 < gate.sum() < 8
        assert torch.equal(moved[~gate], image[~gate])
        assert torch.equal(moved[gate], always(image, params=sometimes._params)[gate])
        assert torch.equal(sometimes.transform_matrix[~gate], torch.eye(3).expand(8, 3, 3)[~gate])
        assert torch.equal(sometimes.motion(sometimes._params).matrix.float(), sometimes.transform_matrix)
        assert torch.equal(sometimes.inverse(moved)[~gate], image[~gate])

    def test_p_0_moves_nothing(self):
        augment, image = RandomAffine(**RANGES, p=0.0), torch.rand(2, 3, *SIZE)
        assert torch.equal(augment(image), image)
        assert torch.equal(augment.inverse(image), image)

    def test_p_batch_moves_all_samples_or_none(self):
        augment, image = RandomAffine(**RANGES, p=1.0, p_batch=0.5), torch.rand(3, 1, 8, 8)
        moved = [(augment(image) != image).flatten(1).any(1).tolist() for _ in range(16)]
        assert [True] * 3 in moved
        assert [False] * 3 in moved
        assert all(any(row) == all(row) for row in moved)

    def test_the_same_seed_and_the_same_params_give_the_same_bits(self):
        augment, image = RandomAffine(**RANGES, p=0.5), torch.rand(4, 2, *SIZE)
        torch.manual_seed(3)
        first, params = augment(image), augment._params
        torch.manual_seed(3)
        assert torch.equal(augment(image), first)
        assert not torch.equal(augment(image), first)
        assert torch.equal(augment(image, params=params), first)

    def test_the_draw_is_kornias(self):
        torch.manual_seed(3)
        ours = RandomAffine(**RANGES, p=0.5).forward_parameters(torch.Size([4, 3, *SIZE]))
        torch.manual_seed(3)
        theirs = K.RandomAffine(**RANGES, p=0.5).forward_parameters(torch.Size([4, 3, *SIZE]))
        assert_close(ours, theirs, rtol=0, atol=0)

    @pytest.mark.parametrize("copied", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
    def test_a_copy_does_the_same(self, copied):
        augment, image = RandomAffine(**RANGES, padding_mode="fill", fill_value=[1, 2], mask_fill=255), ramp(*SIZE)
        moved = augment(image)
        twin = copied(augment)
        assert repr(twin) == repr(augment)
        assert torch.equal(twin(image, params=augment._params), moved)
        assert torch.equal(twin.inverse(moved), augment.inverse(moved))

    def test_there_is_no_state_to_save(self):
        augment = RandomAffine(**RANGES)
        assert augment.load_state_dict(augment.state_dict()) == ([], [])
        assert not augment.state_dict()

    def test_the_repr_shows_the_arguments(self):
        shown = repr(RandomAffine(15, resample="nearest", padding_mode="fill", fill_value=3, p=0.25, mask_fill=255))
        for part in ("RandomAffine(degrees=15", "p=0.25", "resample=nearest", "padding_mode=fill", "mask_fill=255"):
            assert part in shown

    def test_overrides_of_a_call_are_followed(self):
        augment, image = RandomAffine(0.0, p=1.0), ramp(9, 9)
        moved = augment(image, angle=torch.tensor([90.0]), padding_mode="border", resample="nearest")
        assert torch.equal(moved, image.rot90(-1, (2, 3)))

    def test_the_forward_compiles_whole(self):
        torch.compiler.reset()
        augment, image = RandomAffine(**RANGES, p=0.5), torch.rand(2, 3, 9, 11)
        compiled = torch.compile(augment, fullgraph=True, backend="eager")
        assert torch.equal(compiled(image), augment(image, params=augment._params))


class TestWrongArguments:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"degrees": -1}, "degrees"),
            ({"degrees": (1, 2, 3)}, "degrees"),
            ({"degrees": "many"}, "str"),
            ({"degrees": 1, "translate": 0.1}, "translate must be \\(of the width"),
            ({"degrees": 1, "translate": (2, 0)}, "translate"),
            ({"degrees": 1, "scale": (1, 2, 3)}, "scale"),
            ({"degrees": 1, "scale": (-1, 1)}, "scale"),
            ({"degrees": 1, "shear": (1, 2, 3)}, "shear"),
            ({"degrees": 1, "resample": "lanczos"}, "Resample"),
            ({"degrees": 1, "padding_mode": 7}, "SamplePadding"),
            ({"degrees": 1, "p": 1.5}, "p must be"),
            ({"degrees": 1, "p_batch": -0.5}, "p_batch must be"),
            ({"degrees": 1, "mask_fill": "ignore"}, "ignore"),
            ({"degrees": 1, "fill_value": 3}, "pass padding_mode='fill', or mask_fill="),
            ({"degrees": 1, "padding_mode": "fill", "fill_value": torch.ones(2, 3)}, "one per channel"),
            ({"degrees": 1, "padding_mode": "reflection", "align_corners": True}, "pass align_corners=False"),
        ],
    )
    def test_are_refused_with_their_name(self, arguments, message):
        with pytest.raises(ArgumentError, match=message):
            RandomAffine(**arguments)

    def test_of_a_call_are_refused_too(self):
        augment = RandomAffine(10.0, p=1.0, padding_mode="reflection")
        with pytest.raises(ArgumentError, match="pass align_corners=False"):
            augment(torch.rand(1, 1, 4, 4), align_corners=True)
        several = RandomAffine(10.0, p=1.0, padding_mode="fill", fill_value=(1, 2))
        with pytest.raises(ArgumentError, match="one number or 3, one per channel, got 2"):
            several(torch.rand(1, 3, 4, 4))

    def test_params_of_another_size_or_of_something_else_are_refused(self):
        augment = RandomAffine(10.0, p=1.0)
        params = draw(augment, (1, 1, 8, 8))
        with pytest.raises(ArgumentError, match=r"the image is \(8, 9\).*params were drawn for \(8, 8\)"):
            augment(torch.rand(1, 1, 8, 9), params=params)
        with pytest.raises(ArgumentError, match=r"the image is \(2, 2\).*params were drawn for \(8, 8\)"):
            augment.inverse(torch.rand(1, 1, 2, 2), params=params)
        del params["shear_x"]
        with pytest.raises(ArgumentError, match="params lack shear_x"):
            augment(torch.rand(1, 1, 8, 8), params=params)

    def test_there_is_nothing_to_undo_before_the_first_draw(self):
        with pytest.raises(ArgumentError, match="no draw to undo"):
            RandomAffine(10.0).inverse(torch.rand(1, 1, 4, 4))


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


class TestInverse:
    def test_a_smooth_image_comes_back(self):
        augment = RandomAffine(20.0, (0.05, 0.05), (0.9, 1.1), 5.0, p=1.0)
        x, y = ramp(*SIZE)[0] * (2 * torch.pi / 24)
        image = (x.sin() * y.cos()).expand(4, 1, -1, -1)
        moved = augment(image)
        motion = augment.motion(augment._params)
        back = augment.inverse(moved)
        inside = warp(moved, motion.inverse(), valid=warp(image, motion).valid).valid
        assert inside.double().mean() > 0.6
        # Bilinear interpolation twice along two axes: (2 pi / 24)^2 / 8 each; there by up to 1 / 0.9^2 more.
        assert (back - image)[inside].abs().max() < 4 * (2 * torch.pi / 24) ** 2 / 8 * 1.2

    def test_the_params_of_an_earlier_draw_undo_it_and_leave_the_latest(self):
        augment = RandomAffine((90.0, 90.0), p=1.0)
        first, second = torch.rand(2, 2, 1, 8, 8)
        moved, params = augment(first), augment._params
        again = augment(second, angle=torch.tensor([180.0, 180.0]))
        latest = augment._params
        assert torch.equal(augment.inverse(moved, params=params), first)
        assert augment._params is latest
        assert torch.equal(augment.inverse(again), second)

    def test_the_exact_motion_undoes_beside_kornia(self):
        augment, image = RandomAffine(**RANGES, p=0.5), torch.rand(4, 2, *SIZE)
        moved = augment(image)
        motion = augment.motion(augment._params)
        assert torch.equal(warp(image, motion).image, moved)
        assert torch.equal(warp(moved, motion.inverse()).image, augment.inverse(moved))


class TestInAContainer:
    KEYS = ("image", "mask", "bbox_xyxy", "keypoints")

    @pytest.fixture
    def data(self):
        labels = torch.randint(0, 7, (3, 1, *SIZE), dtype=torch.uint8)
        boxes = torch.tensor([[[5.0, 6, 20, 30], [10, 2, 50, 40]]]).repeat(3, 1, 1)
        return torch.rand(3, 3, *SIZE), labels, boxes, torch.rand(3, 5, 2) * 40

    def test_everything_moves_together_and_comes_back(self, data):
        augment = RandomAffine(**RANGES, p=0.5, mask_fill=255)
        sequence = K.AugmentationSequential(augment, data_keys=self.KEYS)
        torch.manual_seed(1)
        image, labels, boxes, points = moved = sequence(*data)
        motion = augment.motion(augment._params)
        assert 0 < augment._params["batch_prob"].sum() < 3
        assert torch.equal(image, warp(data[0], motion).image)
        assert torch.equal(labels, warp(data[1], motion, mode="nearest", fill=255).image)
        assert (labels == 255).any()
        assert_close(boxes, motion.boxes(data[2]))
        assert_close(points, motion.points(data[3]))
        undone = sequence.inverse(*moved)
        assert torch.equal(undone[0], warp(image, motion.inverse()).image)
        assert torch.equal(undone[1], warp(labels, motion.inverse(), mode="nearest", fill=255).image)
        assert_close(undone[2], motion.inverse().boxes(boxes))
        assert_close(undone[3], data[3], rtol=0, atol=1e-5)

    def test_the_params_replay_together_or_one_by_one(self, data):
        sequence = K.AugmentationSequential(RandomAffine(**RANGES, p=0.5, mask_fill=255), data_keys=self.KEYS)
        moved, params = sequence(*data), sequence._params
        undone = sequence.inverse(*moved)
        sequence(*data)
        for again, once in zip(sequence(*data, params=params), moved, strict=True):
            assert torch.equal(again, once)
        sequence(*data)
        for again, once in zip(sequence.inverse(*moved, params=params), undone, strict=True):
            assert torch.equal(again, once)
        assert torch.equal(sequence(data[1], params=params, data_keys=["mask"]), moved[1])
        assert torch.equal(sequence(data[3], params=params, data_keys=["keypoints"]), moved[3])

    def test_it_composes_with_other_augmentations(self, data):
        augment = RandomAffine(**RANGES, p=1.0)
        sequence = K.AugmentationSequential(K.RandomHorizontalFlip(p=1.0), augment, data_keys=["image", "keypoints"])
        moved = sequence(data[0], data[3])
        whole = augment.motion(augment._params) @ AffineTransform.hflip(3, SIZE)
        assert_close(sequence.transform_matrix, whole.matrix.float(), rtol=1e-6, atol=1e-5)
        assert_close(moved[1], whole.points(data[3]))
        assert_close(sequence.inverse(*moved)[1], data[3], rtol=0, atol=1e-4)

    @pytest.mark.parametrize(
        ("arguments", "extra", "padding"),
        [
            ({}, None, 0),
            ({"padding_mode": "fill", "fill_value": 5}, None, 5),
            ({"padding_mode": "fill", "fill_value": (1, 2, 3)}, None, 0),
            ({"padding_mode": "fill", "fill_value": (1, 2, 3), "mask_fill": 255}, None, 255),
            ({"padding_mode": "border", "mask_fill": 255}, None, 255),
            ({"mask_fill": 255}, {"mask_fill": 7}, 7),
            ({"mask_fill": 255}, {"padding_mode": "fill"}, 255),
            ({"padding_mode": "fill", "fill_value": 5, "mask_fill": 255}, {"padding_mode": "border"}, 100),
            ({"mask_fill": 255}, {"padding_mode": "fill", "fill_value": torch.tensor(9)}, 9),
        ],
    )
    def test_masks_are_padded_as_told(self, arguments, extra, padding, data):
        augment = RandomAffine((45, 45), p=1.0, **arguments)
        options = None if extra is None else {DataKey.MASK: extra}
        sequence = K.AugmentationSequential(augment, data_keys=["image", "mask"], extra_args=options)
        ones = torch.full_like(data[1], 100)
        image, labels = sequence(data[0], ones)
        assert set(labels.unique().tolist()) == {padding, 100}
        assert set(sequence.inverse(image, labels)[1].unique().tolist()) == {padding, 100}
        if "fill_value" in arguments:
            fills = torch.tensor(arguments["fill_value"]).expand(3)
            assert torch.equal(image[0, :, 0, 0], fills.float())

    @pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64, torch.bool])
    def test_labels_keep_their_dtype_and_values(self, dtype, data):
        augment = RandomAffine(**RANGES, p=1.0)
        sequence = K.AugmentationSequential(augment, data_keys=["image", "mask"])
        labels = torch.randint(0, 120, (3, 1, *SIZE)).to(dtype)
        moved = sequence(data[0].bfloat16(), labels)[1]
        motion = augment.motion(augment._params)
        assert moved.dtype == dtype
        assert torch.equal(moved, warp(labels.to(torch.int64), motion, mode="nearest").image.to(dtype))

    def test_a_negative_ignore_index_reaches_signed_labels(self, data):
        augment = RandomAffine((45, 45), p=1.0, mask_fill=-100)
        _, labels = K.AugmentationSequential(augment, data_keys=["image", "mask"])(data[0], data[1].long())
        assert labels[0, 0, 0, 0] == -100

    def test_a_list_of_masks_moves_as_the_batch_does(self, data):
        sequence = K.AugmentationSequential(RandomAffine(**RANGES, p=0.5, mask_fill=255), data_keys=["image", "mask"])
        image, labels = sequence(*data[:2])
        _, listed = sequence(data[0], list(data[1]), params=sequence._params)
        assert torch.equal(torch.cat(listed), labels)
        _, undone = sequence.inverse(image, listed)
        assert torch.equal(torch.cat(undone), sequence.inverse(image, labels)[1])

    def test_points_at_whole_numbers_move_to_fractions(self, data):
        augment = RandomAffine(**RANGES, p=1.0)
        sequence = K.AugmentationSequential(augment, data_keys=["image", "keypoints"])
        points = data[3].long()
        moved = sequence(data[0], points)[1]
        assert_close(moved, augment.motion(augment._params).points(points.float()))

    def test_frames_of_a_video_move_alike_on_request(self):
        sequence = K.VideoSequential(RandomAffine(**RANGES, p=1.0), data_format="BTCHW", same_on_frame=True)
        frame = torch.rand(2, 1, 3, 9, 11)
        moved = sequence(frame.expand(-1, 4, -1, -1, -1))
        assert torch.equal(moved, moved[:, :1].expand_as(moved))
        assert not torch.equal(moved[:, 0], frame[:, 0])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("moved_generator", [False, True])
def test_cuda_gives_the_bits_of_the_cpu(moved_generator):
    augment = RandomAffine(**RANGES, p=0.5, mask_fill=255)
    sequence = K.AugmentationSequential(augment.cuda() if moved_generator else augment, data_keys=TestInAContainer.KEYS)
    labels = torch.randint(0, 7, (3, 1, *SIZE), dtype=torch.uint8)
    data = torch.rand(3, 3, *SIZE), labels, torch.rand(3, 2, 4).sort().values * 40, torch.rand(3, 5, 2) * 40
    there = sequence(*(part.cuda() for part in data))
    params = [item._replace(data={name: value.cpu() for name, value in item.data.items()}) for item in sequence._params]
    here = sequence(*data, params=params)
    assert_close([part.cpu() for part in there], here)
    back = sequence.inverse(*(part.cuda() for part in here), params=params)
    assert_close([part.cpu() for part in back], sequence.inverse(*here, params=params))
