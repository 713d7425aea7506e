"""Pretrained encoder weights: ImageNet's from torchvision, or a file."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from torchvision.models import get_model_weights

from ..errors import WeightsError
from ..tensors import read_tensors
from .unet import Encoder


def read_encoder_weights(name: str, source: str) -> Mapping[str, Tensor] | None:
    """Get pretrained weights, before anything that takes long.

    Args:
        name: "resnet18", ..., whose weights are meant.
        source: "imagenet" (torchvision's IMAGENET1K_V1), "none", or the path of a file with a ResNet state
            dict (torchvision's names, read with `weights_only=True`).

    Returns:
        A state dict, or None for "none".

    Raises:
        WeightsError: They cannot be downloaded, or the file cannot be read.
    """
    if source == "none":
        return None
    return _imagenet(name) if source == "imagenet" else _from_file(Path(source), name)


def load_encoder_weights(encoder: Encoder, state: Mapping[str, Tensor]) -> None:
    """Load pretrained weights into an encoder, in place.

    Args:
        encoder: Of `UNet.encoder`.
        state: As `read_encoder_weights` gives it; the classifier is left out, the first convolution fitted to
            the encoder's bands.

    Raises:
        WeightsError: They are not those of this encoder.
    """
    own = {key: value for key, value in state.items() if not key.startswith("fc.")}
    first = own.get("conv1.weight")
    if first is not None and first.ndim == 4 and first.shape[1] > 0:
        own["conv1.weight"] = fit_bands(first, encoder.conv1.in_channels)
    try:
        encoder.load_state_dict(own)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise WeightsError(
            f"the pretrained weights do not fit ({reason}); set model.encoder to the network they were made for"
        ) from error


def fit_bands(weight: Tensor, bands: int) -> Tensor:
    """The first convolution for another number of bands.

    The bands of the weights are repeated in turn and scaled by old / new count, so that the sum over bands,
    and with it the scale of the activations, stays.

    Args:
        weight: [64, b, 7, 7].
        bands: Bands of the data.

    Returns:
        [64, bands, 7, 7].
    """
    own = weight.shape[1]
    if own == bands:
        return weight
    return weight[:, torch.arange(bands) % own] * (own / bands)


def _imagenet(name: str) -> Mapping[str, Tensor]:
    weights = get_model_weights(name)["IMAGENET1K_V1"]
    try:
        state: Mapping[str, Tensor] = weights.get_state_dict(progress=False, check_hash=True)
    except Exception as error:
        # What lies there already is read unchecked by torch.
        cached = Path(torch.hub.get_dir(), "checkpoints", weights.url.rpartition("/")[2])
        if cached.is_file():
            told = f"cannot read the ImageNet weights of {name} in {cached} ({type(error).__name__}); remove that file"
        else:
            told = f"cannot get the ImageNet weights of {name} from {weights.url} ({error})"
        raise WeightsError(
            f"{told}, train from scratch with --weights none, or give a downloaded file with --weights PATH"
        ) from error
    return state


def _from_file(path: Path, name: str) -> Mapping[str, Tensor]:
    if not path.is_file():
        raise WeightsError(
            f"no weights file at {path}; --weights takes imagenet, none, or the path of a state dict of {name}"
        )
    try:
        state = read_tensors(path)
    except Exception as error:
        raise WeightsError(f"cannot read {path} as a state dict of {name}: {type(error).__name__}") from error
    state = state.get("state_dict", state) if isinstance(state, Mapping) else state
    named = isinstance(state, Mapping) and all(isinstance(key, str) for key in state)
    if not named or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f"{path} is not a state dict of {name} (names to tensors)")
    return state
