import pickle
import threading
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from xtgeo.errors import SceneError
from xtgeo.grid import GcpGrid
from xtgeo.scene import UNITS, Scene, within_block
from xtgeo.window import Nest, Window

SHAPE = (531, 700)
UTM = GeoBox(SHAPE, Affine(10, 0, 5e5, 0, -10, 6e6), "EPSG:32631")


@dataclass(frozen=True)
class ArraySource:
    """A source in memory that refuses windows beyond its edges and counts how often each pixel is read."""

    data: np.ndarray
    valid: np.ndarray
    block_shape: tuple[int, int] = (64, 64)
    reads: np.ndarray = field(default_factory=lambda: np.zeros(SHAPE, int))

    shape = property(lambda self: self.data.shape[1:])
    count = property(lambda self: len(self.data))
    row_bytes = property(lambda self: self.data[:, 0].nbytes)

    def read(self, window, indexes):
        assert window and window & Window(0, 0, *self.shape) == window, f"{window} reaches beyond the source"
        y, x = window.slices
        self.reads[y, x] += 1
        return self.data[[i - 1 for i in indexes], y, x].copy(), self.valid[y, x].copy()

    def maybe_valid(self, window, indexes):
        return bool(self.valid[window.slices].any())

    def coarser(self, side):
        return None

    def with_cache(self, limit):
        return self

    files = ()

    def fingerprint(self):
        return {"sum": float(self.data.sum())}


def scene(units="db", bands=("vv", "vh"), grid=UTM, low=-30.0, high=5.0):
    rng = np.random.default_rng(0)
    data = rng.uniform(low, high, (len(bands), *SHAPE)).astype(np.float32)
    valid = np.ones(SHAPE, bool)
    valid[100:230, 333:444] = False
    valid[:, -5:] = False
    data[:, ~valid] = -32768.0
    indexes = tuple(range(1, len(bands) + 1))
    return Scene(ArraySource(data, valid), grid, tuple(bands), indexes, units, units, "here", "memory")


windows = st.builds(Window, st.integers(-50, 600), st.integers(-50, 800), st.integers(0, 300), st.integers(0, 300))


@given(windows)
@settings(max_examples=60, deadline=None)
def test_a_window_may_reach_beyond_the_scene_and_is_zero_and_not_valid_there(window):
    s = scene()
    block = s.read(window)
    assert block.data.shape == (2, *window.shape) and block.data.dtype == np.float32
    rows, columns = np.mgrid[window.y : window.y + window.h, window.x : window.x + window.w]
    inside = (rows >= 0) & (columns >= 0) & (rows < SHAPE[0]) & (columns < SHAPE[1])
    expected = np.zeros(window.shape, bool)
    expected[inside] = s.source.valid[rows[inside], columns[inside]]
    np.testing.assert_array_equal(block.valid, expected)
    assert (block.data[:, ~block.valid] == 0).all()
    np.testing.assert_array_equal(block.data[:, expected], s.source.data[:, rows[expected], columns[expected]])


def test_selected_bands_come_in_the_order_asked_for():
    s = scene()
    window = Window(3, 5, 40, 50)
    np.testing.assert_array_equal(s.select("vh", "vv").read(window).data, s.read(window).data[::-1])
    assert s.select("vh").bands == ("vh",)
    with pytest.raises(SceneError, match="no band hh: it has vv, vh"):
        s.select("hh")


def test_bands_can_be_named_and_wrong_numbers_are_refused():
    s = scene(bands=("band_1", "band_2")).with_bands({"vh": 2})
    assert s.bands == ("vh",)
    np.testing.assert_array_equal(s.read(Window(0, 0, 9, 9)).data[0], s.source.data[1, :9, :9])
    with pytest.raises(SceneError, match="bands are 1 to 2"):
        s.with_bands({"vv": 3})
    with pytest.raises(SceneError, match="not unique"):
        replace(s, bands=("vv", "vv"), indexes=(1, 2))


def test_linear_power_and_amplitude_become_decibels_where_valid():
    window = Window(90, 320, 60, 60)
    for units, power in (("linear", lambda x: x), ("amplitude", lambda x: x * x)):
        s = scene(units, low=0.001, high=2.0)
        block = s.convert("db").read(window)
        expected = 10 * np.log10(power(s.read(window).data) + 1e-5)
        np.testing.assert_allclose(block.data[:, block.valid], expected[:, block.valid], rtol=1e-4)
        assert (block.data[:, ~block.valid] == 0).all() and block.data.dtype == np.float32
    linear = scene("db").convert("linear").read(window)
    assert (linear.data >= 0).all()
    np.testing.assert_allclose(
        scene("dn10000", low=0, high=9000).convert("reflectance").read(window).data.max(), 0.9, 0.1
    )


def test_unknown_units_are_never_converted_and_the_error_says_what_the_values_look_like():
    with pytest.raises(SceneError, match=r"values between -29\.\d+ and 4\.\d+ look like db.*--units") as error:
        scene("unknown").convert("db")
    assert "\n" not in str(error.value)
    assert scene("unknown").with_units("db").convert("db").units == "db"
    with pytest.raises(SceneError, match="calibrate"):
        scene("dn", low=1, high=600).convert("db")
    with pytest.raises(SceneError, match="said to hold linear, but values between"):
        scene("linear").convert("db")
    for wrong in (lambda s: s.convert("decibel"), lambda s: s.with_units("decibel")):
        with pytest.raises(SceneError, match="choose one of db, linear"):
            wrong(scene())


