"""Training methods, one small file each, behind one protocol."""

from .choice import make_method as make_method
from .choice import perturbation_ranges as perturbation_ranges
from .protocol import Batch as Batch
from .protocol import Losses as Losses
from .protocol import Method as Method
