"""Statistics of fields and points, held against rasterstats and exactextract on whole files."""

from __future__ import annotations

import re
import shutil
import warnings
from collections import Counter

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely
import xarray as xr
from rasterio.windows import Window

from s2l3a_xr import (
    AoiError,
    AoiWarning,
    FormatError,
    MissingWarning,
    ReadFailedWarning,
    SelectionError,
    TransportError,
    _zonal,
    extract_l3a,
    open_l3a,
    search_l3a,
)
from s2l3a_xr._sample import Fault

UTM32, UTM33 = "EPSG:32632", "EPSG:32633"
QUIET = {"progress": False}
MAY = {"time": "2021-05", **QUIET}


@pytest.fixture(scope="module")
def fields():
    """Crooked fields inside 32UPC's pixels, two of which overlap, one with a hole."""
    rng = np.random.default_rng(7)
    centres = rng.uniform((684_000, 5_756_000), (690_000, 5_761_000), (60, 2))
    shapes = [
        shapely.Polygon(
            centre
            + rng.uniform(60, 400, (9, 1))
            * np.column_stack([np.cos(turns), np.sin(turns)])[np.argsort(turns)]
        ).buffer(0)
        for centre, turns in zip(centres, np.sort(rng.uniform(0, 6.28, (60, 9))), strict=True)
    ]
    shapes[1] = shapely.transform(shapes[0], lambda xy: xy + 55.5)
    shapes[2] = shapes[2].buffer(300).difference(shapes[2].centroid.buffer(95))
    kept = [shapely.make_valid(shape) for shape in shapes]
    return gpd.GeoSeries(kept, crs=UTM32, index=[f"field {i}" for i in range(len(kept))])


def file_of(root, tile, band, month=5):
    pattern = f"S2_L3A_WASP/files/*/*/*/2021/SENTINEL2?_2021{month:02}*_T{tile}_*/*_FRC_{band}.tif"
    (path,) = root.glob(pattern)
    return path


STATS = ["count", "sum", "mean", "std", "min", "max", "median"]


@pytest.mark.parametrize("band", ["B4", "B11"])
def test_centres_equal_rasterstats_on_the_whole_file(server, sample_root, fields, band):
    from rasterstats import zonal_stats  # noqa: PLC0415 - slow to import

    found = extract_l3a(fields, STATS, bands=band, archive=server.url, **MAY)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of rasterstats itself
        told = zonal_stats(list(fields), str(file_of(sample_root, "32UPC", band)), stats=STATS)
    expected = pd.DataFrame(told, index=fields.index)[STATS].astype(float)
    ours = found.isel(time=0, band=0).to_dataframe()[STATS]
    assert (ours["count"] > 0).sum() > 50
    np.testing.assert_allclose(ours, expected, rtol=1e-9)


@pytest.mark.parametrize("band", ["B4", "B11"])
def test_exact_equals_exactextract_on_the_whole_file(server, sample_root, fields, band):
    from exactextract import exact_extract  # noqa: PLC0415 - slow to import

    stats = [name for name in STATS if name != "median"]
    found = extract_l3a(fields, stats, bands=band, method="exact", archive=server.url, **MAY)
    path = str(file_of(sample_root, "32UPC", band))
    theirs = ["count", "sum", "mean", "stdev", "min", "max"]
    expected = exact_extract(path, gpd.GeoDataFrame(geometry=fields), theirs, output="pandas")
    ours = found.isel(time=0, band=0).to_dataframe()[stats]
    np.testing.assert_allclose(ours, expected[theirs], rtol=2e-6)


def test_a_point_is_the_pixel_that_it_lies_in(server, sample_root):
    xy = [(687_004.9, 5_758_000.1), (687_005.1, 5_757_999.9), (687_010.0, 5_758_000.0)]
    points = gpd.GeoSeries([shapely.Point(p) for p in xy], crs=UTM32).to_crs("EPSG:4326")
    found = extract_l3a(points, ["mean", "count"], bands="B4", archive=server.url, **MAY)
    with rasterio.open(file_of(sample_root, "32UPC", "B4")) as file:
        there = points.to_crs(UTM32)
        expected = [value[0] for value in file.sample([(p.x, p.y) for p in there])]
    assert found["mean"].to_numpy().ravel().tolist() == expected
    assert (found["count"] == 1).all()


def test_points_of_a_multipoint_count_together(server):
    points = [shapely.Point(687_005, 5_758_005), shapely.Point(687_105, 5_758_005)]
    both = gpd.GeoSeries([*points, shapely.MultiPoint(points)], crs=UTM32)
    found = extract_l3a(both, ["mean", "count"], bands="B4", archive=server.url, **MAY)
    one, two, mean = found["mean"].to_numpy().ravel()
    assert mean == (one + two) / 2
    assert found["count"].to_numpy().ravel().tolist() == [1, 1, 2]


