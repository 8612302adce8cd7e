"""Files that lie: about their size, about where they are, about what they are. One line each, in bounded time and memory."""

import inspect
import os
import struct
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.errors import NotGeoreferencedWarning
from xtgeo.cli.classify import classify
from xtgeo.cli.detect import detect
from xtgeo.cli.info import info
from xtgeo.cli.options import open_source
from xtgeo.cli.segment import segment

from xtgeo.errors import SceneError
from xtgeo.read import open_scene
from xtgeo.read.archive import open_archive
from xtgeo.window import Window

PLACE = {"crs": "EPSG:32631", "transform": Affine(10, 0, 5e5, 0, -10, 6e6)}


def image(path, *, shape=(40, 50), dtype="uint16", **profile):
    data = np.random.default_rng(0).integers(1, 200, (1, *shape)).astype(dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        options = {"driver": "GTiff", "height": shape[0], "width": shape[1], "count": 1, "dtype": dtype, **PLACE, **profile}
        with rasterio.open(path, "w", **options) as file:
            file.write(data)
    return data


def refused(href, match, **options):
    with pytest.raises(SceneError, match=match) as error:
        scene = open_scene(href, **options)
        scene.read(Window(0, 0, *scene.shape))
    assert "\n" not in str(error.value)


def vrt(path, inner, *, head="", band=""):
    path.write_text(
        f"<VRTDataset rasterXSize='50' rasterYSize='40'><SRS>EPSG:32631</SRS><GeoTransform>5e5,10,0,6e6,0,-10</GeoTransform>{head}"
        f"<VRTRasterBand dataType='UInt16' band='1' {band}>{inner}</VRTRasterBand></VRTDataset>"
    )
    return path


def source(name, *, relative=1, kind="SimpleSource", more=""):
    return (
        f"<{kind}><SourceFilename relativeToVRT='{relative}'>{name}</SourceFilename><SourceBand>1</SourceBand>"
        f"<SrcRect xOff='0' yOff='0' xSize='50' ySize='40'/><DstRect xOff='0' yOff='0' xSize='50' ySize='40'/>{more}</{kind}>"
    )


@pytest.fixture
def inside(tmp_path):
    """A folder with an image, beside an image that is nobody's business."""
    (tmp_path / "in").mkdir()
    image(tmp_path / "secret.tif")
    image(tmp_path / "in" / "a.tif")
    return tmp_path / "in"


def test_a_vrt_of_its_own_folder_is_read(inside):
    expected = rasterio.open(inside / "a.tif").read()
    (inside / "deep").mkdir()
    image(inside / "deep" / "b.tif")
    for name in ("a.tif", "./a.tif", "deep/b.tif", "deep/../a.tif"):
        scene = open_scene(vrt(inside / "x.vrt", source(name)))
        np.testing.assert_array_equal(scene.read(Window(0, 0, 40, 50)).data, expected)
    vrt(inside / "y.vrt", source("x.vrt"))
    np.testing.assert_array_equal(open_scene(inside / "y.vrt").read(Window(0, 0, 40, 50)).data, expected)
    absolute = open_scene(vrt(inside / "x.vrt", source(inside / "a.tif", relative=0)))
    np.testing.assert_array_equal(absolute.read(Window(0, 0, 40, 50)).data, expected)


@pytest.mark.parametrize(
    "name",
    [
        *("../secret.tif", "deep/../../secret.tif", "link.tif", "/vsicurl/http://127.0.0.1:1/a.tif", "/vsizip/a.zip/b.tif"),
        *("/etc/passwd", "http://127.0.0.1:1/a.tif", "vrt://../secret.tif", "&lt;VRTDataset/&gt;", "NETCDF:a.nc:b", ""),
    ],
)
@pytest.mark.parametrize("relative", [0, 1])
def test_a_vrt_that_points_elsewhere_is_refused_unless_trusted(inside, name, relative):
    os.symlink(inside.parent / "secret.tif", inside / "link.tif")
    refused(vrt(inside / "x.vrt", source(name, relative=relative)), "x.vrt is a VRT .*(outside of its own folder|not there)")
    refused(vrt(inside / "x.tif", source(name, relative=relative)), "is a VRT")  # GDAL goes by the content


def test_trust_opens_what_points_elsewhere(inside):
    expected = rasterio.open(inside / "a.tif").read()
    path = vrt(inside / "x.vrt", source("../secret.tif"))
    np.testing.assert_array_equal(open_scene(path, trusted=True).read(Window(0, 0, 40, 50)).data, expected)
    for command in (classify, detect, info, segment):
        assert inspect.signature(command).parameters["trusted"].default is False
    assert open_source([str(path)], None, None, None, "snap", "keep", True).shape == (40, 50)


def test_a_vrt_that_computes_or_names_files_in_other_ways_is_refused(inside):
    raw = "<SourceFilename relativeToVRT='1'>a.tif</SourceFilename><ImageOffset>0</ImageOffset>"
    python = "<PixelFunctionType>f</PixelFunctionType><PixelFunctionLanguage>Python</PixelFunctionLanguage>"
    for inner, band in (
        (raw, "subClass='VRTRawRasterBand'"),
        (python + source("a.tif"), "subClass='VRTDerivedRasterBand'"),
        (source("a.tif", more="<OpenOptions><OOI key='x'>/etc/passwd</OOI></OpenOptions>"), ""),
        (source("a.tif", kind="KernelFilteredSource"), ""),
    ):
        refused(vrt(inside / "x.vrt", inner, band=band), "does more than to place files")
    refused(vrt(inside / "x.vrt", source("a.tif"), head="<GDALWarpOptions/>"), "does more than to place files .<GDALWarpOptions>")
    head = "<Metadata domain='GEOLOCATION'><MDI key='X_DATASET'>/etc/passwd</MDI></Metadata>"
    refused(vrt(inside / "x.vrt", source("a.tif"), head=head), "names another file")
    (inside / "x.vrt").write_text("<!DOCTYPE a [<!ENTITY b 'c'>]><VRTDataset/>")
    refused(inside / "x.vrt", "declares entities")
    (inside / "x.vrt").write_bytes("<?xml version='1.0' encoding='utf-16'?><VRTDataset/>".encode("utf-16") + b"<VRTDataset")
    refused(inside / "x.vrt", "cannot read the VRT")
    refused(vrt(inside / "x.vrt", source("x.vrt")), "a VRT in a VRT")
    (inside / "list.txt").write_text("x" * 5000)
    refused(vrt(inside / "x.vrt", source("list.txt")), "no TIFF, JPEG 2000")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_entities_are_seen_in_any_encoding_of_a_product(tmp_path, encoding):
    text = f"<?xml version='1.0' encoding='{encoding}'?><!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>"
    (tmp_path / "a.xml").write_bytes(text.encode(encoding))
    with pytest.raises(SceneError, match="declares entities"):
        open_archive(tmp_path).xml("a.xml")


@pytest.mark.parametrize(
    "content",
    [
        "<GDAL_WMS><Service name='TMS'><ServerUrl>http://127.0.0.1:1/${z}</ServerUrl></Service></GDAL_WMS>",
        '{"type": "FeatureCollection", "stac_version": "1.0.0", "features": []}',
        "<GDALTileIndexDataset><IndexDataset>/etc/passwd</IndexDataset></GDALTileIndexDataset>",
        "<WCS_GDAL><ServiceURL>http://127.0.0.1:1/</ServiceURL></WCS_GDAL>",
    ],
)
def test_descriptions_that_gdal_would_follow_are_not_opened(tmp_path, content):
    (tmp_path / "scene.tif").write_text(content)
    refused(tmp_path / "scene.tif", "it may point to other files, or is of a rare format; if you trust it")


def test_overviews_and_masks_beside_a_file_do_not_point_elsewhere_either(inside):
    for suffix in (".ovr", ".msk"):
        vrt(inside / f"a.tif{suffix}", source("../secret.tif"))
        refused(inside / "a.tif", f"a.tif{suffix} is no image")
        os.remove(inside / f"a.tif{suffix}")
    with rasterio.open(inside / "a.tif", "r+") as file:
        file.update_tags(ns="OVERVIEWS", OVERVIEW_FILE="/etc/passwd")
    refused(inside / "a.tif", "names another file for its overviews")


def tiff(path, width, height, *, tile=None, bits=16):
    """A TIFF whose header claims anything and which holds nothing: few tags, no pixels."""
    entries = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, bits), (259, 3, 1, 8), (262, 3, 1, 1), (277, 3, 1, 1)]
    if tile:
        entries += [(322, 4, 1, tile), (323, 4, 1, tile), (324, 4, 1, 8), (325, 4, 1, 8)]
    else:
        entries += [(273, 4, 1, 8), (278, 4, 1, height), (279, 4, 1, 8)]
    entries.sort()
    body = b"".join(struct.pack("<HHII", *e) for e in entries)
    path.write_bytes(struct.pack("<2sHIH", b"II", 42, 8, len(entries)) + body + b"\0" * 68)
    return path


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_absurd_sizes_are_refused_before_anything_is_set_aside(tmp_path):
    path = tmp_path / "huge.tif"
    options = {"tiled": True, "blockxsize": 512, "blockysize": 512, "SPARSE_OK": True, "BIGTIFF": "YES", "compress": "deflate"}
    with rasterio.open(path, "w", driver="GTiff", height=1_000_000, width=1_000_000, count=1, dtype="uint8", **options):
        pass
    refused(path, "claims 1,000,000 x 1,000,000 pixels, more than any scene has")
    assert open_scene(path, trusted=True).shape == (1_000_000, 1_000_000)
    refused(tiff(tmp_path / "strip.tif", 300_000, 300_000), "blocks of .* bytes, .*: rewrite it in tiles|cannot open")
    refused(tiff(tmp_path / "tile.tif", 65_536, 65_536, tile=65_536), "blocks of .* bytes|cannot open")
    refused(tiff(tmp_path / "max.tif", 2**31 - 1, 2**31 - 1), "more than any scene has|cannot open")
    vrt(tmp_path / "x.vrt", "")
    text = (tmp_path / "x.vrt").read_text()
    (tmp_path / "x.vrt").write_text(text.replace("'50'", "'2000000000'").replace("'40'", "'2000000000'"))
    refused(tmp_path / "x.vrt", "more than any scene has")
    bands = "".join(f"<VRTRasterBand dataType='Byte' band='{i}'/>" for i in range(1, 3001))
    (tmp_path / "x.vrt").write_text(f"<VRTDataset rasterXSize='5' rasterYSize='4'>{bands}</VRTDataset>")
    refused(tmp_path / "x.vrt", "claims 3,000 bands")


