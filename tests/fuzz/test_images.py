"""JPEG and PNG files: mutated bytes, odd modes, and sizes that are claimed and not there."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from tests.fuzz.conftest import DATA, SMALL
from tests.fuzz.network import NAME
from tests.fuzz.promise import fuzzed
from tests.fuzz.strategies import mutated_bytes

NOISE = np.random.default_rng(0).integers(0, 256, (64, 64, 4), np.uint8)
MODES = ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "I", "I;16", "F", "LAB", "HSV"]
FORMATS = {"PNG": "png", "JPEG": "jpg", "TIFF": "tif", "GIF": "png", "BMP": "png", "WEBP": "jpg"}


def encoded(mode="RGB", form="PNG", size=(64, 64), **options):
    """A picture, or b"" where the format has no such mode."""
    image = Image.fromarray(NOISE[..., :3]).resize(size)
    file = io.BytesIO()
    try:
        (image.convert("L").convert(mode) if mode not in ("RGB", "RGBA", "P", "CMYK") else image.convert(mode)).save(
            file, form, **options
        )
    except (ValueError, OSError):
        return b""
    return file.getvalue()


def png(width, height, depth, kind, content):
    """A PNG of any header."""
    made = b"\x89PNG\r\n\x1a\n"
    for name, part in ((b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)), (b"IDAT", content)):
        made += struct.pack(">I", len(part)) + name + part + struct.pack(">I", zlib.crc32(name + part))
    return made + struct.pack(">I", 0) + b"IEND" + struct.pack(">I", zlib.crc32(b"IEND"))


EMPTY = zlib.compress(bytes(1000))
ANIMATED = encoded("RGB", "PNG", save_all=True, append_images=[Image.fromarray(NOISE[..., :3])])
FILES = st.one_of(
    st.tuples(st.sampled_from(["0.png", "0.jpg"]), st.binary(max_size=60)),
    st.tuples(st.just("0.png"), mutated_bytes(encoded("RGB", "PNG", (16, 16)))),
    st.tuples(st.just("0.jpg"), mutated_bytes(encoded("RGB", "JPEG", (16, 16)))),
    st.tuples(st.just("0.png"), mutated_bytes(encoded("P", "PNG"))),
    st.tuples(st.just("0.jpg"), mutated_bytes(encoded("CMYK", "JPEG"))),
    st.builds(
        lambda mode, form, side: (f"0.{FORMATS[form]}", encoded(mode, form, (side, side))),
        st.sampled_from(MODES),
        st.sampled_from(list(FORMATS)),
        st.sampled_from([1, 63, 64, 65]),
    ),
    st.builds(
        lambda *header: ("0.png", png(*header, EMPTY)),
        st.integers(0, 2**31) | st.sampled_from([1, 64, 2**31 - 1]),
        st.integers(0, 2**31) | st.sampled_from([1, 64, 2**31 - 1]),
        st.sampled_from([1, 2, 4, 8, 16, 3]),
        st.sampled_from([0, 2, 3, 4, 6, 1]),
    ),
)


def handed_over(world, part, name, content):
    """A picture among sound ones goes through all that reads it."""
    with world.fresh() as folder:
        data = world.copied_data()
        (data / part / "0.png").unlink()
        (data / part / name).write_bytes(content)
        given = ["--data", data, *DATA[2:], "--labeled", "3", "--val", "2"]
        world.call("doctor", *given)
        world.call("fit", *given, "--out", "run", *SMALL)
        world.call("predict", "../run", data / part / name, "--out", "maps", "--model", NAME, "--window", "64")
        return folder


@fuzzed(5)
@given(part=st.sampled_from(["images", "masks"]), file=FILES)
@example(part="images", file=("0.png", png(2**31 - 1, 2**31 - 1, 8, 2, EMPTY)))
@example(part="images", file=("0.png", png(2**31 - 1, 1, 8, 2, EMPTY)))
@example(part="images", file=("0.png", png(1, 2**31 - 1, 8, 2, EMPTY)))
@example(part="masks", file=("0.png", ANIMATED))
def test_any_picture_works_or_is_told_of_in_one_line(world, part, file):
    handed_over(world, part, *file)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("mode", MODES)
def test_a_picture_of_any_mode_works_or_is_told_of_in_one_line(world, mode, form):
    for part in ("images", "masks"):
        handed_over(world, part, f"0.{FORMATS[form]}", encoded(mode, form))


@pytest.mark.slow
def test_a_picture_that_is_small_on_disk_and_large_in_memory_is_read_in_parts(world):
    side = 30_000  # 900 MB of one band
    rows = zlib.compressobj()
    content = b"".join([*(rows.compress(bytes(1 + side)) for _ in range(side)), rows.flush()])
    with world.fresh() as folder:
        data = world.copied_data()
        (data / "images" / "0.png").write_bytes(png(side, side, 8, 0, content))
        assert world.call("doctor", "--data", data, *DATA[2:]).code == 1
        assert folder.exists()
