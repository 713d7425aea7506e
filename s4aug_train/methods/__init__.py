"""Training methods, one small file each, behind one protocol, and what a method of one's own can use of them."""

from .choice import make_method as make_method
from .finite import skip_unless_finite as skip_unless_finite
from .joint import Joint as Joint
from .joint import Noted as Noted
from .joint import by as by
from .joint import divided as divided
from .joint import known as known
from .moments import put_back_moments as put_back_moments
from .protocol import Batch as Batch
from .protocol import Losses as Losses
from .protocol import Method as Method
from .protocol import Partner as Partner
from .protocol import Setup as Setup
from .s4net import forwarded as forwarded
from .supervision import labelled_images as labelled_images
from .supervision import supervised_loss as supervised_loss
from .teacher import Teacher as Teacher
from .views import flipped_view as flipped_view
from .views import perturbation_ranges as perturbation_ranges
from .views import perturbed_view as perturbed_view
