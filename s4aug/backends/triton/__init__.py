"""The warp, the consistency objective and their gradients as Triton kernels; no automatic differentiation here."""

from .adjoint import image_gradient as image_gradient
from .objective import consistency as consistency
from .objective import slopes_shape as slopes_shape
from .pullback import consistency_gradient as consistency_gradient
from .sample import forward as forward
from .slope import matrix_gradient as matrix_gradient
