"""GeoTIFFs and VRTs: mutated bytes, odd types and places, and files that point elsewhere, nowhere or at themselves."""

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from rasterio.io import MemoryFile
from rasterio.transform import Affine

from s4aug_train.data.raster import ignore_warnings
from tests.fuzz.conftest import DATA
from tests.fuzz.network import NAME
from tests.fuzz.promise import fuzzed
from tests.fuzz.strategies import mutated_bytes

TYPES = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64"]
TYPES += ["complex64", "complex128", "complex_int16"]
NUMBERS = st.floats() | st.sampled_from([0.0, 1.0, -1.0, 1e308, 5e-324])
SYSTEMS = ["EPSG:32633", "EPSG:4326", None, "+proj=ortho +lat_0=10", 'LOCAL_CS["x"]']


def made(dtype="uint8", bands=3, size=(64, 64), fill=None, **options):
    """The bytes of a GeoTIFF."""
    ignore_warnings()
    shape = {"driver": "GTiff", "height": size[0], "width": size[1], "count": bands, "dtype": dtype}
    noise = np.random.default_rng(0).integers(0, 100, (bands, *size))
    pixels = noise if fill is None else np.full_like(noise, fill, np.float64)
    with MemoryFile() as memory:
        with rasterio.open(memory, "w", **shape, **options) as dataset, np.errstate(invalid="ignore"):
            dataset.write(pixels.astype("complex64" if dtype == "complex_int16" else dtype))
        return memory.read()


@st.composite
def rasters(draw):
    """GeoTIFFs that are odd, but whole."""
    options = {"crs": draw(st.sampled_from(SYSTEMS))}
    if draw(st.booleans()):
        options["transform"] = Affine(*(draw(NUMBERS) for _ in range(6)))
    dtype = draw(st.sampled_from(TYPES))
    if draw(st.booleans()) and "complex" not in dtype:
        options["nodata"] = draw(st.sampled_from([0, 1, 50]))
    if draw(st.booleans()):
        options |= {
            "tiled": True,
            "blockxsize": 16,
            "blockysize": 16,
            "compress": draw(st.sampled_from(["lzw", "jpeg", "zstd"])),
        }
    fill = draw(st.sampled_from([None, None, 0, 50, float("nan"), float("inf")]))
    size = draw(st.sampled_from([(64, 64), (1, 1), (1, 200), (65, 63)]))
    try:
        return made(dtype, draw(st.sampled_from([1, 2, 3, 3, 4, 5])), size, fill, **options)
    except (rasterio.errors.RasterioError, rasterio.errors.CRSError, ValueError, OverflowError, TypeError):
        return b""


FILES = st.one_of(rasters(), mutated_bytes(made()), mutated_bytes(made(tiled=True, blockxsize=16, blockysize=16)))
OPTIONS = st.sampled_from([[], ["--bands", "1,2,3"], ["--scale", "1"], ["--scale", "-1e38,nan"], ["--nodata", "nan"]])


def handed_over(world, name, content, options=()):
    """A raster goes through what reads whole ones."""
    with world.fresh() as folder:
        (folder / name).write_bytes(content)
        call = ["predict", "../run", name, "--out", "maps", "--model", NAME, "--window", "64", *options]
        ending = world.call(*call)
        assert (folder / "maps" / "r.tif").exists() == (ending.code == 0)
        data = world.copied_data()
        (data / "images" / "0.png").unlink()
        (data / "images" / f"0{name[1:]}").write_bytes(content)
        world.call("doctor", "--data", data, *DATA[2:])
        return ending


@fuzzed(8)
@given(content=FILES, options=OPTIONS)
def test_any_raster_works_or_is_told_of_in_one_line(world, content, options):
    handed_over(world, "r.tif", content, options)


@fuzzed(6)
@given(content=FILES)
def test_a_map_that_anything_else_is_in_place_of_is_told_of_in_one_line(world, content):
    with world.fresh() as folder:
        (folder / "maps").mkdir()
        (folder / "maps" / "0.tif").write_bytes(content)
        assert world.call("predict", "../run", "../data/images/0.png", "--out", "maps", "--model", NAME).code == 1


VRT = """<VRTDataset rasterXSize="64" rasterYSize="64">
  {head}
  <VRTRasterBand dataType="Byte" band="1"{band}>
    <SimpleSource>
      <SourceFilename relativeToVRT="1">{source}</SourceFilename><SourceBand>{number}</SourceBand>
    </SimpleSource>
    {more}
  </VRTRasterBand>
</VRTDataset>
"""
PYTHON = """<PixelFunctionType>write</PixelFunctionType><PixelFunctionLanguage>Python</PixelFunctionLanguage>
<PixelFunctionCode><![CDATA[
def write(*a, **k):
    open("exploded", "w")
]]></PixelFunctionCode>"""
DERIVED = ' subClass="VRTDerivedRasterBand"'


def vrt(source="../data/images/0.png", number="1", head="", band="", more=""):
    """A VRT of one band."""
    return VRT.format(source=source, number=number, head=head, band=band, more=more).encode()


@pytest.mark.parametrize(
    "content",
    [
        vrt(),
        vrt("r.vrt"),
        vrt("missing.tif"),
        vrt("/dev/null"),
        vrt("/dev/zero"),
        vrt("/"),
        vrt(""),
        vrt("/vsicurl/http://127.0.0.1:9/x.tif"),
        vrt("/vsizip/missing.zip/x"),
        vrt("../data/images/0.png", "99"),
        vrt("../data/images/0.png", "-1"),
        vrt(band=DERIVED, more=PYTHON),
        vrt(head="<SRS>nonsense</SRS><GeoTransform>a, b, c</GeoTransform>"),
        vrt(head="<GeoTransform>nan, inf, 0, 0, 0, 0</GeoTransform>"),
        vrt().replace(b'"64"', b'"2147483647"'),
        vrt().replace(b'"64"', b'"0"'),
        vrt().replace(b'"64"', b'"-1"'),
        vrt().replace(b"Byte", b"CFloat64"),
        vrt().replace(b"Byte", b"Nonsense"),
        b"<VRTDataset rasterXSize='64' rasterYSize='64'></VRTDataset>",
        b"<VRTDataset",
        b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>' + vrt("&b;"),
        b"<VRTDataset rasterXSize='64' rasterYSize='64'>" + b"<a>" * 100_000,
    ],
    ids=range(23),
)
def test_a_vrt_that_points_anywhere_works_or_is_told_of_in_one_line(world, content):
    with world.fresh() as folder:
        (folder / "r.vrt").write_bytes(content)
        world.call("predict", "../run", "r.vrt", "--out", "maps", "--model", NAME, "--bands", "1,1,1", "--window", "64")
        assert not (folder / "exploded").exists()


def is_text(content):
    """Whether it is UTF-8: rasterio prints a fault of its own for GDAL's messages that are not."""
    try:
        return bool(content.decode())
    except UnicodeDecodeError:
        return False


@fuzzed(5)
@given(content=mutated_bytes(vrt()).filter(is_text))
def test_any_vrt_works_or_is_told_of_in_one_line(world, content):
    handed_over(world, "r.vrt", content)
