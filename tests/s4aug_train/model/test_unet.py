import pytest
import torch

from s4aug_train.model import ENCODERS, UNet
from s4aug_train.model.unet import make_encoder


def parameters(module):
    return sum(p.numel() for p in module.parameters())


def test_the_network_of_table_1_has_its_parameter_count():
    network = UNet(classes=6)
    assert parameters(network.encoder) == 23_508_032
    assert parameters(network) == 29_877_206


def test_the_decoder_has_the_widths_of_table_1():
    network = UNet(classes=6)
    assert network.head[0].weight.shape == (192, 2048, 3, 3)
    assert [tuple(stage.up.weight.shape) for stage in network.stages] == [
        (192, 128, 4, 4),
        (128, 96, 4, 4),
        (96, 64, 4, 4),
        (64, 48, 4, 4),
        (48, 32, 4, 4),
    ]
    assert [stage.conv[0].in_channels for stage in network.stages] == [1152, 608, 320, 48, 32]


@pytest.mark.parametrize("encoder", ENCODERS)
def test_every_encoder_gives_logits_of_the_inputs_size(encoder):
    network = UNet(classes=5, encoder=encoder).eval()
    assert network(torch.rand(1, 3, 64, 32)).shape == (1, 5, 64, 32)


@pytest.mark.parametrize("size", [(1, 1), (31, 33), (64, 65), (100, 37)])
@pytest.mark.parametrize("bands", [1, 4, 7])
def test_any_side_and_any_band_count_work(size, bands):
    network = UNet(classes=3, bands=bands, encoder="resnet18").eval()
    assert network(torch.rand(2, bands, *size)).shape == (2, 3, *size)


def test_padding_touches_only_inputs_that_need_it():
    network = UNet(classes=3, encoder="resnet18").eval()
    image = torch.rand(1, 3, 64, 64)
    wider = torch.cat([image, image[..., -1:].expand(-1, -1, -1, 20)], -1)
    # Columns repeated from the edge are what the network itself would pad with.
    whole = network(torch.nn.functional.pad(wider, (0, 12, 0, 0), mode="replicate"))[..., :84]
    torch.testing.assert_close(network(wider), whole, rtol=0, atol=1e-4)


def test_encoder_parameter_names_are_torchvisions():
    from torchvision.models import resnet18

    names = {name for name in resnet18(weights=None).state_dict() if not name.startswith("fc.")}
    assert set(make_encoder("resnet18", 3).state_dict()) == names
