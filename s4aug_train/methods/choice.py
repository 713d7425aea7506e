"""From a name in the config to a method."""

from s4aug import AffineRanges

from ..config import Config, MethodConfig
from ..data.normalization import Normalization
from .full import Full
from .protocol import Method
from .s4net import S4Net
from .sup_affine import SupAffine
from .supervised import Supervised


def make_method(config: Config, normalization: Normalization) -> Method:
    """The method that `config.method.name` asks for."""
    match config.method.name:
        case "supervised":
            return Supervised(normalization)
        case "full":
            return Full(normalization)
        case "sup+affine":
            return SupAffine(normalization, perturbation_ranges(config.method))
        case _:
            return S4Net(normalization, perturbation_ranges(config.method), config.method, config.train.steps)


def perturbation_ranges(config: MethodConfig) -> AffineRanges:
    """The ranges of the random perturbations (Sec. 3.2: 15 degrees, 0.2, 0.75 to 1.25)."""
    return AffineRanges(
        degrees=config.degrees,
        translate=(config.translate, config.translate),
        scale=(config.scale_min, config.scale_max),
        shear=config.shear,
    )
