import math
import sys
from dataclasses import replace
from html.parser import HTMLParser

import matplotlib
import numpy as np
import pyarrow
import pytest
import shapely
import xarray
from affine import Affine
from matplotlib.collections import LineCollection
from matplotlib.patches import Rectangle
from odc.geo.geobox import GeoBox

import xtgeo
from xtgeo.errors import OutputError, SceneError
from xtgeo.grid import WGS84, GcpGrid, lonlat_to_pixel, pixel_to_crs, pixel_to_lonlat
from xtgeo.plot import plot_detections, plot_nest, plot_scene, plot_scores
from xtgeo.plot.draw import OUTLINE, RING
from xtgeo.plot.frame import Frame
from xtgeo.plot.view import View
from xtgeo.scene import Block
from xtgeo.window import Nest, Window

matplotlib.use("agg")
SHAPE = 211, 300


@pytest.fixture(autouse=True)
def closed():
    yield
    matplotlib.pyplot.close("all")


def swath(shape=SHAPE, lon=24.0, lat=-34.0, turn=-12.0, mirrored=False):
    """Control points of a swath whose rows run `turn` degrees off east; 10 m a pixel."""
    rows, columns = np.linspace(0, shape[0], 5), np.linspace(0, shape[1], 6)
    r, c = np.meshgrid(rows, columns, indexing="ij")
    far = np.hypot(r, c) * 10
    way = np.degrees(np.arctan2(-c if mirrored else c, -r)) + turn
    east, north = far * np.sin(np.radians(way)), far * np.cos(np.radians(way))
    at_lat = lat + north / 111_000
    return GcpGrid(shape, rows, columns, lon + east / 111_320 / np.cos(np.radians(at_lat)), at_lat, 0 * r)


GRIDS = {
    "UTM": GeoBox(SHAPE, Affine(10, 0, 500_000, 0, -10, 6_000_000), "EPSG:32631"),
    "UTM, south": GeoBox(SHAPE, Affine(10, 0, 300_000, 0, -10, 6_000_000), "EPSG:32734"),
    "south up": GeoBox(SHAPE, Affine(10, 0, 300_000, 0, 10, 6_000_000), "EPSG:32734"),
    "degrees at 60 N": GeoBox(SHAPE, Affine(1e-4, 0, 20, 0, -1e-4, 60), "EPSG:4326"),
    "Web Mercator at 60 N": GeoBox(SHAPE, Affine(10, 0, 2_000_000, 0, -10, 8_400_000), "EPSG:3857"),
    "Web Mercator at 45 S": GeoBox(SHAPE, Affine(10, 0, 2_000_000, 0, -10, -5_600_000), "EPSG:3857"),
    "turned": GeoBox(SHAPE, Affine(8.66, 5, 300_000, 5, -8.66, 6_000_000), "EPSG:32734"),
    "swath": swath(),
    "swath, mirrored": swath(mirrored=True, turn=170),
    "swath on the antimeridian": swath(lon=179.99),
}
grids = pytest.mark.parametrize("grid", GRIDS.values(), ids=list(GRIDS))


def scene_of(grid, data=None, units="db", bands=("vv", "vh"), valid=None):
    """Sea at -20 dB with speckle, unless there are data (band, y, x)."""
    if data is None:
        data = np.random.default_rng(1).normal(-20, 1, (len(bands), *grid.shape))
    data = np.where(True if valid is None else valid, data, np.nan).astype(np.float32)
    array = xarray.DataArray(data, dims=("band", "y", "x"), coords={"band": list(bands)}, attrs={"units": units})
    scene = xtgeo.open_scene(array)
    return replace(scene, grid=grid, id="sea", bands=tuple(bands), stored_units=units, units=units)


