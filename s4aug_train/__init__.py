"""The reference trainer: S4Net, its baselines, and what a practitioner needs around training."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import FitResult as FitResult
    from .api import assess as assess
    from .api import evaluate as evaluate
    from .api import export as export
    from .api import fit as fit
    from .api import predict as predict
    from .api import report as report
    from .comparison import compare as compare
    from .config import Config as Config
    from .data.own import OwnData as OwnData
    from .errors import S4AugTrainError as S4AugTrainError
    from .presets import configured as configured
    from .run import RunFolder as RunFolder

# Loaded when they are asked for: torch takes seconds, which `s4aug-train --help` need not wait for.
HOMES = {
    "FitResult": "api",
    "assess": "api",
    "evaluate": "api",
    "export": "api",
    "fit": "api",
    "predict": "api",
    "report": "api",
    "compare": "comparison",
    "Config": "config",
    "OwnData": "data.own",
    "RunFolder": "run",
    "S4AugTrainError": "errors",
    "configured": "presets",
}


# Type checkers would take any name for one of the package's.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name not in HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f".{HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return [*globals(), *HOMES]
