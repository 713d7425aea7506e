"""Images, seeds and light of a perturbation."""

import torch
from torch import nn

SIZE = (13, 18)
SEEDS = torch.tensor([0, -3, 2**40, 17, 5])


class Shifted(nn.Module):
    """Brightness by a drawn number per image, of our own."""

    def forward(self, image):
        return image + 0.5 + torch.rand(image.shape[0], 1, 1, 1)


class Mapped(nn.Module):
    def __init__(self, change):
        super().__init__()
        self.change = change

    def forward(self, image):
        return self.change(image)


def images(batch=5, size=SIZE, number=0):
    return torch.rand(batch, 3, *size, generator=torch.Generator().manual_seed(number))


def seeded(number=2):
    return torch.Generator().manual_seed(number)
