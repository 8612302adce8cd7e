"""Arrays of xarray, Zarr stores and NetCDF files are scenes: the same pixels at the same place, by window."""

import json
import os
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import numpy as np
import pytest
import xarray
from loopback import serve
from pyproj import Transformer

from xtgeo.errors import SceneError
from xtgeo.grid import lonlat_bounds, pixel_to_crs, pixel_to_lonlat, same_grid
from xtgeo.read import open_scene
from xtgeo.window import Nest, Window

zarr = pytest.importorskip("zarr")
h5py = pytest.importorskip("h5py")
SHAPE = (2, 131, 170)
WKT = "EPSG:32631"


def crs_attrs(crs=WKT):
    from pyproj import CRS

    return {"crs_wkt": CRS(crs).to_wkt(), "spatial_ref": CRS(crs).to_wkt()}


def array(dtype="float32", *, names=("vv", "vh"), chunks=None, seed=0, **attrs):
    """A DataArray as rioxarray writes one: 10-m pixels, NaN where nothing was measured."""
    data = np.random.default_rng(seed).uniform(-30, 5, SHAPE)
    data = data.astype(dtype) if np.dtype(dtype).kind == "f" else (data * 100).astype(dtype)
    if np.dtype(dtype).kind == "f":
        data[:, 40:60, 50:90] = np.nan
    coords = {
        "band": list(names),
        "y": 6e6 - 10 * (np.arange(SHAPE[1]) + 0.5),
        "x": 5e5 + 10 * (np.arange(SHAPE[2]) + 0.5),
        "spatial_ref": ((), 0, crs_attrs()),
    }
    made = xarray.DataArray(data, coords=coords, dims=("band", "y", "x"), name="sigma0", attrs={"units": "dB", **attrs})
    made.encoding["grid_mapping"] = "spatial_ref"
    return made.chunk(chunks) if chunks else made


def whole(scene):
    return scene.read(Window(0, 0, *scene.shape))


def same_pixels(scene, made):
    block, data = whole(scene), made.values
    valid = np.isfinite(data).all(axis=0)
    np.testing.assert_array_equal(block.valid, valid)
    np.testing.assert_array_equal(block.data, np.where(valid, data, 0).astype(np.float32))
    for tile in Nest(scene.shape, region=32, span=2, margin=16):
        np.testing.assert_array_equal(scene.read(tile.core).data, block.data[:, *tile.core.slices])


def save_zarr(made, path, version=2, **encoding):
    dataset = made.to_dataset(name="sigma0") if isinstance(made, xarray.DataArray) else made
    options = {name: {"chunks": (1, 50, 60) if dataset[name].ndim == 3 else (50, 60), **encoding} for name in dataset.data_vars}
    dataset.to_zarr(path, zarr_format=version, encoding=options, consolidated=version == 2)
    return path


@pytest.mark.filterwarnings("ignore:The data type .* does not have a Zarr V3 specification")
@pytest.mark.parametrize("kind", ["memory", "dask", "zarr2", "zarr3", "netcdf4", "netcdf3"])
def test_the_same_array_is_the_same_scene_wherever_it_lies(tmp_path, kind):
    made = array()
    if kind == "memory":
        scene = open_scene(made)
    elif kind == "dask":
        scene = open_scene(made.chunk({"band": 1, "y": 50, "x": 60}))
    elif kind.startswith("zarr"):
        scene = open_scene(save_zarr(made, tmp_path / "cube.zarr", int(kind[-1])))
    else:
        format, engine = ("NETCDF4", "h5netcdf") if kind == "netcdf4" else ("NETCDF3_CLASSIC", "scipy")
        made.to_netcdf(tmp_path / "cube.nc", format=format, engine=engine)
        scene = open_scene(tmp_path / "cube.nc")
    assert scene.units == "db" and scene.shape == SHAPE[1:]
    assert scene.bands == ("vv", "vh") and str(scene.grid.crs) == "EPSG:32631"
    assert pixel_to_crs(scene.grid, 0, 0) == (pytest.approx(5e5), pytest.approx(6e6))
    same_pixels(scene, made)
    copy = pickle.loads(pickle.dumps(scene))
    assert copy == scene and copy.fingerprint() == scene.fingerprint()
    same_pixels(copy, made)


