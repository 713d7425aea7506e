"""The network of Table 1 and its pretrained weights, and networks of the user's."""

from .own import OwnNetwork as OwnNetwork
from .own import own_network as own_network
from .resolution import STRIDES as STRIDES
from .resolution import at_size as at_size
from .unet import ENCODERS as ENCODERS
from .unet import STRIDE as STRIDE
from .unet import UNet as UNet
from .weights import load_encoder_weights as load_encoder_weights
from .weights import read_encoder_weights as read_encoder_weights