def test_each_block_crosses_the_network_once(fresh_server, fields):
    found = extract_l3a(
        fields, "mean", time="2021-05/2021-06", bands=["B4", "B8"], archive=fresh_server.url,
        **QUIET,
    )  # fmt: skip
    assert found.sizes == {"time": 2, "band": 2, "feature": 60}
    reads = [r for r in fresh_server.log if r.path.endswith(".tif")]
    asked = Counter()
    for request in reads:
        for part in request.ranges:
            if part.start > 0 and part.stop - part.start > 1:
                asked.update((request.path, byte) for byte in range(part.start, part.stop, 512))
    assert asked
    assert {path for path, _ in asked} == {r.path for r in reads}
    assert max(asked.values()) == 1


def test_no_more_blocks_than_the_array_of_the_same_fields(fresh_server, fields):
    da = open_l3a(
        gpd.GeoDataFrame(geometry=fields), bands="B4", time="2021-05", archive=fresh_server.url
    )
    planned = da.l3a.plan()["bytes"].sum()
    fresh_server.clear_log()
    extract_l3a(fields, "mean", bands="B4", archive=fresh_server.url, **MAY)
    sent = sum(r.bytes_sent for r in fresh_server.log if r.path.endswith(".tif"))
    assert 0.9 * planned < sent <= planned * 1.01 + 4096


@pytest.fixture(scope="module")
def scattered():
    """Fields in the overlap of 32UPC and 32UQC, and where 32UQC and 33UUT lie."""
    lonlat = [(11.70, 51.95), (11.95, 51.95), (12.02, 51.9), (12.15, 51.93), (12.30, 51.95)]
    return gpd.GeoSeries([shapely.Point(p).buffer(0.004) for p in lonlat], crs="EPSG:4326")


@pytest.mark.parametrize(("absent", "other"), [("33/U/UT", "32UQC"), ("32/U/QC", "33UUT")])
def test_features_over_tiles_and_zones_are_read_natively(
    fresh_server, sample_root, scattered, absent, other
):
    from rasterstats import zonal_stats  # noqa: PLC0415 - slow to import

    fresh_server.faults = [Fault(match=f"/{absent}/", kind="status", status=404)]
    found = extract_l3a(scattered, ["mean", "count"], bands="B4", archive=fresh_server.url, **MAY)
    assert set(found["tile"].to_numpy()) == {"32UPC", other}
    for i, tile in enumerate(found["tile"].to_numpy()):
        zone = UTM33 if tile.startswith("33") else UTM32
        shape = scattered.to_crs(zone).iloc[i]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            (told,) = zonal_stats(
                [shape], str(file_of(sample_root, tile, "B4")), stats=["mean", "count"]
            )
        ours = found.isel(time=0, band=0, feature=i)
        if told["count"] == ours["count"]:  # else another tile gave what this one has not got
            assert float(ours["mean"]) == pytest.approx(told["mean"])
        else:
            assert float(ours["count"]) > told["count"]


def test_a_month_that_lacks_a_tile_is_measured_in_the_other_zone(sample_root, tmp_path):
    from rasterstats import zonal_stats  # noqa: PLC0415 - slow to import

    def lacking(_, names):
        absent = "(?!.*_2021(04|05)15-).*_T|.*_20210515-.*_T32UQC_|.*_FRC_B(?!4)|MASKS"
        return [name for name in names if re.match(absent, name)]

    shutil.copytree(sample_root, tmp_path / "root", ignore=lacking)
    centres = [
        (714_000, 5_756_000),
        (716_000, 5_761_000),
        (721_000, 5_768_000),
        (690_000, 5_756_000),
    ]
    areas = gpd.GeoSeries([shapely.Point(p).buffer(230) for p in centres], crs=UTM32)
    options = {"bands": "B4", "archive": tmp_path / "root" / "S2_L3A_WASP" / "files", **QUIET}
    found = extract_l3a(areas, ["count", "mean"], time="2021-04/2021-05", **options)
    for month, tile, zone in ((4, "32UQC", UTM32), (5, "33UUT", UTM33)):
        path = str(file_of(sample_root, tile, "B4", month))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of rasterstats itself
            told = zonal_stats(list(areas.to_crs(zone))[:3], path, stats=["count", "mean"])
        ours = found.isel(time=month - 4, band=0).to_dataframe()[["count", "mean"]][:3]
        np.testing.assert_allclose(ours, pd.DataFrame(told)[["count", "mean"]], rtol=1e-9)
        assert (ours["count"] > 1000).all()