@pytest.mark.parametrize("chunks", [None, {"band": 2, "y": 40, "x": 40}])
@pytest.mark.parametrize("dims", [("y", "x", "band"), ("x", "band", "y"), ("band", "x", "y")])
def test_dims_come_in_any_order(chunks, dims):
    made = array(chunks=chunks)
    same_pixels(open_scene(made.transpose(*dims)), made)
    one = made.isel(band=1)
    scene = open_scene(one.transpose(*(d for d in dims if d != "band")))
    assert scene.bands == ("vh",)
    same_pixels(scene, one.expand_dims("band"))


def test_rows_from_south_to_north_keep_their_order_and_their_place():
    made = array()
    up, flipped = open_scene(made), open_scene(made.isel(y=slice(None, None, -1), x=slice(None, None, -1)))
    np.testing.assert_array_equal(whole(flipped).data, whole(up).data[:, ::-1, ::-1])
    h, w = up.shape
    assert pixel_to_crs(flipped.grid, 0.5, 0.5) == pixel_to_crs(up.grid, h - 0.5, w - 0.5)


def test_fill_values_scale_and_range_are_applied_to_what_is_stored(tmp_path):
    stored = np.arange(SHAPE[1] * SHAPE[2], dtype=np.int16).reshape(SHAPE[1:]) % 1000
    attrs = {"scale_factor": 0.5, "add_offset": 10.0, "_FillValue": np.int16(7), "valid_range": np.array([5, 900], np.int16)}
    made = array().isel(band=0, drop=True).copy(data=stored.astype("f4")).astype("int16")
    made.attrs = dict(attrs)
    made.drop_vars("spatial_ref").to_dataset(name="a").to_zarr(tmp_path / "a.zarr", zarr_format=2, consolidated=True)
    for href in (made, tmp_path / "a.zarr"):
        block = whole(open_scene(href))
        np.testing.assert_array_equal(block.valid, (stored >= 5) & (stored <= 900) & (stored != 7))
        np.testing.assert_array_equal(block.data[0][block.valid], stored[block.valid] * 0.5 + 10)
    assert whole(open_scene(made, nodata=20)).valid[stored == 7].all()
    assert not whole(open_scene(made, nodata=20)).valid[stored == 20].any()


def test_variables_of_a_dataset_are_bands_and_other_grids_are_left_alone(tmp_path):
    made = array()
    parts = {"vv": made.isel(band=0, drop=True), "vh": made.isel(band=1, drop=True)}
    dataset = xarray.Dataset(parts).assign(
        coarse=(("yc", "xc"), np.zeros((5, 5)), {}), text=((), "x"), table=(("n",), np.arange(3.0))
    )
    for name in ("vv", "vh"):
        dataset[name].encoding.clear()
        dataset[name].attrs["grid_mapping"] = "spatial_ref"
    for href in (dataset, save_zarr(dataset.drop_vars(["coarse", "text", "table"]), tmp_path / "d.zarr")):
        scene = open_scene(href)
        assert set(scene.bands) == {"vv", "vh"} and scene.grid.crs.epsg == 32631  # Zarr knows no order of arrays
        same_pixels(scene.select("vv", "vh"), made)
        assert open_scene(href, bands="vh").bands == ("vh",) and open_scene(href, bands="a=vv").bands == ("a",)


def test_a_scene_survives_the_way_to_xarray_and_back(tmp_path):
    scene = open_scene(array())
    again = open_scene(scene.to_xarray())
    assert same_grid(scene.grid, again.grid) and again.bands == scene.bands and again.units == scene.units
    np.testing.assert_array_equal(whole(again).data, whole(scene).data)
    assert again.fingerprint() == open_scene(scene.to_xarray()).fingerprint()


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_control_points_of_radar_geometry_survive_too(tmp_path):
    import rasterio
    from rasterio.control import GroundControlPoint

    gcps = [
        GroundControlPoint(row, column, 179.5 + column / 500, 60 - row / 600 + column / 9000, 3.0)
        for row in np.linspace(0, 100, 4)
        for column in np.linspace(0, 120, 5)
    ]
    with rasterio.open(tmp_path / "s.tif", "w", driver="GTiff", height=100, width=120, count=1, dtype="float32") as file:
        file.write(np.ones((1, 100, 120), np.float32))
        file.gcps = gcps, "EPSG:4326"
    scene = open_scene(tmp_path / "s.tif")
    assert same_grid(scene.grid, open_scene(scene.to_xarray()).grid)


