"""Which image belongs to which mask, by their names."""

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import DataError

Key = tuple[str, str]  # folder below the images or masks folder, stem
Fields = tuple[str, ...]  # what the fields of a pattern stand for in one name


@dataclass(frozen=True)
class Matching:
    """From image key to mask key, and the token that was dropped on either side ("" for none)."""

    keys: dict[Key, Key]
    image_token: str = ""
    mask_token: str = ""

    def short(self, stem: str) -> str:
        """The name of an image without the token that says it is one."""
        return "_".join(_without(stem, self.image_token)) if self.image_token in _tokens(stem) else stem

    @property
    def notes(self) -> tuple[str, ...]:
        """How names were matched, for people; nothing where they are the same."""
        image, mask = self.image_token, self.mask_token
        if image and mask:
            return (f"image and mask names are matched by replacing '{image}' with '{mask}'",)
        if image or mask:
            side = "image" if image else "mask"
            return (f"image and mask names are matched by leaving '{image or mask}' out of the {side} names",)
        return ()


def match_names(images: Collection[Key], masks: Collection[Key], where: Path) -> Matching:
    """Match by the same stem, else by the same but for one constant token.

    At least half of the names must match once the tokens are dropped, else it is chance.

    Args:
        images: Of a folder of images.
        masks: Of the folder of masks beside it.
        where: The folder that holds both, for errors.

    Raises:
        DataError: There are two ways.
    """
    same = {key: key for key in images if key in masks}
    if same or not images or not masks:
        return Matching(same)
    candidates = [
        _match_without(images, masks, image_token, mask_token)
        for image_token in _constant_tokens(images)
        for mask_token in _constant_tokens(masks)
    ]
    most = max(len(candidate.keys) for candidate in candidates)
    best = [candidate for candidate in candidates if len(candidate.keys) == most]
    if 2 * most < min(len(images), len(masks)):
        return Matching({})
    if any(candidate.keys != best[0].keys for candidate in best):
        raise DataError(
            f"the names in {where} can be matched in two ways; say which with --image-pattern and --mask-pattern"
        )
    return best[0]


def match_patterns(
    root: Path, files: Sequence[Path], image_pattern: str | None, mask_pattern: str | None
) -> tuple[dict[Fields, Path], dict[Fields, Path]]:
    """The images and the masks that two patterns name, by their fields; a mask is no image.

    Raises:
        DataError: A pattern is missing or wrong, their fields differ, or two files have the same.
    """
    if image_pattern is None or mask_pattern is None:
        raise DataError("--image-pattern and --mask-pattern go together; give both")
    image_regex, mask_regex = _regex(image_pattern), _regex(mask_pattern)
    fields = list(image_regex.groupindex)
    if set(fields) != set(mask_regex.groupindex):
        raise DataError(f"the patterns {image_pattern!r} and {mask_pattern!r} differ in fields; name the same in both")
    masks = _by_fields(root, files, mask_regex, fields)
    taken = set(masks.values())
    images = _by_fields(root, [path for path in files if path not in taken], image_regex, fields)
    return images, masks


def _match_without(images: Collection[Key], masks: Collection[Key], image_token: str, mask_token: str) -> Matching:
    """The matches once a token is dropped on either side; none if two names become one."""
    short_masks = {(key[0], *_without(key[1], mask_token)): key for key in masks}
    short_images = {(key[0], *_without(key[1], image_token)): key for key in images}
    if len(short_masks) < len(masks) or len(short_images) < len(images):
        return Matching({})
    keys = {key: short_masks[short] for short, key in short_images.items() if short in short_masks}
    return Matching(keys, image_token, mask_token)


def _tokens(stem: str) -> list[str]:
    return re.split(r"[_-]", stem)


def _constant_tokens(keys: Iterable[Key]) -> list[str]:
    """The tokens that every name has, and "" for dropping none."""
    return ["", *sorted(set.intersection(*(set(_tokens(stem)) for _, stem in keys)) - {""})]


def _without(stem: str, token: str) -> list[str]:
    tokens = _tokens(stem)
    if token:
        del tokens[len(tokens) - 1 - tokens[::-1].index(token)]
    return tokens


def _regex(pattern: str) -> re.Pattern[str]:
    """A regular expression of a pattern; each {field} is one or more characters but "/"."""
    parts = re.split(r"\{(\w*)\}", pattern)
    literals, fields = parts[::2], parts[1::2]
    if not fields or any(brace in literal for literal in literals for brace in "{}"):
        raise DataError(f"the pattern {pattern!r} needs fields in braces, as in 'images/{{id}}_rgb.tif'; correct it")
    if bad := [field for field in fields if not field.isidentifier()]:
        raise DataError(f"the field {{{bad[0]}}} of the pattern {pattern!r} is no name; use one such as {{id}}")
    result = re.escape(literals[0])
    for index, (field, literal) in enumerate(zip(fields, literals[1:], strict=True)):
        result += f"(?P={field})" if field in fields[:index] else f"(?P<{field}>[^/]+?)"
        result += re.escape(literal)
    return re.compile(result)


def _by_fields(root: Path, files: Sequence[Path], regex: re.Pattern[str], fields: Sequence[str]) -> dict[Fields, Path]:
    found: dict[Fields, Path] = {}
    for path in files:
        if match := regex.fullmatch(path.relative_to(root).as_posix()):
            key = tuple(match[field] for field in fields)
            if key in found:
                raise DataError(f"{found[key]} and {path} have the same fields in the pattern; rename one of them")
            found[key] = path
    return found
