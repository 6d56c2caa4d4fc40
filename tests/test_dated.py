"""Mirrors in all kinds of places and in both layouts: the same pixels as from DLR's server."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import fsspec
import numpy as np
import pytest

from s2l3a_xr import Inventory, MissingError, open_l3a, save_archive, search_l3a
from s2l3a_xr._product import Product
from s2l3a_xr._sample import SampleServer

AOI = (11.68, 51.94, 11.72, 51.96)
ASKED = {"years": 2021, "months": [5, 6], "bands": ["B4", "B11", "FLG"]}


@pytest.fixture(scope="module")
def expected(sample_server):
    return open_l3a(AOI, archive=sample_server.url, **ASKED).load()


@pytest.fixture(scope="module")
def mirror(sample_server, tmp_path_factory):
    folder = tmp_path_factory.mktemp("mirror")
    found = search_l3a(AOI, archive=sample_server.url, **ASKED)
    save_archive(found, folder, progress=False)
    return folder


@pytest.fixture(scope="module")
def by_date(mirror, tmp_path_factory):
    """Lay the mirror out as CODE-DE does: folders of dates, the first of the month, tile last."""
    root = tmp_path_factory.mktemp("dated") / "L3-WASP"
    for path in mirror.rglob("*.tif"):
        product = Product.parse(path.name.rsplit("_", 2)[0])
        month = f"{product.year}{product.month:02}"
        folder = root / month[:4] / month[4:] / "01" / f"S2_L3_WASP_{month}_{product.tile}"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, folder / path.name)
    return root


def pack(folder: Path, packed: Path, compression: int) -> str:
    with zipfile.ZipFile(packed, "w", compression) as file:
        for path in sorted(folder.rglob("*.*")):
            file.write(path, f"files/{path.relative_to(folder).as_posix()}")
    return f"zip://files::{packed}"


@pytest.fixture(params=["folder", "file URL", "memory", "stored zip", "packed zip", "http"])
def place(request, tmp_path):
    """Return a function that puts a folder into such a place and says where it is."""
    kind = request.param
    with SampleServer(tmp_path) as server:

        def put(folder: Path) -> str | Path:
            if kind == "memory":
                # What was listed is remembered by its name.
                fsspec.filesystem("memory").put(f"{folder}/", f"/{tmp_path.name}/", recursive=True)
                return f"memory://{tmp_path.name}"
            if "zip" in kind:
                how = zipfile.ZIP_STORED if kind == "stored zip" else zipfile.ZIP_DEFLATED
                return pack(folder, tmp_path / "mirror.zip", how)
            if kind == "http":
                shutil.copytree(folder, tmp_path / "files")
                return f"{server.origin}/files"
            return folder.as_uri() if kind == "file URL" else folder

        yield put
    memory = fsspec.filesystem("memory")
    if memory.exists(f"/{tmp_path.name}"):
        memory.rm(f"/{tmp_path.name}", recursive=True)


@pytest.mark.parametrize("layout", ["mirror", "by_date"])
def test_the_same_pixels(request, place, layout, expected, tmp_path):
    where = place(request.getfixturevalue(layout))
    found = search_l3a(AOI, archive=where, **ASKED)
    assert found.available == len(found) == 6
    assert set(found.to_dataframe()["status"]) == {"available"}
    da = open_l3a(inventory=found)
    np.testing.assert_array_equal(da, expected)
    pinned = found.save(tmp_path / "pin.json")
    assert Inventory.load(pinned).cells == found.cells
    assert open_l3a(inventory=pinned).attrs["request"] == da.attrs["request"]


def test_folders_by_date_are_always_asked_for_files(by_date, expected):
    found = search_l3a(AOI, archive=by_date, verify=False, **ASKED)
    assert set(found.to_dataframe()["status"]) == {"available"}
    np.testing.assert_array_equal(open_l3a(inventory=found), expected)


def test_without_years(by_date):
    found = search_l3a(AOI, archive=by_date, bands="B4")
    assert found.months == ((2021, 5), (2021, 6))
    assert found.available == 2


def test_masks_in_a_folder_of_their_own(by_date, tmp_path, expected):
    root = shutil.copytree(by_date, tmp_path / "copy")
    for mask in list(root.rglob("*_FLG_R1.tif")):
        (mask.parent / "MASKS").mkdir(exist_ok=True)
        mask.rename(mask.parent / "MASKS" / mask.name)
    np.testing.assert_array_equal(open_l3a(AOI, archive=root, **ASKED), expected)


def test_what_does_not_belong_there(by_date, tmp_path):
    root = shutil.copytree(by_date, tmp_path / "copy")
    folder = root / "2021" / "05" / "01" / "S2_L3_WASP_202105_32UPC"
    name = next(folder.glob("*_B4.tif")).name
    for other in (
        name.replace("32UPC", "32UQC"), name.replace("202105", "202205"), "a.tif", "a_b_c.tif",
    ):  # fmt: skip
        (folder / other).write_bytes(b"")
    found = search_l3a(AOI, archive=root, **ASKED)
    assert {(cell.tile, cell.month) for cell in found.cells} == {
        ("32UPC", (2021, 5)),
        ("32UPC", (2021, 6)),
    }
    assert found.available == 6


def test_nothing_there(by_date, tmp_path):
    with pytest.raises(MissingError, match=r"32UPC has 2021-05, 2021-06"):
        search_l3a(AOI, archive=by_date, years=2021, months=8)
    with pytest.raises(MissingError, match="no product tile is offered"):
        search_l3a(AOI, archive=tmp_path, years=2021)
