"""For Triton's kernels: the kernels, fresh memory that shows what is not written, and their interpreter at its best."""

import math
import os

import pytest
import torch


def interpreter_that_patches():
    """Triton's interpreter where it is used and undoes its patches by a scope, as its release 3.8 does; else None."""
    if os.environ.get("TRITON_INTERPRET") != "1":
        return None
    interpreter = pytest.importorskip("triton.runtime.interpreter")
    return interpreter if hasattr(interpreter, "_LangPatchScope") else None


@pytest.fixture(scope="module")
def kernels():
    from s4aug.backends import triton

    return triton


@pytest.fixture
def poison(monkeypatch):
    """What is not written shows: fresh memory holds NaN, or 77."""
    empty = torch.empty

    def poisoned(*size, **options):
        made = empty(*size, **options)
        return made.fill_(math.nan if made.is_floating_point() else True if made.dtype == torch.bool else 77)

    monkeypatch.setattr(torch, "empty", poisoned)


@pytest.fixture(scope="session", autouse=True)
def language_patched_once_per_launch():
    """Half of an interpreter's time would go into preparing its language again and again.

    Each call inside a kernel patches the language anew, to what the launch made of it already: once is enough.
    """
    interpreter = interpreter_that_patches()
    if interpreter is None:
        yield
        return
    patch, known, done = interpreter._patch_lang, {}, set()

    def patched(function):
        # What is patched hangs on which of the language's modules the function sees, and on nothing else.
        if function not in known:
            seen = function.__globals__.values()
            known[function] = frozenset(id(value) for value in seen if value in (interpreter.tl, interpreter.tl.core))
        if known[function] in done:
            return None
        scope = patch(function)
        done.add(known[function])
        restore = scope.restore
        scope.restore = lambda: (restore(), done.clear())
        return scope

    with pytest.MonkeyPatch.context() as context:
        context.setattr(interpreter, "_patch_lang", patched)
        yield