def test_days_around_new_year_are_counted_on(tmp_path, lay_file):
    """The mean of 30 December and 4 January is no day in July."""
    lay_file(
        tmp_path, np.array([[363, 3], [1, -10000]], np.int16), month=1, band="DTS", resolution_m=10
    )
    area = gpd.GeoSeries([shapely.box(600_000, 5_800_000, 600_020, 5_800_020)], crs=UTM32)
    found = extract_l3a(
        area, ["mean", "min", "max", "count"], bands="DTS", time="2021-01",
        archive=tmp_path / "S2_L3A_WASP" / "files", **QUIET,
    )  # fmt: skip
    # 2020 had 366 days: its day 363 is 3 days before 2021.
    assert [float(found[name].squeeze()) for name in found] == [(-3 + 3 + 1) / 3, -3, 3, 3]


def test_a_flag_that_is_no_class_is_an_error_that_names_it(tmp_path, lay_file):
    lay_file(tmp_path, np.full((2, 2), 1234, np.int16), band="B4")
    flags = np.array([[4, 1], [8, 4]], np.uint8)
    lay_file(tmp_path, flags, band="FLG", resolution_m=10)
    area = gpd.GeoSeries([shapely.box(600_000, 5_800_000, 600_020, 5_800_020)], crs=UTM32)
    options = {
        "time": "2021-03", "bands": "B4", "mask": "cloud",
        "archive": tmp_path / "S2_L3A_WASP" / "files", **QUIET,
    }  # fmt: skip
    with pytest.raises(
        FormatError, match=r"holds 8.*bitwise.*flag_encoding='bits'.*2021-03"
    ) as told:
        extract_l3a(area, "count", **options)
    assert "FLG_R1.tif" in str(told.value)
    with pytest.warns(ReadFailedWarning, match="holds 8"):
        found = extract_l3a(area, "count", fail_on_error=False, **options)
    assert float(found["count"].squeeze()) == 0
    bits = extract_l3a(area, "count", flag_encoding="bits", **options | {"mask": "water"})
    assert float(bits["count"].squeeze()) == 3


def test_masks_from_an_inventory_of_odd_places(server, fields):
    both = search_l3a(fields, time="2021-04", bands=["B4", "flg"], archive=server.stac_url)
    found = extract_l3a(fields, "count", inventory=both, mask="cloud", **QUIET)
    assert found["band"].to_numpy().tolist() == ["B4"]
    plain = extract_l3a(
        fields, "count", bands="B4", time="2021-04", archive=server.url, mask="cloud", **QUIET
    )
    np.testing.assert_array_equal(found["count"], plain["count"])
    with pytest.raises(SelectionError, match="no mean"):
        extract_l3a(fields, "count", inventory=both, **QUIET)


def test_order_and_names_are_the_users(server, fields):
    shuffled = fields.sample(frac=1, random_state=3)
    straight = extract_l3a(fields, "mean", bands="B4", archive=server.url, **MAY)
    found = extract_l3a(shuffled, "mean", bands="B4", archive=server.url, **MAY)
    assert found["feature"].to_numpy().tolist() == shuffled.index.tolist()
    same = found.sel(feature=straight["feature"])
    np.testing.assert_array_equal(same["mean"], straight["mean"])


def test_many_tasks_give_what_one_gives(server, fields, monkeypatch):
    whole = extract_l3a(fields, STATS, bands=["B4", "B5"], archive=server.url, **MAY)
    monkeypatch.setattr("s2l3a_xr._extract._MOST_FEATURES", 7)
    monkeypatch.setattr("s2l3a_xr._extract._BYTES_OF_A_PIXEL", 10**9)
    parts = extract_l3a(fields, STATS, bands=["B4", "B5"], archive=server.url, **MAY)
    assert whole.equals(parts)


def test_large_features_share_no_task(server, monkeypatch):
    """Else memory would grow with the number of features, however large they are."""
    sizes = []
    real = _zonal.find_footprint

    def find(*given):
        found = real(*given)
        sizes.append(len(found))
        return found

    monkeypatch.setattr(_zonal, "find_footprint", find)
    monkeypatch.setattr("s2l3a_xr._extract._BYTES_OF_A_PLACE", 10_000)
    squares = [shapely.box(x, 5_750_000, x + 900, 5_750_900) for x in range(682_000, 702_000, 1000)]
    areas = gpd.GeoSeries(squares, crs=UTM32)
    whole = extract_l3a(areas, "count", bands="B4", archive=server.url, **MAY)
    assert sum(sizes) == whole["count"].sum() == 20 * 90**2
    assert max(sizes) <= 4 * 2**27 / 10_000 + 90**2
    assert len(sizes) == 4


