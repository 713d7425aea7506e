"""Training: state, loop, checkpoints and run folders."""

from .checkpoint import Checkpoint as Checkpoint
from .checkpoint import built_network as built_network
from .device import choose_device as choose_device
from .device import chosen_precision as chosen_precision
from .device import environment as environment
from .loop import train as train
from .prefetch import Loader as Loader
from .resumption import Resumption as Resumption
from .resumption import chosen as chosen
from .resumption import newest as newest
from .run import RunFolder as RunFolder
from .run import begun_by as begun_by
from .run import claim as claim
from .run import clear as clear
from .run import find_checkpoint as find_checkpoint
from .run import fresh_run as fresh_run
from .run import held as held
from .run import set_aside as set_aside
from .run import tidy as tidy
from .state import TrainingState as TrainingState
