"""Sentinel-2 and Landsat products in their own layout, made small; and bands of several grids on one."""

import json
import os
import pickle
import tarfile
import warnings
import zipfile
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from rasterio.warp import Resampling, reproject

from xtgeo.choose import fitting_models
from xtgeo.errors import SceneError
from xtgeo.read import open_scene
from xtgeo.read.raster import open_raster
from xtgeo.read.regrid import MaskedSource, on_grid
from xtgeo.read.stack import StackSource
from xtgeo.window import Window

CRS = "EPSG:32631"
WEST, NORTH = 300000.0, 5900040.0
SIDE = 2040
"""Metres; 204 pixels of 10 m, 102 of 20 m, 34 of 60 m."""
NATIVE = dict.fromkeys(("B02", "B03", "B04", "B08"), 10) | dict.fromkeys(("B01", "B09", "B10"), 60)
NATIVE |= dict.fromkeys(("B05", "B06", "B07", "B8A", "B11", "B12"), 20)
ORDER = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")


def numbers(band, shape, scale=1):
    """The band's numbers: each band on a level of its own, a plane that rises by 2 a metre to the right and 1 downwards."""
    y, x = (np.arange(n)[:, None] if axis == 0 else np.arange(n) for axis, n in enumerate(shape))
    return (2000 + 100 * ORDER.index(band) + (0.2 * (x + 0.5) + 0.1 * (y + 0.5)) * scale).astype("uint16")


def write(path, data, metres, *, west=WEST, north=NORTH, crs=CRS, driver="JP2OpenJPEG", **profile):
    path.parent.mkdir(parents=True, exist_ok=True)
    data = data if data.ndim == 3 else data[None]
    if driver == "JP2OpenJPEG":
        profile |= {"QUALITY": "100", "REVERSIBLE": "YES", "BLOCKXSIZE": 64, "BLOCKYSIZE": 64}
    count, h, w = data.shape
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file = rasterio.open(path, "w", driver=driver, count=count, height=h, width=w, dtype=data.dtype, crs=crs,
                             transform=Affine(metres, 0, west, 0, -metres, north), **profile)
    with file:
        file.write(data)
    return path


