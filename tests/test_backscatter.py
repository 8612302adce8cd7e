import numpy as np
import pytest
from test_infer import scene as memory

from xtgeo.backscatter import backscatter, has_backscatter


def sea(units="db", shape=(300, 400)):
    """Two bands of -20 and -28 dB with bright pixels."""
    scene = memory(*shape, units=units)
    for band, level in zip(scene.source.pixels, (-20.0, -28.0), strict=True):
        band[:] = level
    scene.source.pixels[:, 100, 150], scene.source.pixels[:, 103, 153] = -5.0, (-2.0, -8.0)
    scene.source.pixels[:, 5, 398] = -10.0
    return scene


def test_the_brightest_pixel_near_the_centre_is_compared_with_a_ring_around():
    sigma0, contrast = backscatter(sea(), np.array([100.6, 5.5, 250.0]), np.array([150.4, 398.5, 40.0]))
    assert sigma0.T == pytest.approx(np.array([(-2.0, -5.0), (-10.0, -10.0), (-20.0, -28.0)]), abs=1e-4)
    assert contrast.T == pytest.approx(np.array([(18.0, 23.0), (10.0, 18.0), (0.0, 0.0)]), abs=1e-4)


def test_linear_power_gives_the_same_and_other_numbers_have_none():
    linear, rows, columns = sea("linear"), np.array([100.6]), np.array([150.4])
    linear.source.pixels[:] = 10 ** (linear.source.pixels / 10) - 1e-5
    for a, b in zip(backscatter(linear, rows, columns), backscatter(sea(), rows, columns), strict=True):
        assert np.allclose(a, b, atol=0.02)
    assert has_backscatter(linear) and has_backscatter(sea()) and not has_backscatter(memory(units="reflectance"))


def test_what_was_not_measured_is_neither_object_nor_background():
    scene = sea()
    scene.source.valid[:, 151:] = False
    scene.source.pixels[:, :, 151:] = 40.0
    sigma0, contrast = backscatter(scene, np.array([100.5, 100.5]), np.array([150.5, 390.0]))
    assert sigma0[:, 0] == pytest.approx([-5.0, -5.0], abs=1e-4) and contrast[0, 0] == pytest.approx(15.0, abs=1e-4)
    assert np.isnan(sigma0[:, 1]).all() and np.isnan(contrast[:, 1]).all()


def test_points_far_apart_are_read_apart():
    scene = memory(1500, 2600)
    rng = np.random.default_rng(0)
    rows, columns = rng.uniform(0, 1500, 40), rng.uniform(0, 2600, 40)
    together = np.concatenate(backscatter(scene, rows, columns))
    alone = [np.concatenate(backscatter(scene, rows[i : i + 1], columns[i : i + 1])) for i in range(40)]
    assert np.array_equal(together, np.concatenate(alone, 1)) and np.isfinite(together).all()
    assert max(w.h * w.w for w in scene.source.reads) <= (1024 + 80) ** 2
