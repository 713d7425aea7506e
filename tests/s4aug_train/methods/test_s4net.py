"""S4Net: what is compared, how it is weighed, and the choices that the paper leaves open."""

import numpy as np
import pytest
import torch

from s4aug import AffineTransform


def test_labelled_images_and_both_views_are_forwarded_as_one_batch(make, make_batch, pixelwise, run):
    batch, network = make_batch(), pixelwise()
    run(make("s4net"), network, batch)
    assert network.calls == [(8, 3, 64, 64)]
    separate = pixelwise()
    run(make("s4net", **{"method.forward": "separate"}), separate, batch)
    assert separate.calls == [(4, 3, 64, 64), (2, 3, 64, 64), (2, 3, 64, 64)]


def test_lambda_is_the_ramp_of_the_paper(make):
    method = make("s4net", **{"train.steps": 100_000})
    for step in (0, 1, 20_000, 40_000, 79_999):
        assert method.weight(step) == pytest.approx(2.0 * np.exp(-5 * (1 - step / 80_000) ** 2))
    assert method.weight(80_000) == method.weight(99_999) == 2.0


@pytest.fixture
def smooth_tile(make_tile):
    """A tile on which resampling changes little."""
    yy, xx = np.mgrid[:96, :96] / 96 * 2 * np.pi
    smooth = np.stack([127 + 100 * np.sin(xx + i) * np.cos(yy - i) for i in range(3)]).astype(np.float32)
    tile = make_tile((96, 96), dtype=np.float32)
    return type(tile)("smooth", smooth, tile.labels, None, tile.class_pixels, tile.band_sums)


@pytest.mark.parametrize("settings", [{}, {"method.views": "one"}, {"method.draw": "batch"}])
def test_a_pixelwise_network_is_consistent_but_for_resampling(settings, smooth_tile, make, make_batch, pixelwise, run):
    method = make("s4net", **settings, **{"train.crop": 96})
    batch = make_batch(method, step=99, tiles=[smooth_tile], crop=96, unlabelled=4)
    masked = run(method, pixelwise(), batch)
    bare = run(make("s4net", **settings, **{"method.mask": False, "train.crop": 96}), pixelwise(), batch)
    assert float(masked.unsupervised) < 1e-5
    # Without the mask the frame's edge dominates.
    assert float(bare.unsupervised) > 1e-3
    assert 0.2 < float(masked.valid_fraction) < 0.95


def test_views_of_the_tile_show_what_lies_around_the_crop(make, make_tile, make_batch, pixelwise, run):
    settings = {"train.crop": 64, "method.translate": 0.1}
    tiles = [make_tile((400, 400), name=str(i), seed=i) for i in range(3)]
    of_the_crop, of_the_tile = make("s4net", **settings), make("s4net", **settings, **{"method.source": "tile"})
    alone = run(of_the_crop, pixelwise(), make_batch(of_the_crop, tiles=tiles, unlabelled=4))
    around = run(of_the_tile, pixelwise(), make_batch(of_the_tile, tiles=tiles, unlabelled=4))
    views = of_the_tile.views(make_batch(of_the_tile, tiles=tiles, unlabelled=16))
    # A window at the tile's own edge still ends there.
    assert torch.stack([view.valid.float().mean() for view in views]).mean() > 0.95
    assert float(around.valid_fraction) > float(alone.valid_fraction)


@pytest.mark.parametrize("source", ["crop", "tile"])
def test_undoing_a_view_leads_back_to_the_crop(source, make, make_tile, make_batch):
    method = make("s4net", **{"method.source": source, "method.scale_min": 1.0, "method.scale_max": 1.0})
    yy, xx = np.mgrid[:300, :300]
    ramp = np.stack([xx, yy, xx + yy]).astype(np.float32)  # bilinear sampling is exact on it
    tile = make_tile((300, 300), dtype=np.float32)
    tile = type(tile)("ramp", ramp, tile.labels, None, tile.class_pixels, tile.band_sums)
    batch = make_batch(method, tiles=[tile])
    margin = batch.unlabeled.margin
    inner = slice(margin, margin + 64)
    crop = batch.unlabeled.images[..., inner, inner]
    mean, std = (
        torch.tensor(part)[:, None, None] for part in (method.setup.normalization.mean, method.setup.normalization.std)
    )
    for view in method.views(batch):
        back = view.restore(view.image)
        shown = torch.where(back.valid, back.image * std + mean, crop)
        torch.testing.assert_close(shown, crop, rtol=0, atol=1e-2)
        assert back.valid.float().mean() > 0.3


