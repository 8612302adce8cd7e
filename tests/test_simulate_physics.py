"""The simulator's physics against the figures it is built on: Sentinel-1's, the models' and those of xView3's labels."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.features import rasterize
from scipy.ndimage import uniform_filter
from shapely import Polygon, contains_xy
from shapely.geometry import Point

from xtgeo.simulate import Conditions, Nesz, plan_sentinel1, sentinel1
from xtgeo.simulate.ancillary import ICE, LAND, NODATA
from xtgeo.simulate.echo import Echo, Objects, Wake, plan_echoes
from xtgeo.simulate.fields import double, gamma_from_gaussian, kernel, local_field, power_law, spectral_field, spline
from xtgeo.simulate.geometry import GHOST_PX, SEAMS_PX, SWATH_PX, Footprint, Look
from xtgeo.simulate.land import holds
from xtgeo.simulate.noise import Grain, speckle
from xtgeo.simulate.plan import remove_noise
from xtgeo.simulate.recent import Recent
from xtgeo.simulate.sea import INCIDENCE, VV_DB, WIND, sigma0_db
from xtgeo.simulate.targets import PIXEL_M, Plan, hull, outline, point_response
from xtgeo.window import Window

QUIET = Conditions(rfi=False, ice=0, border_px=0, slicks=0)
EMPTY = replace(QUIET, structures=False)


def sea_only(shape, seed, wind, **conditions):
    """Open sea without anything on it, and its dB without the calibration offset."""
    fixed = replace(EMPTY, **conditions)
    sim = sentinel1(shape, seed=seed, density=0, wind=wind, land=False, nodata=False, conditions=fixed)
    return sim, sim.data - np.array(sim.params.calibration_db, np.float32)[:, None, None]


# Numbers with a place


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 90), st.integers(0, 90), st.integers(1, 60), st.integers(1, 60), st.integers(0, 9))
def test_bits_are_a_function_of_their_place(y, x, h, w, reach):
    grain = Grain((1, 2), (97, 111), cell=32)
    everything = grain.bits(3, Window(0, 0, 97 + reach, 111 + reach), reach=reach, layers=2)
    window = Window(y, x, h, w) & Window(0, 0, 97 + reach, 111 + reach)
    assert np.array_equal(grain.bits(3, window, reach=reach, layers=2), everything[:, *window.slices])


def test_streams_seeds_and_pieces_differ():
    grain, window = Grain.of(5, (64, 64)), Window(0, 0, 64, 64)
    first = grain.bits(1, window, reach=0)
    assert (first == grain.bits(2, window, reach=0)).mean() < 0.02
    assert (first == Grain.of(6, (64, 64)).bits(1, window, reach=0)).mean() < 0.02
    cells = Grain((1, 1), (64, 64), cell=32).bits(1, window, reach=0)[0]
    assert (cells[:32, :32] == cells[32:, 32:]).mean() < 0.02 and (cells[:32] == cells[32:]).mean() < 0.02


def test_uniform_numbers_are_uniform():
    drawn = Grain.of(1, (300, 300)).uniform(9, Window(0, 0, 300, 300), reach=0)
    assert 0 < drawn.min() and drawn.max() < 1
    assert np.histogram(drawn, 10, (0, 1))[0] == pytest.approx(9000, rel=0.05)


def test_what_was_worked_out_last_is_kept_and_no_more():
    asked, recent = [], Recent(2)
    for key in "abacba":
        assert recent.get(key, lambda k: asked.append(k) or k.upper(), key) == key.upper()
    assert asked == ["a", "b", "c", "b", "a"]


def test_speckle_has_the_looks_and_the_correlation_of_a_grd_product():
    field = speckle(Grain.of(0, (900, 900)), 1, Window(0, 0, 800, 800))
    assert field.mean() == pytest.approx(1, abs=0.01)
    assert field.mean() ** 2 / field.var() == pytest.approx(4.4, abs=0.3)
    db = 10 * np.log10(field)
    assert db.mean() == pytest.approx(-0.51, abs=0.06) and db.std() == pytest.approx(2.19, abs=0.1)
    off = (field - field.mean()) / field.std()
    for axis in (0, 1):
        lags = [(np.roll(off, n, axis) * off).mean() for n in (1, 2, 6)]
        assert lags == pytest.approx([0.64, 0.16, 0], abs=0.04)


def test_a_field_made_piece_by_piece_has_its_spectrum_and_no_seams():
    grain, waves = Grain.of(2, (600, 600)), kernel(power_law(0.8, longest=24), 20).scaled(1.0)
    field = local_field(grain, 3, waves, Window(0, 0, 512, 512))
    assert field.mean() == pytest.approx(0, abs=0.1) and field.std() == pytest.approx(1, abs=0.05)
    beside = local_field(grain, 3, waves, Window(0, 512, 512, 80))
    wide = local_field(grain, 3, waves, Window(0, 0, 512, 512), halo=0)
    jump, step = np.abs(beside[:, 0] - field[:, -1]), np.abs(np.diff(wide, axis=1))
    assert jump.mean() == pytest.approx(step.mean(), rel=0.1)


@given(st.floats(2, 40))
@settings(max_examples=8, deadline=None)
def test_a_gamma_field_keeps_its_mean_and_gets_its_order(order):
    field = gamma_from_gaussian(np.random.default_rng(1).standard_normal(100_000), order)
    assert field.mean() == pytest.approx(1, abs=0.02)
    assert 1 / field.var() == pytest.approx(order, rel=0.1)


def test_interpolation_keeps_straight_lines_and_signs():
    plane = np.add.outer(np.arange(9.0), 2 * np.arange(7.0))
    rows, columns = np.mgrid[16:40, 8:40]
    assert spline(plane, 8, Window(16, 8, 24, 32)) == pytest.approx(rows / 8 + columns / 4, abs=1e-4)
    assert double(plane, (15, 12)) == pytest.approx(np.add.outer(np.arange(15) / 2, np.arange(12.0)), abs=1e-5)
    assert (spline(np.random.default_rng(0).random((5, 6)), 4, Window(0, 0, 17, 21)) > 0).all()


def test_a_steeper_spectrum_is_smoother():
    rough, smooth = (spectral_field(np.random.default_rng(2), (128, 96), power_law(e)) for e in (0.5, 2.0))
    assert np.abs(np.diff(smooth, axis=0)).mean() < 0.3 * np.abs(np.diff(rough, axis=0)).mean()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(3, 15))
def test_pixels_in_a_polygon_are_those_that_geos_finds(seed, n):
    corners = np.random.default_rng(seed).uniform(0, 30, (n, 2))
    shape = Polygon(corners[:, ::-1])
    rows, columns = np.arange(-3, 33)[:, None], np.arange(-2, 35)[None]
    if shape.is_valid:
        assert np.array_equal(holds(corners, rows, columns), contains_xy(shape, *np.broadcast_arrays(columns + 0.5, rows + 0.5)))


# Geometry


def test_range_grows_away_from_the_sensor_which_looks_right():
    ascending, descending = Look(-12.0, 0.0), Look(-168.0, 0.0)
    assert ascending.across[0] > 0 > descending.across[0]
    assert ascending.along[1] < 0 < descending.along[1]
    assert np.dot(ascending.along, ascending.across) == pytest.approx(0)


def test_incidence_runs_over_the_swath():
    look = Look(0.0, 0.0)
    assert look.incidence_deg(0, 0) == pytest.approx(30.85)
    assert look.incidence_deg(0, SWATH_PX) == pytest.approx(45.99)


def test_noise_is_that_of_the_table_and_jumps_where_sub_swaths_meet():
    look = Look(-12.0, SEAMS_PX[1] - 100.0)
    vv, _ = look.noise(Window(0, 0, 64, 200))
    # The seam crosses the first row 100 / cos(12 deg) pixels from its start.
    assert vv[0, 98] / vv[0, 106] > 1.3
    flat = replace(look, nesz=Nesz((30.0, 47.0), (-20.0, -20.0), (-25.0, -25.0)), noise_offset_db=1.0)
    vv, vh = (10 * np.log10(n) for n in flat.noise(Window(0, 0, 2500, 4)))
    # Scalloping lifts the ends of bursts by 17 %.
    assert (vv.min(), vv.max()) == (pytest.approx(-19, abs=0.01), pytest.approx(-19 + 10 * np.log10(1.17), abs=0.02))
    assert vh - vv == pytest.approx(-5, abs=1e-4)


def test_a_noise_table_that_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="as many decibels as angles"):
        Nesz((30.0, 40.0), (-20.0,), (-20.0, -20.0))
    with pytest.raises(ValueError, match="ascend"):
        Nesz((40.0, 30.0), (-20.0, -20.0), (-20.0, -20.0))


def test_a_swath_has_jagged_sides_and_a_border_that_fades():
    look, window = Look(0.0, 0.0), Window(0, 0, 500, 400)
    jags = np.random.default_rng(0).uniform(0, 9, 32).astype(np.float32)
    clean = Footprint(look, ranges=(100.0, 300.0), lines=(-450.5, 0.5), jags=jags)
    left = clean.window(window).argmax(axis=1)[1:440]
    assert 100 <= left.min() and left.max() <= 110 and len(np.unique(left)) > 4
    assert not clean.window(window)[451:].any()
    dirty = replace(clean, dirt_px=20.0)
    more = dirty.window(window) & ~clean.window(window)
    fade = dirty.fade(window)
    assert 15 < more[100].sum() / 2 < 25 and (fade[clean.window(window)] == 1).all()
    assert fade[more].max() <= 0.1 and fade[more].min() >= 0.00099


# Sea, ice, land


def test_the_sea_answers_with_the_table_and_grows_with_wind():
    wind, incidence = np.meshgrid(WIND, INCIDENCE, indexing="ij")
    assert sigma0_db(wind, incidence)[0] == pytest.approx(VV_DB)
    vv, vh = sigma0_db(np.linspace(1, 18, 50), 38.0)
    assert (np.diff(vv) > 0).all() and (np.diff(vh) > 0).all()
    up, cross = (sigma0_db(10.0, 38.0, angle)[0] for angle in (0, 90))
    assert 3 < up - cross < 6


@pytest.mark.parametrize("wind", [3, 7, 12])
def test_the_mean_of_the_sea_is_that_of_the_model(wind):
    sim, db = sea_only((500, 531), 11, wind)
    look = sim.params.look
    expected = sigma0_db(wind, look.incidence_deg(250, 265), sim.params.wind_from_deg - look.heading_deg - 90)[0]
    # The wind field moves the mean; the noise rule holds up what is darker than the noise.
    assert 10 * np.log10((10 ** (db[0] / 10)).mean()) == pytest.approx(expected, abs=1.5)


def test_levels_of_scenes_are_those_of_xview3():
    sims = (sentinel1((200, 201), seed=seed) for seed in range(40))
    vv, vh = np.array([sim.data[:, sim.valid].mean(axis=1) for sim in sims if sim.valid.any()]).T
    assert vv.mean() == pytest.approx(-16.4, abs=2) and vh.mean() == pytest.approx(-26.3, abs=2)
    assert -30 < vv.min() and vv.max() < -8 and -35 < vh.min() and vh.max() < -15


def test_calm_sea_in_vh_lies_near_minus_29_db_whatever_the_wind():
    means = {}
    for rule in ("snap", "clip", "none"):
        drawn = [sea_only((128, 200), seed, 1 + seed % 5, noise=rule)[1][1] for seed in range(16)]
        means[rule] = np.mean(drawn)
        if rule == "snap":
            assert 1.7 < np.mean([d.std() for d in drawn]) < 2.6
    assert means["snap"] == pytest.approx(-29, abs=0.7)
    assert means["clip"] < means["snap"] - 6 and means["none"] == pytest.approx(-26.5, abs=0.7)


def test_sub_swath_seams_show_in_vh_when_the_wind_is_low():
    plan = plan_sentinel1((64, 600), seed=4, density=0, wind=3, land=False, nodata=False, conditions=EMPTY)
    look = replace(plan.params.look, heading_deg=-12.0, near_px=SEAMS_PX[1] - 300.0)
    vh = replace(plan, params=replace(plan.params, look=look)).read(Window(0, 0, 64, 600)).data[1]
    beyond = look.range_px(*np.mgrid[:64, :600]) - SEAMS_PX[1]
    near, far = (vh[(low < beyond) & (beyond < high)].mean() for low, high in ((-120, -5), (5, 120)))
    assert 2 < near - far < 4


def test_the_order_of_the_texture_decides_how_spiky_the_sea_is():
    spread = []
    for order in (4, 40):
        _, db = sea_only((500, 500), 2, 9, texture=order)
        means = (10 ** (db[0] / 10))[:480, :480].reshape(120, 4, 120, 4).mean(axis=(1, 3))
        spread.append(means.var() / means.mean() ** 2)
    # Of 1 / 4 and 1 / 40, means over 40 m keep most; speckle adds the same to both.
    assert 0.1 < spread[0] - spread[1] < 0.25


def test_rolls_and_swell_are_seen_in_vv_and_drowned_in_vh():
    _, db = sea_only((500, 500), 2, 5, texture=4)
    smooth = [uniform_filter(10 ** (d / 10), 9)[::9, ::9] for d in db]
    assert smooth[0].std() / smooth[0].mean() > 2 * smooth[1].std() / smooth[1].mean()


def test_films_darken_the_sea_by_four_to_ten_db_and_last_in_little_wind():
    clean, slick = (sea_only((400, 400), 3, 5, slicks=share)[1][0] for share in (0, 0.3))
    loss = uniform_filter(10 ** (slick / 10), 15) / uniform_filter(10 ** (clean / 10), 15)
    assert 0.1 < (loss < 0.6).mean() < 0.5 and -11 < 10 * np.log10(np.percentile(loss, 2)) < -3
    assert np.array_equal(*(sea_only((100, 100), 3, 12, slicks=share)[1] for share in (0, 0.3)))


def test_ice_is_brighter_than_calm_sea_and_has_leads():
    plan = plan_sentinel1((512, 512), seed=5, wind=3, density=20, land=False, nodata=False, conditions=replace(QUIET, ice=0.6))
    sim, (mask, vv, vh) = plan.drawn(), plan.ice.draw(Window(0, 0, 513, 513))
    assert 0.4 < mask.mean() < 0.75
    assert -21 < 10 * np.log10(vv).min() and 10 * np.log10(vv).max() < -7
    assert -29.5 < 10 * np.log10(vh).min() and 10 * np.log10(vh).max() < -16
    inside = mask[:512, :512]
    assert np.median(sim.data[1][inside]) > np.median(sim.data[1][~inside]) + 3
    edge = spline(plan.ice.edge, 8, Window(0, 0, 512, 512)) > 0
    assert 0.005 < (edge & ~inside).sum() / edge.sum() < 0.15
    assert not any(plan.ice.at(np.array([s.row]), np.array([s.column]))[0] for s in sim.ships)
    assert (sim.around.rasters["owiMask"] == ICE).any()


@pytest.fixture(scope="module")
def coast():
    return plan_sentinel1((1100, 1000), seed=1, land=0.35, wind=4, nodata=False, conditions=QUIET)


def test_land_takes_its_share_and_is_bright(coast):
    sim = coast.drawn()
    assert sim.land.mean() == pytest.approx(0.35, abs=0.04)
    db = sim.data - np.array(sim.params.calibration_db)[:, None, None]
    vv, vh = np.median(db[:, sim.land], axis=1)
    assert vv == pytest.approx(-10, abs=4) and vh == pytest.approx(-16.5, abs=4)
    assert vh > np.median(db[1][~sim.land]) + 5
    assert np.percentile(db[0][sim.land], 99.9) > 3


def test_coasts_are_as_rough_between_the_nodes_as_over_them(coast):
    land = coast.drawn().land
    coarse = land[::8, ::8]
    length = [np.abs(np.diff(m.astype(int), axis=1)).sum() * step for m, step in ((land, 1), (coarse, 8))]
    # A fractal coast is longer on the finer ruler; a smooth one would be as long.
    assert 1.15 < length[0] / length[1] < 3


def test_the_land_that_is_asked_about_is_the_land_that_is_drawn(coast):
    rows, columns = np.random.default_rng(0).uniform((0, 0), (1100, 1000), (300, 2)).T
    assert np.array_equal(coast.land.at(rows, columns), coast.drawn().land[rows.astype(int), columns.astype(int)])


def test_slopes_that_face_the_sensor_are_bright(coast):
    steep = replace(coast.land, cover=replace(coast.land.cover, rugged_deg=14.0))
    window = Window(0, 0, 512, 512)
    heights, _ = steep._block(window)
    db = steep._slopes(window, heights)
    look = coast.params.look
    down, right = np.gradient(heights)
    toward = look.across[0] * right + look.across[1] * down
    assert np.corrcoef(db[8:-8, 8:-8].ravel(), toward[8:-8, 8:-8].ravel())[0, 1] > 0.3
    assert db.max() < 8 and db.min() > -3


def test_without_a_coast_there_are_islets_small_enough_to_be_taken_for_ships():
    sims = [sentinel1((900, 900), seed=seed, land=0.0, nodata=False) for seed in range(8)]
    islands = [shore for sim in sims if (shore := sim.land.sum())]
    assert len(islands) > 4 and max(islands) < 0.03 * 900**2


def test_bright_land_shows_again_up_and_down_the_track():
    plan = plan_sentinel1((1100, 400), seed=1, land=0.0, wind=1, nodata=False, conditions=QUIET)
    town = np.zeros((1, 4)) + (550, 200, 20, 0.4)
    corners = np.array([(520, 170), (520, 230), (580, 230), (580, 170)], float)
    land = replace(plan.land, towns=town, islets=type(plan.land.islets)((corners,), (0.3,)))
    here, bare = replace(plan, land=land, land_ghost=0.01), replace(plan, land=land, land_ghost=0.0)
    window, look = Window(0, 0, 1024, 401), plan.params.look
    for sign in (-1, 1):
        step = look.ghost_px(550, 200)
        y, x = 550 + sign * step * look.along[1], 200 + sign * step * look.along[0]
        block = (0, 0) if y < 512 else (512, 0) if y < 1024 else (1024, 0)
        raw = Window(*block, min(513, 1101 - block[0]), 401)
        more = here._surface(raw)[0] - bare._surface(raw)[0]
        centre = np.array([(more * axis).sum() for axis in np.mgrid[: raw.h, : raw.w]]) / more.sum()
        assert centre + (raw.y, raw.x) == pytest.approx((y, x), abs=4)
        assert more.sum() / land.draw(Window(512, 0, 512, 401))[1].sum() > 0.002
    assert window.h


# What is around


def test_ancillaries_agree_with_the_fields_they_come_from(coast):
    around, sim = coast.ancillary(), coast.drawn()
    cells = around.rasters["owiMask"]
    rows, columns = np.indices(cells.shape)
    to_pixels = ~sim.grid.affine @ around.transform
    x, y = to_pixels @ (columns + 0.5, rows + 0.5)
    inside = (0 <= y) & (y < 1100) & (0 <= x) & (x < 1000)
    ashore = sim.land[y[inside].astype(int), x[inside].astype(int)]
    assert (ashore == (cells[inside] == LAND)).mean() > 0.93
    assert ((around.rasters["bathymetry"] > 0) == (cells == LAND)).all()
    if not coast.params.wind_missing:
        speed = around.rasters["owiWindSpeed"]
        assert (speed[cells == LAND] == NODATA).all() and ((around.rasters["owiWindQuality"] == 3) == (speed == NODATA)).all()
        assert speed[speed != NODATA].mean() == pytest.approx(4, rel=0.25)


def test_the_wind_is_missing_from_some_scenes():
    missing = [plan_sentinel1((64, 64), seed=seed, land=False) for seed in range(60)]
    share = np.mean([(p.ancillary().rasters["owiWindSpeed"] == NODATA).all() for p in missing])
    assert 0 < share < 0.2


def test_interference_lies_in_stripes_along_range_and_mostly_in_vh():
    quiet, loud = (sea_only((700, 100), 8, 3, rfi=rfi)[0] for rfi in (False, True))
    more = (loud.data - quiet.data).mean(axis=2)
    assert more[1].max() > 3 and more[1].max() > 2 * more[0].max()
    struck = (loud.data[1] != quiet.data[1]).any(axis=1)
    assert 0 < struck.mean() < 1


# Objects


def point_target(look: Look, shape, row: float, column: float, rcs=1e6) -> tuple[Objects, np.ndarray]:
    """One bright point with its ghosts, and its VV."""
    params = replace(plan_sentinel1((64, 64)).params, look=look, subpixel=(0.0, 0.0), density=0.0, ghosts=True)
    objects = plan_echoes(np.random.default_rng(0), [Plan(row, column, 20, 20, 0, "turbine", rcs, rcs)], params, shape=shape)
    vv, window = np.zeros(shape, np.float32), Window(0, 0, *shape)
    objects.add(0, vv, window, objects.near(window))
    return objects, vv


def test_a_target_keeps_its_radar_cross_section_and_its_place():
    _, vv = point_target(Look(-12.0, 4000.0), (401, 401), 200.5, 180.5)
    assert np.unravel_index(vv.argmax(), vv.shape) == (200, 180)
    near = vv[190:212, 170:192].sum() * PIXEL_M**2
    assert near == pytest.approx(1e6, rel=0.05)


@pytest.mark.parametrize("swath", [0, 1, 2])
def test_azimuth_ghosts_lie_where_the_pulse_rate_puts_them(swath):
    near = (0, *SEAMS_PX)[swath] + 3000.0
    look, shape = Look(-168.0, near + 400), (1401, 801)
    objects, vv = point_target(look, shape, 700.5, 400.5)
    flat = (np.full(shape, 1e-3, np.float32),) * 2
    known = objects.contrasts(np.arange(len(objects.echoes)), flat, flat, Window(0, 0, *shape), np.ones(shape, bool))
    _, ghosts = objects.known(known, lambda y, x: np.ones(np.broadcast_shapes(y.shape, x.shape), bool))
    assert len(ghosts) == 2
    for sign in (-1, 1):
        ahead = vv[:400] if sign * look.along[1] < 0 else vv[1000:]
        y, x = np.unravel_index(ahead.argmax(), ahead.shape)
        y = y + (0 if sign * look.along[1] < 0 else 1000)
        offset = np.array([x - 400, y - 700])
        assert GHOST_PX[swath][0] - 2 <= sign * offset @ look.along <= GHOST_PX[swath][1] + 2
        assert 1 <= offset @ look.across <= 4
        assert -31 < 10 * np.log10(vv[y, x] / vv.max()) < -19
        (ghost,) = (g for g in ghosts if abs(g.row - y - 0.5) < 3 and abs(g.column - x - 0.5) < 3)
        assert ghost.detectable and ghost.contrast_vv_db == pytest.approx(10 * np.log10(1 + vv[y, x] / 1.45e-3), abs=0.1)


def test_ghosts_can_be_left_out():
    with_them, without = (
        sentinel1((700, 300), seed=2, density=60, land=False, conditions=replace(QUIET, ghosts=ghosts)) for ghosts in (True, False)
    )
    assert with_them.ghosts and not without.ghosts and len(with_them.ships) == len(without.ships)


def test_the_point_response_is_20_metres_wide_and_its_sidelobes_are_low():
    x = np.linspace(-10, 10, 4001)
    db = 20 * np.log10(point_response(x) + 1e-9)
    assert np.ptp(x[db > -3.01]) == pytest.approx(1.005, abs=0.02)
    assert -22 < db[np.abs(x) > 1.5].max() < -20


def test_a_wake_is_dark_astern_with_bright_arms_at_kelvins_angle():
    wake = Wake(100.0, 200.0, heading_deg=90.0, width_m=20, length_px=150, depth=0.6, arms=0.8)
    factor = wake.factor(Window(0, 0, 201, 260))
    assert (np.abs(factor[:, 203:] - 1) < 0.02).all()
    assert factor[100, 150:195].max() < 0.8 and factor[99:101, 100].max() < 0.9
    for at in (100, 140, 170):
        arm = (200 - at) * np.tan(np.deg2rad(19.5))
        assert abs(factor[:, at].argmax() + 0.5 - 100) == pytest.approx(arm, abs=1.5)


def test_moving_ships_are_displaced_from_their_wakes_along_the_track():
    look = Look(-12.0, 9000.0)
    params = replace(plan_sentinel1((64, 64)).params, look=look, subpixel=(0.0, 0.0), density=0.0, wind=5.0)
    for heading, sign in ((78.0, 1), (258.0, -1)):  # away from the sensor, and towards it
        plans = [Plan(500, 500, 100, 15, heading, "cargo", 1e3, 1e2)] * 60
        wakes = plan_echoes(np.random.default_rng(1), plans, params, shape=(1000, 1000)).wakes
        assert 0 < len(wakes) < 15
        for wake in wakes:
            offset = np.array([wake.column - 500, wake.row - 500])
            # 3 to 10 m/s over the ground, some 0.58 to 0.64 of it along the line of sight, at 105 to 126 m for each.
            assert 15 < sign * offset @ look.along < 85 and abs(offset @ look.across) < 1e-6
    assert not plan_echoes(np.random.default_rng(1), plans, replace(params, wind=15.0), shape=(1000, 1000)).wakes


@given(st.floats(7, 400), st.floats(0, 360))
def test_the_outline_is_the_hull_and_ten_metres_around_it(length, heading):
    ship = hull(50, 60, length, length / 6, heading)
    wide = outline(ship)
    assert wide.contains(ship) and wide.is_valid
    assert ship.exterior.distance(wide.exterior) == pytest.approx(1.0, abs=1e-6)
    h = np.deg2rad(heading)
    bow = Point(60 + length / 20 * np.sin(h), 50 - length / 20 * np.cos(h))
    assert ship.exterior.distance(bow) < 1e-6


def test_what_is_drawn_lies_within_the_box_that_is_planned_for_it():
    objects = plan_sentinel1((600, 600), seed=3, density=200, land=False).objects
    for i, (top, left, bottom, right) in enumerate(objects.boxes):
        echo = objects.echoes[i]
        assert isinstance(echo, Echo)
        part, _, y, x = objects.chip(echo.target)
        y, x = y + echo.shift[0], x + echo.shift[1]
        assert top <= y and left <= x and y + part.shape[0] <= bottom + 1 and x + part.shape[1] <= right + 1


@pytest.fixture(scope="module")
def busy():
    """Crowded pieces of sea under a moderate wind."""
    return [sentinel1((420, 421), seed=seed, density=150, wind=6, land=False, nodata=False, conditions=QUIET) for seed in range(10)]


def test_ships_shine_where_the_truth_says(busy):
    for sim in busy[:3]:
        clear = [s for s in sim.ships if s.is_vessel and max(s.contrast_vv_db, s.contrast_vh_db) > 12]
        mask = rasterize([s.outline for s in clear], out_shape=sim.valid.shape, all_touched=True).astype(bool)
        best = sim.data.max(axis=0)
        assert len(clear) > 3 and np.median(best[mask]) > np.median(best[~mask]) + 6
        for ship in clear:
            own = rasterize([ship.outline], out_shape=mask.shape, all_touched=True).astype(bool)
            brighter = [sim.data[b][own].max() - np.median(sim.data[b][~mask]) for b in (0, 1)]
            assert max(brighter) > 7


def test_lengths_follow_the_labels(busy):
    lengths = [s.length_m for sim in busy for s in sim.ships if s.is_vessel]
    assert 30 < np.median(lengths) < 55 and 110 < np.percentile(lengths, 95) < 260


def test_the_longer_a_ship_the_surer_a_cfar_finds_it(busy):
    """Two-parameter CFAR in each polarisation: peaks 7 dB over the mean of a ring of 0.2 to 0.6 km."""
    bins, hits = [0, 20, 40, 80, 500], [[] for _ in range(4)]
    for sim in busy:
        found = np.zeros(sim.valid.shape, bool)
        for power in 10 ** (sim.data / 10):
            ring = (uniform_filter(power, 61) * 61**2 - uniform_filter(power, 21) * 21**2) / (61**2 - 21**2)
            found |= power > 10**0.7 * ring
        for ship in (s for s in sim.ships if s.is_vessel):
            own = rasterize([ship.outline], out_shape=found.shape, all_touched=True).astype(bool)
            hits[np.digitize(ship.length_m, bins) - 1].append(found[own].any())
    recall = [np.mean(h) for h in hits]
    assert min(len(h) for h in hits) > 20 and (np.diff(recall) > 0).all()
    assert recall[0] < 0.7 and recall[-1] > 0.9


def test_the_noise_rules_differ_where_nothing_would_be_left():
    for rule, left in (("snap", [1, 1]), ("clip", [0, 1]), ("none", [1, 3])):
        power = np.array([1.0, 3.0], np.float32)
        remove_noise(power, np.array([2.0, 2.0], np.float32), rule=rule)
        assert power.tolist() == left
