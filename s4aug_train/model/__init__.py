"""The network of Table 1 and its pretrained weights."""

from .unet import ENCODERS as ENCODERS
from .unet import UNet as UNet
from .weights import load_encoder_weights as load_encoder_weights
from .weights import read_encoder_weights as read_encoder_weights