@pytest.mark.parametrize("crs", ["attrs", "cf", "geozarr", "lonlat", "transform"])
def test_a_place_is_found_in_every_convention(crs):
    from pyproj import CRS

    made = array().isel(band=0, drop=True).drop_vars("spatial_ref")
    made.encoding.clear()
    expected = 32631
    if crs == "attrs":
        made.attrs["crs"] = WKT
    elif crs == "cf":
        cf = {k: v for k, v in CRS(WKT).to_cf().items() if k != "crs_wkt"}
        made = made.assign_coords(utm=((), 0, cf))
        made.attrs["grid_mapping"] = "utm"
    elif crs == "geozarr":
        made.attrs |= {"proj:code": WKT, "spatial:dimensions": ["y", "x"], "spatial:transform": [10.0, 0, 5e5, 0, -10.0, 6e6]}
        made = made.drop_vars(["y", "x"])
    elif crs == "transform":
        made = made.drop_vars(["y", "x"]).assign_coords(
            spatial_ref=((), 0, {**crs_attrs(), "GeoTransform": "500000 10 0 6000000 0 -10"})
        )
    else:
        expected = 4326
        made = made.rename(y="lat", x="lon").assign_coords(
            lat=("lat", 50 - 0.001 * (np.arange(SHAPE[1]) + 0.5), {"units": "degrees_north"}),
            lon=("lon", 179.9 + 0.001 * (np.arange(SHAPE[2]) + 0.5), {"units": "degrees_east"}),
        )
    scene = open_scene(made)
    assert scene.grid.crs.epsg == expected
    if crs == "lonlat":
        assert lonlat_bounds(scene.grid) == pytest.approx((179.9, 50 - 0.131, -180 + 0.07, 50))
    else:
        assert pixel_to_crs(scene.grid, 0, 0) == (pytest.approx(5e5), pytest.approx(6e6))


@pytest.mark.filterwarnings("ignore:Use .@. matmul:PendingDeprecationWarning")  # rioxarray's own
@pytest.mark.parametrize("part", [slice(None), slice(30, 90, 2)])
def test_a_rotated_grid_has_its_place_by_odc_geo_and_by_rioxarray(tmp_path, part):
    import rasterio
    from affine import Affine
    from odc.geo.geobox import GeoBox
    from odc.geo.xr import xr_zeros
    from rioxarray import open_rasterio

    affine = Affine(9.0, 3.0, 5e5, 3.0, -9.0, 6e6)
    row, column = 40.5, 77.5
    x, y = 5e5 + 9 * column + 3 * row, 6e6 + 3 * column - 9 * row
    if part.step:  # every second pixel: the centre of a new one is that of the one that was taken
        row, column = (row - 30.5) / 2 + 0.5, (column - 30.5) / 2 + 0.5
    made = xr_zeros(GeoBox((100, 120), affine, WKT), "float32")
    assert pixel_to_crs(open_scene(made.isel(y=part, x=part)).grid, row, column) == (pytest.approx(x), pytest.approx(y))
    if part.step is None:
        profile = {"height": 100, "width": 120, "count": 1, "dtype": "uint8", "crs": WKT, "transform": affine}
        with rasterio.open(tmp_path / "a.tif", "w", **profile) as file:
            file.write(np.ones((1, 100, 120), "uint8"))
        assert open_scene(open_rasterio(tmp_path / "a.tif")).grid.affine == affine
    assert not open_scene(made.drop_vars("spatial_ref")).is_georeferenced


def test_an_affine_of_nodes_places_the_centres_of_pixels():
    bare = array().isel(band=0, drop=True).drop_vars(["spatial_ref", "y", "x"])
    bare.attrs |= {"proj:code": WKT, "spatial:transform": [10.0, 0, 5e5, 0, -10.0, 6e6], "spatial:registration": "node"}
    assert pixel_to_crs(open_scene(bare).grid, 0.5, 0.5) == (pytest.approx(5e5), pytest.approx(6e6))


