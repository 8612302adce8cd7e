"""Sentinel-1 GRD: the formula in float64 beside the reader, on products written here and on real annotations."""

import json
import pickle
import random
import re
import shutil
import threading
import warnings
import zipfile
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree

import numpy as np
import pytest
import rasterio
from loopback import serve
from rasterio.control import GroundControlPoint
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import from_gcps
from rasterio.windows import Window as RasterioWindow
from scipy.interpolate import RegularGridInterpolator

from xtgeo import detect, load_model, open_scene
from xtgeo.errors import SceneError
from xtgeo.grid import WGS84, GcpGrid, lonlat_bounds, lonlat_to_pixel, pixel_to_lonlat
from xtgeo.window import Window
from xtgeo.write import read_tables

H, W = 700, 651
NAME = "S1A_IW_GRDH_1SDV_20210119T031653_20210119T031718_036201_043ED0_8255"
OLD, NEW = "002.36", "003.31"
START, SECONDS = datetime(2021, 1, 19, 3, 16, 53, 799379, tzinfo=UTC), 0.0015
POLARISATIONS = {"vv": "001", "vh": "002"}


def listed(tag, values, form="{:g}"):
    return f'<{tag} count="{len(values)}">{" ".join(form.format(v) for v in values)}</{tag}>'


def header(pol, mode="IW"):
    return (
        f"<adsHeader><missionId>S1A</missionId><productType>GRD</productType><polarisation>{pol.upper()}</polarisation>"
        f"<mode>{mode}</mode><startTime>{START:%Y-%m-%dT%H:%M:%S.%f}</startTime>"
        f"<stopTime>{START + timedelta(seconds=(H - 1) * SECONDS):%Y-%m-%dT%H:%M:%S.%f}</stopTime>"
        "<absoluteOrbitNumber>36201</absoluteOrbitNumber></adsHeader>"
    )


def place(line, pixel, lon, lat):
    """A swath that is turned and a little bent, about 10 m a pixel, heading south-west over (lon, lat); also over a pole."""
    y, x = (line - H / 2) * 1.57e-6, (pixel - W / 2) * 1.57e-6  # radians
    north, east = -0.98 * y + 0.2 * x + 2 * x * x, -0.2 * y - 0.98 * x + 3 * x * y
    lon, lat = np.radians((lon, lat))
    up = np.array([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])
    to_north = np.array([-np.sin(lat) * np.cos(lon), -np.sin(lat) * np.sin(lon), np.cos(lat)])
    at = up + north * to_north + east * np.array([-np.sin(lon), np.cos(lon), 0.0])
    return float(np.degrees(np.arctan2(at[1], at[0]))), float(np.degrees(np.arctan2(at[2], np.hypot(at[0], at[1]))))


def annotation(pol, lonlat):
    points = "".join(
        "<geolocationGridPoint><line>{}</line><pixel>{}</pixel><latitude>{:.15e}</latitude><longitude>{:.15e}</longitude>"
        "<height>0</height></geolocationGridPoint>".format(line, pixel, *place(line, pixel, *lonlat)[::-1])
        for line in (0, 150, 300, 450, 600, H - 1)
        for pixel in (0, 100, 250, 400, 550, W - 1)
    )
    return (
        f"<product>{header(pol)}<generalAnnotation><productInformation><pass>Descending</pass></productInformation>"
        "</generalAnnotation><imageAnnotation><imageInformation>"
        f"<productFirstLineUtcTime>{START:%Y-%m-%dT%H:%M:%S.%f}</productFirstLineUtcTime>"
        f"<rangePixelSpacing>10</rangePixelSpacing><azimuthPixelSpacing>10</azimuthPixelSpacing>"
        f"<azimuthTimeInterval>{SECONDS}</azimuthTimeInterval><numberOfSamples>{W}</numberOfSamples>"
        f"<numberOfLines>{H}</numberOfLines></imageInformation></imageAnnotation><geolocationGrid>"
        f'<geolocationGridPointList count="36">{points}</geolocationGridPointList></geolocationGrid></product>'
    )


def calibration(pol):
    pixels = [*range(0, W - 1, 40), W - 1]
    vectors = "".join(
        f"<calibrationVector><line>{line}</line>{listed('pixel', pixels)}"
        + listed("sigmaNought", [600 - p / 9 + line / 50 + 30 * (pol == "vh") for p in pixels], "{:.6e}")
        + "</calibrationVector>"
        for line in (0, 337, 674, 1011)
    )
    return f"<calibration>{header(pol)}<calibrationVectorList>{vectors}</calibrationVectorList></calibration>"