@pytest.mark.parametrize(
    "transform",
    ["nan,10,0,6e6,0,-10", "5e5,0,0,6e6,0,-10", "5e5,10,10,6e6,10,10", "5e5,inf,0,6e6,0,-10", "5e5,10,0,1e400,0,-10"],
)
def test_transforms_that_cannot_be_are_refused(inside, transform):
    path = vrt(inside / "x.vrt", source("a.tif"))
    path.write_text(path.read_text().replace("5e5,10,0,6e6,0,-10", transform))
    refused(path, "x.vrt .*transform.* cannot be")


def test_control_points_that_cannot_be_are_refused(tmp_path):
    from rasterio.control import GroundControlPoint

    def placed(points):
        path = tmp_path / "g.tif"
        image(path, crs=None, transform=None)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path, "r+") as file:
                file.gcps = points, "EPSG:4326"
        return path

    square = [GroundControlPoint(r, c, 5 + c / 100, 50 - r / 100) for r in (0, 20, 40) for c in (0, 25, 50)]
    assert open_scene(placed(square)).is_georeferenced
    refused(placed([*square[:-1], GroundControlPoint(float("nan"), 50, 5.5, 49.6)]), "control points .*cannot be|are no numbers")
    refused(placed([*square[:-1], GroundControlPoint(40, 50, float("inf"), 49.6)]), "control points")
    rng = np.random.default_rng(0)
    many = [GroundControlPoint(*(rng.uniform(0, 40, 2)), 5 + i * 1e-6, 50) for i in range(6000)]
    refused(placed(many), "6,000 scattered")