@pytest.mark.parametrize(("unit", "of_the_crs", "metres"), [("km", "m", 1000), ("km", "km", 1000), ("m", "m", 1)])
def test_kilometres_are_kilometres_whatever_the_crs_counts_in(unit, of_the_crs, metres):
    steps = np.arange(6) * 2.0
    coords = {"y": ("y", -steps, {"units": unit}), "x": ("x", steps, {"units": unit})}
    crs = f"+proj=laea +lat_0=90 +lon_0=0 +datum=WGS84 +units={of_the_crs}"
    scene = open_scene(xarray.DataArray(np.ones((6, 6), np.float32), coords, ("y", "x"), attrs={"crs": crs}))
    lon, lat = pixel_to_lonlat(scene.grid, 3.5, 3.5)
    polar = Transformer.from_crs("+proj=laea +lat_0=90 +lon_0=0 +datum=WGS84 +units=m", "EPSG:4326", always_xy=True)
    assert (lon, lat) == pytest.approx(polar.transform(6 * metres, -6 * metres))


@pytest.mark.parametrize("scale", [1e-4, -0.01])
def test_a_range_of_packed_numbers_holds_for_unpacked_ones_too(tmp_path, scale):
    stored = np.arange(-500, 500, dtype=np.int16).reshape(25, 40)
    attrs = {"scale_factor": scale, "add_offset": 3.0, "valid_range": np.array([1, 300], np.int16)}
    xarray.DataArray(stored, dims=("y", "x"), name="a", attrs=attrs).to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    with xarray.open_dataset(tmp_path / "a.nc", engine="h5netcdf") as unpacked:
        for scene in (open_scene(tmp_path / "a.nc"), open_scene(unpacked.a)):
            block = whole(scene)
            np.testing.assert_array_equal(block.valid, (stored >= 1) & (stored <= 300))
            np.testing.assert_allclose(block.data[0][block.valid], (stored * scale + 3)[block.valid], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("attrs", "message"), [
    ({"scale_factor": [1.0, 2.0]}, "an attribute scale_factor of 2 numbers where one is meant"),
    ({"valid_min": np.array([])}, "an attribute valid_min of 0 numbers"),
    ({"valid_range": [1.0, 2.0, 3.0]}, "an attribute valid_range of 3 numbers where two are meant"),
    ({"proj:epsg": np.array([1, 2])}, "CRS cannot be read"),
    ({"spatial:transform": ["a"] * 6}, "affine cannot be read"),
])  # fmt: skip
def test_attributes_that_cannot_be_are_one_line(attrs, message):
    made = array().drop_vars(["spatial_ref", "x", "y"])
    with pytest.raises(SceneError, match=message):
        open_scene(made.assign_attrs(attrs))


@pytest.mark.parametrize("dim", ["band", "y"])
def test_an_array_without_elements_is_no_scene(dim):
    with pytest.raises(SceneError, match=f"no array of numbers with dims y and x, .* it has sigma0: float32 .*{dim} 0"):
        open_scene(array().isel({dim: slice(0, 0)}))


@pytest.mark.parametrize("kind", ["zarr", "nc"])
def test_the_time_of_a_store_is_that_of_its_coordinate(tmp_path, kind):
    made = array().isel(band=0, drop=True).expand_dims(time=[np.datetime64("2024-05-06T07:08:09", "ns")])
    path = str(tmp_path / f"a.{kind}")
    made.to_zarr(path, zarr_format=2) if kind == "zarr" else made.to_netcdf(path, engine="h5netcdf")
    assert open_scene(path).time == open_scene(made).time == datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
    odd = made.assign_coords(time=("time", [1.0], {"units": "months since the flood"}))
    assert open_scene(odd).time is None


def test_a_checksum_after_blosc_is_no_damage(tmp_path):
    from zarr.codecs import BloscCodec, Crc32cCodec

    group = zarr.open_group(tmp_path / "a.zarr", mode="w")
    stored = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)
    codecs = {"compressors": [BloscCodec(), Crc32cCodec()], "dimension_names": ("y", "x")}
    group.create_array("a", shape=stored.shape, chunks=(32, 32), dtype=stored.dtype, **codecs)[:] = stored
    np.testing.assert_array_equal(whole(open_scene(tmp_path / "a.zarr")).data[0], stored)