def noise(pol, old):
    pixels = [*range(0, 300, 40), 300, 301, *range(320, W - 1, 40), W - 1]
    tag, lut = ("noiseVector", "noiseLut") if old else ("noiseRangeVector", "noiseRangeLut")
    values = {line: [1500 - p + line + 400 * (p > 300) for p in pixels] for line in (0, 334, H - 1)}
    vectors = "".join(
        f"<{tag}><line>{line}</line>{listed('pixel', pixels)}{listed(lut, v, '{:.6e}')}</{tag}>" for line, v in values.items()
    )
    if old:
        return f"<noise>{header(pol)}<noiseVectorList>{vectors}</noiseVectorList></noise>"
    lines = [*range(0, H, 10)]
    blocks = "".join(
        f"<noiseAzimuthVector><swath>IW{n}</swath><firstAzimuthLine>{y0}</firstAzimuthLine><firstRangeSample>{x0}</firstRangeSample>"
        f"<lastAzimuthLine>{y1}</lastAzimuthLine><lastRangeSample>{x1}</lastRangeSample>{listed('line', lines)}"
        + listed("noiseAzimuthLut", [1 + 0.1 * n + 0.1 * np.sin(line / (20 * n)) for line in lines], "{:.6e}")
        + "</noiseAzimuthVector>"
        for n, (y0, y1, x0, x1) in enumerate([(0, H - 1, 0, 300), (0, 399, 301, W - 1), (400, H - 1, 301, W - 1)], 1)
    )
    return (
        f"<noise>{header(pol)}<noiseRangeVectorList>{vectors}</noiseRangeVectorList>"
        f"<noiseAzimuthVectorList>{blocks}</noiseAzimuthVectorList></noise>"
    )


def numbers(seed, h=H, w=W):
    """Speckle as bright as the noise, a few ships, and nothing at a corner."""
    rng = np.random.default_rng(seed)
    dn = np.sqrt(rng.gamma(4.4, 1600 / 4.4, (h, w)))
    dn[rng.integers(0, h, 20), rng.integers(0, w, 20)] = 60_000
    dn[:50, :30] = 0
    return np.maximum(dn, 0).astype("u2")