def test_the_dask_array_holds_the_same_pixels_with_nan_for_missing():
    s = scene()
    data = s.data
    assert data.shape == (2, *SHAPE) and data.dtype == np.float32
    values = data[:, 50:300, 300:700].compute(scheduler="threads")
    block = s.read(Window(50, 300, 250, 400))
    np.testing.assert_array_equal(np.isfinite(values), np.broadcast_to(block.valid, values.shape))
    np.testing.assert_array_equal(np.nan_to_num(values), block.data)


def test_dask_chunks_are_whole_blocks():
    s = replace(scene(), source=replace(scene().source, block_shape=(8, 700)))
    rows, columns = s._chunk_shape(100)
    assert rows % 8 == 0 and columns == 700
    assert scene()._chunk_shape(100) == (64, 128)


# rioxarray before 0.20 multiplies affines in a way that affine 3 warns of.
@pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")
def test_rioxarray_reads_crs_and_transform_also_rotated_and_south_up():
    pytest.importorskip("rioxarray")
    for affine in (UTM.affine, Affine(10, 0, 5e5, 0, 10, 6e6), Affine(8, 6, 5e5, 6, -8, 6e6)):
        array = scene(grid=GeoBox(SHAPE, affine, "EPSG:32631")).to_xarray()
        assert array.dims == ("band", "y", "x") and list(array.band.values) == ["vv", "vh"]
        assert array.rio.crs.to_epsg() == 32631
        assert array.rio.transform().almost_equals(affine, 1e-6)
    degrees = scene(grid=GeoBox(SHAPE, Affine(0.1, 0, 5, 0, -0.1, 60), "EPSG:4326")).to_xarray()
    assert degrees.dims == ("band", "y", "x") and degrees.rio.crs.to_epsg() == 4326
    np.testing.assert_allclose(degrees.x[:2], [5.05, 5.15])
    assert scene(grid=GeoBox(SHAPE, Affine.identity(), None)).to_xarray().rio.crs is None


def test_radar_geometry_carries_its_control_points_and_no_affine():
    rows, columns = np.array([0.0, 531.0]), np.array([0.0, 350.0, 700.0])
    lon, lat = np.meshgrid(columns / 1e3, rows / 1e3)
    array = scene(grid=GcpGrid(SHAPE, rows, columns, lon, lat, lon * 0)).to_xarray()
    assert "x" not in array.coords and array.rio.crs.to_epsg() == 4326
    points = array.rio.get_gcps()
    assert len(points) == 6 and (points[-1].row, points[-1].col, points[-1].x, points[-1].y) == (531, 700, 0.7, 0.531)


def test_the_overview_is_the_mean_of_valid_pixels_in_power():
    s = scene()
    block = s.overview(100)
    factor = 7
    assert block.data.shape == (2, 76, 100) and max(block.window.shape) <= 100
    cut = s.read(Window(98, 329, factor, factor))
    mean = 10 * np.log10((10 ** (cut.data[:, cut.valid] / 10)).mean(axis=1))
    np.testing.assert_allclose(block.data[:, 14, 47], mean, rtol=1e-4)
    assert not block.valid[20, 50] and (block.data[:, 20, 50] == 0).all()
    np.testing.assert_allclose(s.valid_share(), s.source.valid.mean(), atol=0.02)


def test_the_overview_reads_each_pixel_once():
    s = scene()
    s.overview(64)
    assert s.source.reads.max() == 1


def test_a_scene_smaller_than_the_overview_is_its_own():
    s = scene("reflectance", low=0, high=1)
    block = s.overview(1000)
    np.testing.assert_array_equal(block.data, s.read(Window(0, 0, *SHAPE)).data)


def test_tiles_of_a_nest_read_in_many_threads_make_up_the_scene():
    s = scene()
    whole, found = s.read(Window(0, 0, *SHAPE)), np.full((2, *SHAPE), np.nan, np.float32)

    def work(tiles):
        for tile in tiles:
            block = s.read(tile.full)
            y, x = tile.core.shift(-tile.full.y, -tile.full.x).slices
            found[:, *tile.core.slices] = block.data[:, y, x]

    tiles = list(Nest(SHAPE, region=32, span=3, margin=9))
    threads = [threading.Thread(target=work, args=(tiles[i::3],)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_array_equal(found, whole.data)


def test_a_scene_can_be_pickled_and_its_fingerprint_is_plain_and_tells_units_apart():
    s = scene()
    there = pickle.loads(pickle.dumps(s))
    np.testing.assert_array_equal(there.read(Window(0, 0, 9, 9)).data, s.read(Window(0, 0, 9, 9)).data)
    assert there.fingerprint() == s.fingerprint() != s.convert("linear").fingerprint()


def test_every_unit_is_explained():
    assert all(UNITS.values()) and "unknown" in UNITS


@given(st.integers(0, 5000), st.integers(1, 300), st.integers(1, 700))
def test_a_sample_lies_in_one_block_where_one_can_hold_it(at, size, block):
    start = within_block(at, size, block)
    assert at - size < start <= at
    assert block < size or start // block == (start + size - 1) // block


def test_a_scene_says_in_one_short_line_what_it_is():
    assert repr(scene()) == "<Scene here: 531 x 700 px (height x width), vv, vh in db>"
