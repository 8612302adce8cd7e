import numpy as np
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from xtgeo.decode import Fragments, fragments
from xtgeo.merge import merge
from xtgeo.window import Nest, Window

pictures = hnp.arrays(
    np.uint8,
    st.tuples(st.integers(1, 23), st.integers(1, 19)),
    elements=st.sampled_from([0, 1, 1, 1, 2, 255]),
)


def scores_for(picture):
    return np.random.default_rng(7).random((2, *picture.shape), np.float32)


def at_once(picture):
    return merge([fragments(picture, scores_for(picture), Window(0, 0, *picture.shape))])


def in_tiles(picture, region, span=1):
    scores = scores_for(picture)
    for tile in Nest(picture.shape, region=region, span=span):
        yield fragments(picture[tile.core.slices], scores[:, *tile.core.slices], tile.core)


def assert_same(a, b):
    assert a.to_bytes() == b.to_bytes()
    assert shapely.is_valid(a.geometry).all()


@settings(max_examples=200, deadline=None)
@given(pictures, st.integers(1, 9), st.integers(1, 3))
def test_however_the_scene_is_cut_the_same_objects_come_out(picture, region, span):
    assert_same(merge(in_tiles(picture, region, span)), at_once(picture))


@settings(max_examples=50, deadline=None)
@given(pictures, st.randoms())
def test_the_order_of_the_tiles_does_not_matter(picture, random):
    tiles = list(in_tiles(picture, 5))
    random.shuffle(tiles)
    assert_same(merge(tiles), at_once(picture))


@settings(max_examples=50, deadline=None)
@given(pictures)
def test_no_pixel_is_lost_or_counted_twice(picture):
    objects = merge(in_tiles(picture, 4))
    assert objects.pixels.sum() == ((picture > 0) & (picture < 255)).sum()
    np.testing.assert_array_equal(shapely.area(objects.geometry), objects.pixels)


def spiral(side):
    picture = np.zeros((side, side), np.uint8)
    y = x = 0
    dy, dx = 0, 1
    while True:
        picture[y, x] = 1
        ahead = y + 2 * dy, x + 2 * dx
        next_y, next_x = y + dy, x + dx
        blocked = not (0 <= next_y < side and 0 <= next_x < side) or (
            0 <= ahead[0] < side and 0 <= ahead[1] < side and picture[ahead]
        )
        if blocked:
            dy, dx = dx, -dy
            next_y, next_x = y + dy, x + dx
            ahead = y + 2 * dy, x + 2 * dx
            if not (0 <= next_y < side and 0 <= next_x < side) or picture[next_y, next_x] or picture[ahead]:
                return picture
        y, x = next_y, next_x


def test_a_spiral_that_crosses_the_same_seam_many_times_is_one_object():
    picture = spiral(53)
    objects = merge(in_tiles(picture, 8))
    assert len(objects) == 1
    assert objects.pixels[0] == picture.sum() > 1000
    assert_same(objects, at_once(picture))


def test_a_ring_through_four_tiles_keeps_its_hole_and_what_lies_in_it():
    picture = np.zeros((40, 40), np.uint8)
    picture[5:35, 5:35] = 1
    picture[10:30, 10:30] = 0
    picture[18:22, 18:22] = 1
    objects = merge(in_tiles(picture, 20))
    assert objects.pixels.tolist() == [500, 16]
    assert len(objects.geometry[0].geoms[0].interiors) == 1
    assert len(shapely.get_coordinates(objects.geometry[0])) == 10


def test_pixels_that_meet_at_the_corner_of_four_tiles_are_one_object():
    picture = np.zeros((10, 10), np.uint8)
    picture[4, 4] = picture[5, 5] = 1
    assert len(merge(in_tiles(picture, 5))) == 1


def test_neighbours_of_different_classes_stay_apart():
    picture = np.ones((6, 10), np.uint8)
    picture[:, 5:] = 2
    assert merge(in_tiles(picture, 5)).class_id.tolist() == [1, 2]


def test_nothing_merges_to_nothing():
    assert len(merge([])) == 0
    assert len(merge([Fragments.empty(), Fragments.empty()])) == 0