def boat(row, column, grid, side=3):
    """One detection, `side` pixels square, with its middle at row, column."""
    from xtgeo.decode import fragments
    from xtgeo.detections import Origin, describe

    r, c, half = row, column, side // 2
    p = np.zeros((1, *grid.shape), np.float32)
    p[0, r - half : r + half + 1, c - half : c + half + 1] = 0.9
    whole = Window(0, 0, *grid.shape)
    found = fragments((p[0] > 0.5).astype(np.uint8), p, whole)
    return describe(found, grid, shape=grid.shape, classes=("vessel",), origin=Origin("sea", "m", "1"))


def canvas(ax):
    ax.figure.canvas.draw()
    return np.asarray(ax.figure.canvas.buffer_rgba())


def on_canvas(ax, frame, row, column):
    """Row and column of the drawn picture at which a pixel of the scene lies."""
    x, y = ax.transData.transform(frame.place(row, column))
    return ax.figure.canvas.buffer_rgba().shape[0] - y, x


@grids
def test_the_scale_bar_is_as_long_as_it_says(grid):
    ax = plot_scene(scene_of(grid))
    (bar,) = (line for line in ax.lines if line.get_gid() == "scale bar")
    number, unit = next(t.get_text() for t in ax.texts if t.get_text().endswith("m")).split()
    metres = float(number) * (1000 if unit == "km" else 1)
    frame = Frame(grid, Window(0, 0, *SHAPE))
    step = np.subtract(*bar.get_xdata()[::-1]) / abs(frame.place(0, 1)[0] - frame.place(0, 0)[0])
    y, x = SHAPE[0] / 2, SHAPE[1] / 2
    lon, lat = pixel_to_lonlat(grid, [y, y], [x - step / 2, x + step / 2])
    assert WGS84.inv(*(v for pair in zip(lon, lat, strict=True) for v in pair))[2] == pytest.approx(metres, rel=0.002)
    assert 0.09 < step / SHAPE[1] <= 0.251
    assert str(metres).lstrip("0.")[0] in "125"


@grids
def test_the_arrow_points_north_on_the_screen(grid):
    ax = plot_scene(scene_of(grid))
    canvas(ax)
    frame = Frame(grid, Window(0, 0, *SHAPE))
    lon, lat = pixel_to_lonlat(grid, SHAPE[0] / 2, SHAPE[1] / 2)
    ends = [lonlat_to_pixel(grid, lon, lat + d) for d in (0, 1e-3)]
    (y0, x0), (y1, x1) = (on_canvas(ax, frame, *end) for end in ends)
    seen = np.array([x1 - x0, y0 - y1]) / math.hypot(x1 - x0, y0 - y1)
    assert frame.up() == pytest.approx(seen, abs=0.005)
    if frame.is_map:
        assert frame.up()[1] > 0.99, "north is up on a map"


@grids
@pytest.mark.parametrize("max_side", [1024, 100])
def test_a_ship_is_drawn_where_it_lies(grid, max_side):
    row, column = 50, 200
    data = np.full((1, *SHAPE), -25.0)
    data[:, row - 4 : row + 5, column - 4 : column + 5] = 10
    ax = plot_scene(scene_of(grid, data, bands=("vv",)), max_side=max_side)
    for drawn in (*ax.texts, *ax.patches, *ax.lines, *ax.collections):
        drawn.remove()
    light = canvas(ax)[..., :3].min(2).astype(int)
    box = ax.get_window_extent()
    light[:, : int(box.x0) + 2] = light[:, int(box.x1) - 2 :] = 0
    light[: len(light) - int(box.y1) + 2] = light[len(light) - int(box.y0) - 2 :] = 0
    seen = np.argwhere(light > 200).mean(0)
    per_px = box.width / SHAPE[1]
    frame = Frame(grid, Window(0, 0, *SHAPE))
    assert seen == pytest.approx(on_canvas(ax, frame, row + 0.5, column + 0.5), abs=1 + 2 * per_px * math.ceil(300 / max_side))


