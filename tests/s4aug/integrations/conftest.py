"""For tests of the Kornia augmentation: Kornia draws from torch's global state."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)