def test_one_view_is_the_crop_itself(make, make_batch):
    method = make("s4net", **{"method.views": "one", "train.flips": False})
    batch = make_batch(method)
    moved, still = method.views(batch)
    assert still.transform.matrix.equal(AffineTransform.identity(2, (64, 64)).matrix)
    assert not moved.transform.matrix.equal(still.transform.matrix)


def test_one_draw_for_the_batch(make, make_batch):
    settings = {"train.flips": False}
    batch = make_batch(unlabelled=5)
    each = make("s4net", **settings).views(batch)[0].transform.matrix
    one = make("s4net", **settings, **{"method.draw": "batch"}).views(batch)[0].transform.matrix
    assert len({tuple(matrix.flatten().tolist()) for matrix in each}) == 5
    assert len({tuple(matrix.flatten().tolist()) for matrix in one}) == 1


def test_each_axis_may_have_a_scale_of_its_own(make, make_batch):
    settings = {"train.flips": False, "method.degrees": 0.0}
    for isotropic in (True, False):
        method = make("s4net", **settings, **{"method.isotropic": isotropic})
        scales = method.views(make_batch(unlabelled=5))[0].transform.matrix[:, [0, 1], [0, 1]]
        assert torch.allclose(scales[:, 0], scales[:, 1]) == isotropic


def test_gradient_flows_through_both_views_unless_one_is_detached(make, make_batch, pixelwise, run):
    batch = make_batch(make("s4net"), step=99)

    def gradient(detach):
        network = pixelwise()
        losses = run(make("s4net", **{"method.detach": detach}), network, batch)
        supervised = run(make("supervised"), network, batch).total
        (losses.total - supervised).backward()
        return network.conv.weight.grad

    both, first, second = gradient(0), gradient(2), gradient(1)
    # For the squared difference the two sides' gradients add up to that through both.
    torch.testing.assert_close(first + second, both, rtol=1e-3, atol=1e-7)
    assert not torch.allclose(first, second)


def test_with_an_average_the_second_prediction_is_its_own(make, make_batch, pixelwise, run):
    method, student = make("mean-teacher"), pixelwise()
    batch = make_batch(method, step=99)
    teacher = method.partner(student)
    # As long as they are equal the loss is that of a detached second view.
    equal = run(method, student, batch, teacher)
    detached = run(make("s4net", **{"method.detach": 2}), student, batch)
    torch.testing.assert_close(equal.unsupervised, detached.unsupervised)
    with torch.no_grad():
        teacher.network.conv.weight[0] += 1
    assert float(run(method, student, batch, teacher).unsupervised) > 2 * float(equal.unsupervised)
    assert all(not parameter.requires_grad for parameter in teacher.parameters())


def test_light_changes_the_views_alone_and_only_where_it_is_asked_for(make, make_batch, pixelwise):
    batch = make_batch(step=3)
    plain = make("s4net")
    bright = make("s4net", **{"method.jitter": 0.5, "method.noise": 0.02, "method.blur": 0.5})
    for before, after in zip(plain.views(batch), bright.views(batch), strict=True):
        assert torch.equal(before.valid, after.valid)
        assert torch.equal(before.transform.matrix, after.transform.matrix)
        real = before.valid.expand_as(before.image)
        assert torch.equal(before.image[~real], after.image[~real])
        assert not torch.allclose(before.image[real], after.image[real], atol=0.01)
    again = bright.views(batch)
    assert torch.equal(again[0].image, bright.views(batch)[0].image)
    assert not torch.equal(again[0].image, bright.views(make_batch(step=4))[0].image)


def test_an_affine_control_ignores_what_moves_in_from_outside(make, make_batch, pixelwise, run):
    seen = []

    class Spy(pixelwise):
        def forward(self, images):
            seen.append(images)
            return super().forward(images)

    losses = run(make("sup+affine"), Spy(), make_batch(labelled=8))
    outside = (seen[0] == 0).all(1)
    assert 0.05 < outside.float().mean() < 0.6
    assert torch.isfinite(losses.total)
