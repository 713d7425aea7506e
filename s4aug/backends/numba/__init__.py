"""The warp and the consistency objective on the CPU, compiled by Numba."""

from .objective import consistency as consistency
from .objective import consistency_gradient as consistency_gradient
from .objective import slopes_shape as slopes_shape
from .warp import forward as forward
from .warp import image_gradient as image_gradient
from .warp import matrix_gradient as matrix_gradient