def sentinel2(folder, *, level="2A", baseline="05.09", offset=-1000, bands=None, change=None, quantification=10000, scl=None):
    """A SAFE folder as the ground segment lays it out; `change` turns a band's numbers into others."""
    tile, time = "T31UCU", "20230412T105621"
    name = f"S2B_MSIL{level}_{time}_N{baseline.replace('.', '')}_R094_{tile}_20230412T150102.SAFE"
    root = folder / name
    granule = root / "GRANULE" / f"L{level}_{tile}_A031862_20230412T105619"
    files = []
    for band in bands or [b for b in ORDER if level == "1C" or b != "B10"]:
        metres = NATIVE[band]
        data = numbers(band, (SIDE // metres,) * 2, metres / 10)
        place = f"R{metres}m/{tile}_{time}_{band}_{metres}m" if level == "2A" else f"{tile}_{time}_{band}"
        files.append(write(granule / "IMG_DATA" / f"{place}.jp2", change(band, data) if change else data, metres))
    if level == "2A":
        classes = np.full((SIDE // 20,) * 2, 6, "uint8") if scl is None else scl
        files.append(write(granule / f"IMG_DATA/R20m/{tile}_{time}_SCL_20m.jp2", classes, 20))
    word = "RADIO" if level == "1C" else "BOA"
    offsets = "".join(f'<{word}_ADD_OFFSET band_id="{i}">{offset}</{word}_ADD_OFFSET>' for i in range(13))
    offsets = f"<{word}_ADD_OFFSET_VALUES_LIST>{offsets}</{word}_ADD_OFFSET_VALUES_LIST>" if offset is not None else ""
    listed = "".join(f"<IMAGE_FILE>{f.relative_to(root).as_posix().removesuffix('.jp2')}</IMAGE_FILE>" for f in files)
    kind = "BOA_QUANTIFICATION_VALUE" if level == "2A" else "QUANTIFICATION_VALUE"
    (root / f"MTD_MSIL{level}.xml").write_text(
        f"""<?xml version="1.0" encoding="UTF-8"?>
<n1:Level-{level}_User_Product xmlns:n1="https://psd-14.sentinel2.eo.esa.int/PSD/User_Product_Level-{level}.xsd">
<n1:General_Info><Product_Info><PRODUCT_START_TIME>2023-04-12T10:56:21.024Z</PRODUCT_START_TIME>
<PROCESSING_LEVEL>Level-{level}</PROCESSING_LEVEL><PROCESSING_BASELINE>{baseline}</PROCESSING_BASELINE>
<Datatake><SPACECRAFT_NAME>Sentinel-2B</SPACECRAFT_NAME><SENSING_ORBIT_NUMBER>94</SENSING_ORBIT_NUMBER>
<SENSING_ORBIT_DIRECTION>DESCENDING</SENSING_ORBIT_DIRECTION></Datatake>
<Product_Organisation><Granule_List><Granule>{listed}</Granule></Granule_List></Product_Organisation></Product_Info>
<Product_Image_Characteristics><{kind} unit="none">{quantification}</{kind}>{offsets}</Product_Image_Characteristics>
</n1:General_Info><n1:Quality_Indicators_Info><Cloud_Coverage_Assessment>12.5</Cloud_Coverage_Assessment>
</n1:Quality_Indicators_Info></n1:Level-{level}_User_Product>"""
    )
    (granule / "MTD_TL.xml").write_text(
        "<T><Mean_Sun_Angle><ZENITH_ANGLE>40.5</ZENITH_ANGLE><AZIMUTH_ANGLE>160.25</AZIMUTH_ANGLE></Mean_Sun_Angle></T>"
    )
    return root


def packed(root, path):
    """The folder as a zip or a tar, with its own name inside."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(root.rglob("*")):
                archive.write(file, f"{root.name}/{file.relative_to(root)}")
    else:
        with tarfile.open(path, "w") as archive:
            for file in sorted(root.rglob("*")):
                if file.is_file():
                    archive.add(file, file.name)
    return path


def whole(scene):
    return scene.read(Window(0, 0, *scene.shape))


@pytest.fixture(scope="module")
def product(tmp_path_factory):
    return sentinel2(tmp_path_factory.mktemp("s2"))


@pytest.mark.parametrize(("level", "baseline", "offset", "taken"), [
    ("2A", "05.09", -1000, 1000), ("1C", "04.00", -1000, 1000), ("2A", "02.14", None, 0), ("1C", "02.08", None, 0),
    ("2A", "05.11", -900, 900), ("2A", "99.99", None, 0), ("2A", "99.99", -1000, 1000),
])
def test_reflectance_follows_the_metadata_of_either_level_and_any_baseline(tmp_path, level, baseline, offset, taken):
    scene = open_scene(sentinel2(tmp_path, level=level, baseline=baseline, offset=offset, bands=["B02", "B08"]))
    assert (scene.bands, scene.units, scene.shape, str(scene.grid.crs)) == (("B02", "B08"), "reflectance", (204, 204), CRS)
    expected = np.stack([numbers(band, (204, 204)) for band in ("B02", "B08")])
    np.testing.assert_allclose(whole(scene).data, (expected - float(taken)) / 10000, atol=1e-6)


def test_without_metadata_the_name_tells_the_baseline_and_without_either_nothing_is_guessed(tmp_path):
    root = sentinel2(tmp_path, bands=["B02"])
    known = whole(open_scene(root)).data
    (root / "MTD_MSIL2A.xml").unlink()
    np.testing.assert_array_equal(whole(open_scene(root)).data, known)
    with pytest.raises(SceneError, match="nothing says what its numbers mean"):
        open_scene(root.rename(tmp_path / "renamed.SAFE"), bands="B02")
    own = sentinel2(tmp_path, bands=["B02"], baseline="99.99")  # of any version of Sen2Cor
    (own / "MTD_MSIL2A.xml").unlink()
    with pytest.raises(SceneError, match="nothing says what its numbers mean"):
        open_scene(own)


def test_the_zip_and_the_tar_give_what_the_folder_gives(tmp_path, product):
    folder = open_scene(product)
    for suffix in (".zip", ".tar"):
        path = tmp_path / f"download{suffix}"
        if suffix == ".tar":
            with tarfile.open(path, "w") as archive:
                archive.add(product, product.name)
        else:
            packed(product, path)
        scene = open_scene(path)
        assert (scene.id, scene.bands, scene.time, scene.facts) == (folder.id, folder.bands, folder.time, folder.facts)
        assert all("/vsi" in file for file in scene.source.files)
        np.testing.assert_array_equal(whole(scene).data, whole(folder).data)
        before = scene.fingerprint()
        assert before == open_scene(path).fingerprint() != folder.fingerprint()
        os.utime(path, ns=(1, 1))
        assert open_scene(path).fingerprint() != before


def test_time_and_facts_are_the_product_s(product):
    scene = open_scene(product)
    assert scene.time == datetime(2023, 4, 12, 10, 56, 21, 24000, tzinfo=UTC)
    assert scene.id == "S2B_MSIL2A_20230412T105621_N0509_R094_T31UCU_20230412T150102"
    assert scene.facts == {
        "platform": "sentinel-2b",
        "constellation": "sentinel-2",
        "processing:level": "L2A",
        "s2:processing_baseline": "05.09",
        "grid:code": "MGRS-31UCU",
        "sat:orbit_state": "descending",
        "sat:relative_orbit": 94,
        "eo:cloud_cover": 12.5,
        "view:sun_elevation": 49.5,
        "view:sun_azimuth": 160.25,
    }


def test_bands_are_found_by_the_names_people_use_and_models_find_theirs(product):
    scene = open_scene(product)
    assert scene.bands == tuple(band for band in ORDER if band != "B10")
    assert scene.select("red", "NIR", "b8a", "swir16", "B2").bands == ("B04", "B08", "B8A", "B11", "B02")
    assert open_scene(product, bands="red,green,nir").bands == ("B04", "B03", "B08")
    renamed = open_scene(product, bands={"left": "B11", "right": "blue"})
    assert renamed.bands == ("left", "right")
    np.testing.assert_array_equal(whole(renamed).data, whole(scene.select("swir1", "blue")).data)
    assert "vessels-s2" in fitting_models(scene)
    with pytest.raises(SceneError, match="no band thermal: it has B01, B02"):
        scene.select("thermal")
    with pytest.raises(SceneError, match="there is no band B10: there are B01"):
        open_scene(product, bands="B10")
    with pytest.raises(SceneError, match="different units .B04 in reflectance, SCL in unknown"):
        open_scene(product, bands="B04,SCL")
    assert set(np.unique(whole(open_scene(product, bands="SCL")).data)) == {6}


def test_a_plane_stays_a_plane_whatever_the_resolution_of_the_band(product):
    """What is linear on the ground is linear on the grid: no band is shifted by part of a pixel."""
    y, x = np.mgrid[:204, :204] + 0.5
    inner = (slice(3, -3),) * 2
    scene = open_scene(product)
    for band, values in zip(scene.bands, whole(scene).data, strict=True):
        expected = (1000 + 100 * ORDER.index(band) + 0.2 * x + 0.1 * y) / 1e4
        assert np.abs(values - expected)[inner].max() <= 1.01e-4, band  # numbers are rounded down to whole ones


@pytest.mark.parametrize("resolution", [20, 60, 30])
def test_at_a_coarser_resolution_nothing_is_skipped(product, resolution):
    scene = open_scene(product, resolution=resolution)
    side = SIDE // resolution
    assert scene.shape == (side, side) and scene.grid.affine.a == resolution
    y, x = (np.mgrid[:side, :side] + 0.5) * resolution / 10
    inner = (slice(2, -2),) * 2
    for band, values in zip(scene.bands, whole(scene).data, strict=True):
        expected = (1000 + 100 * ORDER.index(band) + 0.2 * x + 0.1 * y) / 1e4
        assert np.abs(values - expected)[inner].max() <= 1.01e-4, band


def test_no_data_and_saturated_pixels_are_not_valid_and_touch_no_neighbour(tmp_path):
    def change(band, data):
        if band == "B11":
            data[:, :] = 3000
            data[40:50, 40:50], data[60, 60] = 0, 65535
        return data

    scene = open_scene(sentinel2(tmp_path, bands=["B02", "B11"], change=change))
    expected = np.ones((204, 204), bool)
    expected[80:100, 80:100] = expected[120:122, 120:122] = False
    block = whole(scene.select("B11"))
    np.testing.assert_array_equal(block.valid, expected)
    np.testing.assert_allclose(block.data[0, expected], 0.2, atol=1e-6)
    np.testing.assert_array_equal(whole(scene).valid, expected)
    assert whole(scene.select("B02")).valid.all()


def test_clouds_are_struck_out_when_asked_for(tmp_path, product):
    classes = np.full((102, 102), 6, "uint8")
    for i, value in enumerate((3, 8, 9, 10, 11, 7)):
        classes[10 * i : 10 * i + 5, :7] = value
    root = sentinel2(tmp_path, bands=["B02"], scl=classes)
    expected = np.kron(~np.isin(classes, (3, 8, 9, 10)), np.ones((2, 2), bool))
    np.testing.assert_array_equal(whole(open_scene(root, clouds="mask")).valid, expected)
    assert whole(open_scene(root)).valid.all()
    assert open_scene(root, clouds="mask").fingerprint() != open_scene(root).fingerprint()
    small = open_scene(root, clouds="mask").overview(51)
    assert small.valid.mean() > 0.9
    with pytest.raises(SceneError, match="unknown way with clouds 'off'; choose one of keep, mask"):
        open_scene(root, clouds="off")
    with pytest.raises(SceneError, match="no Sentinel-2 or Landsat product"):
        open_scene(next(root.rglob("*B02*.jp2")), clouds="mask")


def test_l1c_has_clouds_since_baseline_4(tmp_path):
    root = sentinel2(tmp_path, level="1C", bands=["B02"])
    with pytest.raises(SceneError, match="says nothing of clouds: it has neither SCL"):
        open_scene(root, clouds="mask")
    classes = np.zeros((3, 34, 34), "uint8")
    classes[0, :3], classes[1, -2:], classes[2, 10:20] = 1, 1, 1
    write(next(root.glob("GRANULE/*")) / "QI_DATA" / "MSK_CLASSI_B00.jp2", classes, 60)
    valid = whole(open_scene(root, clouds="mask")).valid
    assert not valid[:18].any() and not valid[-12:].any() and valid[18:-12].all()


def test_what_is_missing_or_damaged_is_said_in_one_line(tmp_path):
    root = sentinel2(tmp_path, bands=["B02", "B11"])
    b11 = next(root.rglob("*B11*.jp2"))
    content = b11.read_bytes()
    b11.write_bytes(content[: len(content) // 2])
    with pytest.raises(SceneError, match=r"B11_20m.jp2 is cut short.*download it again") as told:
        open_scene(root)
    assert "\n" not in str(told.value)
    assert open_scene(root, bands="B02").bands == ("B02",)
    b11.unlink()
    assert open_scene(root).bands == ("B02",)
    with pytest.raises(SceneError, match="there is no band swir1: .*is incomplete: files of B11 are not there"):
        open_scene(root, bands="swir1")
    with pytest.raises(SceneError, match="leave --units dn out"):
        open_scene(root, units="dn")
    mtd = root / "MTD_MSIL2A.xml"
    text = mtd.read_text()
    for damage, message in [
        (text[: len(text) // 2], "is not whole"),
        (text.replace(">10000<", ">many<"), "does not say what numbers mean"),
        (text.replace(">10000<", ">0<"), "divides by 0"),
        (text.replace(">-1000<", ">inf<"), "adds what is no number"),
        (text.replace("<?xml version=\"1.0\" encoding=\"UTF-8\"?>", "<!DOCTYPE a [<!ENTITY b 'c'>]>"), "declares entities"),
    ]:
        mtd.write_text(damage)
        with pytest.raises(SceneError, match=message):
            open_scene(root)


def test_archives_that_reach_out_of_themselves_or_end_early_are_refused(tmp_path, product):
    with zipfile.ZipFile(tmp_path / "out.zip", "w") as archive:
        archive.writestr("a/../../MTD_MSIL2A.xml", "x")
    with pytest.raises(SceneError, match="points outside of it"):
        open_scene(tmp_path / "out.zip")
    path = packed(product, tmp_path / "short.zip")
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(SceneError, match="short.zip cannot be read: .*download it again"):
        open_scene(path)
    (tmp_path / "scene.tar.gz").write_bytes(b"\x1f\x8b")
    with pytest.raises(SceneError, match="unpack it into a folder of its own with tar -xf"):
        open_scene(tmp_path / "scene.tar.gz")


MTL = """GROUP = LANDSAT_METADATA_FILE
  GROUP = PRODUCT_CONTENTS
    FILE_NAME_BAND_7 = "{id}_{prefix}B7.TIF"
  END_GROUP = PRODUCT_CONTENTS
  GROUP = IMAGE_ATTRIBUTES
    DATE_ACQUIRED = 2022-08-15
    SCENE_CENTER_TIME = "10:33:51.1234560Z"
    CLOUD_COVER = 3.21
    SUN_AZIMUTH = -210.0
    SUN_ELEVATION = 30.0
  END_GROUP = IMAGE_ATTRIBUTES
  GROUP = LEVEL2_SURFACE_REFLECTANCE_PARAMETERS
    REFLECTANCE_MULT_BAND_4 = 2.75e-05
    REFLECTANCE_ADD_BAND_4 = -0.2
    QUANTIZE_CAL_MAX_BAND_4 = 65535
  END_GROUP = LEVEL2_SURFACE_REFLECTANCE_PARAMETERS
  GROUP = LEVEL1_RADIOMETRIC_RESCALING
    REFLECTANCE_MULT_BAND_4 = 2.0E-05
    REFLECTANCE_ADD_BAND_4 = -0.1
    REFLECTANCE_MULT_BAND_8 = 2.0E-05
    REFLECTANCE_ADD_BAND_8 = -0.1
  END_GROUP = LEVEL1_RADIOMETRIC_RESCALING
END_GROUP = LANDSAT_METADATA_FILE
END
"""


def landsat(folder, *, level="2SP", number="08", bands=("SR_B4",), metadata="txt", qa=None):
    sensor, dates = ("LC", "20220815_20220824") if number > "07" else ("LE", "20020815_20200824")
    id_ = f"{sensor}{number}_L{level}_198024_{dates}_02_T1"
    root = folder / id_
    for i, band in enumerate(bands):
        metres = 15 if band == "B8" else 30
        # Centres of the first panchromatic and the first other pixel coincide in the corner, so its frame begins 7.5 m further in.
        shift = 7.5 if band == "B8" else 0
        h, w = (90, 110) if band != "B8" else (179, 219)
        data = (8000 + 1000 * i + np.arange(w) * metres // 15 + 0 * np.arange(h)[:, None]).astype("uint16")
        data[:5] = 0
        write(root / f"{id_}_{band}.TIF", data, metres, west=WEST + shift, north=NORTH - shift, driver="GTiff", compress="deflate")
    if qa is not None:
        write(root / f"{id_}_QA_PIXEL.TIF", qa.astype("uint16"), 30, driver="GTiff")
    text = MTL.format(id=id_, prefix="SR_" if level.startswith("2") else "")
    if metadata == "txt":
        (root / f"{id_}_MTL.txt").write_text(text)
    elif metadata:
        groups, group = {}, None
        for line in text.splitlines()[1:-2]:
            key, _, value = (part.strip().strip('"') for part in line.partition("="))
            if key == "GROUP":
                group = groups.setdefault(value, {})
            elif key != "END_GROUP":
                group[key] = value
        if metadata == "json":
            (root / f"{id_}_MTL.json").write_text(json.dumps({"LANDSAT_METADATA_FILE": groups}))
        else:
            inner = "".join(
                f"<{g}>" + "".join(f"<{k}>{v}</{k}>" for k, v in told.items()) + f"</{g}>" for g, told in groups.items()
            )
            (root / f"{id_}_MTL.xml").write_text(f"<LANDSAT_METADATA_FILE>{inner}</LANDSAT_METADATA_FILE>")
    return root


@pytest.mark.parametrize("metadata", ["txt", "xml", "json", None])
def test_landsat_level_2_is_surface_reflectance_from_folder_and_tar(tmp_path, metadata):
    root = landsat(tmp_path, bands=("SR_B4", "SR_B5", "ST_B10"), metadata=metadata)
    for href in (root, packed(root, tmp_path / "download.tar")):
        scene = open_scene(href)
        assert (scene.bands, scene.units, scene.shape) == (("SR_B4", "SR_B5"), "reflectance", (90, 110))
        assert scene.id == root.name and scene.facts["platform"] == "landsat-8" and scene.facts["processing:level"] == "L2SP"
        block = whole(scene.select("red", "nir"))
        expected = (np.array([8000, 9000])[:, None] + 2 * np.arange(110)) * 2.75e-5 - 0.2
        np.testing.assert_allclose(block.data[:, 50], expected, atol=1e-6)
        assert not block.valid[:5].any() and block.valid[5:].all()
    heat = open_scene(root, bands="thermal")
    assert (heat.bands, heat.units) == (("ST_B10",), "kelvin")
    np.testing.assert_allclose(whole(heat).data[0, 50], (10000 + 2 * np.arange(110)) * 0.00341802 + 149, rtol=1e-6)
    if metadata:
        assert scene.time == datetime(2022, 8, 15, 10, 33, 51, 123456, tzinfo=UTC)
        assert (scene.facts["eo:cloud_cover"], scene.facts["view:sun_azimuth"]) == (3.21, 150.0)
        with pytest.raises(SceneError, match="files of SR_B7 are not there"):
            open_scene(root, bands="swir2")
    else:
        assert scene.time == datetime(2022, 8, 15, tzinfo=UTC)


def test_landsat_level_1_is_reflectance_above_the_atmosphere_and_needs_its_metadata(tmp_path):
    root = landsat(tmp_path, level="1TP", bands=("B4", "B8"))
    scene = open_scene(root)
    assert scene.bands == ("B4",)
    np.testing.assert_allclose(whole(scene).data[0, 50], ((8000 + 2 * np.arange(110)) * 2e-5 - 0.1) / 0.5, atol=1e-6)
    sharp = whole(open_scene(root, bands="red,pan", resolution=15))
    assert sharp.data.shape == (2, 179, 219)
    # Numbers rise by 1 for 15 m in both, but their frames differ by half a panchromatic pixel.
    red = sharp.data[0, 50, 2:-2] - ((8000 - 0.5 + 0.5 + np.arange(2, 217)) * 2e-5 - 0.1) / 0.5
    assert np.abs(red).max() < 1e-6
    next(root.glob("*_MTL.txt")).unlink()
    with pytest.raises(SceneError, match="needs REFLECTANCE_MULT_BAND_4 from its MTL file"):
        open_scene(root)


def test_the_bands_of_older_landsats_have_their_own_numbers(tmp_path):
    scene = open_scene(landsat(tmp_path, number="07", bands=("SR_B1", "SR_B4", "SR_B7"), metadata=None))
    assert [scene.find(name) for name in ("blue", "nir", "swir2", "red")] == ["SR_B1", "SR_B4", "SR_B7", None]


def test_clouds_of_landsat_are_flags(tmp_path):
    qa = np.full((90, 110), 0b1000000)
    for i in range(16):
        qa[10:, 5 * i] = 1 << i
    scene = open_scene(landsat(tmp_path, qa=qa), clouds="mask")
    struck = {i for i in range(16) if not whole(scene).valid[50, 5 * i]}
    assert struck == {1, 2, 3, 4}
    with pytest.raises(SceneError, match="QA_PIXEL file is not there"):
        open_scene(landsat(tmp_path / "other"), clouds="mask")


@dataclass(frozen=True)
class ArraySource:
    """Pixels in memory; refuses windows that reach beyond them."""

    data: np.ndarray
    valid: np.ndarray
    block_shape = (16, 16)
    row_bytes, count, files = 8, 1, ("memory",)
    shape = property(lambda self: self.valid.shape)

    def read(self, window, indexes):
        assert window and window & Window(0, 0, *self.shape) == window
        return self.data[:, *window.slices].copy(), self.valid[window.slices].copy()


def box(shape, metres, west=0.0, north=0.0):
    return GeoBox(shape, Affine(metres, 0, WEST + west, 0, -metres, NORTH + north), CRS)


def made(seed, shape=(41, 53), share=0.05):
    rng = np.random.default_rng(seed)
    return ArraySource(rng.uniform(1, 2, (1, *shape)).astype("f4"), rng.random(shape) >= share)


@st.composite
def grids(draw):
    """A source's grid and a scene's: any sizes of pixels, any shift, also one that leaves part of the scene uncovered."""
    metres = draw(st.sampled_from([10, 15, 20, 30, 60]))
    own = box((41, 53), draw(st.sampled_from([10, 15, 20, 60])))
    reach = 41 * own.affine.a
    shift = [draw(st.sampled_from([0.0, 2.5, -5.0, 7.5, 13.0, -40.0])) for _ in range(2)]
    return own, box((max(2, int(reach // metres)), max(2, int(1.3 * reach // metres))), metres, *shift)


@given(grids(), st.integers(0, 9), st.booleans(), st.data())
@settings(max_examples=60, deadline=None)
def test_however_the_scene_is_cut_a_pixel_is_the_same(pair, seed, nearest, data):
    own, grid = pair
    source = on_grid(made(seed), own, grid, nearest=nearest)
    h, w = source.shape
    all_data, all_valid = source.read(Window(0, 0, h, w), (1,))
    y, x = data.draw(st.integers(0, h - 1)), data.draw(st.integers(0, w - 1))
    part = Window(y, x, data.draw(st.integers(1, h - y)), data.draw(st.integers(1, w - x)))
    got, valid = source.read(part, (1,))
    np.testing.assert_array_equal(valid, all_valid[part.slices])
    np.testing.assert_array_equal(got[:, valid], all_data[:, *part.slices][:, valid])


@given(grids(), st.integers(0, 9))
@settings(max_examples=40, deadline=None)
def test_values_are_those_of_gdal_and_lie_between_their_neighbours(pair, seed):
    own, grid = pair
    source = made(seed)
    data, valid = on_grid(source, own, grid).read(Window(0, 0, *grid.shape), (1,))
    reference = np.full(grid.shape, -1, "f4")
    scale = dict(zip(("XSCALE", "YSCALE"), 2 * [str(own.affine.a / grid.affine.a)], strict=True))  # it guesses from extents else
    stored = np.where(source.valid, source.data[0], -9).astype("f4")
    reproject(stored, reference, src_transform=own.affine, src_crs=CRS, src_nodata=-9,
              dst_transform=grid.affine, dst_crs=CRS, dst_nodata=-1, resampling=Resampling.bilinear, **scale)
    both = valid & (reference > 0)
    assert both.mean() > 0.3
    inner = np.zeros_like(both)
    inner[7:-7, 7:-7] = True
    np.testing.assert_allclose(data[0][both & inner], reference[both & inner], atol=2e-6)
    assert (data[0][valid] >= 1 - 1e-6).all() and (data[0][valid] <= 2 + 1e-6).all()


@given(grids(), st.integers(0, 9))
@settings(max_examples=30, deadline=None)
def test_nearest_takes_the_pixel_under_the_centre(pair, seed):
    own, grid = pair
    source = made(seed)
    data, valid = on_grid(source, own, grid, nearest=True).read(Window(0, 0, *grid.shape), (1,))
    for y, x in np.random.default_rng(seed).integers(0, grid.shape, (30, 2)):
        east, north = grid.affine.a * (x + 0.5) + grid.affine.c, grid.affine.e * (y + 0.5) + grid.affine.f
        row, column = round((north - own.affine.f) / own.affine.e, 6), round((east - own.affine.c) / own.affine.a, 6)
        there = 0 <= row < 41 and 0 <= column < 53
        assert valid[y, x] == (there and source.valid[int(row), int(column)])
        assert not valid[y, x] or data[0, y, x] == source.data[0, int(row), int(column)]


def test_beyond_the_coarse_raster_nothing_is_valid_and_its_rim_goes_on_to_its_edge():
    own, grid = box((4, 4), 60), box((30, 30), 10, west=-30, north=30)
    source = ArraySource(np.full((1, 4, 4), 7, "f4"), np.ones((4, 4), bool))
    data, valid = on_grid(source, own, grid).read(Window(0, 0, 30, 30), (1,))
    expected = np.zeros((30, 30), bool)
    expected[3:27, 3:27] = True
    np.testing.assert_array_equal(valid, expected)
    np.testing.assert_allclose(data[0, valid], 7, rtol=1e-6)


def test_other_reference_systems_and_rotated_grids_are_refused():
    own = box((41, 53), 20)
    other = GeoBox((82, 106), Affine(10, 0, WEST, 0, -10, NORTH), "EPSG:32632")
    turned = GeoBox((82, 106), Affine(10, 1, WEST, 1, -10, NORTH), CRS)
    mirrored = GeoBox((82, 106), Affine(10, 0, WEST, 0, 10, NORTH), CRS)
    for grid, message in ((other, "lies in EPSG:32631"), (turned, "rotated"), (mirrored, "other way")):
        with pytest.raises(SceneError, match=message):
            on_grid(made(0), own, grid)


def test_a_product_survives_pickling_and_threads_see_the_same(product):
    scene = open_scene(product, clouds="mask")
    again = pickle.loads(pickle.dumps(scene))
    window = Window(50, 60, 70, 40)
    np.testing.assert_array_equal(again.read(window).data, scene.read(window).data)
    assert again.fingerprint() == scene.fingerprint()


def test_overviews_of_all_resolutions_make_one_and_lie_where_the_scene_does(tmp_path, monkeypatch):
    monkeypatch.setattr("test_optical.SIDE", 20460)
    scl = np.repeat([[9], [6]], [300, 723], axis=0).repeat(1023, 1).astype("uint8")
    root = sentinel2(tmp_path, bands=["B01", "B02", "B11"], scl=scl)
    scene, masked = open_scene(root), open_scene(root, clouds="mask")
    coarser = scene.source.coarser(500)
    assert coarser is not None and coarser.shape == (512, 512)
    small, large = scene.overview(512), whole(scene)
    y, x = (np.mgrid[:512, :512] + 0.5) * 2046 / 512
    for values, band in zip(small.data, scene.bands, strict=True):
        expected = (1000 + 100 * ORDER.index(band) + 0.2 * x + 0.1 * y) / 1e4
        assert np.abs(values - expected)[4:-4, 4:-4].max() < 2e-4, band
    assert small.valid.all() and large.valid.all()
    rows = masked.overview(512).valid.mean(axis=1)
    assert set(rows) == {0, 1} and abs(rows.argmax() - 300 / 1023 * 512) <= 1


def test_files_of_a_stack_share_one_cache_and_each_block_is_decoded_once_in_a_scan(tmp_path, monkeypatch):
    root = sentinel2(tmp_path, bands=["B02", "B08", "B11"])
    scene = open_scene(root)
    scene = scene.with_cache(scene.scan_bytes(64))
    decoded = []
    kind = type(open_raster(next(root.rglob("*B02*.jp2")))[0])
    decode = kind._decode
    monkeypatch.setattr(kind, "_decode", lambda self, w, i: decoded.append((self.path, w)) or decode(self, w, i))
    for y in range(0, 204, 64):
        for x in range(0, 204, 64):
            scene.read(Window(y - 8, x - 8, 80, 80))
    assert len(decoded) == len(set(decoded))


def test_masks_strike_out_flags_and_classes_but_not_where_they_know_nothing():
    source = ArraySource(np.ones((1, 2, 4), "f4"), np.ones((2, 4), bool))
    classes = ArraySource(np.array([[[0, 3, 8, 12], [3, 3, 3, 3]]], "f4"), np.array([[True] * 4, [False] * 4]))
    for masked, expected in (
        (MaskedSource(source, classes, (1,), values=(3, 8)), [True, False, False, True]),
        (MaskedSource(source, classes, (1,), bits=8), [True, True, False, False]),
    ):
        np.testing.assert_array_equal(masked.read(Window(0, 0, 2, 4), (1,))[1], [expected, [True] * 4])


def test_a_stack_with_a_coarse_band_is_valid_where_both_are():
    fine, coarse = made(1, (40, 60), 0.1), made(2, (20, 30), 0.1)
    stack = StackSource((fine, on_grid(coarse, box((20, 30), 20), box((40, 60), 10))))
    valid = stack.read(Window(0, 0, 40, 60), (1, 2))[1]
    np.testing.assert_array_equal(valid, fine.valid & np.kron(coarse.valid, np.ones((2, 2), bool)))
    assert replace(stack).shape == (40, 60)


def test_a_product_gives_the_ships_that_its_bands_give_as_one_file(tmp_path, shared):
    """A port cut from real pixels, once as GeoTIFF and once in the layout of L2A, with B11 at 20 m."""
    from xtgeo import load_model, segment

    port, name = shared / "data" / "sen2ships" / "athens.tif", "S2A_MSIL2A_20230823T091601_N0509_R093_T34SGH_20230823T151102"
    with rasterio.open(port) as file:
        data, a, crs = file.read(window=rasterio.windows.Window(448, 576, 512, 512)), file.transform, file.crs
    transform = Affine(a.a, 0, a.c + 448 * a.a, 0, a.e, a.f + 576 * a.e)
    images = tmp_path / f"{name}.SAFE" / "GRANULE" / "L2A_T34SGH_A042664_20230823T091601" / "IMG_DATA"
    pairs = list(zip(("B02", "B03", "B04", "B08", "B11"), data, strict=True))
    for band, values in pairs:
        metres = 20 if band == "B11" else 10
        if metres == 20:
            values = values.reshape(256, 2, 256, 2).mean(axis=(1, 3)).round().astype("uint16")
        values = np.where(values > 0, values + 1000, 0).astype("uint16")
        step = metres / 10
        place = Affine(transform.a * step, 0, transform.c, 0, transform.e * step, transform.f)
        path = images / f"R{metres}m" / f"T34SGH_20230823T091601_{band}_{metres}m.jp2"
        path.parent.mkdir(parents=True, exist_ok=True)
        with rasterio.open(path, "w", driver="JP2OpenJPEG", height=values.shape[0], width=values.shape[1], count=1, dtype="uint16",
                           crs=crs, transform=place, QUALITY="100", REVERSIBLE="YES") as file:
            file.write(values, 1)
    stacked = tmp_path / "athens.tif"
    profile = {"driver": "GTiff", "height": 512, "width": 512, "count": 5, "dtype": "uint16"}
    with rasterio.open(stacked, "w", crs=crs, transform=transform, **profile) as file:
        file.write(data)
        file.descriptions = [band for band, _ in pairs]
    archive = packed(images.parents[2], tmp_path / f"{name}.zip")
    fine = whole(open_scene(archive, bands="B02,B03,B04,B08"))
    np.testing.assert_allclose(fine.data[:, fine.valid], data[:4, fine.valid] / 1e4, atol=1e-6)
    model = load_model("vessels-s2")
    found = []
    for href in (stacked, archive):
        out = tmp_path / f"{len(found)}.gpkg"
        segment(open_scene(href), model, out=out, dtype="fp32")
        found.append(gpd.read_file(out, layer=0))
    one, other = found
    assert len(one) > 10 and abs(len(one) - len(other)) <= 0.1 * len(one)
    whole_one, whole_other = one.union_all(), other.union_all()
    # 0.86 when written: the ships are a few pixels wide, and B11 is twice as coarse as in the one file.
    assert whole_one.intersection(whole_other).area > 0.75 * whole_one.union(whole_other).area
