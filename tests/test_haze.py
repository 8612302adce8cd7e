"""What haze adds to a whole scene is taken off before a model that asks for it sees the scene."""

from dataclasses import replace

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
import torch
from rasterio.enums import Resampling
from test_job import SPEC, Bright
from test_job import write_scene as radar

from xtgeo import Model, Window, open_scene, segment
from xtgeo.choose import adapt
from xtgeo.errors import TrainError
from xtgeo.haze import darkest, take_off_haze
from xtgeo.model import Spec
from xtgeo.train.prepare import prepare

OPTICAL = Spec(name="o", bands=("B03", "B08"), units="reflectance", mean=(0.1, 0.1), std=(0.1, 0.1), gsd=10.0, dark=(0.03, 0.02))
ADDED = (0.08, 0.05)


def port(path, *, added=(0.0, 0.0), shape=(300, 260), nodata=True):
    """Water, land and a corner without pixels, as reflectance; `added` to all that is valid."""
    rng = np.random.default_rng(0)
    data = rng.normal(0.05, 0.004, (2, *shape)) + np.array([0.01, 0.0])[:, None, None]
    data[:, shape[0] // 2 :] += 0.2
    data = (data + np.array(added)[:, None, None]).astype(np.float32)
    if nodata:
        data[:, :40, :40] = -9999
    profile = {"driver": "GTiff", "height": shape[0], "width": shape[1], "count": 2, "dtype": "float32", "nodata": -9999}
    tiles = {"tiled": True, "blockxsize": 256, "blockysize": 256}
    with rasterio.open(path, "w", crs="EPSG:32631", transform=rasterio.Affine(10, 0, 5e5, 0, -10, 58e5), **profile, **tiles) as f:
        f.write(data)
        f.descriptions = ("B03", "B08")
    return open_scene(path, units="reflectance")


def whole(scene):
    return scene.read(Window(0, 0, *scene.shape))


def test_a_hazy_scene_reads_as_the_clear_one(tmp_path):
    clear, hazy = (adapt(port(tmp_path / f"{i}.tif", added=a), OPTICAL) for i, a in enumerate([(0.0, 0.0), ADDED]))
    assert np.allclose(np.subtract(hazy.haze, clear.haze), ADDED, atol=1e-5)
    a, b = whole(clear), whole(hazy)
    assert np.allclose(a.data, b.data, atol=1e-5) and (a.valid == b.valid).all()
    assert (b.data[:, ~b.valid] == 0).all() and not b.valid[:40, :40].any()
    assert np.allclose(np.percentile(b.data[:, b.valid], 2, axis=1), OPTICAL.dark, atol=1e-5)


def test_it_is_taken_off_once_and_follows_bands_and_units(tmp_path):
    scene = port(tmp_path / "s.tif", added=ADDED)
    once = adapt(scene, OPTICAL)
    assert adapt(once, OPTICAL) == once and scene.haze == ()
    assert once.select("B08").haze == once.haze[1:]
    one = replace(OPTICAL, optional=("B03",))
    assert np.allclose(adapt(scene.select("B08"), one).haze, once.haze[1:])
    assert once.with_units("dn").haze == () == adapt(scene, replace(OPTICAL, dark=())).haze
    assert once.fingerprint() != scene.fingerprint()
    assert (np.nanmin(once.data.compute(), axis=(1, 2)) < np.nanmin(scene.data.compute(), axis=(1, 2)) - 0.04).all()


def test_large_scenes_are_looked_at_in_places_and_overviews_agree(tmp_path):
    shape = (2600, 1500)
    bare = port(tmp_path / "bare.tif", shape=shape)
    exact = np.percentile((b := whole(bare)).data[:, b.valid], 2, axis=1)
    assert np.allclose(darkest(bare), exact, atol=1e-3)
    with rasterio.open(tmp_path / "bare.tif", "r+") as f:
        f.build_overviews([2, 4], Resampling.nearest)
    seen = open_scene(tmp_path / "bare.tif", units="reflectance")
    assert seen.source.coarser(512) is not None and np.allclose(darkest(seen), exact, atol=1e-3)


def test_a_scene_without_pixels_stays_as_it_is(tmp_path):
    scene = port(tmp_path / "s.tif", shape=(40, 40))
    assert np.isnan(darkest(scene)).all() and take_off_haze(scene, (0.03, 0.02)) == scene


def test_objects_of_a_scene_do_not_depend_on_what_was_added(tmp_path):
    """5 dB more everywhere would light the whole sea for this network; with its dark level given, it sees the same ships."""
    model = Model(Bright(), replace(SPEC, dark=(-24.0,))).eval()
    paths = [radar(tmp_path / f"{i}.tif") for i in range(2)]
    with rasterio.open(paths[1], "r+") as f:
        data = f.read(1)
        f.write(np.where(data > -1000, data + 8, data), 1)
    found = [segment(open_scene(p), model, device="cpu", dtype="fp32", out=p.with_suffix(".gpkg")).detections for p in paths]
    assert len(found[0]) == len(found[1]) == 5
    assert shapely.equals_exact(found[0].geometry, found[1].geometry, 1e-3).all()
    plain = segment(open_scene(paths[1]), Model(Bright(), SPEC).eval(), device="cpu", dtype="fp32").detections
    assert not np.isclose(shapely.area(plain.geometry).sum(), shapely.area(found[0].geometry).sum(), rtol=0.01)


def test_dark_is_one_level_per_band():
    with pytest.raises(ValueError, match="one level per band"):
        replace(OPTICAL, dark=(0.03,))
    assert Spec.from_json(OPTICAL.to_json()) == OPTICAL


def test_a_model_is_trained_for_scenes_without_haze(tmp_path):
    for i, added in enumerate([(0.0, 0.0), (0.3, 0.3)]):
        port(tmp_path / f"s{i}.tif", added=added, nodata=False)
    box = gpd.GeoDataFrame(geometry=[shapely.box(500200, 5799000, 500400, 5799200)], crs="EPSG:32631")
    box.to_file(tmp_path / "l.gpkg")
    words = {"scenes": [tmp_path / "s0.tif"], "val": [tmp_path / "s1.tif"], "labels": [tmp_path / "l.gpkg"], "units": "reflectance"}
    model, learnt, judged = prepare(**words, dark=0.03, backbone="mobilenetv4_conv_small", context="none")
    assert model.spec.dark == (0.03, 0.03)
    assert np.subtract(prepare(**words, context="none")[0].spec.mean, model.spec.mean).max() > 0.01
    a, b = (torch.from_numpy(g.cut(Window(0, 0, 64, 64))[0]) for g in learnt + judged)
    assert torch.allclose(a, b, atol=1e-3)
    with pytest.raises(TrainError, match="leave --dark out"):
        prepare(**words, dark=0.03, start="vessels-s2")