def test_without_a_crs_or_coordinates_there_is_no_place_and_uneven_coordinates_are_refused():
    made = array().drop_vars(["spatial_ref", "x", "y"])
    assert not open_scene(made).is_georeferenced
    assert not open_scene(array().drop_vars("spatial_ref")).is_georeferenced
    bent = array()
    y = bent.y.values.copy()
    y[7] += 3
    with pytest.raises(SceneError, match="coordinates of y are not even"):
        open_scene(bent.assign_coords(y=y))
    with pytest.raises(SceneError, match="CRS cannot be read"):
        open_scene(array().assign_coords(spatial_ref=((), 0, {"crs_wkt": "nonsense"})))
    with pytest.raises(SceneError, match="control points cannot be read"):
        open_scene(array().assign_coords(spatial_ref=((), 0, {"gcps": "[]"})))
    with pytest.raises(SceneError, match="2 layers along time: choose one .*isel.time=0"):
        open_scene(xarray.concat([array(), array()], "time"))
    with pytest.raises(SceneError, match="no array of numbers with dims y and x"):
        open_scene(array().rename(y="a"))
    with pytest.raises(SceneError, match="scale_factor that is no number"):
        open_scene(array(scale_factor="x"))


def test_the_fingerprint_is_that_of_the_pixels_and_of_the_files(tmp_path):
    made, other = array(), array()
    other[1, 130, 169] = 3.0
    assert open_scene(made).fingerprint() == open_scene(array()).fingerprint() != open_scene(other).fingerprint()
    path = save_zarr(made, tmp_path / "a.zarr")
    before = open_scene(path).fingerprint()
    assert before == open_scene(path).fingerprint()
    zarr.open_group(path, mode="r+")["sigma0"][0, 0, 0] = 9.0
    assert open_scene(path).fingerprint() != before


def test_reading_decodes_each_chunk_about_once_in_many_threads(tmp_path, monkeypatch):
    made = array()
    scene = open_scene(save_zarr(made, tmp_path / "a.zarr"))
    opened, original = [], type(scene.source)._values

    def counting(self, band, y, x):
        opened.append((y.stop - y.start) * (x.stop - x.start))
        return original(self, band, y, x)

    monkeypatch.setattr(type(scene.source), "_values", counting)
    with ThreadPoolExecutor(8) as threads:
        blocks = list(threads.map(lambda tile: (tile, scene.read(tile.full)), Nest(scene.shape, region=32, span=1, margin=16)))
    full = np.nan_to_num(made.values)
    for tile, block in blocks:
        inside = tile.full & Window(0, 0, *scene.shape)
        y, x = inside.shift(-tile.full.y, -tile.full.x).slices
        np.testing.assert_array_equal(block.data[:, y, x], full[:, *inside.slices])
    assert sum(opened) == SHAPE[1] * SHAPE[2]


