"""The warp as a Kornia augmentation: Kornia's own generic checks, what it refuses, and the way back."""

import copy
import pickle

import kornia.augmentation as K
import pytest
import torch
from kornia.constants import Resample
from torch.testing import assert_close

from s4aug import ArgumentError, warp
from s4aug.integrations.kornia import RandomAffine
from tests.s4aug.integrations.kornia_cases import RANGES, SIZE, draw, ramp


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
        moved = []
        for call in (compiled, augment):
            torch.manual_seed(3)
            moved.append(call(image))
        assert torch.equal(*moved)
        assert not torch.equal(moved[0], image)

    @pytest.mark.skipif(torch.__version__ < "2.12", reason="torch 2.11 loses what a compiled call adds to a dictionary")
    def test_a_compiled_call_leaves_what_it_drew(self):
        torch.compiler.reset()
        augment, image = RandomAffine(**RANGES, p=0.5), torch.rand(2, 3, 9, 11)
        moved = torch.compile(augment, fullgraph=True, backend="eager")(image)
        assert torch.equal(moved, augment(image, params=augment._params))


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
