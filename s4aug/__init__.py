"""Batched, differentiable, exactly invertible random affine perturbations with validity masks."""

from .consistency import ConsistencyTerms as ConsistencyTerms
from .consistency import consistency_loss as consistency_loss
from .consistency import consistency_terms as consistency_terms
from .errors import ArgumentError as ArgumentError
from .errors import BackendUnavailable as BackendUnavailable
from .errors import S4AugError as S4AugError
from .perturbation import Perturbation as Perturbation
from .sampling import AffineRanges as AffineRanges
from .sampling import sample_affine as sample_affine
from .transform import AffineTransform as AffineTransform
from .version import __version__ as __version__
from .view import RandomAffine as RandomAffine
from .view import View as View
from .warp import Warped as Warped
from .warp import warp as warp