def write_tiff(path, dn, gcps=None, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        options = {"driver": "GTiff", "blockysize": 1} | options
        if gcps:
            options |= {"gcps": gcps, "crs": "EPSG:4326"}
        with rasterio.open(path, "w", height=dn.shape[0], width=dn.shape[1], count=1, dtype=dn.dtype, **options) as file:
            file.write(dn, 1)


def product(folder, *, ipf=NEW, pols=POLARISATIONS, name=NAME, lonlat=(35.0, -17.0), tail="", dn=numbers, **tiff):
    """A whole SAFE folder."""
    safe = folder / f"{name}.SAFE"
    for inner in ("measurement", "annotation/calibration"):
        (safe / inner).mkdir(parents=True)
    for pol, number in pols.items():
        stem = f"s1a-iw-grd-{pol}-20210119t031653-20210119t031718-036201-043ed0-{number}{tail}"
        (safe / "annotation" / f"{stem}.xml").write_text(annotation(pol, lonlat))
        (safe / "annotation/calibration" / f"calibration-{stem}.xml").write_text(calibration(pol))
        (safe / "annotation/calibration" / f"noise-{stem}.xml").write_text(noise(pol, ipf == OLD))
        write_tiff(safe / "measurement" / f"{stem}.tiff", dn(int(number)), **tiff)
    (safe / "manifest.safe").write_text(
        '<m xmlns:safe="http://www.esa.int/safe/sentinel-1.0"><safe:software name="Sentinel-1 IPF" '
        f'version="{ipf}"/><safe:relativeOrbitNumber type="start">79</safe:relativeOrbitNumber></m>'
    )
    return safe


def zipped(safe, path=None):
    path = path or safe.with_suffix(".zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(p for p in safe.rglob("*") if p.is_file()):
            archive.write(file, file.relative_to(safe.parent))
    return path


def only(safe, pattern):
    (found,) = safe.rglob(pattern)
    return found


@pytest.fixture(scope="module")
def new(tmp_path_factory):
    return product(tmp_path_factory.mktemp("new"))


@pytest.fixture(scope="module")
def old(tmp_path_factory):
    return product(tmp_path_factory.mktemp("old"), ipf=OLD)


@pytest.fixture
def broken(new, tmp_path):
    """A copy to break."""
    return shutil.copytree(new, tmp_path / new.name)


def vector_table(root, tag, lut):
    """(lines, pixels, values) of vectors that share their pixels."""
    vectors = root.findall(f".//{tag}")
    pixels = np.array(vectors[0].findtext("pixel").split(), float)
    assert all(v.findtext("pixel") == vectors[0].findtext("pixel") for v in vectors)
    return (
        np.array([float(v.findtext("line")) for v in vectors]),
        pixels,
        np.array([v.findtext(lut).split() for v in vectors], float),
    )


def bilinear(table, rows, columns):
    lines, pixels, values = table
    at = np.stack([np.clip(rows, lines[0], lines[-1]), np.clip(columns, pixels[0], pixels[-1])], 1)
    return RegularGridInterpolator((lines, pixels), values)(at)


def formula(calibration_xml, noise_xml, rule, dn, rows, columns):
    """Sigma nought of single pixels, in float64, and how far each is from the border of the rule."""
    gain = bilinear(vector_table(calibration_xml, "calibrationVector", "sigmaNought"), rows, columns)
    if noise_xml.find(".//noiseVector") is not None:
        thermal = bilinear(vector_table(noise_xml, "noiseVector", "noiseLut"), rows, columns)
    else:
        thermal = bilinear(vector_table(noise_xml, "noiseRangeVector", "noiseRangeLut"), rows, columns)
        for block in noise_xml.iter("noiseAzimuthVector"):
            y0, y1, x0, x1 = (
                int(block.findtext(f))
                for f in ("firstAzimuthLine", "lastAzimuthLine", "firstRangeSample", "lastRangeSample")
            )
            inside = (rows >= y0) & (rows <= y1) & (columns >= x0) & (columns <= x1)
            curve = [np.array(block.findtext(f).split(), float) for f in ("line", "noiseAzimuthLut")]
            thermal[inside] *= np.interp(rows[inside], *curve)
    power = dn.astype(float) ** 2
    rest = power - thermal
    kept = {"none": power, "clip": np.maximum(rest, 0), "snap": np.where(rest < 0, power, rest)}[rule]
    return kept / gain**2, np.abs(rest) > 1e-5 * power


def check_against_formula(scene, xml, dn, rule, rows, columns):
    linear = scene.convert("linear")
    for row in np.unique(rows).tolist():
        at, window = columns[rows == row], Window(row, 0, 1, scene.shape[1])
        block, db = linear.read(window), scene.read(window).data[:, 0, at]
        for i, band in enumerate(scene.bands):
            expected, clear = formula(*xml[band], rule, dn[band][row][at], np.full(len(at), row), at)
            seen = block.valid[0, at] & clear
            assert seen.mean() > 0.5
            np.testing.assert_allclose(block.data[i, 0, at][seen], expected[seen], rtol=3e-5, atol=1e-7)
            np.testing.assert_allclose(db[i][seen], 10 * np.log10(expected[seen] + 1e-5), atol=2e-4)


@pytest.mark.parametrize("rule", ["snap", "clip", "none"])
@pytest.mark.parametrize("kind", ["old", "new"])
def test_sigma0_is_the_formula(request, kind, rule):
    safe = request.getfixturevalue(kind)
    scene = open_scene(safe, noise=rule)
    assert (scene.units, scene.bands) == ("db", ("vv", "vh"))
    rng = np.random.default_rng(5)
    rows = rng.choice([0, 1, 333, 334, 399, 400, 673, 674, H - 1], 300)
    columns = rng.choice([0, 39, 40, 299, 300, 301, *range(30, W, 7), W - 1], 300)
    xml, dn = {}, {}
    for band in scene.bands:
        paths = [only(safe, f"{kind}-*-{band}-*.xml") for kind in ("calibration", "noise")]
        xml[band] = [ElementTree.parse(path).getroot() for path in paths]
        dn[band] = numbers(int(POLARISATIONS[band]))
    check_against_formula(scene, xml, dn, rule, rows, columns)


@pytest.mark.parametrize("year", ["2015", "2021"])
def test_sigma0_is_the_formula_on_real_annotations(shared, tmp_path, year):
    (real,) = (shared / "data/safe").glob(f"*_{year}*.zip")
    path, xml, dn = tmp_path / real.name, {}, {}
    rng = np.random.default_rng(3)
    rows = rng.choice([700, 701, 8095, 16_100], 60)  # away from where 2015's border noise is looked for
    with zipfile.ZipFile(real) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            file = name.rpartition("/")[2]
            if found := re.fullmatch(r"(calibration|noise)?-?s1a-iw-grd-(v[vh])-.*\.xml", file):
                if found[1] == "noise" and year == "2015":  # this processor left only zeros
                    lut = " ".join(str(v) for v in 1500 - np.linspace(0, 900, 641).round(3))
                    content = re.sub(rb'(<noiseLut count="641">)[^<]*', rb"\g<1>" + lut.encode(), content)
                root = ElementTree.fromstring(content)
                if found[1]:
                    xml.setdefault(found[2], {})[found[1]] = root
                else:
                    h, w = (int(root.findtext(f".//{t}")) for t in ("numberOfLines", "numberOfSamples"))
                    tiff = tmp_path / file.replace(".xml", ".tiff")
                    dn[found[2]] = write_sparse(tiff, (h, w), rows, rng)
                    target.write(tiff, f"{real.stem}.SAFE/measurement/{tiff.name}")
            if not name.endswith(("/", ".xsd", ".png", ".pdf")):
                target.writestr(name, content)
    columns = rng.integers(600, w - 600, 60)
    pairs = {band: (found["calibration"], found["noise"]) for band, found in xml.items()}
    for rule in ("snap", "clip", "none"):
        scene = open_scene(path, noise=rule)
        assert (scene.shape, scene.bands, scene.id) == ((h, w), ("vv", "vh"), real.stem)
        check_against_formula(scene, pairs, dn, rule, rows, columns)
    with zipfile.ZipFile(path) as whole:
        whole.extractall(tmp_path)
    item = as_a_catalogue_has_it(tmp_path / f"{real.stem}.SAFE", tmp_path / "stac")
    check_against_formula(open_scene(item), pairs, dn, "snap", rows, columns)


def write_sparse(path, shape, rows, rng):
    """A raster of full size that holds only a few rows."""
    kept = {int(row): np.sqrt(rng.gamma(4.4, 400, shape[1])).astype("u2") for row in np.unique(rows)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        options = {"blockysize": 1, "SPARSE_OK": True, "compress": "deflate", "zlevel": 1}
        with rasterio.open(path, "w", driver="GTiff", height=shape[0], width=shape[1], count=1, dtype="uint16", **options) as file:
            for row, values in kept.items():
                file.write(values[None], 1, window=RasterioWindow(0, row, shape[1], 1))
    return kept


@pytest.mark.parametrize("kind", ["old", "new"])
def test_however_a_scene_is_cut_the_same_bits_come_out(request, kind):
    scene = open_scene(request.getfixturevalue(kind))
    whole = scene.read(Window(0, 0, H, W))
    rng = np.random.default_rng(0)
    for _ in range(25):
        y, x = rng.integers(-20, H), rng.integers(-20, W)
        window = Window(int(y), int(x), int(rng.integers(1, 300)), int(rng.integers(1, 300)))
        block, inside = scene.read(window), window & Window(0, 0, H, W)
        if inside:
            at = inside.shift(-window.y, -window.x).slices
            np.testing.assert_array_equal(block.data[:, *at], whole.data[:, *inside.slices])
            np.testing.assert_array_equal(block.valid[at], whole.valid[inside.slices])


def test_threads_zip_folder_and_a_pickled_copy_give_the_same_pixels(new, tmp_path):
    scene = open_scene(new)
    whole = scene.read(Window(0, 0, H, W))
    others = [open_scene(zipped(new, tmp_path / "a name (1).zip")), open_scene(new / "manifest.safe")]
    others += [pickle.loads(pickle.dumps(scene)), scene.with_cache(1 << 16)]
    found = []

    def read(other):
        for y in range(0, H, 100):
            block, part = other.read(Window(y, 0, 100, W)), Window(y, 0, 100, W).slices
            found.append((block.data == whole.data[:, *part]).all() and (block.valid == whole.valid[part]).all())

    threads = [threading.Thread(target=read, args=(other,)) for other in others * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 7 * 8 and all(found)


def test_zero_is_nodata_and_raw_numbers_are_still_there(new):
    raw, scene = open_scene(new, units="dn"), open_scene(new)
    dn = np.stack([numbers(1), numbers(2)])
    block = raw.read(Window(0, 0, H, W))
    np.testing.assert_array_equal(block.data, dn)
    np.testing.assert_array_equal(block.valid, (dn > 0).all(0))
    np.testing.assert_array_equal(scene.read(Window(0, 0, H, W)).valid, (dn > 0).all(0))
    assert raw.units == "dn" and raw.facts.keys() == scene.facts.keys() - {"s1:noise"}
    assert open_scene(new, units="linear").units == "linear"
    linear = open_scene(new, units="linear").read(Window(300, 300, 9, 9))
    np.testing.assert_array_equal(linear.data, scene.convert("linear").read(Window(300, 300, 9, 9)).data)
    with pytest.raises(SceneError, match="unknown rule for noise 'nasa'; choose one of snap, clip, none"):
        open_scene(new, noise="nasa")


def test_an_image_can_be_chosen_and_the_other_may_be_missing(broken):
    only(broken, "measurement/*-vv-*").unlink()
    with pytest.raises(SceneError, match="it has no measurement of vv; copy or download it again, or name only the bands"):
        open_scene(broken)
    scene = open_scene(broken, bands="vh")
    assert scene.bands == ("vh",)
    np.testing.assert_array_equal(scene.read(Window(0, 0, H, W)).valid, numbers(2) > 0)


def test_rows_have_times_and_the_scene_has_facts(new):
    scene = open_scene(new)
    assert scene.time == START and scene.row_seconds == SECONDS and scene.id == NAME
    middle = START + timedelta(seconds=400 * SECONDS)
    assert scene.time_at(np.array([0.5, 400.5])).tolist() == [
        t.replace(tzinfo=None, microsecond=t.microsecond // 1000 * 1000) for t in (START, middle)
    ]
    assert scene.facts["platform"] == "sentinel-1a" and scene.facts["sat:relative_orbit"] == 79
    assert scene.facts["sat:orbit_state"] == "descending" and scene.facts["sat:absolute_orbit"] == 36201
    assert scene.facts["product_id"] == NAME and scene.facts["s1:noise"] == "snap"


@pytest.mark.parametrize("lonlat", [(35.0, -17.0), (179.99, 65.0), (-179.995, -66.0), (20.0, 89.995), (0.0, -74.0)])
def test_pixels_lie_where_the_annotation_puts_them(tmp_path, lonlat):
    scene = open_scene(product(tmp_path, lonlat=lonlat, pols={"vv": "001"}))
    lines, pixels = (v.ravel() for v in np.meshgrid([0, 300, H - 1], [0, 250, W - 1], indexing="ij"))
    expected = np.array([place(line, pixel, *lonlat) for line, pixel in zip(lines, pixels, strict=True)]).T
    lon, lat = pixel_to_lonlat(scene.grid, lines + 0.5, pixels + 0.5)
    np.testing.assert_allclose(lat, expected[1], atol=1e-9)
    east = ((lon - expected[0] + 180) % 360 - 180) * np.cos(np.radians(expected[1]))
    np.testing.assert_allclose(east, 0, atol=1e-9)
    rng = np.random.default_rng(1)
    row, column = rng.uniform(0, H, 500), rng.uniform(0, W, 500)
    back = lonlat_to_pixel(scene.grid, *pixel_to_lonlat(scene.grid, row, column))
    assert np.hypot(back[0] - row, back[1] - column).max() < 1e-4
    west, south, east, north = lonlat_bounds(scene.grid)
    assert (west > east) == (abs(lonlat[0]) > 179) and south < north


def test_a_spline_through_half_of_real_points_finds_the_others(shared):
    for path in sorted((shared / "data/safe").glob("*.zip")):
        with zipfile.ZipFile(path) as archive:
            (name,) = [n for n in archive.namelist() if re.search(r"annotation/s1a-iw-grd-vv.*xml", n)]
            root = ElementTree.fromstring(archive.read(name))
        points = [
            GroundControlPoint(*(float(p.findtext(t)) for t in ("line", "pixel", "longitude", "latitude", "height")))
            for p in root.iter("geolocationGridPoint")
        ]
        rows, columns = sorted({p.row for p in points}), sorted({p.col for p in points})
        kept = [p for p in points if p.row in rows[::2] or p.row == rows[-1] if p.col in columns[::2] or p.col == columns[-1]]
        shape = tuple(int(root.findtext(f".//{t}")) for t in ("numberOfLines", "numberOfSamples"))
        grid = GcpGrid.from_gcps(kept, shape, "EPSG:4326")
        row, column, x, y = np.array([(p.row, p.col, p.x, p.y) for p in points]).T
        metres = WGS84.inv(x, y, *pixel_to_lonlat(grid, row, column))[2]
        affine = from_gcps(points)
        assert len(kept) < 80 and metres.mean() < WGS84.inv(x, y, *(affine @ (column, row)))[2].mean() / 3
        row, column = (np.random.default_rng(0).uniform(0, side, 2000) for side in shape)
        back = lonlat_to_pixel(grid, *pixel_to_lonlat(grid, row, column))
        assert np.hypot(back[0] - row, back[1] - column).max() < 0.01


def test_control_points_of_the_measurement_must_be_those_of_the_annotation(tmp_path):
    def points(shift):
        return [
            GroundControlPoint(line, pixel, *(v + shift for v in place(line, pixel, 35.0, -17.0)), 0.0)
            for line in (0, 300, H - 1)
            for pixel in (0, 250, W - 1)
        ]

    assert open_scene(product(tmp_path / "a", gcps=points(0.0))).is_georeferenced
    with pytest.raises(SceneError, match=r"its control points are not those of the measurement, which has \(35.0"):
        open_scene(product(tmp_path / "b", gcps=points(0.001)))


def test_border_noise_is_struck_out_of_old_products_only(tmp_path):
    """From the edges inwards: nothing, weak noise of a width that changes from line to line, the picture."""
    rng = np.random.default_rng(2)
    edge = {side: rng.integers(20, 60, H if side in "lr" else W) for side in "lrtb"}
    y, x = np.arange(H)[:, None], np.arange(W)
    picture = (x >= edge["l"][:, None]) & (x < W - edge["r"][:, None]) & (y >= edge["t"]) & (y < H - edge["b"])

    def dn(_):
        weak = rng.integers(1, 9, (H, W))
        weak[:, :5] = 0
        sea = np.sqrt(rng.gamma(4.4, 2500 / 4.4, (H, W))) + 1
        sea[300:330, 300:340] = 3  # dark, but not at an edge
        return np.where(picture, sea, weak).astype("u2")

    seen = open_scene(product(tmp_path / "old", ipf=OLD, pols={"vv": "001"}, dn=dn)).read(Window(0, 0, H, W)).valid
    inner = np.zeros((H, W), bool)
    inner[60:-60, 60:-60] = True
    assert not seen[~picture].any() and seen[inner].all()
    assert seen[picture].mean() > 0.99
    untouched = open_scene(product(tmp_path / "new", pols={"vv": "001"}, dn=dn)).read(Window(0, 0, H, W)).valid
    np.testing.assert_array_equal(untouched, np.broadcast_to(x >= 5, (H, W)) | picture)


def test_without_a_manifest_the_date_tells_whether_border_noise_is_there(broken):
    (broken / "manifest.safe").unlink()
    scene = open_scene(broken)
    assert "sat:relative_orbit" not in scene.facts and not scene.source.sources[0].border
    for path in broken.rglob("annotation/*.xml"):
        path.write_text(path.read_text().replace("2021-01-19T", "2017-01-19T"))
    assert open_scene(broken).source.sources[0].border


def test_the_cog_flavour_gives_overviews_with_the_same_calibration(tmp_path):
    name = NAME.replace("8255", "8255_COG")
    smooth = (np.mgrid[0:H, 0:W].sum(0) + 500).astype("u2")
    options = {"driver": "COG", "blockysize": None, "blocksize": 128, "overview_resampling": "average"}
    safe = product(tmp_path, name=name, tail="-cog", dn=lambda _: smooth, **{k: v for k, v in options.items() if v})
    scene = open_scene(safe)
    assert scene.id == name and scene.source.block_shape == (128, 128)
    full = scene.read(Window(0, 0, H, W)).data
    coarse = scene.source.coarser(300)
    h, w = coarse.shape
    data, valid = coarse.read(Window(0, 0, h, w), (1, 2))
    assert max(h, w) < H and valid.all()
    rows, columns = (np.floor((np.arange(n) + 0.5) * full_n / n).astype(int) for n, full_n in ((h, H), (w, W)))
    db = 10 * np.log10(data + 1e-5)
    np.testing.assert_allclose(db[:, 1:-1, 1:-1], full[:, rows[1:-1, None], columns[1:-1]], atol=0.05)


@pytest.mark.parametrize(("mode", "pols"), [("s3", {"hh": "001"}), ("ew", {"hh": "001", "hv": "002"}), ("iw", {"vv": "001"})])
def test_modes_satellites_and_polarisations(tmp_path, mode, pols):
    safe = product(tmp_path, pols=pols)
    for path in list(safe.rglob("*s1a-iw*")):
        path.rename(path.with_name(path.name.replace("s1a-iw", f"s1c-{mode}")))
    for path in safe.rglob("annotation/*.xml"):
        path.write_text(path.read_text().replace(">S1A<", ">S1C<").replace(">IW<", f">{mode.upper()}<"))
    scene = open_scene(safe)
    assert scene.bands == tuple(pols) and scene.facts["platform"] == "sentinel-1c"
    assert scene.facts["sar:instrument_mode"] == mode.upper()


def test_a_zero_in_the_calibration_is_never_divided_by(broken):
    path = only(broken, "calibration-*-vv-*")
    text = path.read_text()
    path.write_text(re.sub(r"( \S+){3}</sigmaNought>", " 0 0 0</sigmaNought>", text))
    data = open_scene(broken, units="linear", noise="none").read(Window(0, 0, H, W)).data[0]
    np.testing.assert_allclose(data[0, -1], numbers(1)[0, -1].astype(float) ** 2 / (600 - 560 / 9) ** 2, rtol=1e-5)
    path.write_text(re.sub(r"(<sigmaNought[^>]*>)[^<]*", r"\g<1>" + "0 " * 18, text))
    with pytest.raises(SceneError, match="cannot be used: line 0 has nothing but zeros"):
        open_scene(broken)


def test_the_fingerprint_knows_rule_tables_and_pixels(broken):
    prints = [open_scene(broken, **o).fingerprint() for o in ({}, {}, {"noise": "clip"}, {"units": "dn"}, {"units": "linear"})]
    assert prints[0] == prints[1] and all(prints[0] != other for other in prints[2:])
    path = only(broken, "noise-*-vh-*")
    path.write_text(path.read_text().replace("1.500000e+03", "1.500001e+03"))
    assert open_scene(broken).fingerprint() != prints[0]


def spoil(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("pattern", "was", "becomes", "message"),
    [
        ("annotation/s1a*-vv-*", "<product>", '<!DOCTYPE p [<!ENTITY a "a">]><product>', "declares entities"),
        ("annotation/s1a*-vv-*", "</product>", "", "is not whole"),
        ("annotation/s1a*-vv-*", f"<numberOfLines>{H}", "<numberOfLines>99999999", "99999999 x 651 pixels, which no product has"),
        (
            "annotation/s1a*-vv-*", f"<numberOfLines>{H}", "<numberOfLines>701",
            "tells of 701 x 651 numbers of uint16, the measurement has",
        ),
        ("annotation/s1a*-vv-*", f"<numberOfLines>{H}", "<numberOfLines>many", "its numberOfLines is 'many', which is no number"),
        ("annotation/s1a*-vv-*", "<line>150", "<line>nan", "its line is 'nan', which is no number"),
        ("annotation/s1a*-vv-*", "geolocationGridPoint>", "x>", "0 ground control points are too few"),
        ("calibration-*-vv-*", "6.000000e+02 5.", "nan 5.", "negative, beyond all measure, or no numbers"),
        ("calibration-*-vv-*", "calibrationVector>", "x>", "it holds no vector"),
        ("calibration-*-vv-*", "<line>337", "<line>0", "two vectors for one line"),
        ("calibration-*-vv-*", " 80 ", " 40 ", "the pixels of line 0 do not ascend"),
        ("noise-*-vv-*", '<noiseAzimuthLut count="70">', '<noiseAzimuthLut count="70">1 ', "has 71 values for 70 lines"),
        (
            "noise-*-vv-*", "<line>334</line><pixel", "<line>334</line><pixel>0</pixel><pixel",
            r"line 334 has \d+ values for 1 pixels",
        ),
    ],
)
def test_annotations_that_are_not_whole_are_refused_in_one_line(broken, pattern, was, becomes, message):
    spoil(only(broken, pattern), was, becomes)
    with pytest.raises(SceneError, match=message) as caught:
        open_scene(broken)
    assert "\n" not in str(caught.value)


def test_whatever_happens_to_an_annotation_it_opens_or_is_refused_in_one_line(broken):
    rng = random.Random(1)
    files = {path: path.read_bytes() for path in sorted(broken.rglob("*.xml")) + [broken / "manifest.safe"]}
    for _ in range(60):
        path = rng.choice(sorted(files))
        text = bytearray(files[path])
        for _ in range(rng.choice([1, 3, 10])):
            at, numbers = rng.randrange(len(text) - 100), [*re.finditer(rb">[-\d.e+]+<", text)]
            if rng.random() < 0.5 and numbers:
                number = rng.choice(numbers)
                text[number.start() + 1 : number.end() - 1] = rng.choice([b"-1", b"0", b"nan", b"1e308", b"", b"9" * 20, b"1 2"])
            else:
                text[at : at + rng.randrange(3)] = text[at : at + rng.randrange(50)]
        path.write_bytes(text)
        try:
            open_scene(broken).read(Window(300, 300, 9, 9))
        except SceneError as error:
            assert "\n" not in str(error)
        path.write_bytes(files[path])


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("annotation/s1a*-vh-*", "it has no annotation of vh"),
        ("calibration-*-vv-*", "it has no calibration of vv; .* or open its raw numbers with --units dn"),
        ("noise-*-vv-*", "it has no noise of vv; .* or leave the noise in with --noise none"),
    ],
)
def test_a_product_with_a_file_missing_is_refused_with_a_remedy(broken, pattern, message):
    only(broken, pattern).unlink()
    with pytest.raises(SceneError, match=message):
        open_scene(broken)
    if not pattern.startswith("annotation"):
        assert open_scene(broken, units="dn").units == "dn"
    if pattern.startswith("noise"):
        assert open_scene(broken, noise="none").units == "db"


def test_archives_that_are_damaged_or_hostile_are_refused(new, broken, tmp_path):
    good = zipped(new, tmp_path / "good.zip")
    (tmp_path / "cut.zip").write_bytes(good.read_bytes()[:-500])
    with pytest.raises(SceneError, match=r"cut.zip cannot be read: File is not a zip file; copy or download it again"):
        open_scene(tmp_path / "cut.zip")
    outside = shutil.copy(good, tmp_path / "outside.zip")
    with zipfile.ZipFile(outside, "a") as archive:
        archive.writestr(f"{NAME}.SAFE/../../x.xml", "x")
    with pytest.raises(SceneError, match="which points outside of it"):
        open_scene(outside)
    bomb = tmp_path / "bomb.zip"
    with zipfile.ZipFile(good) as source, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            huge = "annotation/s1a" in name and "-vv-" in name
            target.writestr(name, b" " * (65 << 20) if huge else source.read(name))
    with pytest.raises(SceneError, match="holds more than 64 MB of text"):
        open_scene(bomb)
    tiff = only(broken, "measurement/*-vv-*")
    tiff.write_bytes(tiff.read_bytes()[:-50_000])
    for place in (broken, zipped(broken)):
        with pytest.raises(SceneError, match="is cut short"):
            open_scene(place)


def test_other_products_are_refused(broken, tmp_path):
    both = tmp_path / "two.zip"
    zipped(broken, both)
    with zipfile.ZipFile(both, "a") as archive:
        path = only(broken, "annotation/s1a*-vv-*")
        archive.write(path, f"OTHER.SAFE/annotation/{path.name}")
    with pytest.raises(SceneError, match="holds 2 products"):
        open_scene(both)
    for path in list(broken.rglob("*-grd-*")):
        path.rename(path.with_name(path.name.replace("-grd-", "-slc-")))
    with pytest.raises(SceneError, match="of type SLC, whose numbers are not detected images: give a GRD product"):
        open_scene(broken)


def test_objects_of_a_zip_have_the_time_of_their_row(tmp_path):
    dn = np.sqrt(np.random.default_rng(4).gamma(4.4, 3600 / 4.4, (H, W)))
    for row, column in ((150, 200), (520, 400)):
        dn[row - 3 : row + 4, column - 6 : column + 7] = 1500
    scene = open_scene(zipped(product(tmp_path, dn=lambda number: (dn / number).astype("u2"))))
    found = detect(scene, load_model("cfar"), out=tmp_path / "points.gpkg").detections
    rows = found["detect_scene_row"]
    assert sorted(np.round(rows, -1).tolist()) == [150, 520]
    late = found["timestamp"] - scene.time_at(rows + 0.5)
    assert (np.abs(late) <= np.timedelta64(2, "ms")).all() and len(set(found["timestamp"].tolist())) == 2
    assert set(found["platform"]) == {"sentinel-1a"} and set(found["relative_orbit"]) == {79}
    run = read_tables(tmp_path / "points.gpkg").run
    assert list(run["noise"]) == ["snap"]


def as_a_catalogue_has_it(safe, folder, *, reports=False):
    """The product's files under the shorter names of the public buckets, and its STAC item beside them."""
    tiff = "image/tiff; application=geotiff; profile=cloud-optimized"
    assets = {"safe-manifest": {"href": "./manifest.safe", "type": "application/xml", "roles": ["metadata"]}}
    folder.mkdir()
    shutil.copy(safe / "manifest.safe", folder)
    for pol in POLARISATIONS:
        for key, pattern, name in (
            (pol, "measurement/*-{}-*.tiff", "measurement/iw-{}.tiff"),
            (f"schema-product-{pol}", "annotation/s1a*-{}-*.xml", "annotation/iw-{}.xml"),
            (f"schema-calibration-{pol}", "annotation/calibration/cal*-{}-*.xml", "annotation/calibration/calibration-iw-{}.xml"),
            (f"schema-noise-{pol}", "annotation/calibration/noise*-{}-*.xml", "annotation/calibration/noise-iw-{}.xml"),
        ):
            (source,), target = safe.glob(pattern.format(pol)), folder / name.format(pol)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
            is_image = key == pol
            href = f"./annotation/rfi/rfi-iw-{pol}.xml" if reports and "product" in key else f"./{name.format(pol)}"
            kind, role = (tiff, "data") if is_image else ("application/xml", "metadata")
            assets[key] = {"href": href, "type": kind, "roles": [role]}
    described = {"datetime": "2021-01-19T03:17:06Z", "constellation": "Sentinel-1", "sar:product_type": "GRD"}
    item = {"type": "Feature", "stac_version": "1.0.0", "id": NAME[:62], "geometry": None, "properties": described, "links": []}
    return save_item(folder, item | {"assets": assets})


def save_item(folder, item):
    (folder / "item.json").write_text(json.dumps(item))
    return folder / "item.json"


@pytest.mark.parametrize("reports", [False, True])
def test_a_stac_item_gives_what_the_product_gives(new, tmp_path, reports):
    product, item = open_scene(new), as_a_catalogue_has_it(new, tmp_path / "stac", reports=reports)
    scene, window = open_scene(item), Window(0, 0, H, W)
    block, expected = scene.read(window), product.read(window)
    np.testing.assert_array_equal(block.data, expected.data)
    np.testing.assert_array_equal(block.valid, expected.valid)
    assert (scene.units, scene.bands, scene.time, scene.row_seconds) == ("db", ("vv", "vh"), product.time, product.row_seconds)
    assert scene.facts["sat:relative_orbit"] == 79 and scene.facts["s1:ipf_version"] == NEW
    assert scene.id == NAME[:62] and scene.href == str(item)
    assert pixel_to_lonlat(scene.grid, 100.5, 200.5) == pixel_to_lonlat(product.grid, 100.5, 200.5)
    for options in (
        {"units": "linear"},
        {"units": "dn"},
        {"noise": "none", "bands": "cross=vh"},
        {"noise": "clip", "bands": "vh,vv"},
    ):
        of_item, of_product = (open_scene(source, **options).read(window) for source in (item, new))
        np.testing.assert_array_equal(of_item.data, of_product.data)
    assert pickle.loads(pickle.dumps(scene)).fingerprint() == scene.fingerprint()


def test_a_stac_item_by_url_is_calibrated_and_what_it_is_signed_with_is_not_told(new, tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    item = json.loads(as_a_catalogue_has_it(new, tmp_path / "stac", reports=True).read_text())
    for asset in item["assets"].values():
        asset["href"] += "?sig=secret"
    save_item(tmp_path / "stac", item)
    window = Window(300, 200, 128, 128)
    with serve(tmp_path) as server:
        scene = open_scene(f"{server.url}/stac/item.json", bands="vh")
        np.testing.assert_array_equal(scene.read(window).data, open_scene(new, bands="vh").read(window).data)
        assert scene.facts["s1:ipf_version"] == NEW
        assert not [path for _, path, *_ in server.requests if "iw-vv" in path or "rfi" in path]
        (tmp_path / "stac/annotation/calibration/calibration-iw-vh.xml").write_text("<calibration>")
        with pytest.raises(SceneError, match="calibration-iw-vh.xml in .* is not whole") as told:
            open_scene(f"{server.url}/stac/item.json", bands="vh")
        assert "secret" not in str(told.value)


def test_a_stac_item_without_calibration_is_not_read_as_if_it_had_one(new, tmp_path):
    path = as_a_catalogue_has_it(new, tmp_path / "stac")
    whole = json.loads(path.read_text())

    def without(*words):
        kept = {key: asset for key, asset in whole["assets"].items() if not any(word in key for word in words)}
        return save_item(tmp_path / "stac", whole | {"assets": kept})

    with pytest.raises(SceneError, match="names no noise of vv, without which its numbers do not become sigma nought"):
        open_scene(without("noise"))
    assert open_scene(without("noise"), noise="none").units == "db"
    with pytest.raises(SceneError, match="names no annotation and no calibration and no noise of vh"):
        open_scene(without("calibration-vh", "product-vh", "noise-vh"))
    with pytest.raises(SceneError, match="asset vv of item .* holds raw numbers of a radar, and .* no schema-calibration-vv"):
        open_scene(without("schema"))
    np.testing.assert_array_equal(open_scene(without("schema"), units="dn").read(Window(0, 0, H, W)).data[0], numbers(1))
    outside = json.loads(json.dumps(whole))
    outside["assets"]["schema-noise-vv"]["href"] = str(only(new, "noise*-vv-*.xml"))
    with pytest.raises(SceneError, match="the noise of vv in item .* points to .*, outside of its own folder"):
        open_scene(save_item(tmp_path / "stac", outside))
    assert open_scene(save_item(tmp_path / "stac", outside), trusted=True).units == "db"
