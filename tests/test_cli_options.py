"""What options of the command line do to files, listings and the network."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import fields

import click
import numpy as np
import pytest
import rioxarray
import xarray as xr
from click.testing import CliRunner

import s2l3a_xr
from s2l3a_xr._cli import main
from s2l3a_xr._sample import Fault, SampleServer

BOUNDS = "11.68,51.94,11.70,51.96"
AREA = (11.68, 51.94, 11.70, 51.96)
MAY = ("--time", "2021-05")
RED = "s2_l3a_20210515_red.tif"
SWIR = "s2_l3a_20210515_swir16.tif"


@pytest.fixture
def run():
    def call(*words):
        return CliRunner().invoke(main, [str(word) for word in words])

    return call


@pytest.fixture
def download(run, server, tmp_path):
    """Download May of a small area; give the folder."""

    def call(*words, aoi=(BOUNDS,), bands="B4", to="out"):
        out = tmp_path / to
        shown = run(
            "download",
            *aoi,
            out,
            *MAY,
            "--bands",
            bands,
            "--archive",
            server.url,
            "--quiet",
            *words,
        )
        assert shown.exit_code == 0, shown.output
        return out

    return call


def pixels(path):
    with rioxarray.open_rasterio(path) as raster:
        return raster.isel(band=0).load()


def test_another_grid(download, server):
    out = download(
        "--crs", "EPSG:3035", "--resolution", 25, "--resampling", "average,B11=bilinear",
        bands="B4,B11",
    )  # fmt: skip
    expected = s2l3a_xr.open_l3a(
        AREA, time="2021-05", bands=["B4", "B11"], archive=server.url,
        crs=3035, resolution=25, resampling={"*": "average", "B11": "bilinear"},
    )  # fmt: skip
    for name, plane in zip((RED, SWIR), expected.values[0], strict=True):
        written = pixels(out / name)
        assert written.rio.crs == "EPSG:3035"
        np.testing.assert_array_equal(written, plane)


@pytest.mark.parametrize("aoi", [(), (BOUNDS,)], ids=["its extent", "an area"])
def test_the_grid_of_a_file(download, aoi):
    grid = pixels(download("--crs", "EPSG:3035", "--resolution", 40, "--no-clip") / RED)
    written = pixels(download("--like", "out/" + RED, aoi=aoi, to="like") / RED)
    assert written.rio.transform() == grid.rio.transform()
    assert written.shape == grid.shape
    has_all = bool((written != -10000).all())
    assert has_all == (not aoi)  # the lon/lat box is a slanted one there


@pytest.fixture(autouse=True)
def _in_its_own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_pixels_at_the_border(download):
    counts = [
        int((pixels(download(*words, to=f"{len(words)}{words}") / RED) != -10000).sum())
        for words in ((), ("--all-touched",), ("--no-clip",))
    ]
    assert counts == sorted(set(counts))


def test_the_collection_of_a_stac_api(run, server):
    words = ("search", BOUNDS, *MAY, "--archive", server.stac_url)
    found = run(*words, "--collection", "S2_L3A_WASP")
    assert found.exit_code == 0, found.output
    assert "/collections/S2_L3A_WASP, licence CC-BY-4.0" in found.stdout
    wrong = run(*words, "--collection", "S2_L3A")
    assert wrong.exit_code == 1
    assert "it has S2_L3A_WASP" in wrong.stderr
    assert "(--collection)" in wrong.stderr


def test_a_cache_is_kept_for_later_processes(fresh_server, tmp_path):
    command = [
        sys.executable, "-m", "s2l3a_xr._cli", "download", BOUNDS, "out", *MAY, "--bands", "B4",
        "--archive", fresh_server.url, "--cache-dir", "cache", "--max-connections", "1",
        "--overwrite",
    ]  # fmt: skip

    def tiffs_asked_for():
        fresh_server.clear_log()
        (tmp_path / "out" / RED).unlink(missing_ok=True)
        shown = subprocess.run(  # noqa: S603 - our own command
            command, capture_output=True, text=True, check=False, cwd=tmp_path
        )
        assert shown.returncode == 0, shown.stderr
        return [entry for entry in fresh_server.log if entry.path.endswith(".tif")]

    assert tiffs_asked_for()
    assert not tiffs_asked_for()


def test_a_host_that_is_allowed(run, fresh_server):
    folder = "32/U/PC/2021/"
    words = ("search", BOUNDS, *MAY, "--archive", fresh_server.url)
    with SampleServer(fresh_server.root) as other:
        elsewhere = other.url.replace("127.0.0.1", "localhost") + folder
        fresh_server.faults = [Fault(match=f"/{folder}$", kind="redirect", location=elsewhere)]
        refused = run(*words)
        assert refused.exit_code == 1
        assert "(--allow-host)" in refused.stderr
        allowed = run(*words, "--allow-host", "localhost")
        assert allowed.exit_code == 0, allowed.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--crs", "EPSG:1"), "is no CRS"),
        (("--resampling", "lanczos"), "'lanczos' must be one of 'nearest'"),
        (("--resampling", "B99=cubic"), "no such band: 'B99'"),
        (("--resampling", "average,cubic"), "says two things of all"),
        (("--like", "no.tif"), "'no.tif' does not exist"),
        (("--like", "text.tif"), "--like text.tif can't be read as a raster"),
        (("--format", "zarr", "--profile", "plain"), "nothing of --format zarr; leave one"),
        (("--format", "cog", "--profile", "plain"), "nothing of --format cog; leave one"),
        (("--format", "zarr", "--profile", "compressed"), "nothing of --format zarr"),
        (("--mirror", "m", "--crs", "EPSG:3035"), "--mirror copies files as they are"),
        (("--max-connections", "0"), "'--max-connections'"),
        (("--collection", "x", "--archive", "."), "needs the http(s) URL"),
    ],
)
def test_bad_options_are_told_before_anything_is_asked(run, words, message, tmp_path):
    (tmp_path / "text.tif").write_text("no raster", "utf-8")
    shown = run("download", BOUNDS, "out", *MAY, *words)  # DLR's server, which no test may ask
    assert shown.exit_code == 2, shown.output
    assert message in shown.stderr
    assert "Traceback" not in shown.stderr


def test_like_settles_the_grid(run, download):
    download()
    shown = run("download", BOUNDS, "out", *MAY, "--like", f"out/{RED}", "--crs", "EPSG:3035")
    assert shown.exit_code == 2
    assert "settle crs and resolution already" in shown.stderr


def test_a_folder_that_can_t_be_made_is_one_line(run, server, tmp_path):
    (tmp_path / "file").write_text("", "utf-8")
    words = (*MAY, "--bands", "B4", "--archive", server.url, "--quiet")
    shown = run("download", BOUNDS, "--mirror", "file/mirror", *words)
    assert shown.exit_code == 2
    assert "file" in shown.stderr
    assert shown.stderr.count("\n") == 1
    shown = run("download", BOUNDS, "file", *words)
    assert shown.exit_code == 2
    assert "a file has that name; choose another folder." in shown.stderr


def test_help_is_in_groups_and_tells_the_true_defaults(run):
    shown = " ".join(run("download", "--help").output.split())
    for heading in ("Selection:", "Archive:", "Grid:", "Missing and failed:", "Output:",
                    "Network:", "Exit codes:"):  # fmt: skip
        assert heading in shown
    default = {field.name: field.default for field in fields(s2l3a_xr.Transport)}
    assert f"host at once. [default: {default['max_connections']}]" in shown
    assert f"up to {default['cache_bytes'] // 10**9} GB" in shown


def test_every_option_says_what_it_is_for():
    for command in main.commands.values():
        for param in command.params:
            if isinstance(param, click.Option):
                assert param.help, (command.name, param.name)
                assert re.search(r"[.\]]$", param.help), (command.name, param.name)


def test_a_zarr_store_and_what_stands_beside_it(download, server, run, tmp_path):
    words = ("--format", "zarr", "--buffer-aoi", "-20", "--keep-going")
    store = download(*words, bands="B4,B8", to="l3a.zarr")
    expected = s2l3a_xr.open_l3a(AREA, time="2021-05", bands=["B4", "B8"], archive=server.url)
    with xr.open_zarr(store, mask_and_scale=False) as ds:
        np.testing.assert_array_equal(ds["s2_l3a"], expected)
    assert (tmp_path / "aoi_ecognition.geojson").exists()
    server.clear_log()
    download(*words, bands="B4,B8", to="l3a.zarr")
    assert not [entry for entry in server.log if entry.path.endswith(".tif")]
    shown = run(
        "download", BOUNDS, store, *MAY, "--bands", "B4", "--archive", server.url, "--quiet",
        "--format", "zarr",
    )  # fmt: skip
    assert shown.exit_code == 2
    assert "made of something else: shape" in shown.output
    shown = run("download", BOUNDS, "memory://a.zarr", *MAY, "--format", "zarr", "--keep-going")
    assert shown.exit_code == 2
    assert "OUT is a URL" in shown.output


def test_cogs_with_all_bands(download, server):
    out = download("--format", "cog", bands="B4,B8")
    expected = s2l3a_xr.open_l3a(AREA, time="2021-05", bands=["B4", "B8"], archive=server.url)
    with rioxarray.open_rasterio(out / "s2_l3a_20210515.tif") as raster:
        height, width = expected.shape[2:]
        np.testing.assert_array_equal(raster[:, :height, :width], expected[0])
