"""Random operators of other libraries, made to draw from a generator of ours."""

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from .errors import ArgumentError


class DrawnFrom(TorchDispatchMode):
    """Within it, every random operator of this thread draws from one generator and no global state moves.

    Args:
        generator: Source of all numbers. Operators on another device draw from a generator there that is seeded
            from this one.

    Raises:
        ArgumentError: At an operator that no generator can be given to.

    Example:
        >>> with DrawnFrom(torch.Generator().manual_seed(0)):
        ...     numbers = torch.rand(3)
        >>> torch.equal(numbers, torch.rand(3, generator=torch.Generator().manual_seed(0)))
        True
    """

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self.generators = {generator.device: generator}
        self.first = generator

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one operator, with the generator where it draws."""
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded not in func.tags or kwargs.get("generator") is not None:
            return func(*args, **kwargs)
        device = args[0].device if args and isinstance(args[0], torch.Tensor) else kwargs.get("device")
        form = _with_generator(func)
        # An empty tensor knows which of several devices "cuda" means.
        return form(*args, **kwargs, generator=self._on(torch.empty(0, device=device).device))

    def _on(self, device: torch.device) -> torch.Generator:
        if device not in self.generators:
            seed = torch.randint(2**63 - 1, (), generator=self.first, device=self.first.device)
            self.generators[device] = torch.Generator(device).manual_seed(int(seed))
        return self.generators[device]


def _with_generator(func: Any) -> Any:
    """The form of an operator that takes a generator after the same arguments."""
    given = {argument.name for argument in func._schema.arguments}
    if "generator" in given:
        return func
    for overload in func.overloadpacket.overloads():
        form = getattr(func.overloadpacket, overload)
        if {argument.name for argument in form._schema.arguments} == given | {"generator"}:
            return form
    raise ArgumentError(f"{func} draws random numbers but takes no generator; leave this augmentation out")
