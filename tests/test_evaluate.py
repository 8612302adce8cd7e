import math

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from xtgeo.evaluate import match_objects, match_points
from xtgeo.evaluate.match import assign, take_by_score

box = shapely.box


def test_pairs_are_one_to_one_and_duplicates_are_false():
    true = [box(0, 0, 10, 10)]
    found = [box(0, 0, 10, 9), box(1, 1, 10, 10), box(50, 50, 60, 60)]
    match = match_objects(np.array(found), np.array(true))
    assert match.pairs.tolist() == [[0, 0]] and (match.precision, match.recall) == (pytest.approx(1 / 3), 1.0)
    assert match.f1 == pytest.approx(0.5)


def test_as_many_pairs_as_possible_are_made():
    """The large one could take either; the small ones must not be left without partners."""
    true = np.array([box(0, 0, 10, 4), box(0, 4, 10, 8)])
    found = np.array([box(0, 0, 10, 8), box(0, 1, 10, 5)])
    assert len(match_objects(found, true).pairs) == 2


def test_a_centre_inside_is_enough_and_a_touch_is_not():
    ship = np.array([box(0, 0, 100, 10)])
    assert len(match_objects(np.array([box(48, 3, 52, 7)]), ship).pairs) == 1
    assert len(match_objects(np.array([box(100, 0, 110, 10)]), ship).pairs) == 0
    assert len(match_objects(np.array([box(90, 0, 130, 10)]), ship).pairs) == 0


def test_nothing_is_nothing():
    none, one = np.array([], object), np.array([box(0, 0, 1, 1)])
    assert math.isnan(match_objects(none, none).f1) and math.isnan(match_objects(none, one).precision)
    assert match_objects(none, one).recall == 0 and match_objects(one, none).precision == 0


def test_points_pair_with_the_nearest_as_long_as_none_is_left_without():
    found = np.array([(0.0, 0.0), (0.0, 9.0), (50.0, 50.0)])
    true = np.array([(0.0, 8.0), (0.0, 18.0)])
    assert match_points(found, true, within=10).pairs.tolist() == [[0, 0], [1, 1]]
    assert match_points(found, true, within=8).pairs.tolist() == [[1, 0]]
    none = np.empty((0, 2))
    assert (match_points(none, true, within=10).recall, match_points(found, none, within=10).precision) == (0, 0)


def test_three_pairs_are_better_than_two_perfect_ones():
    """Two found objects lie exactly on true ones; only when both give way can all three be paired."""
    true = np.array([box(x, 0, x + 10, 10) for x in (5, 10, 15)])
    found = np.array([box(0, 0, 10, 10), *true[:2]])
    match = match_objects(found, true)
    assert match.pairs.tolist() == [[0, 0], [1, 1], [2, 2]]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(1, 9), st.floats(0.05, 0.9))
def test_the_assignment_of_parts_is_the_best_of_the_whole(seed, n, m, density):
    rng = np.random.default_rng(seed)
    i, j = np.nonzero(rng.random((n, m)) < density)
    cost = rng.integers(0, 20, len(i)).astype(float)
    table = np.full((n, m), 1e6)
    table[i, j] = cost
    pairs = assign(i, j, cost)
    assert len(set(pairs[:, 0])) == len(set(pairs[:, 1])) == len(pairs)
    best = table[linear_sum_assignment(table)]
    assert table[tuple(pairs.T)].sum() == best[best < 1e6].sum() and len(pairs) == (best < 1e6).sum()


def test_points_on_each_other_are_a_pair():
    assert match_points([(3.0, 4.0)], [(3.0, 4.0)], within=1).pairs.tolist() == [[0, 0]]


def test_the_surest_takes_the_closest_that_is_free():
    i, j = np.array([0, 0, 1, 1, 2]), np.array([0, 1, 0, 1, 1])
    closeness = np.array([0.9, 0.5, 0.8, 0.4, 0.7])
    assert take_by_score(i, j, closeness, np.array([0.5, 0.9, 0.1])).tolist() == [1, 0, -1]
    assert take_by_score(i, j, closeness, np.array([0.5, 0.5, 0.5])).tolist() == [0, 1, -1]
