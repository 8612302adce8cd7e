"""STAC: an item's bands become a scene's, items of one date lie side by side, and nothing is read from where it may not."""

import json
import os
import pickle

import numpy as np
import pystac
import pytest
import rasterio
from affine import Affine
from loopback import serve

from xtgeo.errors import SceneError
from xtgeo.grid import lonlat_bounds, lonlat_to_pixel, pixel_to_lonlat
from xtgeo.read import open_scene
from xtgeo.window import Nest, Window

TIFF = "image/tiff; application=geotiff; profile=cloud-optimized"


def image(
    path, *, shape=(90, 120), size=10.0, x=5e5, y=6e6, crs="EPSG:32631", dtype="uint16", seed=0, count=1, hole=None, **profile
):
    data = np.random.default_rng(seed).integers(1, 3000, (count, *shape)).astype(dtype)
    if hole:
        data[:, *hole] = 0
    transform = Affine(size, 0, x, 0, -size, y)
    profile = {"height": shape[0], "width": shape[1], "count": count, "dtype": dtype, "crs": crs, **profile}
    with rasterio.open(path, "w", driver="GTiff", transform=transform, **profile) as file:
        file.write(data)
    return data


def item(assets, *, id="scene-1", date="2024-06-01T10:11:12Z", version="1.0.0", **properties):
    return {
        "type": "Feature",
        "stac_version": version,
        "id": id,
        "geometry": {"type": "Point", "coordinates": [0, 0]},
        "bbox": [0, 0, 0, 0],
        "properties": {"datetime": date, **properties},
        "links": [],
        "assets": assets,
    }


def save(path, document):
    path.write_text(json.dumps(document))
    return path


def whole(scene):
    return scene.read(Window(0, 0, *scene.shape))


def optical(folder, **kwargs):
    """Two bands of 10 m, one of 20 m, a picture and a mask, as catalogues of Sentinel-2 have them."""
    red, nir, coarse = (image(folder / f"{n}.tif", seed=i) for i, n in enumerate(("B04", "B08", "B05")))
    coarse = image(folder / "B05.tif", shape=(45, 60), size=20.0)
    image(folder / "visual.tif", dtype="uint8", count=3, seed=5)
    image(folder / "SCL.tif", shape=(45, 60), size=20.0)
    (folder / "thumb.jpg").write_bytes(b"\xff\xd8\xff")
    scaled = [{"nodata": 0, "scale": 0.0001, "offset": -0.1}]
    assets = {
        "thumbnail": {"href": "./thumb.jpg", "type": "image/jpeg", "roles": ["thumbnail"]},
        "visual": {"href": "./visual.tif", "type": TIFF, "roles": ["visual"], "eo:bands": [{"name": "B04"}] * 3},
        "red": {"href": "B04.tif", "type": TIFF, "roles": ["data"], "eo:bands": [{"name": "B04", "common_name": "red"}]},
        "nir": {"href": "./B08.tif", "type": TIFF, "roles": ["data"], "eo:bands": [{"name": "B08", "common_name": "nir"}]},
        "rededge1": {"href": "./B05.tif", "type": TIFF, "roles": ["data"], "eo:bands": [{"name": "B05", "common_name": "rededge"}]},
        "scl": {"href": "./SCL.tif", "type": TIFF, "roles": ["data"]},
        "info": {"href": "./info.xml", "type": "application/xml", "roles": ["metadata"]},
    }
    for key in ("red", "nir", "rededge1"):
        assets[key]["raster:bands"] = scaled
    return item(assets, platform="sentinel-2b", **kwargs), {"B04": red, "B08": nir, "B05": coarse}


def test_an_item_gives_its_described_bands_on_the_finest_grid_as_reflectance(tmp_path):
    document, pixels = optical(tmp_path)
    scene = open_scene(save(tmp_path / "item.json", document))
    assert scene.bands == ("B04", "B08", "B05") and scene.units == "reflectance" and scene.shape == (90, 120)
    assert scene.id == "scene-1" and scene.facts["platform"] == "sentinel-2b"
    assert scene.time.isoformat() == "2024-06-01T10:11:12+00:00"
    block = whole(scene)
    assert block.valid.all()
    for i, name in enumerate(("B04", "B08")):
        np.testing.assert_allclose(block.data[i], pixels[name][0] * 0.0001 - 0.1, atol=1e-6)
    # Halfway between the centres of four coarse pixels lies no fine centre: 9/16, 3/16, 3/16, 1/16 it is.
    c = pixels["B05"][0, :2, :2] * 0.0001 - 0.1
    assert block.data[2, 1, 1] == pytest.approx((9 * c[0, 0] + 3 * c[0, 1] + 3 * c[1, 0] + c[1, 1]) / 16, abs=1e-6)
    assert scene.select("red").bands == ("B04",) and scene.select("nir", "rededge").bands == ("B08", "B05")


