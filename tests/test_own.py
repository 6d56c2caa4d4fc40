"""What a user has stays: nothing is replaced that this package did not write."""

from __future__ import annotations

import json
import uuid

import geopandas as gpd
import numpy as np
import pytest
import shapely
import xarray as xr
import zarr
from click.testing import CliRunner

import s2l3a_xr
from s2l3a_xr import ExportError, Inventory, to_cog, to_geotiff, to_zarr
from s2l3a_xr._cli import main
from s2l3a_xr._own import kind_of
from s2l3a_xr._sample import SAMPLE_AOI, Fault

AOI = (11.68, 51.94, 11.70, 51.96)
BOUNDS = "11.68,51.94,11.70,51.96"
MAY = ("--time", "2021-05", "--bands", "B4")
FIELDS = {
    "type": "FeatureCollection",
    "name": "my fields",
    "features": [
        {
            "type": "Feature",
            "properties": {"crop": "s2l3a_xr inventory"},
            "geometry": shapely.geometry.mapping(shapely.box(*AOI)),
        }
    ],
}


def contents(folder):
    """Give all files below a folder, byte for byte."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture
def run(server):
    def call(command, *words):
        server.clear_log()
        words = (command, *words, *MAY, "--archive", server.url)
        return CliRunner().invoke(main, [str(word) for word in words])

    return call


@pytest.fixture
def fields(tmp_path):
    path = tmp_path / "fields.geojson"
    path.write_text(json.dumps(FIELDS), "utf-8")
    return path


@pytest.fixture
def found(server):
    return s2l3a_xr.search_l3a(AOI, time="2021-05", bands="B4", archive=server.url)


@pytest.fixture
def da(server):
    return s2l3a_xr.open_l3a(AOI, time="2021-05", bands=["B4", "B8"], archive=server.url)


# inventories and requests


@pytest.mark.parametrize("name", ["a.json", "a.geojson", "a.parquet", "a.geoparquet"])
def test_an_inventory_replaces_inventories_alone(found, server, fields, name):
    path = fields.with_name(name)
    if name.endswith("parquet"):
        gpd.read_file(fields).to_parquet(path)
    else:
        path.write_bytes(fields.read_bytes())
    before = contents(path.parent)
    with pytest.raises(ExportError, match=rf"{name} is .* no inventory .* choose .* or remove it"):
        found.save(path)
    assert contents(path.parent) == before
    path.unlink()
    found.save(path)
    other = s2l3a_xr.search_l3a(AOI, time="2021-06", bands="B4", archive=server.url)
    other.save(path)
    assert [cell.month for cell in Inventory.load(path).cells] == [(2021, 6)]


@pytest.mark.parametrize("text", ["", "{}", "[]", "\x00\xff", '{"s2l3a_xr": {"format": "other"}}'])
def test_what_says_nothing_stays_too(found, tmp_path, text):
    for name in ("a.json", "a.parquet"):
        (tmp_path / name).write_text(text, "utf-8")
        with pytest.raises(ExportError, match="no inventory"):
            found.save(tmp_path / name)
        assert (tmp_path / name).read_text("utf-8") == text


def test_an_inventory_that_was_laid_out_anew_is_one(found, tmp_path):
    path = found.save(tmp_path / "a.json")
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")), indent=4), "utf-8")
    assert kind_of(found.save(path)) == "s2l3a_xr inventory"


def test_a_request_replaces_requests_alone(da, found, fields, server):
    ds = xr.open_dataset(AOI, engine="s2l3a", time="2021-05", archive=server.url, chunks={})
    pinned = found.save(fields.with_name("inventory.json"))
    before = contents(fields.parent)
    for opened in (da, ds):
        for path in (fields, pinned):
            with pytest.raises(ExportError, match=rf"{path.name} is .* no request .* or remove it"):
                opened.l3a.save_request(path)
    assert contents(fields.parent) == before
    request = da.l3a.save_request(fields.with_name("request.json"))
    with pytest.raises(ExportError, match=r"request\.json is .* no inventory"):
        found.save(request)
    assert ds.l3a.save_request(request) == request
    assert len(xr.open_dataset(request, engine="s2l3a")) == len(ds)


def test_search_does_not_replace_the_area_that_it_read(run, server, fields):
    other = fields.with_name("notes.json")
    other.write_text('{"to do": "all of it"}', "utf-8")
    before = contents(fields.parent)
    for path in (fields, other):
        shown = run("search", fields, "--save", path)
        assert shown.exit_code == 2, shown.output
        assert f"{path} is there already and is no inventory" in shown.stderr
        assert shown.stderr.count("\n") == 1
        assert server.log == []
    assert contents(fields.parent) == before
    saved = fields.with_name("inventory.json")
    for _ in range(2):
        assert run("search", fields, "--save", saved).exit_code == 0
    shown = run("search", saved, "--save", saved)
    assert shown.exit_code == 2
    assert f"--save would replace {saved}, the AOI itself; choose" in shown.stderr


# what download leaves beside the pixels


def test_the_smaller_area_does_not_replace_the_area(run, server, fields, monkeypatch):
    area = fields.rename(fields.with_name("aoi_ecognition.geojson"))
    out = area.parent
    monkeypatch.chdir(out)
    before = contents(out)
    for given, where in ((area, out), (area.name, "."), (BOUNDS, out), (BOUNDS, "./")):
        shown = run("download", given, where, "--buffer-aoi", "-20")
        assert shown.exit_code == 2, shown.output
        assert "aoi_ecognition.geojson is there already and is no area" in shown.stderr
        assert server.log == []
    shown = run("download", area, out / "a.zarr", "--buffer-aoi", "-20", "--format", "zarr")
    assert shown.exit_code == 2
    assert contents(out) == before


def test_a_smaller_area_of_ours_is_replaced_but_never_read_and_replaced(run, server, fields):
    out = fields.parent / "out"
    area = out / "aoi_ecognition.geojson"
    sizes = []
    for metres in (-20, -200):
        shown = run("download", fields, out, "--buffer-aoi", metres)
        assert shown.exit_code == 0, shown.output
        sizes.append(gpd.read_file(area).to_crs(3035).area.sum())
    assert sizes[1] < sizes[0]
    before = contents(out)
    shown = run("download", area, out, "--buffer-aoi", "-20")
    assert shown.exit_code == 2
    assert f"--buffer-aoi would replace {area}, the AOI itself; choose" in shown.stderr
    assert server.log == []
    assert contents(out) == before
    assert run("download", area, out.with_name("two"), "--buffer-aoi", "-20").exit_code == 0
    ds = xr.open_dataset(area, engine="s2l3a", time="2021-05", archive=server.url)
    assert ds.sizes["x"] < 140


def test_a_list_of_failures_replaces_lists_of_failures_alone(fresh_server, tmp_path):
    report = tmp_path / "s2_l3a_failures.json"
    words = ("download", BOUNDS, tmp_path, *MAY, "--keep-going", "--archive", fresh_server.url)

    def run():
        return CliRunner().invoke(main, [str(word) for word in words])

    for mine in ('{"mine": 1}', '[{"mine": 1}]', "mine", "[" * 100_000):
        report.write_text(mine, "utf-8")
        shown = run()
        assert shown.exit_code == 2, shown.output
        assert f"{report} is there already and is no list of failures" in shown.stderr
        assert contents(tmp_path) == {report.name: mine.encode()}
    assert fresh_server.log == []
    report.unlink()
    fresh_server.faults = [Fault(match="_B4", kind="status", status=404)]
    run()
    assert json.loads(report.read_text("utf-8"))[0]["band"] == "B4"
    run()
    fresh_server.faults = []
    shown = run()
    assert shown.exit_code == 0, shown.output
    assert not report.exists()


# Zarr stores


def _as_v3(path):
    zarr.open_group(path, mode="w", zarr_format=3)


def _as_references(path):
    path.mkdir()
    (path / ".zmetadata").write_text("{}", "utf-8")


def _as_icechunk(path):
    for name in ("repo", "snapshots", "transactions"):
        (path / name).mkdir(parents=True)


@pytest.mark.parametrize("make", [None, _as_v3, _as_references, _as_icechunk])
@pytest.mark.parametrize("below", ["", "s2_l3a", "new/folder"])
def test_no_geotiff_goes_into_a_store(da, server, run, tmp_path, make, below):
    store = tmp_path / "a.zarr"
    if make is None:
        to_zarr(da, store, progress=False)
    else:
        make(store)
    before = contents(tmp_path)
    server.clear_log()
    for write in (to_geotiff, to_cog):
        with pytest.raises(ExportError, match=r"a\.zarr is a Zarr store, .* give another folder"):
            write(da, store / below, overwrite=True, progress=False)
    for form in ("geotiff", "cog"):
        shown = run("download", BOUNDS, store / below, "--format", form)
        assert shown.exit_code == 2
        assert f"{store} is a Zarr store" in shown.stderr
    assert server.log == []
    assert contents(tmp_path) == before
    assert not (store / "new").exists()


MINE = {
    "thesis.txt": "mine", "s2_l3a/notes.md": "mine", "photos/1": "mine", "s2_l3a/x/1": "mine",
    "film.partial": "mine",
}  # fmt: skip


@pytest.mark.parametrize("whose", ["ours", "theirs"])
def test_a_store_with_other_files_in_it_is_not_replaced(da, run, tmp_path, whose):
    store = tmp_path / "a.zarr"
    other = da.isel(x=slice(1, None))
    if whose == "ours":
        to_zarr(other, store, progress=False)
    else:
        ds = xr.Dataset({"a": (("x", "y"), np.ones((4, 4))), "s2_l3a": 1}).chunk(x=2)
        ds.to_zarr(store, zarr_format=2, consolidated=False)
    for name, text in MINE.items():
        (store / name).parent.mkdir(exist_ok=True)
        (store / name).write_text(text, "utf-8")
    before = contents(store)
    named = r"5 file\(s\) in it are none of Zarr's: film\.partial, photos/1, s2_l3a/notes\.md, …;"
    with pytest.raises(ExportError, match=named):
        to_zarr(da, store, overwrite=True, progress=False)
    shown = run("download", BOUNDS, store, "--format", "zarr", "--overwrite")
    assert shown.exit_code == 2
    assert "remove them, or write to another place" in shown.stderr
    assert contents(store) == before
    if whose == "ours":  # what goes on removes nothing
        to_zarr(other, store, overwrite=True, progress=False)
        assert contents(store) == before
    for name in MINE:
        (store / name).unlink()
    to_zarr(da, store, overwrite=True, progress=False)
    with xr.open_zarr(store, mask_and_scale=False) as ds:
        np.testing.assert_array_equal(ds["s2_l3a"], da)


@pytest.mark.filterwarnings("ignore:Object at film.partial")
def test_an_unfinished_store_keeps_other_files(da, tmp_path):
    to_zarr(da, tmp_path, progress=False)
    zarr.open_group(tmp_path, mode="r+").attrs["status"] = "unfinished"
    (tmp_path / "film.partial").write_text("mine", "utf-8")
    (tmp_path / f".zgroup.{uuid.uuid4().hex}.partial").write_text("half", "utf-8")
    to_zarr(da, tmp_path, progress=False)
    assert [path.name for path in tmp_path.glob("*.partial")] == ["film.partial"]


def test_a_store_that_was_killed_as_it_began_is_begun_anew(da, tmp_path):
    (tmp_path / ".zattrs").write_text("{}", "utf-8")
    (tmp_path / f".zgroup.{uuid.uuid4().hex}.partial").write_text("{", "utf-8")
    to_zarr(da, tmp_path, progress=False)
    assert not list(tmp_path.glob("*.partial"))
    (tmp_path / ".zgroup").unlink()
    with pytest.raises(ExportError, match="no Zarr store"):
        to_zarr(da, tmp_path, overwrite=True, progress=False)


@pytest.mark.filterwarnings("ignore:pixels without data")
def test_a_store_behind_a_url_keeps_other_files(da):
    import fsspec  # noqa: PLC0415 - for this one

    url = f"memory://{uuid.uuid4().hex}/a.zarr"
    to_zarr(da, url, progress=False)
    files = fsspec.filesystem("memory")
    files.pipe(f"{url}/thesis.txt", b"mine")
    with pytest.raises(ExportError, match=r"1 file\(s\) in it are none of Zarr's: thesis\.txt;"):
        to_zarr(da + 1, url, overwrite=True, progress=False)
    files.rm(f"{url}/thesis.txt")
    to_zarr(da + 1, url, overwrite=True, progress=False)


# names of files, where a folder is needed


@pytest.mark.parametrize("name", ["x.tif", "new/x.TIFF"])
def test_a_folder_is_not_named_as_a_file(da, run, server, tmp_path, name):
    for write in (to_geotiff, to_cog):
        with pytest.raises(ExportError, match=r"a folder is needed; .* named by month and band"):
            write(da, tmp_path / name, progress=False)
    for form in ("geotiff", "cog"):
        assert run("download", BOUNDS, tmp_path / name, "--format", form).exit_code == 2
        assert server.log == []
    assert not list(tmp_path.iterdir())
    (tmp_path / name).mkdir(parents=True)
    assert len(to_geotiff(da, tmp_path / name, progress=False)) == 2


# the demo


def demo(folder):
    return CliRunner().invoke(main, ["demo", str(folder)])


@pytest.fixture(scope="module")
def demo_folder(sample_root, tmp_path_factory):
    assert sample_root.is_dir()
    folder = tmp_path_factory.mktemp("demo")
    assert demo(folder).exit_code == 0
    return folder


@pytest.mark.parametrize("name", ["aoi.geojson", "s2_l3a_20210315_blue.tif", "quicklook.png"])
def test_the_demo_replaces_nothing_of_others(server, tmp_path, fields, name):
    assert server.url  # the archive is there
    fields.rename(tmp_path / name)
    before = contents(tmp_path)
    shown = demo(tmp_path)
    assert shown.exit_code == 2, shown.output
    assert f"{tmp_path / name} is there already and is no file of the demo" in shown.stderr
    assert "choose another name or folder" in shown.stderr
    assert contents(tmp_path) == before


@pytest.mark.filterwarnings("ignore:pixels without data")
def test_the_demo_knows_its_own_files(da, demo_folder, tmp_path):
    path = demo_folder / "s2_l3a_20210515_red.tif"
    whole = path.read_bytes()
    (small,) = to_geotiff(da[:, :1], tmp_path, progress=False)
    for mine in (b"mine", small.read_bytes()):
        path.write_bytes(mine)
        before = contents(demo_folder)
        shown = demo(demo_folder)
        assert shown.exit_code == 2, shown.output
        assert f"{path} is there already" in shown.stderr
        assert contents(demo_folder) == before
    path.write_bytes(whole)
    sample = gpd.GeoSeries([shapely.geometry.shape(SAMPLE_AOI)], crs=4326)
    assert gpd.read_file(demo_folder / "aoi.geojson").geometry.geom_equals(sample).all()
    # As an older version may have left them: whole files whose content is told otherwise.
    old = s2l3a_xr.open_l3a(
        demo_folder / "aoi.geojson", time="2021-05", bands="B4", archive=da.attrs["source"]
    )
    to_geotiff(old + 1, demo_folder, overwrite=True, progress=False)
    (demo_folder / "my.txt").write_text("mine", "utf-8")
    assert demo(demo_folder).exit_code == 0
    assert path.read_bytes() == whole
    assert (demo_folder / "my.txt").read_text("utf-8") == "mine"


def test_a_picture_replaces_pictures_of_ours_alone(server, run, tmp_path):
    da = s2l3a_xr.open_l3a(AOI, time="2021-05", archive=server.url)
    ours, theirs = tmp_path / "ours.png", tmp_path / "theirs.png"
    da.l3a.quicklook(ours)
    first = ours.read_bytes()
    assert da.l3a.quicklook(ours).read_bytes() == first
    for text in (b"mine", first.replace(b"s2l3a_xr quicklook", b"matplotlib quicks.")):
        theirs.write_bytes(text)
        server.clear_log()
        with pytest.raises(ExportError, match=r"theirs\.png is there already and is no picture"):
            da.l3a.quicklook(theirs)
        assert run("quicklook", BOUNDS, theirs).exit_code == 2
        assert theirs.read_bytes() == text
        assert not server.log


def test_what_was_saved_is_not_taken_for_an_area(found, da, server, tmp_path):
    """Its shapes are footprints of whole tiles."""
    pinned = found.save(tmp_path / "found.json")
    request = da.l3a.save_request(tmp_path / "request.json")
    for path, told in ((pinned, "inventory; open it with inventory="), (request, "request; open")):
        with pytest.raises(s2l3a_xr.AoiError, match=f"is no area but a saved {told}"):
            s2l3a_xr.open_l3a(path, time="2021-05", archive=server.url)
    (tmp_path / "cut.geojson").write_text('{"s2l3a_xr": 5, "type"', "utf-8")
    with pytest.raises(s2l3a_xr.AoiError, match="can't be read as a vector file"):
        s2l3a_xr.search_l3a(tmp_path / "cut.geojson")
    with pytest.raises(s2l3a_xr.AoiError, match="can't be an Inventory; give it as inventory="):
        s2l3a_xr.search_l3a(found)
    smaller = s2l3a_xr.buffer_aoi(AOI, -20)
    from s2l3a_xr._buffer import write_area  # noqa: PLC0415

    area = write_area(smaller, tmp_path / "area.geojson")
    assert s2l3a_xr.search_l3a(area, time="2021-05", archive=server.url).available == 4


def test_an_inventory_with_sorted_keys_is_one(found, tmp_path):
    path = found.save(tmp_path / "found.json")
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")), sort_keys=True), "utf-8")
    found.save(path)
    assert Inventory.load(path).available == found.available


def test_another_zone_is_named_first(da, tmp_path, server):
    to_geotiff(da, tmp_path, progress=False)
    other = s2l3a_xr.open_l3a(AOI, time="2021-05", bands="B4", archive=server.url, crs="EPSG:32633")
    with pytest.raises(ExportError, match=r"its CRS is EPSG:32632, not EPSG:32633"):
        to_geotiff(other, tmp_path, progress=False)


def test_a_folder_in_the_place_of_a_file_is_named(da, tmp_path):
    (tmp_path / "s2_l3a_20210515_red.tif").mkdir()
    with pytest.raises(ExportError, match="a folder has that name: remove it"):
        to_geotiff(da, tmp_path, overwrite=True, progress=False)


def test_files_of_systems_do_not_keep_a_store(da, tmp_path):
    to_zarr(da, tmp_path / "a.zarr", progress=False)
    (tmp_path / "a.zarr" / ".DS_Store").write_bytes(b"x")
    to_zarr(da.isel(x=slice(5)), tmp_path / "a.zarr", overwrite=True, progress=False)


def test_a_foreign_store_of_format_3_is_named_so(da, tmp_path):
    xr.Dataset({"a": ("x", [1, 2])}).to_zarr(tmp_path / "a.zarr", zarr_format=3)
    before = contents(tmp_path)
    with pytest.raises(ExportError, match="is a Zarr store of format 3"):
        to_zarr(da, tmp_path / "a.zarr", overwrite=True, progress=False)
    assert contents(tmp_path) == before