def test_lazy_reads_nothing_until_it_is_computed(fresh_server, fields):
    lazy = extract_l3a(fields, "mean", bands="B4", archive=fresh_server.url, compute=False, **MAY)
    assert not [r for r in fresh_server.log if r.path.endswith(".tif")]
    now = extract_l3a(fields, "mean", bands="B4", archive=fresh_server.url, **MAY)
    assert lazy.chunks
    assert lazy.compute().equals(now)


def test_on_a_cluster_of_processes(server, fields):
    distributed = pytest.importorskip("distributed")
    here = extract_l3a(fields, "mean", bands="B4", archive=server.url, **MAY)
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0"
        ) as cluster,
        distributed.Client(cluster),
    ):
        there = extract_l3a(fields, "mean", bands="B4", archive=server.url, **MAY)
    assert here.equals(there)


def test_masked_pixels_do_not_count(server, sample_root, fields):
    clear = extract_l3a(
        fields, ["count", "mean"], bands=["B4", "B11"], archive=server.url,
        mask=("cloud", "snow", "nodata"), **MAY,
    )  # fmt: skip
    for band, resolution in (("B4", "R1"), ("B11", "R2")):
        path = file_of(sample_root, "32UPC", band)
        flag = next(path.parent.glob(f"MASKS/*_FLG_{resolution}.tif"))
        with rasterio.open(path) as file, rasterio.open(flag) as flags:
            for name in fields.index[:12]:
                shape = fields[name]
                window = file.window(*shape.bounds).round_offsets().round_lengths(op="ceil")
                window = Window(
                    window.col_off - 1, window.row_off - 1, window.width + 3, window.height + 3
                )
                inside = rasterio.features.geometry_mask(
                    [shape], (int(window.height), int(window.width)),
                    file.window_transform(window), invert=True,
                )  # fmt: skip
                pixels = file.read(1, window=window)
                seen = ~np.isin(flags.read(1, window=window), (0, 1, 2))
                valid = pixels[inside & seen & (pixels != -10000)]
                ours = clear.sel(band=band, feature=name).isel(time=0)
                assert int(ours["count"]) == valid.size
                if valid.size:
                    assert float(ours["mean"]) == pytest.approx(valid.mean())


def test_scaled(server, fields):
    raw = extract_l3a(fields, STATS, bands="B4", archive=server.url, **MAY)
    scaled = extract_l3a(fields, STATS, bands="B4", archive=server.url, mask_and_scale=True, **MAY)
    for name in STATS:
        factor = 1 if name == "count" else 10_000
        np.testing.assert_allclose(scaled[name] * factor, raw[name])
    assert scaled["mean"].attrs["units"] == "1"
    assert "10000" not in scaled["mean"].attrs["long_name"]
    assert raw["mean"].attrs["units"] == "1e-4"


def test_a_series_writes_itself_and_makes_a_table(server, fields, tmp_path):
    found = extract_l3a(
        fields, years=2021, months="4-6", bands=["red", "nir"], archive=server.url, **QUIET
    )
    found.to_netcdf(tmp_path / "series.nc")
    table = found.to_dataframe()
    assert len(table) == 3 * 2 * 60
    assert {"mean", "std", "count", "tile"} <= {*table.columns}


@pytest.mark.parametrize(
    ("names", "kept"),
    [
        ([7, "seven"], ["7", "seven"]),
        (
            pd.to_datetime(["2021-05-01T01:00+02:00", "2021-06-01T00:00+02:00"]),
            pd.to_datetime(["2021-04-30T23:00", "2021-05-31T22:00"]).tolist(),
        ),
        (pd.period_range("2021-05", periods=2, freq="M"), ["2021-05", "2021-06"]),
        (pd.Index([7, 8], dtype=object), [7, 8]),
    ],
    ids=["mixed", "zoned", "periods", "objects"],
)
@pytest.mark.parametrize("engine", ["netcdf4", "zarr"])
@pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning")
def test_names_of_every_kind_can_be_written(server, fields, tmp_path, names, kept, engine):
    two = fields.iloc[:2].set_axis(names)
    found = extract_l3a(two, "mean", **MAY, bands="B4", archive=server.url)
    assert found.indexes["feature"].tolist() == kept
    place = tmp_path / "series"
    found.to_netcdf(place) if engine == "netcdf4" else found.to_zarr(place)
    with xr.open_dataset(place, engine=engine) as again:
        assert again.indexes["feature"].tolist() == kept


