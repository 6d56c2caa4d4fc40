"""The least cover against brute force, on both ways of finding it."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import shapely
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from s2l3a_xr import _cover
from s2l3a_xr._aoi import Aoi, read_aoi
from s2l3a_xr._cover import least_cover
from s2l3a_xr._errors import AoiError
from s2l3a_xr._tiles import tile_named, tiles_over

UTM = "EPSG:32632"
TILES = {name: tile_named(name) for name in ("32UPC", "32UQC", "32UPB", "32UQB", "33UUT", "33UUS")}


def box(left, bottom, right, top):
    return Aoi(features=(shapely.box(left, bottom, right, top),), crs=UTM)


def names(cover):
    return [tile.name for tile in cover.tiles]


def choose(aoi, *offered, **gaps):
    return least_cover(aoi, [TILES[name] for name in offered], gaps)


def by_name(tile):
    return tile.name


def covered(aoi, tiles):
    """Covered area in the zone of each tile; Aois of these tests lie in one zone."""
    area = aoi.to_crs(UTM).union
    return area.intersection(shapely.union_all([tile.box for tile in tiles])).area


def brute_force(aoi, offered, gaps):
    """All subsets, by the words of DESIGN: most area, least tiles, then the ties."""
    area = aoi.to_crs(UTM).union
    most = covered(aoi, offered)
    for count in range(1, len(offered) + 1):
        best = []
        for tiles in combinations(sorted(offered, key=by_name), count):
            if covered(aoi, tiles) < most - 1e-3:
                continue
            parts = [(area.intersection(tile.box), tile.box.exterior) for tile in tiles]
            depth = sum(round(part.distance(border)) for part, border in parts if part.area)
            lacking = sum(gaps.get(tile.name, 0) for tile in tiles)
            best.append((lacking, -depth, [tile.name for tile in tiles]))
        if best:
            return min(best)[2]
    return None


@st.composite
def areas(draw):
    """Draw some hulls in zone 32, from a field to half of Germany."""
    scale = draw(st.sampled_from([2e3, 3e4, 1.5e5]))
    left = draw(st.floats(480e3, 720e3))
    bottom = draw(st.floats(5560e3, 5820e3))
    offsets = st.tuples(st.floats(0, scale), st.floats(0, scale))
    corners = draw(st.lists(st.lists(offsets, min_size=3, max_size=5), min_size=1, max_size=3))
    hulls = [
        shapely.MultiPoint([(left + x, bottom + y) for x, y in points]).convex_hull
        for points in corners
    ]
    kept = tuple(hull for hull in hulls if hull.geom_type == "Polygon" and hull.area > 1000)
    return Aoi(features=kept or (shapely.box(left, bottom, left + 50, bottom + 50),), crs=UTM)


@settings(max_examples=60)
@given(aoi=areas(), data=st.data())
def test_random_areas(aoi, data):
    """Both ways give what brute force gives, where the archive lacks tiles and months."""
    near = [tile for tile in tiles_over(aoi) if tile.zone == 32]
    assume(near)  # the easternmost areas belong to zone 33
    offered = data.draw(st.lists(st.sampled_from(near), min_size=1, max_size=9, unique_by=by_name))
    lacking = st.dictionaries(st.sampled_from([tile.name for tile in near]), st.integers(0, 3))
    gaps = data.draw(lacking)
    if covered(aoi, offered) < 1:
        return
    expected = brute_force(aoi, offered, gaps)
    cover = least_cover(aoi, offered, gaps)
    assert names(cover) == expected
    area = aoi.union.area
    noise = 1e-6 + 0.01 / area  # GEOS rounds where the borders cross a needle
    assert cover.uncovered == pytest.approx(1 - covered(aoi, offered) / area, abs=noise)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_cover, "_FEW", 0)
        assert names(least_cover(aoi, offered, gaps)) == expected


@given(st.permutations(sorted(TILES)))
def test_the_order_of_the_offer_does_not_matter(offered):
    cover = choose(box(690000, 5680000, 715000, 5720000), *offered)
    assert names(cover) == names(choose(box(690000, 5680000, 715000, 5720000), *sorted(TILES)))


@pytest.fixture(params=["exhaustive", "milp"])
def way(request, monkeypatch):
    """Both ways of finding the cover."""
    monkeypatch.setattr(_cover, "_FEW", 9 if request.param == "exhaustive" else 0)


@pytest.mark.usefixtures("way")
class TestTies:
    def test_one_tile_where_one_is_enough(self):
        assert names(choose(box(640000, 5740000, 650000, 5750000), *TILES)) == ["32UPC"]

    def test_one_tile_where_two_overlap(self):
        """Both hold the area: the one in which it lies deeper."""
        assert names(choose(box(700500, 5740000, 701500, 5741000), "32UPC", "32UQC")) == ["32UPC"]
        assert names(choose(box(708500, 5740000, 709500, 5741000), "32UPC", "32UQC")) == ["32UQC"]

    def test_more_of_the_months_go_before_depth(self):
        area = box(700500, 5740000, 701500, 5741000)
        assert names(choose(area, "32UPC", "32UQC", **{"32UPC": 2, "32UQC": 1})) == ["32UQC"]

    def test_less_tiles_go_before_more_months(self):
        area = box(640000, 5740000, 705000, 5750000)
        gaps = {"32UPC": 8, "32UQC": 0}
        assert names(choose(area, "32UPC", "32UQC", **gaps)) == ["32UPC"]

    def test_one_zone_goes_before_more_months_and_depth(self):
        """West and east of the overlap: 32UPC with 32UQC rather than with 33UUT."""
        area = box(690000, 5740000, 760000, 5750000)
        offered = ("32UPC", "32UQC", "33UUT")
        assert len(choose(area, "32UPC", "33UUT").tiles) == 2
        assert choose(area, "32UPC", "33UUT").uncovered > 0  # a sliver between the zones
        assert names(choose(area, *offered, **{"32UQC": 5})) == ["32UPC", "32UQC"]

    def test_equal_in_all_else_the_first_name(self):
        middle = box(704700, 5740000, 705060, 5741000)  # 4740 m from either border
        assert names(choose(middle, "32UQC", "32UPC")) == ["32UPC"]

    def test_where_no_tile_is_deep_the_first_names(self):
        """An area over all four: each corner's tile is needed, whatever the order."""
        area = box(640000, 5640000, 760000, 5760000)
        assert names(choose(area, "32UQC", "32UPB", "32UQB", "32UPC")) == [
            "32UPB",
            "32UPC",
            "32UQB",
            "32UQC",
        ]

    def test_separate_parts(self):
        parts = (shapely.box(610000, 5750000, 611000, 5751000),)
        parts += (shapely.box(790000, 5600000, 791000, 5601000),)
        aoi = Aoi(features=parts, crs=UTM)
        assert names(choose(aoi, "32UPC", "32UQC", "32UPB", "32UQB")) == ["32UPC", "32UQB"]

    def test_as_much_as_can_be_covered(self):
        cover = choose(box(590000, 5740000, 630000, 5750000), "32UPC", "32UQB")
        assert names(cover) == ["32UPC"]
        assert cover.uncovered == pytest.approx(0.25)

    def test_parts_that_only_touch_a_border(self):
        """The touch of a part and a tile is a line, which belongs to no cell."""
        left, right = UPC_LEFT, TILES["32UPC"].bounds[2]
        touching = shapely.box(left - 5000, 5740000, left, 5745000)
        inside = shapely.box(left + 20000, 5740000, left + 30000, 5745000)
        beyond = shapely.box(right, 5740000, right + 5000, 5745000)
        aoi = Aoi(features=(touching, inside, beyond), crs=UTM)
        cover = choose(aoi, *sorted(TILES))
        assert names(cover) == ["32UPC", "32UQC"]
        assert cover.uncovered == pytest.approx(0.25)

    def test_the_whole_tile(self):
        tile = TILES["32UPC"]
        cover = least_cover(Aoi(features=(tile.box,), crs=UTM), list(TILES.values()))
        assert names(cover) == ["32UPC"]
        assert cover.uncovered == 0