@pytest.mark.parametrize("bands", ["nir,red", "B08,B04", {"nir": "B08", "red": "red"}, "nir=B08,red=B04"])
def test_bands_are_chosen_by_name_common_name_or_asset_and_renamed(tmp_path, bands):
    document, pixels = optical(tmp_path)
    os.remove(tmp_path / "B05.tif")  # what is not asked for is not opened
    scene = open_scene(save(tmp_path / "item.json", document), bands=bands)
    np.testing.assert_allclose(whole(scene).data, np.concatenate([pixels["B08"], pixels["B04"]]) * 0.0001 - 0.1, atol=1e-6)
    assert scene.bands == (("nir", "red") if "=" in str(bands) or isinstance(bands, dict) else ("B08", "B04"))


def test_bands_of_stac_1_1_and_of_1_0_say_the_same(tmp_path):
    image(tmp_path / "a.tif", count=2)
    old = {"eo:bands": [{"name": "B1", "common_name": "red"}, {"name": "B2", "common_name": "nir"}]}
    old["raster:bands"] = [{"scale": 0.001, "offset": 1.0, "nodata": 0}, {"scale": 0.002, "offset": 2.0, "nodata": 0}]
    new = {"bands": [{"name": "B1", "eo:common_name": "red", "raster:scale": 0.001, "raster:offset": 1.0}]}
    new["bands"].append({"name": "B2", "eo:common_name": "nir", "raster:scale": 0.002, "raster:offset": 2.0})
    scenes = []
    for fields, version in ((old, "1.0.0"), ({**new, "nodata": 0}, "1.1.0")):
        document = item({"image": {"href": "./a.tif", "type": TIFF, **fields}}, version=version)
        scenes.append(open_scene(save(tmp_path / "item.json", document), bands="nir,red"))
    np.testing.assert_array_equal(whole(scenes[0]).data, whole(scenes[1]).data)
    assert scenes[0].fingerprint() == scenes[1].fingerprint() and scenes[0].bands == ("B2", "B1")


def test_radar_bands_are_named_by_polarisation_and_keep_the_units_of_the_item(tmp_path):
    for name in ("vv", "vh"):
        image(tmp_path / f"{name}.tif", dtype="float32")
    assets = {n: {"href": f"./{n}.tif", "type": TIFF, "raster:bands": [{"unit": "dB"}]} for n in ("vv", "vh")}
    scene = open_scene(save(tmp_path / "item.json", item(assets)))
    assert scene.bands == ("vv", "vh") and scene.units == "db"


def test_an_offset_that_the_catalogue_has_taken_off_is_not_taken_off_twice(tmp_path):
    document, pixels = optical(tmp_path, **{"earthsearch:boa_offset_applied": True})
    block = whole(open_scene(save(tmp_path / "item.json", document), bands="red"))
    np.testing.assert_allclose(block.data, pixels["B04"] * 0.0001, atol=1e-6)


@pytest.mark.parametrize(("baseline", "taken"), [("05.10", 1000), ("04.00", 1000), ("02.14", 0), ("99.99", 0), (None, 0)])
def test_bands_of_sentinel_2_that_nobody_scales_go_by_the_processing_baseline(tmp_path, baseline, taken):
    data = image(tmp_path / "B04_10m.tif", hole=(slice(0, 9), slice(0, 9)))[0].astype(float)
    asset = {"href": "./B04_10m.tif", "type": TIFF, "eo:bands": [{"name": "B04"}]}
    facts = {"s2:processing_baseline": baseline} if baseline else {}
    scene = open_scene(save(tmp_path / "item.json", item({"B04": asset}, **facts)))
    block = whole(scene.convert("reflectance"))
    assert scene.units == "dn10000" and scene.facts.get("s2:processing_baseline") == baseline
    np.testing.assert_array_equal(block.valid, data != 0 if baseline else np.ones(data.shape, bool))
    np.testing.assert_allclose(block.data[0][block.valid], (data[block.valid] - taken) / 10000, atol=1e-6)
    harmonised = item({"B04": asset}, **facts, **{"earthsearch:boa_offset_applied": True})
    scene = open_scene(save(tmp_path / "item.json", harmonised)).convert("reflectance")
    np.testing.assert_allclose(whole(scene).data[0], data / 10000, atol=1e-6)