def test_a_missing_month_is_left_out_or_kept(server, fields):
    options = {"years": 2021, "months": "6-8", "bands": "B4", "archive": server.url, **QUIET}
    with pytest.warns(MissingWarning, match="2021-07"):
        assert extract_l3a(fields, "count", **options).sizes["time"] == 2
    kept = extract_l3a(fields, "count", missing="keep", **options)
    assert kept["count"].sum(["band", "feature"]).to_numpy().astype(bool).tolist() == [
        True, False, True,
    ]  # fmt: skip


def test_a_failed_read_raises_or_is_listed(fresh_server, fields):
    fresh_server.faults = [Fault(match=r"_B4\.tif$", kind="status", status=403)]
    with pytest.raises(TransportError, match="403"):
        extract_l3a(fields, "mean", bands="B4", archive=fresh_server.url, **MAY)
    with pytest.warns(ReadFailedWarning):
        found = extract_l3a(
            fields, "count", bands=["B4", "B8"], archive=fresh_server.url, fail_on_error=False,
            **MAY,
        )  # fmt: skip
    assert (found.sel(band="B4")["count"] == 0).all()
    assert (found.sel(band="B8")["count"] > 0).sum() > 50
    assert set(found["count"].l3a.failures()["band"]) == {"B4"}


def test_what_reaches_past_the_tiles_is_told(server):
    across = gpd.GeoSeries([shapely.box(9.9, 51.9, 11.9, 51.95)], crs="EPSG:4326")
    with pytest.warns(AoiWarning, match="reach past the tiles|outside the tiles"):
        extract_l3a(across, "count", bands="B6", archive=server.url, **MAY)


def test_spikes_and_overlapping_parts_are_mended_as_in_any_area(server):
    """A spike leaves a line beside the polygon, an overlap of parts must not become a hole."""
    west, east = shapely.box(687_000, 5_758_000, 687_100, 5_758_100), (687_050, 5_758_000)
    spike = [*west.exterior.coords[:2], (687_100, 5_758_050), (687_400, 5_758_300)]
    spike = shapely.Polygon([*spike, (687_100, 5_758_050), *west.exterior.coords[2:]])
    over = shapely.MultiPolygon([west, shapely.box(*east, 687_150, 5_758_100)])
    shapes = gpd.GeoSeries([spike, over, shapely.GeometryCollection([west])], crs=UTM32)
    with pytest.warns(AoiWarning, match=r"^2 of the features \(id 0, 1\) are invalid"):
        found = extract_l3a(shapes, "count", bands="B4", archive=server.url, **MAY)
    triangle = spike.buffer(0).area / 100
    assert found["count"].to_numpy().ravel()[1:].tolist() == [150, 100]
    assert float(found["count"].squeeze()[0]) == pytest.approx(triangle, abs=10)


@pytest.mark.parametrize(
    ("geometries", "text"),
    [
        (gpd.GeoSeries([shapely.Point(11.7, np.nan)], crs=4326), r"\(id 0\) have coordinates that"),
        (gpd.GeoSeries([shapely.Point(687_000, 5_758_000)]), "no degrees"),
        (gpd.GeoSeries([shapely.Point(51.9, 11.7)], crs=4326), "swapped"),
        (gpd.GeoSeries([], crs=UTM32), "no geometries"),
        (
            gpd.GeoSeries([None, shapely.Point(11.7, 51.9)]),
            r"1 of the features \(id 0\) have no geom",
        ),
        (gpd.GeoSeries([shapely.LineString([(11.7, 51.9), (11.8, 51.9)])]), "LineString"),
        (gpd.GeoSeries([shapely.Point(11.7, 51.9)] * 2, index=[1, 1]), "unique"),
    ],
)
def test_geometries_that_can_not_be(fresh_server, geometries, text):
    with pytest.raises(AoiError, match=text):
        extract_l3a(geometries, archive=fresh_server.url, **MAY)
    assert not fresh_server.log


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"stats": "avg"}, "'avg'; choose from count"),
        ({"stats": []}, "empty"),
        ({"stats": None}, "stats has None; choose from"),
        ({"stats": "median", "method": "exact"}, "method='centre' has the median"),
        ({"method": "touched"}, "'centre' or 'exact'"),
        ({"bands": "FLG"}, "classes"),
        ({"bands": "WGT", "mask_and_scale": True}, "reflectance"),
        ({"mask": "fog"}, "fog"),
    ],
)
def test_wishes_that_can_not_be(server, fields, options, text):
    with pytest.raises(SelectionError, match=text):
        extract_l3a(fields, archive=server.url, **MAY, **options)
