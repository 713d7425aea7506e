"""The reference trainer: S4Net, its baselines, and what a practitioner needs around training."""

from .api import FitResult as FitResult
from .api import evaluate as evaluate
from .api import fit as fit
from .config import Config as Config
from .data.own import OwnData as OwnData
from .engine import RunFolder as RunFolder
from .errors import S4AugTrainError as S4AugTrainError
from .presets import configured as configured