def test_classes_are_not_mixed_when_they_come_to_a_finer_grid(tmp_path):
    classes = image(tmp_path / "c.tif", shape=(45, 60), size=20.0, dtype="uint8")[0]
    fine = {"href": "./f.tif", "type": TIFF}
    image(tmp_path / "f.tif", dtype="uint8")
    for key, told in (("scl", {}), ("what", {"classification:classes": []}), ("clouds", {"roles": ["cloud"]})):
        assets = {"fine": fine, key: {"href": "./c.tif", "type": TIFF, **told}}
        scene = open_scene(save(tmp_path / "item.json", item(assets)), bands=f"fine,{key}")
        np.testing.assert_array_equal(whole(scene).data[1], np.kron(classes, np.ones((2, 2))))


def test_bands_of_sentinel_2_are_found_by_their_own_names_whatever_the_catalogue_calls_them(tmp_path):
    data, assets = {}, {}
    for i, (name, common) in enumerate((("red", "red"), ("rededge1", "rededge"), ("rededge2", "rededge"), ("nir08", "nir08"))):
        data[name] = image(tmp_path / f"{name}.tif", seed=i)[0]
        assets[name] = {"href": f"./{name}.tif", "type": TIFF, "eo:bands": [{"name": name, "common_name": common}]}
    path = save(tmp_path / "item.json", item(assets, platform="sentinel-2b"))
    scene = open_scene(path)
    assert scene.bands == tuple(data)
    for known, name in (("B04", "red"), ("B05", "rededge1"), ("B06", "rededge2"), ("B8A", "nir08")):
        np.testing.assert_array_equal(whole(scene.select(known)).data[0], data[name])
        np.testing.assert_array_equal(whole(open_scene(path, bands=known)).data[0], data[name])
    other = open_scene(save(path, item(assets, platform="sentinel-3a")))
    with pytest.raises(SceneError, match="has no band B04"):
        other.select("B04")


def test_of_a_band_in_several_sizes_the_finest_is_read_and_the_others_by_their_asset(tmp_path):
    fine, coarse = image(tmp_path / "f.tif"), image(tmp_path / "c.tif", shape=(45, 60), size=20.0)
    told = {"type": TIFF, "bands": [{"name": "B02", "eo:common_name": "blue"}]}
    assets = {"B02_20m": {"href": "./c.tif", "gsd": 20, **told}, "B02_10m": {"href": "./f.tif", "gsd": 10, **told}}
    path = save(tmp_path / "item.json", item(assets, version="1.1.0", constellation="sentinel-2"))
    np.testing.assert_array_equal(whole(open_scene(path)).data, fine)
    np.testing.assert_array_equal(whole(open_scene(path, bands="B02_20m")).data, coarse)


def test_temperatures_are_no_reflectance_and_with_the_panchromatic_band_wait_to_be_named(tmp_path):
    assets, reflectance = {}, {"scale": 2.75e-5, "offset": -0.2}
    kelvin = {"scale": 0.00341802, "offset": 149.0, "unit": "kelvin"}
    for name, told in (("red", reflectance), ("lwir11", kelvin), ("pan", reflectance | {"unit": "1"})):
        image(tmp_path / f"{name}.tif")
        bands = {"eo:bands": [{"name": f"X_{name}", "common_name": name}], "raster:bands": [told]}
        assets[name] = {"href": f"./{name}.tif", "type": TIFF, **bands}
    path = save(tmp_path / "item.json", item(assets))
    assert open_scene(path).bands == ("X_red",) and open_scene(path, bands="pan,red").units == "reflectance"
    assert open_scene(path, bands="lwir11").units == "kelvin"
    assert open_scene(save(path, item({"lwir11": assets["lwir11"]}))).units == "kelvin"


