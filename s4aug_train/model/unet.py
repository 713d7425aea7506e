"""The network of Table 1: a U-Net decoder on a ResNet encoder."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import resnet

ENCODERS = ("resnet18", "resnet34", "resnet50", "resnet101")
DECODER_WIDTHS = (192, 128, 96, 64, 48, 32)
STRIDE = 32


class UNet(nn.Module):
    """Table 1 of the paper: skips from layer3, layer2 and layer1, transposed convolutions up to full size.

    At `resnet50` and 6 classes it has 29,877,206 parameters. Convolutions of the decoder are followed by
    BatchNorm and ReLU; transposed ones carry a bias and nothing else.

    Args:
        classes: Number of classes C.
        bands: Number of input bands.
        encoder: One of `ENCODERS`.
    """

    def __init__(self, classes: int, bands: int = 3, encoder: str = "resnet50") -> None:
        super().__init__()
        self.encoder = make_encoder(encoder, bands)
        deep, *skips = _stage_widths(self.encoder)
        head, *widths = DECODER_WIDTHS
        self.head = _conv(deep, head)
        joined = [*skips, 0, 0]
        entries = [head, *widths[:-1]]
        self.stages = nn.ModuleList(
            Stage(entry, skip, width) for entry, skip, width in zip(entries, joined, widths, strict=True)
        )
        self.classifier = nn.Conv2d(widths[-1], classes, 1)
        # Convolutions follow the layout of their weights; channels last is the faster one, on the CPU too.
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:  # [B, bands, H, W] -> [B, C, H, W]
        """Logits of the input's size; sides that are no multiples of 32 are padded and cut back."""
        height, width = images.shape[-2:]
        padded = F.pad(images, (0, -width % STRIDE, 0, -height % STRIDE), mode="replicate")
        features = self.encoder(padded)
        decoded = self.head(features[0])
        for stage, skip in zip(self.stages, [*features[1:], None, None], strict=True):
            decoded = stage(decoded, skip)
        logits: Tensor = self.classifier(decoded)
        return logits[..., :height, :width]


class Stage(nn.Module):
    """Up by two, joined with the encoder's skip where there is one, then a convolution."""

    def __init__(self, entry: int, skip: int, width: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(entry, width, 4, stride=2, padding=1)
        self.conv = _conv(width + skip, width)

    def forward(self, below: Tensor, skip: Tensor | None) -> Tensor:
        """[B, entry, h, w] and [B, skip, 2h, 2w] to [B, width, 2h, 2w]."""
        raised = self.up(below)
        joined = raised if skip is None else torch.cat([raised, skip], 1)
        out: Tensor = self.conv(joined)
        return out


class Encoder(nn.Module):
    """torchvision's ResNet without its classifier; parameter names are torchvision's."""

    def __init__(self, network: resnet.ResNet) -> None:
        super().__init__()
        self.conv1, self.bn1 = network.conv1, network.bn1
        self.relu, self.maxpool = network.relu, network.maxpool
        self.layer1, self.layer2 = network.layer1, network.layer2
        self.layer3, self.layer4 = network.layer3, network.layer4

    def forward(self, images: Tensor) -> list[Tensor]:
        """Features of layer4, layer3, layer2 and layer1, at strides 32, 16, 8 and 4."""
        stem = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        first = self.layer1(stem)
        second = self.layer2(first)
        third = self.layer3(second)
        return [self.layer4(third), third, second, first]


def make_encoder(name: str, bands: int) -> Encoder:
    """A ResNet of torchvision with random weights, for any number of bands."""
    network = getattr(resnet, name)(weights=None)
    if bands != 3:
        network.conv1 = nn.Conv2d(bands, 64, 7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
    return Encoder(network)


def _stage_widths(encoder: Encoder) -> list[int]:
    """Channels of layer4, layer3, layer2, layer1."""
    widths = []
    for layer in (encoder.layer4, encoder.layer3, encoder.layer2, encoder.layer1):
        block = layer[-1]
        last = block.conv3 if isinstance(block, resnet.Bottleneck) else block.conv2
        widths.append(last.out_channels)
    return widths


def _conv(entry: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(entry, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
    )