def test_a_store_on_a_web_server_is_read_and_asked_again(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("GDAL_HTTP_RETRY_DELAY", "0.02")
    made = array()
    save_zarr(made, tmp_path / "a.zarr")
    with serve(tmp_path) as server:
        server.faults = [503, "reset"]
        scene = open_scene(f"{server.url}/a.zarr")
        server.faults = [502, 500]
        same_pixels(scene, made)
        assert scene.id == "a" and scene.fingerprint() == open_scene(f"{server.url}/a.zarr").fingerprint()
        with pytest.raises(SceneError, match="cannot open .*/absent.zarr"):
            open_scene(f"{server.url}/absent.zarr")


def test_groups_are_named_where_a_store_has_no_arrays_of_its_own(tmp_path):
    save_zarr(array(), tmp_path / "a.zarr" / "r10m")
    zarr.open_group(tmp_path / "a.zarr", mode="a", zarr_format=2)
    with pytest.raises(SceneError, match=r"holds groups, not arrays: open one of .*a.zarr/r10m"):
        open_scene(tmp_path / "a.zarr")
    scene = open_scene(tmp_path / "a.zarr" / "r10m")
    same_pixels(scene, array())
    assert scene.id == "a_r10m"  # r10m is also the name of a group of other stores
    zarr.open_group(tmp_path / "empty.zarr", mode="w")
    with pytest.raises(SceneError, match="holds no arrays"):
        open_scene(tmp_path / "empty.zarr")


def test_a_damaged_chunk_and_damaged_metadata_are_one_line(tmp_path):
    path = save_zarr(array(), tmp_path / "a.zarr")
    (path / "sigma0" / "0.1.1").write_bytes(b"nonsense")
    with pytest.raises(SceneError, match="cannot read rows .* of .*a.zarr: ") as error:
        whole(open_scene(path))
    assert "\n" not in str(error.value)
    save_zarr(array(), tmp_path / "b.zarr")
    chunk = tmp_path / "b.zarr" / "sigma0" / "0.1.1"
    content = chunk.read_bytes()
    assert content[:1] == b"\2"  # a chunk of Blosc, which would read a gigabyte beyond it
    chunk.write_bytes(content[:12] + b"\xff\xff\xff\x3f" + content[16:])
    with pytest.raises(SceneError, match="chunk sigma0/0.1.1 is damaged"):
        whole(open_scene(tmp_path / "b.zarr"))
    (path / ".zmetadata").write_text("{")
    (path / ".zgroup").write_text("{")
    with pytest.raises(SceneError, match="cannot open .*a.zarr: ") as error:
        open_scene(path)
    assert "\n" not in str(error.value)


def test_a_filter_that_runs_code_is_never_run(tmp_path):
    path = save_zarr(array(), tmp_path / "a.zarr")
    mark = tmp_path / "ran"

    class Bomb:
        def __reduce__(self):
            return os.system, (f"touch {mark}",)

    for name in ("x", "sigma0"):  # coordinates are read on opening, pixels later
        shutil.rmtree(path / name)
        shape = [170] if name == "x" else list(SHAPE)
        dims = ["x"] if name == "x" else ["band", "y", "x"]
        (path / name).mkdir()
        meta = {"zarr_format": 2, "shape": shape, "chunks": shape, "dtype": "|O", "fill_value": None, "order": "C"}
        meta |= {"compressor": None, "filters": [{"id": "pickle", "protocol": 4}]}
        (path / name / ".zarray").write_text(json.dumps(meta))
        (path / name / ".zattrs").write_text(json.dumps({"_ARRAY_DIMENSIONS": dims}))
        (path / name / ".".join("0" * len(shape))).write_bytes(pickle.dumps(Bomb()))
    (path / ".zmetadata").unlink()
    with pytest.raises(SceneError, match="no array of numbers|cannot open"):
        whole(open_scene(path))
    assert not mark.exists()


def test_absurd_chunks_and_axes_and_links_to_other_files_are_refused(tmp_path):
    path = tmp_path / "a.zarr"
    group = zarr.open_group(path, mode="w", zarr_format=2)
    group.create_array("a", shape=(100_000, 100_000), chunks=(100_000, 100_000), dtype="f4").attrs["_ARRAY_DIMENSIONS"] = ["y", "x"]
    with pytest.raises(SceneError, match="chunks of 40,000,000,000 bytes"):
        open_scene(path)
    group = zarr.open_group(path, mode="w", zarr_format=2)
    group.create_array("a", shape=(10**6, 10**7), chunks=(512, 512), dtype="f4").attrs["_ARRAY_DIMENSIONS"] = ["y", "x"]
    with pytest.raises(SceneError, match="more than any scene has"):
        open_scene(path)
    (tmp_path / "secret.bin").write_bytes(b"x" * 20_000)
    for kind in ("external", "link", "soft", "virtual"):
        with h5py.File(tmp_path / f"{kind}.nc", "w") as file:
            if kind == "external":
                file.create_dataset("a", (100, 200), "u1", external=[(str(tmp_path / "secret.bin"), 0, 20_000)])
            elif kind == "link":
                file["a"] = h5py.ExternalLink(str(tmp_path / "other.nc"), "/a")
            elif kind == "soft":
                file["a"] = h5py.SoftLink("/b")
            else:
                layout = h5py.VirtualLayout((100, 200), "u1")
                layout[:] = h5py.VirtualSource(str(tmp_path / "other.nc"), "a", (100, 200))
                file.create_virtual_dataset("a", layout)
        with pytest.raises(SceneError, match="--trusted"):
            open_scene(tmp_path / f"{kind}.nc")
    (tmp_path / "b.nc").write_bytes(b"\x89HDF nonsense")
    with pytest.raises(SceneError, match="cannot open .*b.nc"):
        open_scene(tmp_path / "b.nc")
