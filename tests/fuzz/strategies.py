"""What a file or an argument may be instead of what it should be."""

import copy
from typing import Any

from hypothesis import strategies as st

# Neither a root to search nor a wildcard: the disk of this machine is not what is fuzzed.
SIGNS = st.characters(exclude_categories=("Cs",), exclude_characters="/*?[\0")
TEXTS = st.text(SIGNS, max_size=12) | st.sampled_from(["", " ", "..", "\n", "\x1b[31m", "[/red]", "ß/é", "x" * 300])
STRANGE_TEXTS = TEXTS | st.sampled_from(["\0", "a\0b", "\udcff", "\ud800"])
INTEGERS = st.integers() | st.sampled_from([-1, 0, 1, 2**31, 2**63, 2**64, 10**30, 1 << 10000])
FLOATS = st.floats() | st.sampled_from([1e308, 5e-324, -0.0])
SCALARS = st.none() | st.booleans() | INTEGERS | FLOATS | STRANGE_TEXTS
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3), max_leaves=5
)


@st.composite
def mutated_bytes(draw: st.DrawFn, content: bytes, most: int = 3) -> bytes:
    """A content, cut short or with some of its bytes changed, gone, doubled or new."""
    changed = bytearray(content)
    for _ in range(draw(st.integers(1, most))):
        # Headers are at the beginning.
        place = draw(st.integers(0, min(len(changed), 200)) | st.integers(0, len(changed)))
        kind = draw(st.sampled_from(["flip", "set", "cut", "remove", "double", "insert"]))
        length = draw(st.integers(1, 16))
        if kind == "flip" and place < len(changed):
            changed[place] ^= 1 << draw(st.integers(0, 7))
        elif kind == "set":
            new = draw(st.binary(min_size=length, max_size=length) | st.just(b"\xff" * length) | st.just(bytes(length)))
            changed[place : place + length] = new[: max(0, len(changed) - place)]
        elif kind == "cut":
            del changed[place:]
        elif kind == "remove":
            del changed[place : place + length]
        elif kind == "double":
            changed[place:place] = changed[place : place + length]
        else:
            changed[place:place] = draw(st.binary(max_size=length))
    return bytes(changed)


@st.composite
def mutated_tree(draw: st.DrawFn, value: Any, values: st.SearchStrategy[Any] = VALUES, most: int = 3) -> Any:
    """Nested lists and dictionaries with some of their parts gone, added, or others."""
    changed = copy.deepcopy(value)
    for _ in range(draw(st.integers(1, most))):
        changed = _mutated_once(draw, changed, values)
    return changed


def _mutated_once(draw: st.DrawFn, value: Any, values: st.SearchStrategy[Any]) -> Any:
    def other() -> Any:
        # Its own, for a later change may go within it.
        return copy.deepcopy(draw(values))

    if isinstance(value, dict | list) and value and draw(st.integers(0, 9)):
        key = draw(st.sampled_from(list(value) if isinstance(value, dict) else range(len(value))))
        kind = draw(st.sampled_from(["within", "within", "remove", "add"]))
        if kind == "within":
            value[key] = _mutated_once(draw, value[key], values)
        elif kind == "remove":
            del value[key]
        elif isinstance(value, dict):
            value[draw(TEXTS)] = other()
        else:
            value.insert(key, other())
        return value
    return other()