def test_a_mosaic_has_the_facts_that_all_its_items_have(tmp_path):
    path, _ = tiles(tmp_path, [(5e5, 6e6), (5e5 + 1200, 6e6)])
    document = json.loads(path.read_text())
    for cover, part in zip((5.0, 80.0), document["features"], strict=True):
        part["properties"] |= {"platform": "sentinel-2b", "eo:cloud_cover": cover}
    facts = open_scene(save(path, document)).facts
    assert facts["platform"] == "sentinel-2b" and "eo:cloud_cover" not in facts


def test_what_the_file_says_of_scale_and_nodata_stands(tmp_path):
    data = image(tmp_path / "a.tif", nodata=7)
    with rasterio.open(tmp_path / "a.tif", "r+") as file:
        file.scales, file.offsets = (0.5,), (3.0,)
    asset = {"href": "./a.tif", "type": TIFF, "raster:bands": [{"scale": 0.001, "offset": 9, "nodata": 0}]}
    block = whole(open_scene(save(tmp_path / "item.json", item({"a": asset})), units="linear"))
    np.testing.assert_array_equal(block.valid, data[0] != 7)
    np.testing.assert_allclose(block.data[0][block.valid], data[0][block.valid] * 0.5 + 3.0)


def tiles(folder, places, *, crs="EPSG:32631", size=10.0, dates=None, name="all.json", **options):
    """An ItemCollection of images whose upper-left corners are at these places."""
    items, data = [], []
    for i, (x, y) in enumerate(places):
        data.append(image(folder / f"t{i}.tif", x=x, y=y, size=size, crs=crs, seed=i, **options))
        asset = {"href": f"./t{i}.tif", "type": TIFF, "raster:bands": [{"nodata": 0, "unit": "dB"}], "eo:bands": [{"name": "vv"}]}
        items.append(item({"vv": asset}, id=f"T{i}", date=(dates or ["2024-06-01T10:00:00Z"] * 9)[i]))
    return save(folder / name, {"type": "FeatureCollection", "features": items}), data


def test_items_of_one_date_lie_side_by_side_and_the_first_valid_pixel_counts(tmp_path):
    hole = (slice(20, 60), slice(70, 120))
    path, (a, b, c) = tiles(tmp_path, [(5e5, 6e6), (5e5 + 800, 6e6 - 300), (5e5 - 1500, 6e6 + 200)], hole=hole)
    scene = open_scene(path)
    expected = np.zeros((140, 350), np.float32)
    for data, (y, x) in ((c, (0, 0)), (b, (50, 230)), (a, (20, 150))):  # what comes first is laid on last
        np.copyto(expected[y : y + 90, x : x + 120], data[0], where=data[0] != 0)
    block = whole(scene)
    np.testing.assert_array_equal(block.data[0], expected)
    np.testing.assert_array_equal(block.valid, expected != 0)
    for tile in Nest(scene.shape, region=32, span=1, margin=16):
        np.testing.assert_array_equal(scene.read(tile.core).data, block.data[:, *tile.core.slices])
    lon, lat = pixel_to_lonlat(open_scene(tmp_path / "t1.tif").grid, 3.5, 4.5)
    row, column = lonlat_to_pixel(scene.grid, lon, lat)
    assert (row, column) == (pytest.approx(53.5, abs=1e-5), pytest.approx(234.5, abs=1e-5))
    assert not scene.maybe_valid(Window(120, 0, 20, 100)) and scene.fingerprint() == pickle.loads(pickle.dumps(scene)).fingerprint()
    assert scene.fingerprint() != open_scene(tmp_path / "all.json#T0").fingerprint()


def test_bands_may_lie_in_another_order_in_each_item(tmp_path):
    items, data = [], []
    for i, order in enumerate((("vv", "vh"), ("vh", "vv"))):
        data.append(image(tmp_path / f"{i}.tif", x=5e5 + 1200 * i, count=2, seed=i))
        bands = [{"name": name} for name in order]
        asset = {"href": f"./{i}.tif", "type": TIFF, "eo:bands": bands, "raster:bands": [{"unit": "dB"}] * 2}
        items.append(item({"a": asset}, id=str(i)))
    scene = open_scene(save(tmp_path / "all.json", {"type": "FeatureCollection", "features": items}), bands="vv,vh")
    np.testing.assert_array_equal(whole(scene).data, np.concatenate([data[0], data[1][::-1]], axis=2))


