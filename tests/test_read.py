import http.server
import io
import multiprocessing
import os
import pickle
import shutil
import threading
import warnings
import zipfile
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from affine import Affine
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp, Resampling
from rasterio.errors import NotGeoreferencedWarning
from rasterio.rpc import RPC

from xtgeo.errors import SceneError
from xtgeo.grid import GcpGrid, pixel_size_m, pixel_to_lonlat
from xtgeo.read import open_scene
from xtgeo.read.blocks import BlockCache
from xtgeo.read.raster import RasterSource
from xtgeo.scene import Scene
from xtgeo.window import Nest, Window

SHAPE = (531, 700)
PLACE = {"crs": "EPSG:32631", "transform": Affine(10, 0, 5e5, 0, -10, 6e6)}
GCPS = [
    GroundControlPoint(row, column, 179.5 + column / 500, 60 - row / 600 + column / 9000, 3.0)
    for row in np.linspace(0, 531, 6)
    for column in np.linspace(0, 700, 8)
]


def pixels(dtype="float32", count=2, shape=SHAPE):
    rng = np.random.default_rng(0)
    if np.dtype(dtype).kind == "f":
        return rng.uniform(-30, 5, (count, *shape)).astype("float16").astype(dtype)
    return rng.integers(1, 250, (count, *shape)).astype(dtype)