UPC_LEFT = TILES["32UPC"].left


def test_both_ways_over_two_zones():
    """A region as large as a federal state, over the border of the zones."""
    aoi = read_aoi((10.6, 50.6, 13.1, 52.5))
    offered = tiles_over(aoi)
    assert len(offered) > _cover._FEW
    with pytest.MonkeyPatch.context() as patch:
        large = least_cover(aoi, offered)
        patch.setattr(_cover, "_FEW", 99)
        assert names(least_cover(aoi, offered)) == names(large)


def test_an_area_that_needs_very_many_tiles():
    """All of Germany's box: the answer is exact, so no tile of it can be left out."""
    aoi = read_aoi((6.0, 47.5, 15.0, 55.0))
    offered = [tile for tile in tiles_over(aoi) if tile.zone == 32]
    cover = least_cover(aoi, offered)
    area = aoi.to_crs(UTM).union
    whole = shapely.union_all([tile.box for tile in cover.tiles]).intersection(area).area
    assert whole == pytest.approx(covered(aoi, offered))
    for tile in cover.tiles:
        rest = [other.box for other in cover.tiles if other is not tile]
        assert shapely.union_all(rest).intersection(area).area < whole - 1


def test_no_tile_is_offered():
    with pytest.raises(AoiError, match=r"no tile is offered at lon 11\.\d+ to 11"):
        least_cover(box(650000, 5740000, 651000, 5741000), [])


def test_the_offered_tiles_are_elsewhere():
    with pytest.raises(AoiError, match="do not reach the AOI at lon"):
        choose(box(650000, 5740000, 651000, 5741000), "32UQB")


def test_some_of_the_tiles_are_covered_as_if_there_were_no_others(monkeypatch):
    """Months lack tiles: what was cut for all of them serves, and says the same."""
    rng = np.random.default_rng(5)
    tiles = [tile_named(f"32U{column}{row}") for column in "NPQ" for row in "BCD"]
    area = shapely.union_all([tile.box.buffer(-30000) for tile in tiles]).convex_hull
    aoi = Aoi(features=(area,), crs="EPSG:32632")
    cuts = []
    cut = _cover._cells
    monkeypatch.setattr(_cover, "_cells", lambda *of: cuts.append(of) or cut(*of))
    least_cover(aoi, tiles)
    subsets = [[t for t in tiles if rng.random() < 0.7] for _ in range(20)]
    found = [least_cover(aoi, some) for some in subsets]
    assert len(cuts) == 1
    for some, cover in zip(subsets, found, strict=True):
        _cover._cut_of.cache_clear()
        alone = least_cover(aoi, some)
        assert cover.tiles == alone.tiles
        assert cover.uncovered == pytest.approx(alone.uncovered, abs=1e-9)
    assert len(cuts) == 21