@grids
def test_the_ground_is_not_distorted(grid):
    ax = plot_scene(scene_of(grid))
    canvas(ax)
    frame, (y, x) = Frame(grid, Window(0, 0, *SHAPE)), (SHAPE[0] / 2, SHAPE[1] / 2)
    lengths = []
    for dy, dx in ((10, 0), (0, 10)):
        lon, lat = pixel_to_lonlat(grid, [y - dy, y + dy], [x - dx, x + dx])
        far = WGS84.inv(lon[0], lat[0], lon[1], lat[1])[2]
        (y0, x0), (y1, x1) = (on_canvas(ax, frame, y + s * dy, x + s * dx) for s in (-1, 1))
        lengths.append(far / math.hypot(y1 - y0, x1 - x0))
    assert lengths[0] == pytest.approx(lengths[1], rel=0.01)


@pytest.mark.parametrize("name", ["UTM", "south up", "degrees at 60 N"])
def test_map_coordinates_are_those_of_the_crs(name):
    grid = GRIDS[name]
    assert np.allclose(Frame(grid, Window(0, 0, 1, 1)).place(7.5, 3.25), pixel_to_crs(grid, 7.5, 3.25))


@pytest.mark.parametrize("name", ["swath", "swath, mirrored", "swath on the antimeridian", "turned"])
def test_meridians_and_parallels_are_named_where_they_leave_the_picture(name):
    grid = GRIDS[name]
    ax = plot_scene(scene_of(grid))
    named = 0
    for axis, at in ((ax.xaxis, lambda v: (SHAPE[0], v)), (ax.yaxis, lambda v: (v, 0))):
        for tick, text in zip(axis.get_majorticklocs(), axis.get_majorticklabels(), strict=True):
            value = float(text.get_text()[:-2]) * (-1 if text.get_text()[-1] in "WS" else 1)
            lon, lat = pixel_to_lonlat(grid, *at(tick))
            there = lon if text.get_text()[-1] in "EW" else lat
            assert (there - value + 180) % 360 - 180 == pytest.approx(0, abs=1e-4)
            named += 1
    assert named >= 2


def test_a_scene_without_a_place_has_rows_and_columns_only():
    ax = plot_scene(scene_of(GeoBox(SHAPE, Affine.identity(), None)))
    assert ax.get_xlabel() == "column" and not ax.texts and not ax.lines


def test_what_is_not_valid_is_transparent_and_never_in_the_stretch():
    valid = np.ones(SHAPE, bool)
    valid[:, :100] = False
    scene = scene_of(GRIDS["UTM"], valid=valid)
    picture = View.of(scene).paint()
    assert (picture[..., 3] == np.where(valid, 255, 0)).all()
    alone = View.of(scene, Window(0, 100, 211, 200)).paint()
    assert (picture[:, 100:] == alone).all()


def test_a_window_is_what_it_says_and_one_outside_is_refused():
    scene = scene_of(GRIDS["UTM"])
    ax = scene.plot(Window(10, 20, 50, 60))
    assert ax.get_xlim() == (500_200, 500_800) and ax.get_ylim() == (5_999_400, 5_999_900)
    with pytest.raises(SceneError, match="lies outside sea, which has 211 rows"):
        scene.plot(Window(500, 0, 10, 10))


def test_a_large_scene_is_drawn_from_its_overviews(tmp_path, monkeypatch):
    from xtgeo.write import RasterSink

    shape = 1501, 1203
    grid = GeoBox(shape, GRIDS["UTM"].affine, "EPSG:32631")
    rows = np.broadcast_to(np.arange(shape[0], dtype=np.float32)[:, None], (1, *shape))
    with RasterSink(tmp_path / "a.tif", grid, shape, dtype="float32", nodata=-1, averaged=True) as sink:
        sink.write(Block(Window(0, 0, *shape), rows, np.ones(shape, bool)))
    scene, read = xtgeo.open_scene(tmp_path / "a.tif"), []
    plain = type(scene.source).read
    monkeypatch.setattr(type(scene.source), "read", lambda self, w, i: (read.append(w.h * w.w), plain(self, w, i))[1])
    for window in (None, Window(300, 200, 1000, 700)):
        read.clear()
        view = View.of(scene, window, max_side=150)
        assert sum(read) < 0.3 * view.window.h * view.window.w
        n, (first, last) = len(view.block.valid), view.rows
        assert 75 < n <= 152
        middle = first + (np.arange(n) + 0.5) * (last - first) / n - 0.5
        inner = slice(1, n - 2)
        assert np.abs(view.block.data[0].mean(1) - middle)[inner].max() < 0.5 * (last - first) / n