def write(path, data, *, place=PLACE, descriptions=(), tags=None, mask=None, colors=None, overviews=(), **profile):
    count, height, width = data.shape
    profile = {"driver": "GTiff", "dtype": data.dtype, **place, **profile}
    gcps, tags = profile.pop("gcps", None), tags or {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        file = rasterio.open(path, "w", count=count, height=height, width=width, **profile)
    with file:
        file.write(data)
        if gcps:
            file.gcps = gcps, "EPSG:4326"
        if colors:
            file.colorinterp = colors
        if mask is not None:
            file.write_mask(mask)
        for i, text in enumerate(descriptions, 1):
            file.set_band_description(i, text)
        for key in {"scales", "offsets", "units"} & set(tags):
            setattr(file, key, tags.pop(key))
        if tags:
            file.update_tags(**tags)
    if overviews:
        with rasterio.open(path, "r+") as file:
            file.build_overviews(overviews, Resampling.average)
    return path


def whole(scene):
    return scene.read(Window(0, 0, *scene.shape))


LAYOUTS = {
    "tiled_deflate": {"tiled": True, "blockxsize": 128, "blockysize": 64, "compress": "deflate"},
    "tiled_pixel": {"tiled": True, "blockxsize": 128, "blockysize": 128, "interleave": "pixel", "compress": "lzw"},
    "strips": {"blockysize": 7, "interleave": "band"},
    "strips_pixel": {"blockysize": 7, "interleave": "pixel"},
    "strips_big_endian": {"ENDIANNESS": "BIG", "interleave": "band"},
    "strips_deflate": {"blockysize": 3, "compress": "deflate"},
    "bigtiff_zstd": {"tiled": True, "BIGTIFF": "YES", "compress": "zstd", "predictor": 2},
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32", "float64"])
def test_every_layout_and_type_reads_the_same_numbers_as_rasterio(tmp_path, layout, dtype):
    options = dict(LAYOUTS[layout])
    if options.get("predictor") == 2 and dtype == "float64":
        options.pop("predictor")
    path = write(tmp_path / "scene.tif", pixels(dtype), **options)
    scene = open_scene(path)
    with rasterio.open(path) as file:
        np.testing.assert_array_equal(whole(scene).data, file.read().astype(np.float32))
    block = scene.read(Window(33, 411, 200, 130))
    np.testing.assert_array_equal(block.data, pixels(dtype)[:, 33:233, 411:541].astype(np.float32))
    assert block.valid.all()
    assert (scene.source.strips is not None) == (layout in ("strips", "strips_pixel", "strips_big_endian"))


@pytest.mark.parametrize("layout", [{"interleave": "band"}, {"tiled": True, "compress": "deflate"}, {"blockysize": 9}])
def test_half_floats_are_read_exactly_and_kept_as_half_floats(tmp_path, layout):
    data = pixels()
    data[:, :40, :90] = -32768
    scene = open_scene(write(tmp_path / "VV_dB.tif", data, nbits=16, nodata=-32768, **layout))
    assert scene.source.stored == "float16" and scene.units == "db"
    block = whole(scene)
    np.testing.assert_array_equal(block.valid, data[0] != -32768)
    np.testing.assert_array_equal(block.data, np.where(block.valid, data, 0))


@pytest.mark.parametrize("driver", ["COG", "JP2OpenJPEG", "VRT"])
def test_cog_jp2_and_vrt_read_the_same_numbers(tmp_path, driver):
    data = pixels("uint16")
    path = write(tmp_path / "plain.tif", data)
    other = tmp_path / f"scene.{driver[:3].lower()}"
    options = {"JP2OpenJPEG": {"QUALITY": "100", "REVERSIBLE": "YES"}}.get(driver, {})
    rasterio.shutil.copy(path, other, driver=driver, **options)
    scene = open_scene(other)
    np.testing.assert_array_equal(whole(scene).data, data)
    assert str(scene.grid.crs) == "EPSG:32631"


def test_a_zip_is_read_without_unpacking(tmp_path):
    path = write(tmp_path / "scene.tif", pixels())
    with zipfile.ZipFile(tmp_path / "scene.zip", "w") as archive:
        archive.write(path, "inner/scene.tif")
    for href in (f"zip://{tmp_path}/scene.zip!inner/scene.tif", f"/vsizip/{tmp_path}/scene.zip/inner/scene.tif"):
        scene = open_scene(href)
        np.testing.assert_array_equal(whole(scene).data, pixels())
        assert scene.id == "scene" and scene.fingerprint() == open_scene(href).fingerprint()


class Ranges(http.server.SimpleHTTPRequestHandler):
    """Serves byte ranges, as object stores do, and says nothing."""

    def log_message(self, *_):
        pass

    def send_head(self):
        path, asked = self.translate_path(self.path), self.headers.get("Range", "")
        if not asked or not os.path.isfile(path):
            return super().send_head()
        size = os.path.getsize(path)
        first, last = (int(n) if n else size - 1 for n in asked.removeprefix("bytes=").split("-"))
        last = min(last, size - 1)
        with open(path, "rb") as file:
            file.seek(first)
            body = file.read(last - first + 1)
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        return io.BytesIO(body)


def test_a_url_is_read_by_window_and_a_wrong_one_is_refused(tmp_path, monkeypatch):
    write(tmp_path / "scene.tif", pixels(), tiled=True, blockxsize=128, blockysize=128, compress="deflate")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Ranges, directory=tmp_path)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        scene = open_scene(f"{address}/scene.tif")
        np.testing.assert_array_equal(scene.read(Window(300, 400, 99, 98)).data, pixels()[:, 300:399, 400:498])
        assert scene.id == "scene" and scene.fingerprint()["middle"]
        with pytest.raises(SceneError, match="absent.tif as a raster: HTTP response code: 404; check the address"):
            open_scene(f"{address}/absent.tif")
        server.shutdown()


def test_valid_is_where_no_band_has_nodata_or_nan(tmp_path):
    data = pixels()
    data[0, :10], data[1, :, :10], data[1, 50, 60], data[0, 70, 80] = -99, -99, np.nan, np.inf
    expected = np.ones(SHAPE, bool)
    expected[:10] = expected[:, :10] = expected[50, 60] = expected[70, 80] = False
    for options in ({}, {"tiled": True, "compress": "deflate"}):
        block = whole(open_scene(write(tmp_path / "scene.tif", data, nodata=-99, **options)))
        np.testing.assert_array_equal(block.valid, expected)
        assert (block.data[:, ~expected] == 0).all()
    untagged = write(tmp_path / "untagged.tif", data)
    np.testing.assert_array_equal(whole(open_scene(untagged, nodata=-99)).valid, expected)
    assert whole(open_scene(untagged)).valid[0, 20]


def test_the_overview_of_a_file_with_mask_and_overviews_knows_what_is_valid(tmp_path):
    mask = np.full((1000, 1000), 255, np.uint8)
    mask[:500] = 0
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        path = write(tmp_path / "x.tif", np.full((3, 1000, 1000), 7, "uint8"), mask=mask, tiled=True, overviews=(2, 4))
    block = open_scene(path).overview(250)
    np.testing.assert_array_equal(block.valid, np.repeat([False, True], 125)[:, None] & np.ones((250, 250), bool))
    assert (block.data[:, block.valid] == 7).all()


def test_a_mask_inside_the_file_and_an_alpha_band_say_what_is_valid(tmp_path):
    mask = np.full(SHAPE, 255, np.uint8)
    mask[:100, 50:80] = 0
    rgb = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        inside = write(tmp_path / "mask.tif", pixels("uint8", 3), mask=mask, photometric="RGB", tiled=True)
    data = np.concatenate([pixels("uint8", 3), mask[None]])
    alpha = write(tmp_path / "alpha.tif", data, photometric="RGB", alpha="YES", colors=(*rgb, ColorInterp.alpha))
    for path in (inside, alpha):
        scene = open_scene(path)
        assert scene.bands == ("red", "green", "blue") and scene.units == "rgb"
        for tile in Nest(SHAPE, 64, 2, 5):
            block = scene.read(tile.core)
            np.testing.assert_array_equal(block.valid, mask[tile.core.slices] != 0)


def test_decibels_kept_as_whole_numbers_are_all_measured(tmp_path):
    data = np.full((2, 70, 90), -1520, np.int16)
    data[0, :9] = -32768
    tags = {"scales": (0.01, 0.1), "units": ("dB", "dB")}
    path = write(tmp_path / "a.tif", data, nodata=-32768, descriptions=("VV", "VH"), tags=tags)
    block = open_scene(path).read(Window(0, 0, 70, 90))
    assert block.valid[9:].all() and not block.valid[:9].any()
    assert np.isclose(block.data[:, 9:].mean((1, 2)), (-15.2, -152)).all()


def test_a_block_with_nan_in_it_is_judged_by_the_floor_too(tmp_path):
    data = np.full((1, 70, 90), -15.2, np.float32)
    data[0, :9], data[0, 9:20] = -32768, np.nan
    scene = open_scene(write(tmp_path / "a.tif", data, descriptions=("VV",), tags={"units": ("dB",)}))
    valid = scene.read(Window(0, 0, 70, 90)).valid
    assert valid[20:].all() and not valid[:20].any()


def test_scale_and_offset_are_applied_after_nodata_is_told(tmp_path):
    data = pixels("int16")
    data[:, 0] = 0
    path = write(tmp_path / "scene.tif", data, nodata=0, tags={"scales": (0.1, 2.0), "offsets": (0.0, -5.0)})
    block = whole(open_scene(path))
    assert not block.valid[0].any() and block.valid[1:].all()
    np.testing.assert_allclose(block.data[0, 1:], data[0, 1:] * 0.1, rtol=1e-6)
    np.testing.assert_allclose(block.data[1, 1:], data[1, 1:] * 2.0 - 5.0, rtol=1e-6)


def test_decibels_below_minus_1000_are_missing_even_without_a_tag(tmp_path):
    data = pixels(count=1)
    data[:, :20] = -32768
    assert not whole(open_scene(write(tmp_path / "VV_dB.tif", data))).valid[:20].any()


def test_an_xview3_folder_gives_vv_and_vh_in_db_and_ignores_the_coarse_rasters(tmp_path):
    folder = tmp_path / "590dd08f71056cacv"
    folder.mkdir()
    vv, vh = pixels(count=2)
    vv[:30], vh[:, :30] = -32768, -32768
    write(folder / "VV_dB.tif", vv[None], nbits=16, nodata=-32768)
    write(folder / "VH_dB.tif", vh[None], nbits=16, nodata=-32768)
    write(folder / "bathymetry.tif", pixels("int16", 1, (12, 15)), nodata=-32768)
    scene = open_scene(folder)
    assert (scene.bands, scene.units, scene.id) == (("vv", "vh"), "db", "590dd08f71056cacv")
    block = whole(scene)
    assert not block.valid[:30].any() and not block.valid[:, :30].any() and block.valid[30:, 30:].all()
    np.testing.assert_array_equal(scene.select("vh").read(Window(100, 100, 50, 50)).data[0], vh[100:150, 100:150])
    (folder / "VV_dB.tif").unlink()
    assert open_scene(folder).bands == ("vh",)


def test_a_list_and_a_folder_of_one_band_files_are_one_scene(tmp_path):
    data = pixels("uint16", 2)
    files = [tmp_path / f"T31UFS_20200101T105441_{band}_10m.tif" for band in ("B04", "B03")]
    for file, band in zip(files, data, strict=True):
        write(file, band[None])
    scene = open_scene(files)
    assert (scene.bands, scene.units, scene.id) == (("B04", "B03"), "dn10000", "T31UFS_20200101T105441_B0")
    np.testing.assert_array_equal(whole(scene).data, data)
    assert scene.time == datetime(2020, 1, 1, 10, 54, 41, tzinfo=UTC)
    assert open_scene(tmp_path).bands == ("B03", "B04")
    np.testing.assert_allclose(whole(scene.convert("reflectance")).data, data / 1e4, rtol=1e-6)
    write(tmp_path / "other_B11.tif", pixels("uint16", 1, (265, 350)))
    with pytest.raises(SceneError, match="do not share one grid.*265 x 350"):
        open_scene(tmp_path)


def test_a_newer_sentinel2_product_loses_its_offset_of_1000(tmp_path):
    for baseline, offset in (("N0301", 0), ("N0509", -1000)):
        folder = tmp_path / f"S2A_MSIL2A_20220901T105441_{baseline}_R051_T31UFS_20220901T150000.SAFE"
        folder.mkdir()
        scene = open_scene(write(folder / "T31UFS_20220901T105441_B04_10m.tif", pixels("uint16", 1) + 1000))
        np.testing.assert_array_equal(whole(scene).data, pixels("uint16", 1) + 1000.0 + offset)


def test_bands_are_named_from_descriptions_files_colours_or_numbers(tmp_path):
    def names(file, count=1, **more):
        return open_scene(write(tmp_path / file, pixels("uint16", count), **more)).bands

    assert names("a.tif", 2, descriptions=("Sigma0_VH_db", "Sigma0_VV_db")) == ("vh", "vv")
    assert names("b.tif", 2, descriptions=("B2, central wavelength 490 nm", "B8A")) == ("B02", "B8A")
    assert names("c.tif", 2, descriptions=("Sigma0_VV", "Gamma0_VV")) == ("Sigma0_VV", "Gamma0_VV")
    assert names("d.tif", 2) == ("band_1", "band_2")
    assert names("s1a-iw-grd-vh-20180716t060623-20180716t060648-022826-0279A5-002.tiff") == ("vh",)
    assert names("e.tif", 2, descriptions=("height", "")) == ("height", "band_2")
    scene = open_scene(tmp_path / "d.tif", bands="vv=2, vh=1")
    assert scene.bands == ("vv", "vh")
    np.testing.assert_array_equal(whole(scene).data, pixels("uint16")[::-1])
    for wrong in ("vv", "vv=1,vv=2", "vv=x", "=1", ""):
        with pytest.raises(SceneError, match="name=number"):
            open_scene(tmp_path / "d.tif", bands=wrong)
    with pytest.raises(SceneError, match="bands are 1 to 2"):
        open_scene(tmp_path / "d.tif", bands={"vv": 3})


def test_units_come_from_tags_and_names_and_are_else_unknown(tmp_path):
    def units(file="x.tif", dtype="float32", count=1, **more):
        return open_scene(write(tmp_path / file, pixels(dtype, count), **more)).units

    assert units() == "unknown"
    assert units(tags={"units": ("dB",)}) == "db"
    assert units(tags={"UNITS": "amplitude"}) == "amplitude"
    assert units("vv_db.tif") == "db"
    assert units(descriptions=("Sigma0_VV",)) == "linear"
    assert units(descriptions=("Sigma0_VV_db",)) == "db"
    assert units(dtype="uint16", descriptions=("B04",)) == "dn10000"
    assert units(dtype="uint16", descriptions=("B04",), tags={"scales": (1e-4,)}) == "reflectance"
    assert units(dtype="uint16", place={"gcps": GCPS}) == "dn"
    assert units(dtype="uint8", count=3, photometric="RGB") == "rgb"
    assert units(dtype="uint16") == "unknown"
    write(tmp_path / "mixed.tif", pixels(), descriptions=("Sigma0_VV_db", "Sigma0_VH"))
    with pytest.raises(SceneError, match="vv in db, vh in linear"):
        open_scene(tmp_path / "mixed.tif")
    assert open_scene(tmp_path / "mixed.tif", units="db").units == "db"
    assert open_scene(tmp_path / "mixed.tif", bands="vh=2").units == "linear"
    with pytest.raises(SceneError, match="unknown units 'dB'; choose one of db"):
        open_scene(tmp_path / "mixed.tif", units="dB")


def test_a_sentinel1_measurement_keeps_its_geometry_its_time_and_zero_is_missing(tmp_path):
    data = pixels("uint16", 1)
    data[:, :, :25] = 0
    folder = tmp_path / "S1A_IW_GRDH_1SDV_20180716T060623_20180716T060648_022826_0279A5_1234.SAFE"
    (folder / "measurement").mkdir(parents=True)
    for n, band in enumerate(("vh", "vv")):
        name = f"s1a-iw-grd-{band}-20180716t060623-20180716t060648-022826-0279a5-00{n}.tiff"
        write(folder / "measurement" / name, data, place={"gcps": GCPS})
    with pytest.raises(SceneError, match="it has no annotation of vh; copy or download it again, or give its measurements"):
        open_scene(folder)
    scene = open_scene(sorted((folder / "measurement").iterdir()))
    assert isinstance(scene.grid, GcpGrid) and scene.is_georeferenced
    assert (scene.bands, scene.units) == (("vh", "vv"), "dn")
    assert scene.time == datetime(2018, 7, 16, 6, 6, 23, tzinfo=UTC)
    np.testing.assert_array_equal(whole(scene).valid, data[0] > 0)
    lon, lat = pixel_to_lonlat(scene.grid, [p.row for p in GCPS], [p.col for p in GCPS])
    np.testing.assert_allclose(lat, [p.y for p in GCPS], atol=1e-9)
    np.testing.assert_allclose((lon - [p.x for p in GCPS] + 180) % 360 - 180, 0, atol=1e-9)


def test_times_are_found_in_tags(tmp_path):
    def time(**tags):
        return open_scene(write(tmp_path / "x.tif", pixels(count=1), tags=tags)).time

    assert time() is None
    assert time(TIFFTAG_DATETIME="2018:07:16 06:06:23") == datetime(2018, 7, 16, 6, 6, 23, tzinfo=UTC)
    assert time(datetime="2023-08-17") == datetime(2023, 8, 17, tzinfo=UTC)
    assert time(ACQUISITION_DATETIME="2020-02-03T04:05:06+01:00") == datetime(2020, 2, 3, 3, 5, 6, tzinfo=UTC)
    assert time(datetime="yesterday") is None


def test_a_scene_without_a_place_opens_and_says_so(tmp_path):
    for place in ({}, {"transform": PLACE["transform"]}, {"crs": "EPSG:4326"}):
        scene = open_scene(write(tmp_path / "scene.tif", pixels(), place=place))
        assert not scene.is_georeferenced
        assert np.isnan(pixel_size_m(scene.grid)).all()


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_bad_files_are_refused_in_one_line_with_a_remedy(tmp_path):
    def refused(href, match, **options):
        with pytest.raises(SceneError, match=match) as error:
            whole(open_scene(href, **options))
        assert "\n" not in str(error.value)

    refused(tmp_path / "absent.tif", "no such file: .*absent.tif; check the path")
    (tmp_path / "letter.txt").write_text("Dear sir")
    refused(tmp_path / "letter.txt", "cannot open .*letter.txt as a raster: .*not recognized")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "holds no raster")
    refused([], "empty list")
    (tmp_path / "nothing.tif").write_bytes(b"")
    refused(tmp_path / "nothing.tif", "as a raster")

    write(tmp_path / "slc.tif", pixels().astype("complex64"))
    refused(tmp_path / "slc.tif", "complex numbers")
    rpcs = RPC(0, 1, 0, 1, [0.0] * 20, [1.0] * 20, 0, 1, 0, 1, [0.0] * 20, [1.0] * 20, 0, 1)
    with rasterio.open(tmp_path / "rpc.tif", "w", driver="GTiff", count=1, height=9, width=9, dtype="uint8") as file:
        file.rpcs = rpcs
    refused(tmp_path / "rpc.tif", "RPC.*orthorectify")


