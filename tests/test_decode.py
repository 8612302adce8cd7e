import time

import numpy as np
import pytest
import rasterio.features
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from xtgeo.decode import SCORE_SCALE, Fragments, fragments, labels, quantise
from xtgeo.outline import tidy
from xtgeo.window import Window

pictures = hnp.arrays(
    np.uint8,
    st.tuples(st.integers(1, 17), st.integers(1, 23)),
    elements=st.sampled_from([0, 1, 1, 2, 255]),
)


def scores_for(picture, classes=2, seed=0):
    return np.random.default_rng(seed).random((classes, *picture.shape), np.float32)


def decode(picture, y=0, x=0):
    return fragments(picture, scores_for(picture), Window(y, x, *picture.shape))


def reference(picture):
    """By other means: scipy labels, GDAL's polygons."""
    objects = []
    for label in np.setdiff1d(np.unique(picture), [0, 255]):
        numbers, n = ndimage.label(picture == label, np.ones((3, 3)))
        parts = [[] for _ in range(n)]
        for outline, number in rasterio.features.shapes(numbers.astype(np.int32), mask=numbers > 0, connectivity=4):
            parts[int(number) - 1].append(shapely.geometry.shape(outline))
        score = scores_for(picture)[label - 1]
        for i in range(n):
            at = numbers == i + 1
            objects.append((shapely.multipolygons(parts[i]), int(label), at.sum(), score[at].max(), score[at].sum()))
    return objects


@settings(max_examples=200, deadline=None)
@given(pictures)
def test_fragments_equal_those_of_scipy_and_gdal(picture):
    found, expected = decode(picture), reference(picture)
    assert shapely.is_valid(found.geometry).all()
    assert len(found) == len(expected)
    want = {
        tidy(np.array([polygon], object))[0].wkb: (label, pixels, high, pytest.approx(total, rel=1e-5))
        for polygon, label, pixels, high, total in expected
    }
    rows = zip(found.class_id, found.pixels, found.score_max, found.score_sum, strict=True)
    for polygon, row in zip(tidy(found.geometry), rows, strict=True):
        assert want.pop(polygon.wkb) == row


@settings(max_examples=50, deadline=None)
@given(pictures, st.integers(0, 10_000), st.integers(0, 10_000))
def test_fragments_move_with_their_core(picture, y, x):
    here, there = decode(picture), decode(picture, y, x)
    moved = shapely.transform(here.geometry, lambda xy: xy + [x, y])
    assert shapely.equals_exact(shapely.normalize(moved), shapely.normalize(there.geometry)).all()


@given(pictures)
@settings(max_examples=50, deadline=None)
def test_fragments_come_back_from_bytes(picture):
    before = decode(picture)
    after = Fragments.from_bytes(before.to_bytes())
    assert [p.wkb for p in after.geometry] == [p.wkb for p in before.geometry]
    for name in ("class_id", "pixels", "score_sum", "score_max", "touches_seam"):
        assert getattr(after, name).dtype == getattr(before, name).dtype
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))


def test_bytes_that_are_no_fragments_are_refused():
    with pytest.raises(ValueError):
        Fragments.from_bytes(b"something else")


def test_a_ship_one_pixel_wide_and_aslant_is_one_object():
    found = decode(np.eye(9, dtype=np.uint8))
    assert len(found) == 1
    assert len(found.geometry[0].geoms) == 9
    assert found.pixels[0] == 9


def test_an_outline_that_meets_itself_at_a_corner_is_valid():
    picture = np.ones((3, 3), np.uint8)
    picture[0, 0] = picture[1, 1] = 0
    (polygon,) = decode(picture).geometry
    assert shapely.is_valid(polygon)
    assert polygon.area == 7
    assert len(polygon.geoms[0].interiors) == 1


def test_an_empty_tile_has_no_fragments_and_no_bytes():
    picture = np.zeros((5, 7), np.uint8)
    picture[2] = 255
    assert len(decode(picture)) == 0
    assert decode(picture).to_bytes() == b""
    assert len(Fragments.concat([])) == 0


def test_only_what_lies_at_the_border_of_the_core_touches_a_seam():
    picture = np.zeros((7, 9), np.uint8)
    picture[0, 4] = picture[3, 3:5] = picture[6, 8] = picture[3, 0] = 1
    assert decode(picture).touches_seam.tolist() == [True, True, False, True]


def test_labels_and_scores_must_cover_the_core():
    with pytest.raises(ValueError, match="do not cover"):
        fragments(np.zeros((4, 4), np.uint8), np.zeros((1, 4, 4), np.float32), Window(0, 0, 4, 5))


def test_labels_are_classes_above_the_threshold_and_255_where_nothing_was_measured():
    scores = np.array([[[0.5, 0.49, 0.9]], [[0.2, 0.3, 0.9]]], np.float32)
    valid = np.array([[True, True, True]])
    assert labels(scores, valid).tolist() == [[1, 0, 1]]
    assert labels(scores[:1], valid & [[True, True, False]]).tolist() == [[1, 0, 255]]
    assert labels(scores[::-1] - 0.01, valid).tolist() == [[0, 0, 1]]


def test_with_a_background_channel_and_no_threshold_labels_are_the_argmax():
    scores = np.random.default_rng(1).dirichlet(np.ones(4), (13, 17)).transpose(2, 0, 1).astype(np.float32)
    found = labels(scores, np.ones((13, 17), bool), threshold=0, background=True)
    np.testing.assert_array_equal(found, scores.argmax(0))


def test_with_a_background_channel_the_statistics_are_those_of_the_class():
    scores = np.array([[[0.1, 0.2]], [[0.6, 0.7]], [[0.3, 0.1]]], np.float32)
    found = fragments(np.array([[1, 1]], np.uint8), scores, Window(0, 0, 1, 2), background=True)
    assert found.score_max[0] == np.float32(0.7)


def test_more_classes_than_labels_are_refused():
    with pytest.raises(ValueError, match="1 to 254"):
        labels(np.zeros((255, 1, 1), np.float32), np.ones((1, 1), bool))


@given(hnp.arrays(np.float32, (2, 3, 5), elements=st.floats(0, 1, width=32)))
def test_quantised_scores_are_within_half_a_step(scores):
    valid = np.ones((3, 5), bool)
    valid[1, 2] = False
    steps = quantise(scores, valid)
    assert (steps[:, 1, 2] == 255).all()
    assert (np.abs(steps * SCORE_SCALE - scores)[:, valid] <= SCORE_SCALE / 2 + 1e-6).all()


def test_a_tile_of_a_hundred_ships_takes_less_than_a_tenth_of_a_second():
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-30:31, -30:31]
    picture = np.zeros((2048, 2048), np.uint8)
    for top, left, angle in zip(*rng.integers(0, 1980, (2, 100)), rng.uniform(0, np.pi, 100), strict=True):
        ship = np.hypot((x * np.cos(angle) + y * np.sin(angle)) / 4, x * np.sin(angle) - y * np.cos(angle)) < 6
        picture[top : top + 61, left : left + 61] |= ship
    scores = rng.random((1, 2048, 2048), np.float32)
    spent = []
    for _ in range(3):
        start = time.process_time()
        fragments(picture, scores, Window(0, 0, 2048, 2048))
        spent.append(time.process_time() - start)
    assert min(spent) < 0.1  # 0.01 on a quiet machine
