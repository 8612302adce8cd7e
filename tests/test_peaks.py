import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xtgeo.peaks import Peaks, find_peaks, merge_peaks
from xtgeo.scene import Block
from xtgeo.window import Nest, Window


def answers(heat, seed=0):
    rng = np.random.default_rng(seed)
    rest = rng.random((5, *heat.shape)).astype(np.float32)
    return np.concatenate([heat[None].astype(np.float32), rest])


def by_hand(heat, threshold, radius):
    """The definition, cell by cell."""
    found = []
    for y, x in np.argwhere(heat >= threshold):
        around = [
            (heat[v, u], -v, -u)
            for v in range(max(0, y - radius), min(heat.shape[0], y + radius + 1))
            for u in range(max(0, x - radius), min(heat.shape[1], x + radius + 1))
        ]
        if max(around) == (heat[y, x], -y, -x):
            found.append((y, x))
    return found


@given(st.integers(1, 40), st.integers(1, 40), st.integers(2, 12), st.integers(0, 4), st.integers(2, 9), st.integers(0, 2**31))
@settings(deadline=None, max_examples=150)
def test_however_the_scene_is_cut_the_points_are_those_of_the_definition(h, w, side, radius, steps, seed):
    """Few steps make many equal scores and long plateaus."""
    rng = np.random.default_rng(seed)
    heat = (rng.integers(0, steps, (h, w)) / steps).astype(np.float32)
    data = answers(heat, seed)
    parts = []
    for tile in Nest((h, w), side, 1):
        block = Block(tile.core, data[(slice(None), *tile.core.slices)], np.ones(tile.core.shape, bool))
        found = find_peaks(block, threshold=0.4, radius=radius, stride=2)
        parts.append(Peaks.from_bytes(found.to_bytes()))
    whole = merge_peaks(reversed(parts), radius=radius)
    assert list(zip(whole.y.tolist(), whole.x.tolist(), strict=True)) == by_hand(heat, 0.4, radius)
    assert np.array_equal(whole.score, heat[whole.y, whole.x])
    assert np.allclose(whole.row, (whole.y + data[1][whole.y, whole.x]) * 2)
    assert np.array_equal(whole.length, data[5][whole.y, whole.x])


def test_cells_without_measurement_are_no_points():
    heat = np.full((9, 9), 0.2, np.float32)
    heat[4, 4], heat[2, 7] = 0.9, 0.8
    valid = np.ones((9, 9), bool)
    valid[4, 4] = False
    found = merge_peaks([find_peaks(Block(Window(0, 0, 9, 9), answers(heat), valid), threshold=0.5, radius=2, stride=4)], radius=2)
    assert found.y.tolist() == [2] and found.x.tolist() == [7]


def test_what_a_tile_keeps_is_little():
    rng = np.random.default_rng(0)
    block = Block(Window(0, 0, 512, 512), answers(rng.random((512, 512)) ** 8), np.ones((512, 512), bool))
    found = find_peaks(block, threshold=0.9, radius=3, stride=2)
    inside = (np.minimum(found.y, 511 - found.y) >= 3) & (np.minimum(found.x, 511 - found.x) >= 3)
    assert found.top[inside].all() and len(found) < 0.03 * 512**2
    assert len(merge_peaks([], radius=3)) == 0


def test_columns_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="one length"):
        Peaks(*(np.zeros(n) for n in (1, 1, 1, 1, 1, 1, 1, 1, 2)))
