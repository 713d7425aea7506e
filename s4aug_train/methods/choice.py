"""From a name in the config to a method."""

from ..errors import ConfigError
from ..imports import named_object
from .cutmix import CutMix
from .fixmatch import FixMatch
from .full import Full
from .hung import Hung
from .protocol import Method, Setup
from .s4net import S4Net
from .sup_affine import SupAffine
from .supervised import Supervised
from .vat import Vat, VatAffine


def make_method(setup: Setup) -> Method:
    """The method that `config.method.name` asks for: one of ours, or `package.module:function(setup)`.

    Raises:
        ConfigError: The user's function cannot be had, or gives no method.
    """
    match setup.config.method.name:
        case "supervised":
            return Supervised(setup)
        case "full":
            return Full(setup)
        case "sup+affine":
            return SupAffine(setup)
        case "s4net" | "mean-teacher":
            return S4Net(setup)
        case "vat":
            return Vat(setup)
        case "vat+affine":
            return VatAffine(setup)
        case "cutmix":
            return CutMix(setup)
        case "fixmatch":
            return FixMatch(setup)
        case "hung":
            return Hung(setup)
        case name:
            return _of_the_user(name, setup)


def _of_the_user(name: str, setup: Setup) -> Method:
    function = named_object(name, "--method")
    try:
        method = function(setup)
    except Exception as error:  # whatever the user's function raises
        raise ConfigError(f"--method {name} failed: {type(error).__name__}: {error}") from error
    if not isinstance(method, Method):
        raise ConfigError(f"--method {name} must give a s4aug_train.methods.Method, got {type(method).__name__}")
    return method