def test_items_on_both_sides_of_the_antimeridian_are_one_scene(tmp_path):
    places = [(-180.0, 10.0), (180.0 - 0.12, 10.0)]
    path, (east, west) = tiles(tmp_path, places, crs="EPSG:4326", size=0.001)
    scene = open_scene(path)
    assert scene.shape == (90, 240)
    np.testing.assert_array_equal(whole(scene).data[0], np.concatenate([west[0], east[0]], axis=1))
    assert lonlat_bounds(scene.grid) == pytest.approx((179.88, 9.91, -179.88, 10.0))


def test_items_of_several_dates_are_refused_and_one_is_chosen_by_date_or_name(tmp_path):
    dates = ["2024-06-01T23:58:00Z", "2024-06-02T00:01:00Z", "2024-06-09T10:00:00Z"]
    path, data = tiles(tmp_path, [(5e5, 6e6), (5e5 + 1200, 6e6), (5e5, 6e6)], dates=dates)
    with pytest.raises(SceneError, match=r"3 items of 3 dates \(2024-06-01, .*items.json#2024-06-09 or items.json#T0"):
        open_scene(path)
    for pick, number in (("2024-06-09", 2), ("T2", 2), ("2024-06-01", 0)):
        np.testing.assert_array_equal(whole(open_scene(f"{path}#{pick}")).data, data[number])
    with pytest.raises(SceneError, match="no item 2020: it has T0 .2024-06-01"):
        open_scene(f"{path}#2020")
    night = json.loads(path.read_text())
    night["features"].pop()
    assert open_scene(save(path, night)).shape == (90, 240)  # one pass over midnight


def test_items_that_do_not_fit_together_are_refused_with_the_reason(tmp_path):
    with pytest.raises(SceneError, match="T0 and T1 do not fall on each other .0.5 px apart"):
        open_scene(tiles(tmp_path, [(5e5, 6e6), (5e5 + 1205, 6e6)])[0])
    path, _ = tiles(tmp_path, [(5e5, 6e6), (5e5 + 1200, 6e6)])
    image(tmp_path / "t1.tif", crs="EPSG:32632", x=5e5 + 1200)
    with pytest.raises(SceneError, match="T0 and T1 do not lie in one projection"):
        open_scene(path)
    document = json.loads(path.read_text())
    document["features"][1]["assets"]["vv"]["eo:bands"][0]["name"] = "vh"
    with pytest.raises(SceneError, match="item T1 has vh in db, item T0 has vv in db: choose"):
        open_scene(save(path, document))
    with pytest.raises(SceneError, match="item T0: there is no band hh: there are vv"):
        open_scene(path, bands="hh")


def test_pystac_objects_and_dicts_are_items_too(tmp_path):
    document, pixels = optical(tmp_path)
    path = save(tmp_path / "item.json", document)
    read = pystac.Item.from_file(str(path))
    expected = whole(open_scene(path)).data
    for href in (read, [read], pystac.ItemCollection([read], clone_items=False)):
        np.testing.assert_array_equal(whole(open_scene(href)).data, expected)
    with pytest.raises(SceneError, match="relative to a place that nobody knows"):
        open_scene(document)
    absolute = json.loads(json.dumps(document).replace('"./', f'"{tmp_path}/').replace('"B04', f'"{tmp_path}/B04'))
    np.testing.assert_array_equal(whole(open_scene(absolute, trusted=True)).data, expected)
    # An item's own word for where it came from opens no folder.
    (tmp_path / "other.json").write_text("{}")
    absolute["links"] = [{"rel": "self", "href": str(tmp_path / "other.json")}]
    with pytest.raises(SceneError, match="nobody knows"):
        open_scene(absolute)


