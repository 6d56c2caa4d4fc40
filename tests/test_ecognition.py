"""What eCognition projects take over: names of files, and an area without border effects."""

from __future__ import annotations

import json
import re

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from click.testing import CliRunner

from s2l3a_xr import AoiError, buffer_aoi, open_l3a
from s2l3a_xr._cli import main
from s2l3a_xr._sample import SAMPLE_AOI

LAYER = re.compile(r"(?P<scene>s2_l3a_\d{8})_(?P<layer>blue|green|red|nir)\.tif")
"""What import_s2_l3a.xml looks for, in any folder: {scene}_{layer}.tif."""


@pytest.fixture
def area():
    return gpd.GeoSeries([shapely.geometry.shape(SAMPLE_AOI)], crs=4326)


def test_the_border_moves_by_metres(area):
    smaller = buffer_aoi(area, -20)
    assert smaller.crs == area.crs
    outside, inside = area.to_crs(3035)[0], smaller.to_crs(3035)[0]
    assert outside.contains(inside)
    assert inside.distance(outside.exterior) == pytest.approx(20, abs=0.05)  # corners are arcs
    corners = shapely.points(shapely.get_coordinates(inside))
    assert shapely.distance(corners, outside.exterior).max() < 25
    assert buffer_aoi(area, 20).to_crs(3035)[0].contains(outside)


def test_it_is_the_originals_recipe_with_what_its_comment_says(area):
    # "20m inwards buffer via Lambert Azimuthal Equal Area projection"
    expected = area.to_crs(3035).buffer(-20).to_crs(4326)
    assert buffer_aoi(area, -20)[0].symmetric_difference(expected[0]).area < 1e-12


def test_any_form_of_an_area_keeps_its_crs(area, tmp_path):
    utm = area.to_crs(32632)
    utm.to_file(tmp_path / "area.gpkg")
    for form in (utm, utm.to_frame("geometry"), tmp_path / "area.gpkg"):
        assert buffer_aoi(form, -20).crs.to_epsg() == 32632
    for form in (SAMPLE_AOI, area[0], (11.68, 51.94, 11.76, 51.99)):
        assert buffer_aoi(form, -20).crs.to_epsg() == 4326


def test_neighbours_are_one_area_and_islands_stay_apart():
    west, east = shapely.box(0, 0, 100, 100), shapely.box(100, 0, 200, 100)
    island = shapely.box(500, 0, 600, 100)
    moved = buffer_aoi(gpd.GeoSeries([west, east, island], crs=3035), -20)
    assert sorted(part.area for part in moved) == [60 * 60, 160 * 60]


def test_the_smaller_area_can_be_opened(area, server):
    da = open_l3a(buffer_aoi(area, -500), time="2021-05", bands="B4", archive=server.url)
    whole = open_l3a(area, time="2021-05", bands="B4", archive=server.url)
    assert 0 < (da != -10000).sum() < (whole != -10000).sum()


@pytest.mark.parametrize("distance", [-20_000, float("nan"), "20"])
def test_what_leaves_nothing_or_is_no_distance(area, distance):
    with pytest.raises(AoiError, match=r"left|number of metres"):
        buffer_aoi(area, distance)


def download(*arguments):
    return CliRunner().invoke(main, ["download", *map(str, arguments)])


def test_download_writes_the_area_beside_the_files(area, server, tmp_path):
    source = tmp_path / "aoi.geojson"
    source.write_text(json.dumps(SAMPLE_AOI), "utf-8")
    out = tmp_path / "out"
    options = ("--time", "2021-05", "--archive", server.url, "--quiet", "--buffer-aoi")
    told = download(source, out, *options, "-20")
    assert told.exit_code == 0, told.output
    assert told.output.splitlines()[-1] == str(out / "aoi_ecognition.geojson")
    written = gpd.read_file(out / "aoi_ecognition.geojson")
    assert written.crs.to_epsg() == 4326
    assert written.geometry[0].equals_exact(buffer_aoi(area, -20)[0], 1e-9)
    assert "crs" not in json.loads((out / "aoi_ecognition.geojson").read_text("utf-8"))
    rasters = sorted(path.name for path in out.iterdir() if path.suffix == ".tif")
    assert [LAYER.fullmatch(name)["layer"] for name in rasters] == ["blue", "green", "nir", "red"]
    assert not [path for path in out.iterdir() if path.name.startswith(".")]
    again = download(source, tmp_path / "none", *options, "-90000")
    assert again.exit_code == 2
    assert not (tmp_path / "none").exists()


def test_download_masks_and_leaves_out(server, tmp_path):
    area = "11.68,51.94,11.74,51.98"
    options = ("--archive", server.url, "--bands", "B4", "--quiet")
    told = download(area, tmp_path, "--time", "2021-04", "--mask", "cloud,snow", *options)
    assert told.exit_code == 0, told.output
    assert [path.name for path in tmp_path.iterdir()] == ["s2_l3a_20210415_red.tif"]
    bounds = tuple(map(float, area.split(",")))
    da = open_l3a(bounds, time="2021-04", bands="B4", mask=(1, 2), archive=server.url)
    with rasterio.open(tmp_path / "s2_l3a_20210415_red.tif") as file:
        np.testing.assert_array_equal(file.read(), da[0])
    months = ("--time", "2021-04/2021-05", "--max-masked", "0.05")
    told = download(area, tmp_path / "clear", *months, *options)
    assert told.exit_code == 0, told.output
    assert "2021-04 (" in told.output
    assert [p.name for p in (tmp_path / "clear").iterdir()] == ["s2_l3a_20210515_red.tif"]
    for wrong, right in ((("--mask", "fog"), "--mask cloud,snow"), (("--max-masked", "20"), "0.2")):
        told = download(area, tmp_path / "no", "--time", "2021-04", *wrong, *options)
        assert told.exit_code == 2
        assert f"Error: {' '.join(wrong)}" in told.output
        assert f"such as {right}." in told.output
