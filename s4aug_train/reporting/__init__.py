"""The report of runs: values in, one HTML page out."""

from .gathered import Gathered as Gathered
from .page import page as page
