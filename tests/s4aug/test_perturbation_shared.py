"""A motion that both views share, merged into their own."""

import pytest
import torch
from torch.testing import assert_close

from s4aug import AffineTransform, ArgumentError, Perturbation, RandomAffine, View, warp
from tests.s4aug.motions import PAPER
from tests.s4aug.perturbation_cases import SEEDS, Mapped, Shifted, images, seeded


def lattice_and_plane(batch, size):
    """Content that bilinear interpolation keeps: planes over x and y."""
    y, x = torch.meshgrid(torch.arange(float(size[0])), torch.arange(float(size[1])), indexing="ij")
    return torch.stack([x, y, 0.3 * x - 0.7 * y + 2]).expand(batch, 3, *size).contiguous()


class TestShared:
    TILE = (24, 30)
    CROP = (12, 16)

    def crops(self):
        top, left = torch.tensor([6, 3, 11, 0, 12]), torch.tensor([7, 14, 0, 3, 14])
        return AffineTransform.crop(top, left, self.CROP, self.TILE)

    def transforms(self):
        """What is done to the images before, by name."""
        flip = AffineTransform.hflip(5, self.TILE)
        turn = AffineTransform.from_params(angle=torch.linspace(-70, 70, 5), size=self.TILE)
        return {
            "crop": self.crops(),
            "flip": flip,
            "flip and crop": self.crops() @ flip,
            "quarter turn": AffineTransform.rot90(1, 5, self.TILE),
            "turn and crop": self.crops() @ turn,
            "resize": AffineTransform.resize((11, 19), self.TILE, 5),
        }

    @pytest.mark.parametrize("name", ["crop", "flip", "flip and crop", "quarter turn", "turn and crop", "resize"])
    @pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
    @pytest.mark.parametrize("padding", ["fill", "reflection"])
    def test_the_images_are_resampled_once_for_both(self, padding, mode, name):
        tiles, shared = images(size=self.TILE), self.transforms()[name]
        valid = torch.rand(5, 1, *self.TILE, generator=seeded()) < 0.97
        perturb = Perturbation(RandomAffine(**PAPER, mode=mode, padding=padding, fill=3.0))
        view = perturb(tiles, shared=shared, valid=valid, seed=SEEDS)
        motion = RandomAffine(**PAPER).sample(5, shared.out_size, seed=SEEDS)
        assert torch.equal(view.transform.matrix, motion.matrix)
        assert (view.transform.size, view.transform.out_size) == (shared.out_size, shared.out_size)
        once = warp(tiles, motion @ shared, valid=valid, mode=mode, padding=padding, fill=3.0)
        assert view.valid.any()
        assert torch.equal(view.image, once.image)
        assert torch.equal(view.valid, once.valid)

    def test_the_light_falls_on_what_is_shown_once(self):
        view = Perturbation(RandomAffine(**PAPER, fill=-1.0), Mapped(lambda image: image * 3))(
            images(size=self.TILE), shared=self.crops(), seed=SEEDS
        )
        once = warp(images(size=self.TILE), view.transform @ self.crops())
        assert torch.equal(view.image, torch.where(once.valid, once.image * 3, -1.0))

    def test_content_from_beyond_the_crop_is_real(self):
        tiles = images(size=self.TILE)
        crop = AffineTransform.crop(torch.full((5,), 6), torch.full((5,), 7), self.CROP, self.TILE)
        perturb = RandomAffine(degrees=20, translate=(0.2, 0.2))
        view = perturb(tiles, shared=crop, seed=SEEDS)
        cropped_first = perturb(warp(tiles, crop).image, seed=SEEDS)
        beyond = view.valid & ~cropped_first.valid
        assert not (cropped_first.valid & ~view.valid).any()
        assert beyond.sum() > 50
        # What shows there is the tile: planes come out as planes at the point that the motion leads back to.
        planes = lattice_and_plane(5, self.TILE)
        shown = perturb(planes, shared=crop, seed=SEEDS).image
        y, x = torch.meshgrid(torch.arange(12.0), torch.arange(16.0), indexing="ij")
        xy = torch.stack([x, y], -1).reshape(1, -1, 2).expand(5, -1, -1).double()
        there = view.transform.inverse().points(xy) + torch.tensor([7.0, 6.0])
        expected = there.mT.reshape(5, 2, *self.CROP).float()
        where = beyond.expand(-1, 2, -1, -1)
        assert_close(shown[:, :2][where], expected[where], atol=1e-4, rtol=0)

    def test_the_way_back_leads_to_the_frame_in_between_where_labels_lie(self):
        tiles = lattice_and_plane(5, self.TILE)
        shared = self.crops() @ AffineTransform.hflip(5, self.TILE)
        view = Perturbation(RandomAffine(**PAPER))(tiles, shared=shared, seed=SEEDS)
        back, valid = view.restore(view.image)
        labels = View.of(tiles, shared, mode="nearest")
        assert back.shape == labels.image.shape
        assert labels.valid.all()
        assert valid.double().mean() > 0.4
        where = valid.expand_as(back)
        assert_close(back[where], labels.image[where], atol=1e-4, rtol=0)

    @pytest.mark.parametrize("name", ["crop", "flip", "flip and crop", "quarter turn"])
    def test_lattice_moves_lead_back_to_the_very_crop(self, name):
        shared = self.transforms()[name]
        labels = torch.randint(0, 6, (5, 1, *self.TILE), generator=seeded(), dtype=torch.uint8)
        view = RandomAffine(hflip=1.0, vflip=1.0, mode="nearest")(labels, shared=shared, seed=SEEDS)
        back, valid = view.restore(view.image, mode="nearest")
        assert valid.all()
        assert torch.equal(back, View.of(labels, shared, mode="nearest").image)

    @pytest.mark.parametrize("name", ["crop", "flip and crop", "quarter turn", "turn and crop"])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
    def test_lifting_gives_the_bits_of_the_images_after_the_shared_part_back(self, dtype, name):
        tiles = (images(size=self.TILE) * 255).to(dtype)
        shared = self.transforms()[name]
        view = RandomAffine(degrees=30, translate=(0.1, 0.1), hflip=0.5, mode="lifting")(
            tiles, shared=shared, seed=SEEDS
        )
        between = warp(tiles, shared, mode="lifting")
        back, valid = view.restore(view.image)
        assert view.mode == "lifting"
        assert 0.3 < valid.double().mean() < 1
        assert not (valid & ~between.valid).any()
        where = valid.expand_as(back)
        assert torch.equal(back[where], between.image[where])

    @pytest.mark.parametrize("mode", ["bilinear", "lifting"])
    @pytest.mark.parametrize(
        ("shared", "named"),
        [
            (AffineTransform.hflip(5, (30, 24)), r"images is \(24, 30\).*made for \(30, 24\)"),
            (AffineTransform.hflip(3, (24, 30)), "images has batch 5, the transform has 3"),
            (AffineTransform.hflip(1, (24, 30)), "images has batch 5, the transform has 1"),
        ],
        ids=["size", "batch", "batch of one"],
    )
    def test_a_shared_part_for_other_images_is_refused(self, shared, named, mode):
        for perturb in (RandomAffine(mode=mode), Perturbation(RandomAffine(mode=mode), Shifted())):
            with pytest.raises(ArgumentError, match=named):
                perturb(images(size=self.TILE), shared=shared, seed=SEEDS)

    @pytest.mark.parametrize("mode", ["bilinear", "lifting"])
    def test_a_shared_part_on_another_device_is_refused_with_the_cure(self, mode):
        shared = AffineTransform.hflip(5, self.TILE, device="meta")
        with pytest.raises(ArgumentError, match=r"meta.*cpu|cpu.*meta") as refusal:
            RandomAffine(mode=mode)(images(size=self.TILE), shared=shared, seed=SEEDS)
        assert "use transform.to(" in str(refusal.value)

    def test_gradient_reaches_the_tiles_and_an_empty_batch_is_empty(self):
        tiles = images(size=self.TILE).requires_grad_()
        RandomAffine(**PAPER)(tiles, shared=self.crops(), seed=SEEDS).image.sum().backward()
        assert tiles.grad.abs().sum() > 0
        none = AffineTransform.crop(torch.zeros(0), torch.zeros(0), self.CROP, self.TILE)
        view = Perturbation(RandomAffine(**PAPER), Shifted())(images(0, self.TILE), shared=none, seed=SEEDS[:0])
        assert view.image.shape == (0, 3, *self.CROP)
