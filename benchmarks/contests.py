"""From a case to its contest."""

from .cases import Case
from .consistency import objective_contest
from .contest import Contest
from .fitting import trainer_contest
from .pooling import pool_contest
from .scripting import script_contest
from .stepping import step_contest
from .warping import forward_contest, gradient_contest

MAKERS = {
    "forward": forward_contest,
    "forward+backward": gradient_contest,
    "backward": gradient_contest,
    "pool": pool_contest,
    "objective": objective_contest,
    "step": step_contest,
    "trainer": trainer_contest,
    "script": script_contest,
}


def make_contest(case: Case) -> Contest:
    """The contest of a case; the same inputs whenever it is made."""
    return MAKERS[case.kind](case)
