"""Pictures: one stretch, transparent nodata, the right way up, little to read for a large one."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace

import dask
import geopandas as gpd
import matplotlib as mpl
import numpy as np
import pytest
import rasterio
import shapely
import tifffile
from click.testing import CliRunner
from matplotlib import colormaps
from matplotlib import pyplot as plt
from PIL import Image
from rasterio.enums import Resampling

from s2l3a_xr import ExportError, SelectionError, open_l3a
from s2l3a_xr._cli import main
from s2l3a_xr._masks import find_part
from s2l3a_xr._quality import find_unclear
from s2l3a_xr._sample import SAMPLE_AOI, SampleServer
from s2l3a_xr._tiles import tile_named

AOI = (11.68, 51.94, 11.74, 51.98)
CLOUDY = (11.70, 51.972, 11.728, 51.988)  # in April
BANDS = ["B2", "B3", "B4", "B8", "B8A", "B12"]

mpl.use("agg")


@pytest.fixture
def da(server):
    return open_l3a(SAMPLE_AOI, time="2021-04/2021-06", bands=BANDS, archive=server.url)


def test_channels_are_the_stretched_bands(da):
    image = da.l3a.rgb(stretch=(0.02, 0.2))
    assert (image.dims, image.dtype) == (("time", "y", "x", "channel"), np.uint8)
    assert image.chunks is not None
    assert image.channel.values.tolist() == ["red", "green", "blue", "alpha"]
    pixels = da.sel(band=["B4", "B3", "B2"]).transpose("time", "y", "x", "band").to_numpy()
    valid = (pixels != -10000).all(axis=-1)
    assert 0 < valid.mean() < 1
    made = image.to_numpy()
    np.testing.assert_array_equal(made[..., 3], np.where(valid, 255, 0))
    assert (made[~valid] == 0).all()
    share = np.clip((pixels[valid] / 10000 - 0.02) / 0.18, 0, 1)
    np.testing.assert_allclose(made[valid][:, :3], 255 * share**0.8, atol=0.51)


def test_one_stretch_for_all_months(da):
    together = da.l3a.rgb()
    low, high = (float(part) for part in together.attrs["stretch"][0].split(" to "))
    assert len({*together.attrs["stretch"]}) == 1  # blue, green and red alike
    pixels = da.sel(band=["B4", "B3", "B2"]).to_numpy()
    valid = pixels[pixels >= 0] / 10000
    np.testing.assert_allclose((low, high), np.percentile(valid, (2, 98)), rtol=0.02)
    alone = da.isel(time=[1]).l3a.rgb(stretch=(low, high))
    np.testing.assert_allclose(together.isel(time=[1]), alone, atol=1)


def limits_of(figure):
    told = figure.get_suptitle()
    plt.close(figure)
    return [float(part) for part in told.rpartition(" reflectance ")[2].split(" to ")]


def test_clouds_leave_the_light_to_the_ground(fresh_server):
    months = {"time": "2021-04/2021-06", "bands": BANDS[:3], "archive": fresh_server.url}
    da = open_l3a(CLOUDY, **months)
    fresh_server.clear_log()
    told = limits_of(da.l3a.plot_rgb())
    masks = [(entry.path, entry.range) for entry in fresh_server.log if "FLG" in entry.path]
    assert {path[-6:] for path, _ in masks} == {"R2.tif"}
    assert len({*masks}) == len(masks) > 0  # read for the titles, and not again
    assert da.l3a.quality()["cloud"].max() > 0.1
    clear = da.l3a.masked().where(da.l3a.flags() > 2).to_numpy() / 10000
    np.testing.assert_allclose(told, np.nanpercentile(clear, (2, 98)), atol=0.01)
    fresh_server.clear_log()
    with_clouds = limits_of(da.l3a.plot_rgb(share=False))
    assert with_clouds[1] > 1.5 * told[1]
    assert [entry for entry in fresh_server.log if "FLG" in entry.path] == []


def test_where_hardly_a_pixel_is_clear_all_of_them_count(server):
    da = open_l3a(CLOUDY, time="2021-04", bands=BANDS[:3], archive=server.url)
    thick = da.sel(y=slice(5762350, 5762250), x=slice(686350, 686450))
    assert thick.l3a.quality()["cloud"].item() == 1
    assert limits_of(thick.l3a.plot_rgb()) == limits_of(thick.l3a.plot_rgb(share=False))


def test_hidden_pixels_are_those_of_any_order(da):
    whole = find_unclear(find_part(da), find_part(da)).hidden
    turned = da.isel(time=[2, 0], y=slice(None, None, -3), x=slice(10, 300, 7))
    part = find_unclear(find_part(da.isel(time=[2, 0])), find_part(turned)).hidden
    expected = whole[[2, 0], ::-3, 10:300:7]
    assert part.shape == expected.shape
    assert 0 < expected.mean() < 1
    assert (part == expected).mean() > 0.99
    truth = np.isin(da.l3a.flags(), (0, 1, 2, 255))
    assert (whole == truth).mean() > 0.98


def test_hidden_pixels_come_from_many_tasks_alike(server):
    da = open_l3a((11.68, 51.84, 11.70, 52.06), time="2021-03/2021-06", archive=server.url)
    part = find_part(da)
    assert part.rows.size > 4 * 512  # masks of 20 m: more than two tasks down
    shown = replace(part, rows=part.rows[::5], columns=part.columns[::3])
    at_once = find_unclear(part, shown)
    with dask.config.set({"array.chunk-size": "1KiB"}):
        in_parts = find_unclear(part, shown)
    np.testing.assert_array_equal(in_parts.hidden, at_once.hidden)
    np.testing.assert_array_equal(in_parts.shares, at_once.shares)
    assert 0 < at_once.hidden.mean() < 1


def test_false_colours_stretch_each_channel(da):
    image = da.l3a.rgb(bands="nir")
    assert image.attrs["bands"] == ["B8", "B4", "B3"]
    assert len({*image.attrs["stretch"]}) == 3
    assert da.l3a.rgb(bands="swir").attrs["bands"] == ["B12", "B8A", "B4"]
    grey = da.l3a.rgb(bands=["nir", "B8", "B8"])
    np.testing.assert_array_equal(grey[..., 0], grey[..., 2])


def test_scaled_and_masked_arrays_give_the_same_picture(server, da):
    expected = da.l3a.rgb(stretch=(0, 0.2))
    scaled = open_l3a(SAMPLE_AOI, time="2021-04/2021-06", archive=server.url, mask_and_scale=True)
    for same in (scaled, da.l3a.masked(), da.compute()):
        np.testing.assert_array_equal(same.l3a.rgb(stretch=(0, 0.2)), expected)
    one = da.isel(time=0).l3a.rgb(stretch=(0, 0.2))
    np.testing.assert_array_equal(one, expected[0])


def test_ndvi_has_colours_for_all_eyes(da):
    image = da.l3a.rgb(bands="ndvi", stretch=(0, 1)).to_numpy()
    ndvi = da.l3a.ndvi().to_numpy()
    valid = np.isfinite(ndvi)
    np.testing.assert_array_equal(image[..., 3], np.where(valid, 255, 0))
    expected = colormaps["cividis"](np.clip(ndvi[valid], 0, 1), bytes=True)
    np.testing.assert_allclose(image[valid][:, :3].astype(int), expected[:, :3], atol=4)
    grey = image[valid][:, :3] @ [0.299, 0.587, 0.114]
    order = np.argsort(ndvi[valid])
    assert (np.diff(grey[order][::500]) > -2).all()  # dark to bright, without any colour


def test_bands_come_first_and_are_true_colour_unless_named(da):
    assert da.l3a.rgb(stretch=(0, 0.2)).attrs["bands"] == ["B4", "B3", "B2"]
    assert da.l3a.rgb("nir", stretch=(0, 0.2)).attrs["bands"] == ["B8", "B4", "B3"]


@pytest.mark.parametrize(
    ("keywords", "told"),
    [
        ({"bands": "evi"}, "'true', 'nir', 'swir', 'ndvi'"),
        ({"bands": ["B4", "B3"]}, "three bands"),
        ({"bands": ["B4", "B3", "B1"]}, "no such band"),
        ({"bands": ["B4", "B3", "B5"]}, "has not got B5; open it with bands="),
        ({"stretch": "linear"}, "percentile"),
        ({"stretch": (0.3, 0.1)}, "lowest, highest"),
        ({"stretch": (0, 3000)}, r"\(0, 3000\) must be reflectances .* such as \(0, 0.3\)"),
        ({"stretch": (-10000, 1)}, "must be reflectances"),
    ],
)
def test_what_is_no_picture_is_told(da, keywords, told):
    with pytest.raises(SelectionError, match=told):
        da.l3a.rgb(**keywords)


def test_a_panel_for_each_month_with_date_share_and_outline(da):
    figure = da.l3a.plot_rgb(col="time", columns=2)
    panels = [axis for axis in figure.axes if axis.get_images()]
    quality = da.l3a.quality(approximate=True)
    shares = quality[["nodata", "cloud", "snow"]].sum(axis=1)
    assert [panel.get_title() for panel in panels] == [
        f"{when:%Y-%m-%d}, {share:.1%} nodata, cloud or snow" for when, share in shares.items()
    ]
    left, bottom, right, top = da.rio.bounds()
    outline = gpd.GeoDataFrame.from_features(
        [{"type": "Feature", "properties": {}, "geometry": SAMPLE_AOI}], crs=4326
    ).to_crs(da.rio.crs)
    for panel in panels:
        (line,) = panel.get_lines()
        np.testing.assert_allclose(line.get_xydata(), outline.geometry[0].exterior.coords)
        assert panel.get_images()[0].get_extent() == [left, right, bottom, top]
        assert panel.get_images()[0].origin == "upper"
    assert "B4 B3 B2" in figure.get_suptitle()
    plt.close(figure)
    plain = da.compute().l3a.plot_rgb(columns=2)
    assert plain.axes[0].get_title() == "2021-04-15"
    plt.close(plain)
    with pytest.raises(SelectionError, match="'time'"):
        da.l3a.plot_rgb(col="band")


def test_ndvi_has_a_legend(da):
    figure = da.l3a.plot_rgb(bands="ndvi", share=False)
    assert figure.axes[-1].get_xlabel() == "NDVI"
    plt.close(figure)


def test_pictures_that_can_not_be_written(da, tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "a.png", None, 5, "a\0b"):
        with pytest.raises(ExportError, match=r"can't be (made|a path)|must be a path"):
            da.l3a.quicklook(path)
    for name in ("file", "aoi.geojson", "a.jpg"):
        with pytest.raises(ExportError, match=r"must end in \.png"):
            da.l3a.quicklook(tmp_path / name)
    assert (tmp_path / "file").read_text() == ""
    with pytest.raises(SelectionError, match="columns=0"):
        da.l3a.quicklook(tmp_path / "a.png", columns=0)
    with pytest.raises(SelectionError, match="y and x"):
        da.isel(x=0).l3a.plot_rgb()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_north_is_up_and_west_left(server, tmp_path):
    north_west = shapely.Polygon([(11.68, 51.94), (11.68, 51.99), (11.76, 51.99)])
    da = open_l3a(north_west, time="2021-05", archive=server.url)
    path = da.l3a.quicklook(tmp_path / "corner.png", share=False)
    assert not list(tmp_path.glob(".*"))
    with Image.open(path) as image:
        picture = np.asarray(image.convert("RGB"), dtype=int)
    is_grey = (np.abs(picture - 217) < 2).all(axis=-1)
    rows, columns = np.nonzero(is_grey)
    bottom, right = rows.max(), columns.max()  # of the panel: its south-east is empty
    assert is_grey[bottom - 60 : bottom, right - 60 : right].all()
    assert not is_grey[bottom - 300 : bottom - 200, 30:130].any()
    painted = (np.ptp(picture, axis=-1) > 20) & ~is_grey
    assert painted[bottom - 300 : bottom - 200, 30:130].mean() > 0.8


def test_a_map_to_zoom_in(da, tmp_path):
    folium = pytest.importorskip("folium")
    shown = da.isel(time=[0, 1]).l3a.explore(stretch=(0, 0.2), tiles=None)
    layers = [
        child for child in shown._children.values()
        if isinstance(child, folium.raster_layers.ImageOverlay)
    ]  # fmt: skip
    assert [layer.layer_name for layer in layers] == ["2021-04-15", "2021-05-15"]
    (south, west), (north, east) = layers[0].bounds
    assert (west, south, east, north) == pytest.approx((11.66, 51.92, 11.815, 52.015), abs=0.01)
    shown.save(tmp_path / "map.html")
    assert "data:image/png" in (tmp_path / "map.html").read_text("utf-8")


def quicklook(*arguments):
    return CliRunner().invoke(main, ["quicklook", *map(str, arguments)])


def test_command(server, tmp_path):
    area = tmp_path / "aoi.geojson"
    area.write_text(json.dumps(SAMPLE_AOI), "utf-8")
    out = tmp_path / "new" / "months.png"
    server.clear_log()
    told = quicklook(area, out, "--time", "2021-04/2021-06", "--archive", server.url,
                     "--bands", "nir", "--stretch", "0,0.4", "--size", "300")  # fmt: skip
    assert (told.exit_code, told.output.strip()) == (0, str(out))
    with Image.open(out) as image:
        assert image.size[0] > 1200
    files = {entry.path[-6:] for entry in server.log if entry.path.endswith(".tif")}
    assert files == {"B8.tif", "B4.tif", "B3.tif", "R2.tif"}
    again = quicklook(area, out, "--bands", "B4,B3", "--archive", server.url)
    assert again.exit_code == 2
    assert "three bands" in again.output
    assert quicklook(area, out, "--stretch", "a,b", "--archive", server.url).exit_code == 2
    server.clear_log()
    wrong = quicklook(area, out, "--stretch", "0,3000", "--archive", server.url)
    assert (wrong.exit_code, len(server.log)) == (2, 0)
    assert "--stretch (0, 3000) must be reflectances" in wrong.output


@pytest.mark.slow
def test_a_whole_tile_costs_a_thirtieth_of_its_bytes(tmp_path, lay_file):
    """Of a tile that is filled everywhere: the sample's are empty but for a corner."""
    root = tmp_path / "archive"
    dice = np.random.default_rng(1)
    # What differs from field to field stays in overviews, what differs within them goes.
    fields = dice.integers(300, 2300, (687, 687), dtype=np.int16)
    pixels = fields.repeat(16, axis=0)[:10980].repeat(16, axis=1)[:, :10980]
    pixels = pixels + dice.integers(0, 64, pixels.shape, dtype=np.int16)
    path = lay_file(root, pixels, band="B4", num_threads=2, zlevel=1)
    with rasterio.open(path, "r+") as file:
        file.build_overviews([2, 4, 8, 16, 32], Resampling.average)
    lay_file(root, np.full((5490, 5490), 4, np.uint8), band="FLG", resolution_m=20)
    with tifffile.TiffFile(path) as file:
        whole = sum(file.pages[0].databytecounts)
    area = gpd.GeoSeries([tile_named("32UPC").box.buffer(-50)], crs=32632)
    area.to_file(tmp_path / "tile.geojson")
    with SampleServer(root) as server, warnings.catch_warnings():
        told = quicklook(tmp_path / "tile.geojson", tmp_path / "tile.png", "--time", "2021-03",
                         "--bands", "B4,B4,B4", "--archive", server.url)  # fmt: skip
        assert told.exit_code == 0, told.output
        read = sum(entry.bytes_sent for entry in server.log)
    assert whole > 50e6
    assert read <= whole / 30
