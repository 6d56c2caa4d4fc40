"""Blocks and ranges chosen for a window, against plain slicing."""

from __future__ import annotations

import itertools

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
from hypothesis import given

from s2l3a_xr._mosaic import paste
from s2l3a_xr._plan import (
    LONGEST_RANGE,
    MERGE_GAP,
    cut_axis,
    find_targets,
    lay_axis,
    merge_ranges,
)
from s2l3a_xr._tiff import Layout


def layout(offsets, counts, *, block=(4, 4), size=None):
    shape = np.shape(offsets)
    height, width = size or (shape[0] * block[0], shape[1] * block[1])
    return Layout(
        width=width, height=height, block_width=block[1], block_height=block[0],
        dtype=np.dtype("int16"), compression=1, predictor=1, nodata=None, origin=None,
        pixel_size=None, epsg=None, offsets=np.asarray(offsets, dtype=np.int64),
        counts=np.asarray(counts, dtype=np.int64),
    )  # fmt: skip


@st.composite
def axes(draw):
    """One axis of a grid over an image whose pixels are as large or twice as large."""
    size = draw(st.integers(1, 40))
    ratio = draw(st.sampled_from([1, 2]))
    start = draw(st.integers(-30, 50))
    length = draw(st.integers(1, 60))
    kind = draw(st.sampled_from(["run", "stride", "array"]))
    if kind == "array":
        number = draw(st.integers(1, 20))
        positions = np.sort(draw(hnp.arrays("int64", number, elements=st.integers(0, length - 1))))
    else:
        first = draw(st.integers(0, length - 1))
        last = draw(st.integers(first, length - 1))
        positions = np.arange(first, last + 1, 1 if kind == "run" else draw(st.integers(2, 9)))
    return positions, start, length, size, ratio


def laid(axis):
    positions, start, length, size, ratio = axis
    return lay_axis(
        positions, grid_start=600000 + 10 * start, grid_step=10.0, grid_size=length,
        image_start=600000, image_step=10 * ratio, image_size=size,
    )  # fmt: skip


@given(axes(), axes(), st.integers(1, 9), st.integers(1, 9), st.data())
def test_blocks_are_those_with_a_wanted_pixel_and_together_give_plain_slicing(
    down, across, block_height, block_width, data
):
    pixel_rows, pixel_columns = ((axis[0] + axis[1]) // axis[4] for axis in (down, across))
    height, width = down[3], across[3]
    image = np.arange(height * width, dtype="int16").reshape(height, width)
    on_image = ((pixel_rows >= 0) & (pixel_rows < height))[:, None] & (
        (pixel_columns >= 0) & (pixel_columns < width)
    )[None, :]
    shape = on_image.shape
    wanted = data.draw(st.none() | hnp.arrays(bool, shape))
    want = on_image if wanted is None else on_image & wanted
    expected = np.full(shape, -1, "int16")
    at = np.nonzero(want)
    expected[at] = image[pixel_rows[at[0]], pixel_columns[at[1]]]

    rows = cut_axis(laid(down), block_height)
    columns = cut_axis(laid(across), block_width)
    targets = find_targets(rows, columns, None if wanted is None else want)

    touched = {
        (int(pixel_rows[r]) // block_height, int(pixel_columns[c]) // block_width)
        for r, c in zip(*at, strict=True)
    }
    assert [t.block for t in targets] == sorted(touched)
    output = np.full(shape, -1, "int16")
    for target in targets:
        top, left = target.block[0] * block_height, target.block[1] * block_width
        block = image[top : top + block_height, left : left + block_width]
        paste(output, block, target, None if wanted is None else want)
    np.testing.assert_array_equal(output, expected)


@given(axes(), st.integers(1, 9))
def test_a_block_is_shared_where_the_grid_goes_on_in_it(axis, block_size):
    positions, start, length, size, ratio = axis
    of_grid = (np.arange(length) + start) // ratio
    mine = (positions + start) // ratio
    mine = mine[(mine >= 0) & (mine < size)]
    for span in cut_axis(laid(axis), block_size):
        inside = of_grid[(of_grid // block_size == span.block) & (of_grid >= 0) & (of_grid < size)]
        assert span.is_shared == bool(np.any((inside < mine[0]) | (inside > mine[-1])))


def targets_of(table):
    every = np.arange(table.height), np.arange(table.width)
    common = {"grid_start": 0, "grid_step": 1, "image_start": 0, "image_step": 1}
    axes_ = [lay_axis(p, grid_size=len(p), image_size=len(p), **common) for p in every]
    return find_targets(
        cut_axis(axes_[0], table.block_height), cut_axis(axes_[1], table.block_width), None
    )


@st.composite
def tables(draw):
    """Block tables in any order, with gaps, holes and blocks that share their bytes."""
    rows, columns = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    number = rows * columns
    counts = draw(
        st.lists(st.sampled_from([0, 1, 500, 40_000, 5 * 2**20]), min_size=number, max_size=number)
    )
    gaps = draw(
        st.lists(
            st.sampled_from([0, 8, MERGE_GAP, MERGE_GAP + 1, 10**6]),
            min_size=number,
            max_size=number,
        )
    )
    offsets, position = [0] * number, 1000
    for i in draw(st.permutations(range(number))):
        if counts[i]:
            offsets[i] = position = position + gaps[i]
            position += counts[i] if draw(st.booleans()) else 0
    shape = (rows, columns)
    return layout(np.reshape(offsets, shape), np.reshape(counts, shape))


@given(tables())
def test_ranges_bring_every_block_once_and_little_else(table):
    targets = targets_of(table)
    ranges = merge_ranges(targets, table)
    brought = [target.block for part in ranges for target in part.targets]
    written = [t.block for t in targets if table.counts[t.block]]
    assert sorted(brought) == sorted(written)
    assert [part.start for part in ranges] == sorted(part.start for part in ranges)
    for part in ranges:
        spans = sorted(
            (int(table.offsets[t.block]), int(table.offsets[t.block] + table.counts[t.block]))
            for t in part.targets
        )
        assert part.start == spans[0][0]
        assert part.stop == max(stop for _, stop in spans)
        assert part.stop - part.start <= max(LONGEST_RANGE, *(b - a for a, b in spans))
        reached = part.start
        for start, stop in spans:
            assert start - reached <= MERGE_GAP
            reached = max(reached, stop)
    for before, after in itertools.pairwise(ranges):
        assert after.start - before.stop > MERGE_GAP or after.stop - before.start > LONGEST_RANGE


def test_a_row_of_neighbours_is_one_range():
    table = layout([[100, 200, 300], [10**6, 10**6 + 100, 10**6 + 200]], np.full((2, 3), 100))
    ranges = merge_ranges(targets_of(table), table)
    assert [(part.start, part.stop) for part in ranges] == [(100, 400), (10**6, 10**6 + 300)]


def test_blocks_never_written_need_no_bytes():
    table = layout([[0, 200]], [[0, 100]])
    assert [p.targets[0].block for p in merge_ranges(targets_of(table), table)] == [(0, 1)]
