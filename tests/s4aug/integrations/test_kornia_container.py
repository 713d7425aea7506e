"""The augmentation among others in Kornia's container."""

import kornia.augmentation as K
import pytest
import torch
from kornia.constants import DataKey
from torch.testing import assert_close

from s4aug import AffineTransform, warp
from s4aug.integrations.kornia import RandomAffine
from tests.s4aug.integrations.kornia_cases import RANGES, SIZE


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