@pytest.mark.parametrize("layout", [{"tiled": True, "compress": "deflate"}, {}, {"compress": "zstd"}])
def test_a_truncated_file_is_refused_when_it_is_opened(tmp_path, layout):
    path = write(tmp_path / "scene.tif", pixels(), **layout)
    os.truncate(path, os.path.getsize(path) - 5000)
    with pytest.raises(SceneError, match="cut short.*again"):
        open_scene(path)


def test_damaged_pixels_are_refused_when_they_are_read_also_by_those_who_wait_for_them(tmp_path):
    path = write(tmp_path / "scene.tif", pixels(), tiled=True, compress="deflate")
    with open(path, "r+b") as file:
        file.seek(os.path.getsize(path) // 2)
        file.write(np.random.default_rng(1).bytes(50_000))
    scene = open_scene(path)
    with ThreadPoolExecutor(4) as threads:
        for answer in [threads.submit(whole, scene) for _ in range(4)]:
            with pytest.raises(SceneError, match="cannot read rows .* of .*scene.tif: .*; the file is damaged"):
                answer.result()


def test_overviews_in_the_file_are_used_and_agree_with_means_of_the_pixels(tmp_path):
    tall = np.add.outer(np.arange(1021.0), np.arange(1337.0)).astype("float32")[None]
    options = {"tiled": True, "blockxsize": 128, "blockysize": 128, "compress": "deflate"}
    plain = open_scene(write(tmp_path / "plain.tif", tall, **options))
    with_overviews = open_scene(write(tmp_path / "pyramid.tif", tall, overviews=(2, 4, 8), **options))
    assert plain.source.coarser(100) is None
    assert max(with_overviews.source.coarser(300).shape) == 335
    a, b = plain.overview(160), with_overviews.overview(160)
    assert abs(a.data.mean() - b.data.mean()) < 5 and max(b.data.shape) <= 168


def test_missing_blocks_of_a_sparse_file_are_known_empty_without_decoding(tmp_path):
    path = tmp_path / "sparse.tif"
    options = {"tiled": True, "blockxsize": 128, "blockysize": 128, "SPARSE_OK": True, "compress": "deflate"}
    profile = {"driver": "GTiff", "count": 1, "height": 531, "width": 700, "dtype": "float32", **PLACE, **options}
    with rasterio.open(path, "w", nodata=-1, **profile) as file:
        file.write(pixels(count=1)[:, :128, :128], window=((128, 256), (256, 384)))
    scene = open_scene(path)
    for tile in Nest(SHAPE, 64, 2, 10):
        assert scene.maybe_valid(tile.full) == scene.read(tile.full).valid.any()
    assert open_scene(path, nodata=5).maybe_valid(Window(0, 0, 9, 9))


class FakeBlocks:
    """Blocks that weigh what real ones would, and a count of how often each is decoded."""

    def __init__(self, block, itemsize=8):
        self.block, self.decoded = block, {}
        self.pixels = np.broadcast_to(np.zeros(1, f"V{itemsize}"), block)

    def decode(self, row, column):
        self.decoded[row, column] = self.decoded.get((row, column), 0) + 1
        return self.pixels


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    "shape, block, itemsize, limit_mb",
    [
        ((10_000, 12_000), (512, 512), 8, 128),
        ((24_400, 29_400), (512, 512), 4, 160),
        ((24_400, 29_400), (256, 256), 8, 128),
        ((16_685, 25_788), (64, 25_788), 2, 128),
    ],
)
def test_a_scan_over_the_tiles_of_a_nest_decodes_each_block_about_once(shape, block, itemsize, limit_mb, threads):
    cache, fake = BlockCache(limit_mb << 20), FakeBlocks(block, itemsize)
    inside = Window(0, 0, *shape)

    def read(tile):
        window, (h, w) = tile.full & inside, block
        rows = range(window.y // h, -(-(window.y + window.h) // h))
        columns = range(window.x // w, -(-(window.x + window.w) // w))
        assert len(cache.blocks("all", rows, columns, fake.decode)) == len(rows) * len(columns)
        assert cache._bytes <= cache.limit

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(read, Nest(shape, region=512, span=4, margin=32)))
    blocks = -(-shape[0] // block[0]) * -(-shape[1] // block[1])
    assert len(fake.decoded) == blocks
    # Of two threads the one that is held up by other programs may find its blocks gone.
    assert sum(fake.decoded.values()) / blocks <= (1.1 if threads == 1 else 1.6)


def test_a_cache_too_small_for_a_row_of_tiles_keeps_what_fits():
    cache, fake = BlockCache(100 << 20), FakeBlocks((64, 29_400), 8)
    for tile in list(Nest((2048, 29_400), 512, 4, 32)):
        cache.blocks("all", range(0, 32), range(0, 1), fake.decode)
        assert tile and cache._bytes <= cache.limit
    assert sum(fake.decoded.values()) < 32 * (1 + 14 * 0.85)


def test_threads_that_want_the_same_block_wait_for_one_of_them():
    fake, gate = FakeBlocks((8, 8)), threading.Event()

    def slowly(row, column):
        gate.wait(5)
        return fake.decode(row, column)

    cache = BlockCache(1 << 20)
    with ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(cache.blocks, "all", range(3), range(3), slowly) for _ in range(4)]
        gate.set()
        assert all(len(answer.result()) == 9 for answer in answers)
    assert set(fake.decoded.values()) == {1}


def test_a_scan_with_many_threads_decodes_a_real_file_once_and_right(tmp_path, monkeypatch):
    data, decoded = pixels(), []
    path = write(tmp_path / "scene.tif", data, tiled=True, blockxsize=64, blockysize=64, compress="deflate")
    decode = RasterSource._decode

    def counted(self, window, indexes):
        decoded.append(window.h * window.w)
        return decode(self, window, indexes)

    monkeypatch.setattr(RasterSource, "_decode", counted)
    scene = open_scene(path)
    with ThreadPoolExecutor(4) as pool:
        for tile, block in zip(
            Nest(SHAPE, 64, 2, 9), pool.map(lambda t: scene.read(t.core), Nest(SHAPE, 64, 2, 9)), strict=True
        ):
            np.testing.assert_array_equal(block.data, data[:, *tile.core.slices])
    assert sum(decoded) == SHAPE[0] * SHAPE[1]


def _mean(scene: Scene) -> float:
    return float(whole(scene).data.mean(dtype=np.float64))


@pytest.mark.parametrize("layout", [{"tiled": True, "compress": "deflate"}, {}])
def test_a_scene_reads_in_other_processes(tmp_path, layout):
    scene = open_scene(write(tmp_path / "scene.tif", pixels(), **layout))
    expected = _mean(scene)
    assert _mean(pickle.loads(pickle.dumps(scene))) == expected
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(_mean, [scene]) == [expected]


def test_handles_are_one_per_thread_and_gone_with_it(tmp_path):
    scene = open_scene(write(tmp_path / "scene.tif", pixels(), tiled=True))
    seen = {}

    def work(name):
        seen[name] = id(scene.source.handles.dataset())
        assert scene.source.handles.dataset() is scene.source.handles.dataset()

    thread = threading.Thread(target=work, args=("other",))
    thread.start()
    thread.join()
    work("here")
    assert seen["other"] != seen["here"]


def test_the_fingerprint_changes_with_the_file_and_the_rules_it_is_read_by(tmp_path):
    path = write(tmp_path / "scene.tif", pixels())
    first = open_scene(path).fingerprint()
    assert first == open_scene(path).fingerprint()
    assert first != open_scene(path, nodata=3).fingerprint()
    assert first != open_scene(path, bands="a=2,b=1").fingerprint()
    shutil.copy(write(tmp_path / "other.tif", -pixels(), tiled=True), path)
    assert first != open_scene(path).fingerprint()


def test_opening_warns_of_nothing_although_there_is_no_geotransform(tmp_path, recwarn):
    open_scene(write(tmp_path / "scene.tif", pixels(), place={"gcps": GCPS})).read(Window(0, 0, 9, 9))
    assert not [w for w in recwarn if w.category is not NotGeoreferencedWarning]


REAL = {
    "geo/asar_wsm_gcps.tif": (("band_1",), "dn", True, 1.0),
    "geo/dateline.tif": (("band_1",), "unknown", True, 1.0),
    "geo/nodata_nan.tif": (("vv",), "linear", True, 0.489),
    "geo/pan_buildings.tif": (("band_1",), "unknown", True, 1.0),
    "geo/rgb_internal_mask.tif": (("red", "green", "blue"), "rgb", True, 0.969),
    "geo/s1_grd_gcps.tif": (("band_1",), "dn", True, 0.980),
    "geo/s1_rtc_vv_db_utm.tif": (("vv",), "db", True, 1.0),
    "geo/scale_offset.tif": (("band_1", "band_2"), "unknown", True, 1.0),
    "geo/south_up.tif": (("band_1",), "unknown", True, None),
    "sen2ships/algiers.tif": (("B02", "B03", "B04", "B08", "B11"), "reflectance", True, 1.0),
    "sen2ships/valencia.tif": (("B02", "B03", "B04", "B08", "B11"), "reflectance", True, 1.0),
}


@pytest.mark.parametrize("name", REAL)
def test_real_scenes_are_what_they_are(shared, name):
    scene = open_scene(shared / "data" / name)
    bands, units, placed, share = REAL[name]
    assert (scene.bands, scene.units, scene.is_georeferenced) == (bands, units, placed)
    block = whole(scene)
    with rasterio.open(shared / "data" / name) as file:
        expected, masks = file.read(out_dtype="float64"), file.read_masks()
        for i, (scale, offset) in enumerate(zip(file.scales, file.offsets, strict=True)):
            expected[i] = expected[i] * scale + offset
    valid = (masks != 0).all(axis=0) & np.isfinite(expected).all(axis=0)
    if name == "geo/s1_grd_gcps.tif":
        valid &= expected[0] > 0
    np.testing.assert_array_equal(block.valid, valid)
    np.testing.assert_allclose(block.data[:, valid], expected[:, valid], rtol=1e-6)
    if share is not None:
        assert abs(valid.mean() - share) < 1e-3
        assert abs(scene.valid_share() - share) < 0.05


def test_real_ship_chips_and_a_constant_safe_folder_open(shared):
    chips = sorted((shared / "data/opensarship").glob("*/Patch_Cal/*.tif"))[::30]
    for path in chips:
        assert whole(open_scene(path)).valid.all()
    (folder,) = (shared / "data/safe").glob("*.SAFE")
    scene = open_scene(folder, units="dn", bands="vv=1")
    assert (scene.bands, scene.units, scene.is_georeferenced) == (("vv",), "dn", True)
    assert scene.read(Window(16_000, 25_000, 2000, 2000)).valid.sum() == 685 * 788
