"""Training: state, loop and checkpoints."""

from .checkpoint import Checkpoint as Checkpoint
from .checkpoint import built_network as built_network
from .device import choose_device as choose_device
from .device import chosen_precision as chosen_precision
from .device import environment as environment
from .loop import train as train
from .prefetch import Loader as Loader
from .resumption import FREE_ON_RESUME as FREE_ON_RESUME
from .resumption import Resumption as Resumption
from .resumption import changed_settings as changed_settings
from .resumption import chosen as chosen
from .resumption import newest as newest
from .state import TrainingState as TrainingState
