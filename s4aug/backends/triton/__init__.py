"""The warp and its gradients as Triton kernels, for CUDA; no automatic differentiation here."""

from .adjoint import image_gradient as image_gradient
from .sample import forward as forward
from .slope import matrix_gradient as matrix_gradient
