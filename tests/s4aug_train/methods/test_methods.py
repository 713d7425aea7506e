"""All methods by one protocol; see the files beside this one for what is special to each."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from s4aug_train.config import Config
from s4aug_train.data.normalization import Normalization
from s4aug_train.data.pool import Pool
from s4aug_train.methods import Batch, make_method
from s4aug_train.rng import stream_seed

NORMALIZATION = Normalization((100.0, 110.0, 120.0), (50.0, 55.0, 60.0), "measured")


class Pixelwise(torch.nn.Module):
    """A network without context: a 1x1 convolution."""

    def __init__(self, classes=6):
        super().__init__()
        torch.manual_seed(0)
        self.conv = torch.nn.Conv2d(3, classes, 1)
        self.calls = []

    def forward(self, images):
        self.calls.append(tuple(images.shape))
        return self.conv(images)


def make(name, **settings):
    config = Config().updated({"method.name": name, "train.steps": 100, **settings})
    return make_method(config, NORMALIZATION)


def make_batch(make_tile, *, step=0, crop=48, labelled=4, unlabelled=2, seed=0):
    tiles = [make_tile((64, 80), name=str(i), seed=i) for i in range(5)]
    return Batch(
        step,
        torch.tensor([stream_seed(seed, step, "batch")]),
        Pool(tiles, crop, labelled=True).crops(seed, step, "labeled", labelled),
        Pool(tiles, crop, labelled=False).crops(seed, step, "unlabeled", unlabelled),
    )


@pytest.mark.parametrize("name", ["supervised", "sup+affine", "full", "s4net"])
def test_a_loss_is_finite_differentiable_and_repeatable(name, make_tile):
    batch, network, method = make_batch(make_tile, step=90), Pixelwise(), make(name)
    losses = method.losses(network, batch)
    losses.total.backward()
    assert torch.isfinite(network.conv.weight.grad).all()
    assert network.conv.weight.grad.abs().sum() > 0
    assert torch.equal(losses.total, method.losses(Pixelwise(), batch).total)
    # The total is what its parts say.
    torch.testing.assert_close(losses.total.detach(), losses.supervised + losses.weight * losses.consistency)


def test_supervised_loss_is_the_mean_cross_entropy_of_the_pixels(make_tile):
    # A pixelwise network does not see flips, so plain crops must give the same loss.
    batch, network = make_batch(make_tile), Pixelwise()
    mean, std = (torch.tensor(part)[:, None, None] for part in (NORMALIZATION.mean, NORMALIZATION.std))
    images = (batch.labeled.images.float() - mean) / std
    log_p = network(images).log_softmax(1).detach().numpy()
    labels = batch.labeled.labels[:, 0].numpy()
    b, y, x = np.nonzero(labels != 255)
    expected = -log_p[b, labels[b, y, x], y, x].mean()
    assert float(make("supervised").losses(network, batch).supervised) == pytest.approx(expected, rel=1e-5)


def test_flips_move_labels_with_the_image(make_tile):
    from s4aug_train.methods.supervision import labelled_views, random_flips

    batch = make_batch(make_tile, labelled=40)
    seeds = batch.seeds("flip/labeled", 40)
    flips = random_flips(batch.labeled, seeds)
    plain = Normalization((0.0,) * 3, (1.0,) * 3, "measured")
    images, labels = labelled_views(batch.labeled, flips, plain, mode="nearest")
    kinds = set()
    for i in range(40):
        for kind, dims in {"none": (), "h": (2,), "v": (1,), "both": (1, 2)}.items():
            if torch.equal(images[i], batch.labeled.images[i].flip(dims).float()):
                kinds.add(kind)
                assert torch.equal(labels[i], batch.labeled.labels[i].flip(dims)[0].long())
                break
        else:
            pytest.fail("an image is no flip of its crop")
    assert kinds == {"none", "h", "v", "both"}


def test_an_all_ignored_batch_gives_zero_loss_and_no_nan(make_tile):
    batch = make_batch(make_tile)
    batch.labeled.labels.fill_(255)
    network = Pixelwise()
    losses = make("supervised").losses(network, batch)
    losses.total.backward()
    assert losses.total.item() == 0
    assert torch.equal(network.conv.weight.grad, torch.zeros_like(network.conv.weight))


def test_only_full_sees_the_masks_of_unlabelled_tiles(make_tile):
    labelled, hidden, bare = make_tile(name="a"), make_tile(name="b"), make_tile(name="c", labelled=False)
    for name in ("supervised", "sup+affine", "s4net"):
        assert make(name).labelled_tiles([labelled], [hidden, bare]) == [labelled]
    assert make("full").labelled_tiles([labelled], [hidden, bare]) == [labelled, hidden]


def test_sup_affine_ignores_what_moves_in_from_outside(make_tile):
    batch = make_batch(make_tile, labelled=8)
    seen = []

    class Spy(Pixelwise):
        def forward(self, images):
            seen.append(images)
            return super().forward(images)

    losses = make("sup+affine").losses(Spy(), batch)
    outside = (seen[0] == 0).all(1)
    assert 0.05 < outside.float().mean() < 0.6
    assert torch.isfinite(losses.total)


def test_s4net_forwards_labelled_and_both_views_as_one_batch(make_tile):
    batch, network = make_batch(make_tile), Pixelwise()
    make("s4net").losses(network, batch)
    assert network.calls == [(8, 3, 48, 48)]
    separate = Pixelwise()
    make("s4net", **{"method.forward": "separate"}).losses(separate, batch)
    assert separate.calls == [(4, 3, 48, 48), (2, 3, 48, 48), (2, 3, 48, 48)]


def test_lambda_is_the_ramp_of_the_paper():
    method = make("s4net", **{"train.steps": 100_000})
    for step in (0, 1, 20_000, 40_000, 79_999):
        assert method.weight(step) == pytest.approx(2.0 * np.exp(-5 * (1 - step / 80_000) ** 2))
    assert method.weight(80_000) == method.weight(99_999) == 2.0


def test_a_pixelwise_network_is_consistent_but_for_resampling(make_tile):
    # Smooth images, so that resampling changes little; without the mask the frame's edge dominates.
    yy, xx = np.mgrid[:96, :96] / 96 * 2 * np.pi
    smooth = np.stack([127 + 100 * np.sin(xx + i) * np.cos(yy - i) for i in range(3)]).astype(np.float32)
    tile = make_tile((96, 96), dtype=np.float32)
    tile = type(tile)("smooth", smooth, tile.labels, None, tile.class_pixels, tile.band_sums)
    pool = Pool([tile], 96, labelled=False)
    batch = Batch(99, torch.tensor([0]), Pool([tile], 96, labelled=True).crops(0, 0, "l", 2), pool.crops(0, 0, "u", 4))
    network = Pixelwise()
    masked = make("s4net").losses(network, batch)
    bare = make("s4net", **{"method.mask": False}).losses(network, batch)
    assert float(masked.consistency) < 1e-5
    assert float(bare.consistency) > 1e-3
    assert 0.4 < float(masked.valid_fraction) < 0.95


def test_nodata_of_the_unlabelled_crops_is_compared_nowhere(make_tile):
    valid = np.ones((64, 64), bool)
    valid[:, :40] = False
    tile = make_tile((64, 64), valid=valid, dtype=np.float32)
    tile.image[:, :, :40] = np.nan
    pool = Pool([tile], 64, labelled=False)
    batch = Batch(99, torch.tensor([0]), Pool([tile], 64, labelled=True).crops(0, 0, "l", 2), pool.crops(0, 0, "u", 2))
    network = Pixelwise()
    losses = make("s4net").losses(network, batch)
    losses.total.backward()
    assert torch.isfinite(losses.total)
    assert torch.isfinite(network.conv.weight.grad).all()
    assert float(losses.valid_fraction) < 24 / 64


def test_gradient_flows_through_both_views_unless_one_is_detached(make_tile):
    batch = make_batch(make_tile, step=99)

    def gradient(detach):
        network = Pixelwise()
        losses = make("s4net", **{"method.detach": detach}).losses(network, batch)
        supervised = make("supervised").losses(network, batch).total
        (losses.total - supervised).backward()
        return network.conv.weight.grad

    both, first, second = gradient(0), gradient(2), gradient(1)
    # For the squared difference the two sides' gradients add up to that through both.
    torch.testing.assert_close(first + second, both, rtol=1e-3, atol=1e-7)
    assert not torch.allclose(first, second)


def test_cross_entropy_in_half_precision_is_computed_in_float32():
    from s4aug_train.methods.supervision import cross_entropy

    logits = torch.randn(2, 6, 8, 8, generator=torch.Generator().manual_seed(0))
    labels = torch.randint(0, 6, (2, 8, 8), generator=torch.Generator().manual_seed(1))
    half = logits.bfloat16()
    assert cross_entropy(half, labels).dtype == torch.float32
    torch.testing.assert_close(cross_entropy(half, labels), F.cross_entropy(half.float(), labels))
