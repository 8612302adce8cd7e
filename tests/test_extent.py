from dataclasses import replace

import numpy as np
import pytest
import shapely
from test_infer import scene as memory

from xtgeo import detect, load_model, open_scene
from xtgeo.extent import LEAST_M, measured_lengths
from xtgeo.model import Model
from xtgeo.model.cfar import BLUR_M
from xtgeo.simulate import Conditions, sentinel1, write_scene


def sea(shape=(600, 700), units="db", seed=0):
    """Two bands of 4-look speckle around -20 and -28 dB."""
    scene, rng = memory(*shape, units=units), np.random.default_rng(seed)
    for band, level in zip(scene.source.pixels, (-20.0, -28.0), strict=True):
        band[:] = level + 10 * np.log10(rng.gamma(4.4, 1 / 4.4, shape))
    return scene


def draw(scene, row, column, length, width, turn=0.0, level=0.0):
    """A bright rectangle, its sides in pixels and its long side turned by degrees from the rows' direction."""
    y, x = np.mgrid[: scene.shape[0], : scene.shape[1]] + 0.5
    c, s = np.cos(np.radians(turn)), np.sin(np.radians(turn))
    along, across = (x - column) * c + (y - row) * s, (y - row) * c - (x - column) * s
    scene.source.pixels[:, (abs(along) <= length / 2) & (abs(across) <= width / 2)] = level


@pytest.mark.parametrize("turn", [0.0, 30.0, 90.0])
@pytest.mark.parametrize("length", [15, 30])
def test_the_long_side_is_measured_whichever_way_a_ship_lies(length, turn):
    scene = sea()
    draw(scene, 300.5, 350.5, length, 4, turn)
    got = measured_lengths(scene, np.array([300.0]), np.array([350.0]), (10.0, 10.0))
    assert got == pytest.approx(10 * length - BLUR_M, abs=15)


def test_what_is_short_or_dark_or_elsewhere_or_land_is_not_told():
    scene = sea()
    draw(scene, 100.5, 100.5, 8, 3)
    draw(scene, 100.5, 300.5, 20, 3, level=-27.0)
    draw(scene, 300.5, 300.5, 20, 3)
    draw(scene, 500.0, 350.0, 90, 50)
    rows, columns = np.array([100.0, 100.0, 308.0, 480.0]), np.array([100.0, 300.0, 300.0, 320.0])
    assert np.isnan(measured_lengths(scene, rows, columns, (10.0, 10.0))).all()
    assert measured_lengths(scene, np.array([303.0]), np.array([300.0]), (10.0, 10.0)) >= LEAST_M


def test_linear_power_gives_the_same_and_what_is_no_polarisation_is_not_looked_at():
    scene, linear = sea(), sea(units="linear")
    for one in (scene, linear):
        draw(one, 300.5, 350.5, 20, 4, 30)
    linear.source.pixels[:] = 10 ** (linear.source.pixels / 10) - 1e-5
    at = np.array([300.0]), np.array([350.0]), (10.0, 10.0)
    assert measured_lengths(linear, *at) == pytest.approx(measured_lengths(scene, *at), abs=5)
    assert np.isnan(measured_lengths(scene.with_bands({"depth": 1}), *at)).all()


@pytest.mark.parametrize(("down", "across"), [(10.0, 10.0), (5.0, 14.0), (20.0, 7.0)])
@pytest.mark.parametrize("turn", [0, 90])
def test_pixels_of_any_size_and_shape_give_the_same_metres(down, across, turn):
    scene = sea((500, 500))
    side = (across, down)[turn // 90]
    draw(scene, 250.5, 250.5, 300 / side, 60 / (down + across - side), turn)
    length = measured_lengths(scene, np.array([250.0]), np.array([250.0]), (down, across))
    assert length == pytest.approx(270, abs=1.5 * max(down, across))


def test_what_is_cut_is_not_told():
    scene = sea()
    for row in (100.5, 200.5, 300.5):
        draw(scene, row, 350.5, 30, 4)
    draw(scene, 500.5, 0, 40, 4)
    scene.source.valid[90:110, 360:370] = False
    rows, columns = np.array([100.0, 200, 200, 300, 500]), np.array([350.0, 345, 355, 350, 5])
    lengths = measured_lengths(scene, rows, columns, (10.0, 10.0))
    assert np.isfinite(lengths).tolist() == [False, True, True, True, False] and lengths[1] == lengths[2]


def test_a_length_depends_on_what_is_around_its_point_alone():
    scene, rng = sea((700, 900)), np.random.default_rng(1)
    rows, columns = rng.uniform(0, 700, 30), rng.uniform(0, 900, 30)
    for row, column in zip(rows, columns, strict=True):
        draw(scene, row, column, rng.uniform(5, 40), 4, rng.uniform(0, 180))
    together = measured_lengths(scene, rows, columns, (10.0, 10.0))
    alone = [measured_lengths(scene, rows[i : i + 1], columns[i : i + 1], (10.0, 10.0))[0] for i in range(30)]
    assert np.array_equal(together, alone, equal_nan=True) and 5 < np.isfinite(together).sum() < 30


def test_points_sar_says_the_measured_length_of_long_ships_and_its_own_of_others(tmp_path):
    path = tmp_path / "s.tif"
    write_scene(sentinel1((768, 768), seed=5, density=20, land=False, conditions=Conditions(lengths_m=(30, 350))), path)
    scene = open_scene(path)
    model = load_model("points-sar")
    own = Model(model.net, replace(model.spec, measures=False))
    found, said = (detect(scene, m, dtype="fp32").detections for m in (model, own))
    rows, columns = shapely.get_coordinates(found.geometry)[:, ::-1].T
    measured = measured_lengths(scene, rows, columns, (10.0, 10.0))
    vessel = found["is_vessel"].to_numpy(bool)
    expected = np.where(vessel & np.isfinite(measured), measured.round(1), said["vessel_length_m"])
    assert found["vessel_length_m"] == pytest.approx(expected, nan_ok=True, abs=0.11)
    assert 2 < np.isfinite(measured).sum() < len(found)