def test_zips_that_lie_are_refused(tmp_path):
    image(tmp_path / "a.tif")
    content = (tmp_path / "a.tif").read_bytes()
    path = tmp_path / "scene.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../../a.tif", content)
    refused(f"/vsizip/{path}/../../a.tif", "points outside of it")
    refused(f"zip://{path}!../../a.tif", "points outside of it")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.tif", content)
    raw = path.read_bytes()
    place = raw.index(b"PK\x01\x02") + 24  # the uncompressed size in the central directory
    for size in (0x7FFFFFFF, 0xFFFFFFFE):
        path.write_bytes(raw[:place] + struct.pack("<I", size) + raw[place + 4 :])
        refused(f"/vsizip/{path}/a.tif", "claims that 'a.tif' unpacks from .* to")
    path.write_bytes(raw[:-30])
    refused(f"/vsizip/{path}/a.tif", "cannot be read")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.vrt", vrt(tmp_path / "x.vrt", source("/etc/passwd", relative=0)).read_text())
    refused(f"/vsizip/{path}/x.vrt", "cannot open")
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(tmp_path / "a.tif", "a.tif")
        archive.write(tmp_path / "x.vrt", "a.tif.ovr")
    refused(f"/vsizip/{path}/a.tif", "holds a.tif.ovr, which is no image")


@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space as Linux does")
def test_wounded_files_give_a_scene_or_one_line(tmp_path):
    """A fixed number of cases; XTGEO_FUZZ_CASES=20000 python tests/fuzz_read.py tries more."""
    script = Path(__file__).with_name("fuzz_read.py")
    environment = {**os.environ, "TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    environment.setdefault("XTGEO_FUZZ_CASES", "150")
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
