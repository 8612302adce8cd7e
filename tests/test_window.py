import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xtgeo.window import Nest, Window


@st.composite
def nests(draw):
    size = st.integers(1, 90)
    return Nest(
        (draw(size), draw(size)), region=draw(st.integers(1, 20)), span=draw(st.integers(1, 4)), margin=draw(st.integers(0, 9))
    )


@given(nests())
def test_cores_partition_the_scene(nest):
    seen = np.zeros(nest.shape, int)
    for tile in nest:
        seen[tile.core.slices] += 1
    assert (seen == 1).all()


@given(nests())
def test_tiles_know_their_index_and_their_margin(nest):
    for i, tile in enumerate(nest):
        assert tile.index == i == nest.at(tile.core)
        assert tile.full == tile.core.pad(nest.margin)
    assert i + 1 == len(nest)


def test_a_nest_ends_where_its_tiles_end():
    nest = Nest((5, 5), region=4, span=1)
    with pytest.raises(IndexError, match="tile 4 of 4"):
        nest[4]


windows = st.builds(Window, st.integers(-30, 30), st.integers(-30, 30), st.integers(0, 30), st.integers(0, 30))


@given(windows, windows)
def test_the_common_part_is_where_both_are(a, b):
    def pixels(w):
        return {(y, x) for y in range(w.y, w.y + w.h) for x in range(w.x, w.x + w.w)}

    assert pixels(a & b) == pixels(a) & pixels(b)
    assert bool(a & b) == bool(pixels(a) & pixels(b))


@given(windows, st.integers(0, 5))
def test_padding_and_shifting_keep_the_middle(w, n):
    assert w.pad(n) & w == w or not w
    assert w.shift(3, -4).shift(-3, 4) == w


def test_negative_sides_are_refused():
    with pytest.raises(ValueError, match="negative side"):
        Window(0, 0, -1, 2)
    with pytest.raises(ValueError, match="positive sizes"):
        Nest((0, 5))