def test_power_is_averaged_in_every_unit_of_radar():
    power = np.random.default_rng(0).exponential(0.01, (1, 64, 64))
    grid = GRIDS["UTM"]
    means = {}
    for units, numbers in (("linear", power), ("db", 10 * np.log10(power)), ("amplitude", np.sqrt(power))):
        block = View.of(scene_of(GeoBox((64, 64), grid.affine, grid.crs), numbers, units, ("vv",)), max_side=8).block
        means[units] = {"linear": block.data, "db": 10 ** (block.data / 10), "amplitude": block.data**2}[units]
    assert np.allclose(means["linear"], power.reshape(8, 8, 8, 8).mean((1, 3)), rtol=1e-4)
    assert np.allclose(means["db"], means["linear"], rtol=1e-4) and np.allclose(means["amplitude"], means["linear"], rtol=1e-4)


@pytest.mark.parametrize("name", ["UTM", "south up", "swath"])
def test_outlines_lie_on_their_objects_and_small_ones_have_a_ring(name):
    grid = GRIDS[name]
    found = boat(50, 200, grid)
    ax = plot_detections(found, scene_of(grid))
    (lines,) = (c for c in ax.collections if isinstance(c, LineCollection))
    (path,) = lines.get_paths()
    frame = Frame(grid, Window(0, 0, *SHAPE))
    corners = {tuple(np.round(frame.place(r, c), 6)) for r in (49, 52) for c in (199, 202)}
    assert {tuple(np.round(v, 6)) for v in path.vertices} == corners
    (ring,) = ax.collections[-1].get_offsets()
    assert tuple(ring) == pytest.approx([float(v) for v in frame.place(50.5, 200.5)])
    near = found.plot(scene_of(grid), Window(40, 190, 20, 20))
    assert not len(near.collections[-1].get_offsets()), "large on the screen: no ring"


def test_objects_are_coloured_by_a_column():
    grid = GRIDS["UTM"]
    found = boat(50, 200, grid)
    assert matplotlib.colors.to_hex(plot_detections(found).collections[0].get_edgecolor()[0]) == OUTLINE
    assert matplotlib.colors.to_hex(plot_detections(found).collections[1].get_edgecolor()[0]) == RING
    by_class = plot_detections(found, by="class")
    assert [t.get_text() for t in by_class.get_legend().get_texts()] == ["vessel"]
    sure = plot_detections(found, by="score").collections[0].get_edgecolor()[0]
    assert sure == pytest.approx(matplotlib.colormaps["plasma"](0.0)), "from the lowest to 1"
    with pytest.raises(OutputError, match="no column 'nonsense' .* choose one of detect_id"):
        plot_detections(found, by="nonsense")


def test_names_are_shown_as_they_are():
    grid = GRIDS["UTM"]
    found = fleet(grid)
    names = ["", "$\\x$", "_ship", "ship"]
    found = replace(found, columns=found.columns | {"class": np.resize(np.array(names, object), 30)})
    ax = found.plot(replace(scene_of(grid), id="a$\\b^$"), by="class")
    canvas(ax)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == names and ax.get_title() == "a$\\b^$"


