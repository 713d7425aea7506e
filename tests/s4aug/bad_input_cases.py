"""What is wrong with a call, and what its error must tell."""

import math
import re
from contextlib import contextmanager

import pytest
import torch

from s4aug import AffineTransform, S4AugError

SIZE = (4, 5)
NAN = math.nan
IMAGE = torch.rand(2, 1, *SIZE, generator=torch.Generator().manual_seed(0))
LABELS = torch.zeros(2, 1, *SIZE, dtype=torch.uint8)
STILL = AffineTransform.identity(2, SIZE)
# What a raw error of torch or Python says, and a name printed as an object.
RAW = re.compile(r"built-in method|object at 0x|not implemented for|invalid combination|has no attribute")


@contextmanager
def refused(*told, builtin=ValueError):
    """The block must raise an error of ours that is also `builtin` and tells each of the words `told`."""
    with pytest.raises(S4AugError) as caught:
        yield
    message = str(caught.value)
    assert isinstance(caught.value, builtin)
    assert "\n" not in message
    assert not RAW.search(message), message
    for part in told:
        assert part in message, f"{part!r} is not in: {message}"


def bad(name, call, *told):
    return pytest.param(call, told, id=name)
