"""The computed tile grid against the one that ESA publishes."""

from __future__ import annotations

import pandas as pd
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from s2l3a_xr._aoi import read_aoi
from s2l3a_xr._errors import AoiError
from s2l3a_xr._tiles import SIDE_M, tile_named, tiles_over


@pytest.fixture(scope="module")
def published(shared_data):
    """All 96 tiles around Germany, by name."""
    path = shared_data / "s2_tiles_de.csv"
    if not path.exists():
        pytest.skip(f"{path} is missing")
    table = pd.read_csv(path).set_index("tile")
    assert len(table) == 96
    return table


def test_corners_and_crs_of_all_tiles(published):
    for name, row in published.iterrows():
        tile = tile_named(name)
        assert tile.crs == f"EPSG:{row.epsg}", name
        assert tile.bounds == (row.ulx, row.lry, row.lrx, row.uly), name
        assert tile.box.bounds == tile.bounds, name
        assert (tile.left % 60, tile.top % 60, tile.zone) == (0, 0, int(name[:2])), name


@pytest.mark.parametrize(
    ("name", "corner"),
    [
        ("32UPC", (600000, 5800020)),
        ("32UND", (499980, 5900040)),
        ("33UUT", (300000, 5800020)),
        ("31UGS", (699960, 5700000)),
        ("32TLT", (300000, 5300040)),
        ("32ULB", (300000, 5700000)),
    ],
)
def test_corners_that_were_measured(name, corner):
    tile = tile_named(name)
    assert (tile.left, tile.top) == corner
    assert tile.bounds[2] - tile.left == tile.top - tile.bounds[1] == SIDE_M == 109_800


@pytest.mark.parametrize("name", ["", "32", "32UPI", "99UPC", "32UZZ", "Berlin", "19HCC", "32UPC1"])
def test_there_is_no_such_tile(name):
    with pytest.raises(AoiError, match=f"no MGRS tile named {name!r}"):
        tile_named(name)


def test_every_published_tile_is_found_at_its_centre(published):
    for name, row in published.iterrows():
        x, y = (row.ulx + row.lrx) / 2, (row.uly + row.lry) / 2
        box = shapely.box(x, y, x + 10, y + 10)
        aoi = read_aoi({**box.__geo_interface__, "crs": _crs_member(row.epsg)})
        assert name in {tile.name for tile in tiles_over(aoi)}


def _crs_member(epsg):
    return {"type": "name", "properties": {"name": f"EPSG:{epsg}"}}


@given(
    left=st.floats(5.9, 14.9),
    bottom=st.floats(47.3, 54.9),
    width=st.floats(0.001, 2.5),
    height=st.floats(0.001, 1.5),
)
def test_tiles_over_boxes_are_those_that_share_area(published, left, bottom, width, height):
    aoi = read_aoi((left, bottom, min(left + width, 15.0), min(bottom + height, 55.0)))
    inside = {zone: aoi.to_crs(f"EPSG:326{zone}").union for zone in (31, 32, 33)}
    expected = [
        name
        for name, row in published.iterrows()
        if inside[int(name[:2])].intersection(shapely.box(row.ulx, row.lry, row.lrx, row.uly)).area
    ]
    assert [tile.name for tile in tiles_over(aoi)] == sorted(expected)


def test_names_of_neighbouring_squares_that_are_no_tiles():
    """Lettering squares by any of their points would invent these, and miss 32UQE."""
    names = {tile.name for tile in tiles_over(read_aoi((5.9, 47.2, 15.0, 55.0)))}
    assert not {"32TQU", "33UTQ"} & names
    assert "32UQE" in names


def test_touching_is_not_sharing():
    tile = tile_named("32UPC")
    left, bottom, _, top = tile_named("32UQC").bounds
    beside = shapely.box(left - 50, bottom + 20000, left, top - 20000)
    aoi = read_aoi({**beside.__geo_interface__, "crs": _crs_member(32632)})
    found = {found.name for found in tiles_over(aoi)}
    assert tile.name in found
    assert "32UQC" not in found


@pytest.mark.parametrize(
    ("tile", "left", "top"), [("32UPC", 600_000, 5_800_020), ("32UQC", 699_960, 5_750_000)]
)
def test_what_lies_within_the_outermost_metres_has_its_tile(tile, left, top):
    """Rounded to 60 m, tiles begin up to 60 m north and west of their 100 km squares."""
    pixel = shapely.box(left, top - 10, left + 10, top)
    aoi = read_aoi({**pixel.__geo_interface__, "crs": _crs_member(32632)})
    assert tile in {found.name for found in tiles_over(aoi)}


def test_a_far_corner_beyond_the_square_is_reached():
    """Tiles reach 9.8 km past their square, to the east and to the south."""
    _, bottom, right, _ = tile_named("32UPC").bounds
    corner = shapely.box(right - 100, bottom + 10, right - 10, bottom + 100)
    aoi = read_aoi({**corner.__geo_interface__, "crs": _crs_member(32632)})
    assert {"32UPC", "32UPB", "32UQB", "32UQC"} <= {tile.name for tile in tiles_over(aoi)}


@pytest.mark.parametrize(
    "bounds", [(10, -34, 11, -33), (11, -1, 12, 1), (10, 83, 11, 86), (-180, -90, 180, 90)]
)
def test_areas_outside_the_northern_grid(bounds):
    with pytest.raises(
        AoiError, match=r"no tile .* lies at lon .* covers Germany, lon 5\.7 .* has the CRS"
    ):
        tiles_over(read_aoi(bounds))


@pytest.mark.parametrize("bounds", [(-179.9, 51, -179.8, 51.1), (179.8, 51, 180, 51.1)])
def test_the_ends_of_the_world_have_tiles(bounds):
    assert tiles_over(read_aoi(bounds))