def test_rings_that_would_hide_each_other_are_dots(monkeypatch):
    grid = GRIDS["UTM"]
    (ring,) = set(plot_detections(fleet(grid)).collections[-1].get_sizes())
    monkeypatch.setattr("xtgeo.plot.draw.MOST_RINGS", 29)
    (dot,) = set(plot_detections(fleet(grid)).collections[-1].get_sizes())
    assert dot < ring / 10


def test_objects_of_another_scene_are_refused():
    with pytest.raises(SceneError, match="do not lie on the pixels of sea"):
        plot_detections(boat(50, 200, GRIDS["UTM"]), scene_of(GRIDS["swath"]))


def test_no_objects_are_drawn_too():
    none = boat(50, 200, GRIDS["UTM"]).where(np.zeros(1, bool))
    assert not len(plot_detections(none, scene_of(GRIDS["UTM"]), by="score").collections[-1].get_offsets())


def test_points_are_rings():
    grid = GRIDS["UTM"]
    found = boat(50, 200, grid)
    points = replace(found, geometry=shapely.points([[200.5, 50.5]]))
    ax = plot_detections(points)
    assert np.allclose(ax.collections[-1].get_offsets()[0], pixel_to_crs(grid, 50.5, 200.5))


def test_every_border_of_a_tile_is_drawn():
    scene = scene_of(GRIDS["UTM"])
    nest = Nest(SHAPE, region=32, span=2, margin=8)
    ax = plot_nest(scene, nest)
    regions, tiles = (c for c in ax.collections if isinstance(c, LineCollection))
    assert len(tiles.get_paths()) == sum(nest.grid) + 2
    assert len(regions.get_paths()) == sum(-(-side // 32) for side in SHAPE) + 2
    assert {t.get_text() for t in ax.texts} >= {str(i) for i in range(len(nest))}
    assert "4 x 5 tiles of 2 x 2 regions of 32 px (64 px, 0.64 km), margin 8 px" in ax.get_title()
    (seen,) = (patch for patch in ax.patches if isinstance(patch, Rectangle))
    assert seen.get_width() == 10 * (64 + 16)
    with pytest.raises(ValueError, match="is not one of sea"):
        plot_nest(scene, Nest((10, 10)))


def test_scores_lie_where_they_were_computed(tmp_path):
    from xtgeo.decode import quantise
    from xtgeo.write import RasterSink

    grid = GRIDS["UTM"]
    scene = scene_of(grid)
    p = np.zeros((1, *SHAPE), np.float32)
    p[0, 40:60, 190:210] = 1.0
    whole = Window(0, 0, *SHAPE)
    with RasterSink(tmp_path / "p.tif", grid, SHAPE, nodata=255, scale=1 / 254, descriptions=["vessel"]) as sink:
        sink.write(Block(whole, quantise(p, np.ones(SHAPE, bool)), np.ones(SHAPE, bool)))
    from_file = plot_scores(scene, tmp_path / "p.tif").images[1]
    from_block = plot_scores(scene, Block(whole, p, np.ones(SHAPE, bool))).images[1]
    for drawn in (from_file, from_block):
        assert drawn.get_extent() == [500_000, 503_000, 5_997_890, 6_000_000]
        assert np.allclose(drawn.get_array(), p[0], atol=0.01)
        assert (np.asarray(drawn.get_alpha()) > 0).sum() == 400
    with pytest.raises(SceneError, match="bands 1 to 1, not 2"):
        plot_scores(scene, tmp_path / "p.tif", band=2)
    with pytest.raises(SceneError, match="the scores do not lie on the pixels"):
        plot_scores(scene_of(GRIDS["swath"]), tmp_path / "p.tif")


def test_what_is_missing_is_named_with_the_extra_that_brings_it(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("xtgeo.plot.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(OutputError, match=r"plot_scene needs matplotlib.*pip install 'xtgeo-sat\[plots\]'"):
        scene_of(GRIDS["UTM"]).plot()


def fleet(grid, n=30):
    """n ships of falling score, in rows."""
    from xtgeo.detections import Detections

    row, column = 12 + 30 * (np.arange(n) // 9), 12 + 30 * (np.arange(n) % 9)
    one = boat(12, 12, grid)
    shapes = [shapely.transform(one.geometry[0], lambda xy, d=(x - 12, y - 12): xy + d) for y, x in zip(row, column, strict=True)]
    columns = {name: np.repeat(values, n) for name, values in one.columns.items()}
    lon, lat = pixel_to_lonlat(grid, row + 0.5, column + 0.5)
    columns |= {"score": np.linspace(0.9, 0.5, n), "lon": lon, "lat": lat, "length_m": np.linspace(10, 300, n)}
    return Detections(columns, np.array(shapes, object), grid)


def test_chips_stand_in_the_order_of_a_column(monkeypatch):
    grid, captions = GRIDS["UTM"], []
    monkeypatch.setattr("xtgeo.plot.sheet.sheet", lambda chips, title: captions.append([title, *(text for _, text in chips)]))
    scene, found = scene_of(grid), fleet(grid)
    found.chips(scene, 3)
    found.chips(scene, 2, lowest=True)
    found.chips(scene, 1, by="length_m")
    found.chips(scene, 1, by="lat")
    assert captions[0] == ["3 of 30 objects by score; a chip is 480 m across", *(f"{s:.2f}  vessel  {m:.0f} m" for s, m in
                           zip(found["score"][:3], found["length_m"][:3], strict=True))]  # fmt: skip
    assert [text[:4] for text in captions[1][1:]] == ["0.50", "0.51"]
    assert captions[2][1] == "0.50  vessel  300 m"
    assert captions[3][1].endswith(f"({found['lat'].max():g})")
    with pytest.raises(OutputError, match="cannot be sorted by 'flags': choose score, score, score_max"):
        found.chips(scene, by="flags")
    with pytest.raises(SceneError, match="do not lie on the pixels"):
        found.chips(scene_of(GRIDS["swath"]))


def test_a_chip_has_the_pixels_of_its_window_and_the_outline():
    grid, valid = GRIDS["UTM"], np.ones(SHAPE, bool)
    data = np.full((1, *SHAPE), -25.0)
    data[0, 100:103, 150:153], valid[:, 160:] = 5, False
    sheet = np.asarray(boat(101, 151, grid).chips(scene_of(grid, data, bands=("vv",), valid=valid)))
    chip = sheet[20:192, 2:174]
    assert (chip[40, 10] == 0).all() and (chip[88, 88] == 255).all(), "sea is black, the ship white"
    assert (chip == (255, 210, 0)).all(2).any(), "an outline"
    assert (chip[:, 125:] == 0).all(), "nodata is black"


def test_all_chips_have_one_stretch():
    grid = GRIDS["UTM"]
    data = np.full((1, *SHAPE), -25.0)
    data[..., 36:] = -15
    sheet = np.asarray(fleet(grid, 3).chips(scene_of(grid, data, bands=("vv",))))
    dark, light = sheet[100, 60], sheet[100, 2 * 176 + 60]
    assert (dark == 0).all() and (light > 150).all(), "each by itself would be as dark as the other"


def test_a_chip_of_a_large_object_is_no_larger_in_memory(monkeypatch):
    from xtgeo.plot import sheet

    sizes, read = [], sheet._read
    monkeypatch.setattr(sheet, "_read", lambda *task: sizes.append((block := read(*task)).valid.size) or block)
    grid = GeoBox((1500, 1700), GRIDS["UTM"].affine, "EPSG:32631")
    data = np.full((1, *grid.shape), -25.0)
    data[0, 400:1101, 500:1201] = 5
    found = boat(750, 850, grid, side=701)
    chip = np.asarray(found.chips(scene_of(grid, data, bands=("vv",))))[20:192, 2:174]
    assert max(sizes) <= (2 * sheet.SIDE) ** 2 and len(sizes) == 1
    white, yellow = (np.argwhere((chip == colour).all(2)) for colour in (255, sheet.OUTLINE))
    for corner in ("min", "max"):
        assert np.abs(getattr(white, corner)(0) - getattr(yellow, corner)(0)).max() <= 2, "the outline lies on the object"


def test_only_the_windows_of_chips_are_read():
    grid, read = GRIDS["UTM"], []
    scene = scene_of(grid)

    class Watched:
        def __getattr__(self, name):
            return getattr(scene.source, name)

        def read(self, window, indexes):
            read.append(window.h * window.w)
            return scene.source.read(window, indexes)

    fleet(grid).chips(replace(scene, source=Watched()), 4)
    assert len(read) == 4 and max(read) <= 48 * 48


@pytest.mark.parametrize("name", ["UTM", "swath on the antimeridian"])
def test_a_map_holds_every_object_where_it_lies(name):
    grid = GRIDS[name]
    found = fleet(grid)
    outlines, dots = found.explore().layers
    assert outlines.table.num_rows == dots.table.num_rows == 30
    place = pyarrow.chunked_array(dots.table["geometry"]).to_pylist()
    assert np.allclose(place, np.stack([found["lon"], found["lat"]], 1), atol=1e-6)
    assert dots.table["score"].to_pylist() == pytest.approx(found["score"].tolist(), abs=1e-6)
    points = replace(found, geometry=shapely.centroid(found.geometry))
    assert len(points.explore().layers) == 1, "points have no outlines"
    assert not found.where(np.zeros(30, bool)).explore().layers
    with pytest.raises(SceneError, match="without a place on the earth"):
        replace(found, grid=GeoBox(SHAPE, Affine.identity(), None)).explore()


class Page(HTMLParser):
    """Fails on what is not closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags = [], []
        self.feed(text)
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in ("img", "br", "rect", "path"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in ("rect", "path"):
            assert self.open.pop() == tag


def test_jupyter_shows_scenes_models_and_detections():
    scene, found, model = scene_of(GRIDS["swath"]), fleet(GRIDS["swath"]), xtgeo.load_model("points-sar")
    said = scene._repr_html_()
    assert len(said) < 45_000 and {"table", "img"} <= {*Page(said).tags} and "30 ground control points" in said
    said = found._repr_html_()
    assert "svg" in Page(said).tags and "<td" in said and "and 25 more" in said
    said = model._repr_html_()
    assert "details" in Page(said).tags and f"{sum(p.numel() for p in model.net.parameters()):,}" in said
    empty = found.where(np.zeros(30, bool))._repr_html_()
    assert "svg" not in Page(empty).tags
    silent = replace(found, columns={**found.columns, "score": np.full(30, np.nan)})._repr_html_()
    assert "svg" not in Page(silent).tags and "<td" in silent


def test_what_jupyter_shows_is_escaped_and_never_fails():
    grid, bad = GRIDS["UTM"], "<script>alert('x')</script>"
    scene, found = replace(scene_of(grid), id=bad), fleet(grid)
    for noun in (scene, found.with_columns(detect_id=np.array([bad] * 30), scene_id=np.array([bad] * 30))):
        assert "script" not in Page(noun._repr_html_()).tags

    class Gone:
        def __getattr__(self, name):
            if name in ("read", "coarser", "maybe_valid"):
                raise OSError("the disk is <gone>")
            return getattr(scene.source, name)

    hurt = replace(scene, source=Gone())
    assert "no thumbnail: the disk is &lt;gone&gt;" in hurt._repr_html_()
    del hurt.__dict__["grid"]
    assert Page(hurt._repr_html_()).tags == ["pre"]


def test_a_large_scene_has_no_thumbnail_unless_it_has_overviews(monkeypatch):
    monkeypatch.setattr("xtgeo.plot.html.MOST_PX", 1000)
    said = scene_of(GRIDS["UTM"])._repr_html_()
    assert "img" not in Page(said).tags and "scene.plot() reads it all" in said
