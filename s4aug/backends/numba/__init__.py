"""The warp on the CPU, compiled by Numba."""

from .warp import forward as forward
from .warp import image_gradient as image_gradient
from .warp import matrix_gradient as matrix_gradient