def test_an_item_by_url_reads_what_lies_beside_it(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    document, pixels = optical(tmp_path)
    save(tmp_path / "item.json", document)
    (tmp_path / "collections").mkdir()
    (tmp_path / "collections" / "items").mkdir()
    with serve(tmp_path) as server:
        for key in ("red", "nir", "rededge1"):
            document["assets"][key]["href"] = f"{server.url}/{document['assets'][key]['href'].removeprefix('./')}"
        save(tmp_path / "collections" / "items" / "scene-1", document)  # as an API answers
        for href in (f"{server.url}/item.json", f"{server.url}/collections/items/scene-1"):
            scene = open_scene(href, bands="red")
            np.testing.assert_allclose(whole(scene).data, pixels["B04"] * 0.0001 - 0.1, atol=1e-6)
            assert scene.href == href
        with pytest.raises(SceneError, match="does not know the file"):
            open_scene(f"{server.url}/absent.json")
        # The same file from disk may not make this machine call itself.
        local = save(tmp_path / "local.json", document)
        with pytest.raises(SceneError, match="asset red of item scene-1 points to an internal address"):
            open_scene(local, bands="red")
        np.testing.assert_array_equal(whole(open_scene(local, bands="red", trusted=True)).data, whole(scene).data)


@pytest.mark.parametrize(
    "href",
    [
        "../secret.tif",
        "/etc/passwd",
        "file:///etc/passwd",
        "./link.tif",
        "./sub/../../secret.tif",
        "..\\secret.tif",
        "/vsicurl/http://169.254.169.254/latest",
        "/vsizip//vsicurl/http://10.0.0.1/a.zip/b.tif",
        "vrt://secret.tif",
        "<VRTDataset/>",
        "http://169.254.169.254/latest/meta-data",
        "http://localhost:8080/a.tif",
        "http://[::1]/a.tif",
        "http://[::ffff:127.0.0.1]/a.tif",
        "http://2130706433/a.tif",
        "http://10.1.2.3/a.tif",
        "https://user@127.0.0.1/a.tif",
        "http:///a.tif",
        "HTTP://LOCALHOST/a.tif",
        "s3://bucket/../other/a.tif",
    ],
)
def test_an_asset_points_beside_its_item_or_to_the_open_network(tmp_path, href):
    (tmp_path / "in").mkdir()
    image(tmp_path / "secret.tif")
    os.symlink(tmp_path / "secret.tif", tmp_path / "in" / "link.tif")
    path = save(tmp_path / "in" / "item.json", item({"a": {"href": href, "type": TIFF}}))
    with pytest.raises(SceneError, match="asset a of item scene-1 .*(point|internal)") as error:
        open_scene(path)
    assert "\n" not in str(error.value) and "--trusted" in str(error.value)


def test_what_is_no_item_is_refused_in_one_line(tmp_path):
    good = item({"a": {"href": "./a.tif", "type": TIFF}})
    wrong = {
        "no JSON": "{",
        "nested too deeply": '{"a":' + "[" * 100_000,
        "no JSON object": "[1]",
        "type 'Catalog'": {"type": "Catalog", "id": "x"},
        "holds 0 items": {"type": "FeatureCollection", "features": []},
        "no list of items": {"type": "FeatureCollection", "features": 7},
        "type 'str'|type str|'str'": {"type": "FeatureCollection", "features": ["x"]},
        "no asset that is an image": item({"a": {"href": "a.xml", "type": "application/xml"}, "b": 7, "c": {"href": 9}}),
        "only masks and pictures: t": item({"t": {"href": "a.jpg", "type": "image/jpeg", "roles": ["thumbnail"]}}),
        "scale of an asset is 'x', which is no number": item({"a": {"href": "a.tif", "type": TIFF, "scale": "x"}}),
        "no such file": good,
    }
    for match, document in wrong.items():
        path = tmp_path / "item.json"
        path.write_text(document) if isinstance(document, str) else save(path, document)
        with pytest.raises(SceneError, match=match) as error:
            open_scene(path)
        assert "\n" not in str(error.value)
    with pytest.raises(SceneError, match="cannot open .*absent.json: No such file"):
        open_scene(tmp_path / "absent.json")
    image(tmp_path / "a.tif")
    save(tmp_path / "item.json", item({"a": {"href": "./a.tif", "type": TIFF, "eo:bands": [{"name": "x"}, {"name": "y"}]}}))
    with pytest.raises(SceneError, match="says that asset a has 2 bands; it has 1"):
        open_scene(tmp_path / "item.json")


@pytest.mark.parametrize("trusted", [False, True])
def test_an_address_that_is_none_is_refused_whether_trusted_or_not(tmp_path, trusted):
    path = save(tmp_path / "item.json", item({"a": {"href": "http://[x/a.tif", "type": TIFF}}))
    with pytest.raises(SceneError, match="no address"):
        open_scene(path, trusted=trusted)
    with pytest.raises(SceneError, match="no asset that is an image"):
        open_scene(save(path, item({"a": {"href": "http://[x/a.tif"}})), trusted=trusted)
