"""Names: of bands as users write them, of products as the archive does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2l3a_xr._errors import SelectionError
from s2l3a_xr._product import BANDS, Product, resolve_bands, tile_folder, year_folder

NAME = "SENTINEL2X_20210315-000000-000_L3A_T32UPC_C_V1-2"


@pytest.mark.parametrize(
    ("names", "native"),
    [
        ("B4", ["B4"]),
        ("red", ["B4"]),
        (["B2", "nir", "rededge3"], ["B2", "B8", "B7"]),
        (("swir22", "swir16"), ["B12", "B11"]),
        ((name for name in ("FLG", "wgt", "DTS")), ["FLG", "WGT", "DTS"]),
        (["B8", "B8A"], ["B8", "B8A"]),
    ],
)
def test_bands_go_by_native_and_common_names(names, native):
    assert [band.native for band in resolve_bands(names)] == native


def test_common_names_are_those_of_stac():
    names = " ".join(band.common for band in BANDS.values() if not band.is_mask)
    assert names == "blue green red rededge1 rededge2 rededge3 nir nir08 swir16 swir22"


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([], "bands is empty; choose from B2, B3"),
        (["B4", "B9"], "no such band: 'B9'; choose from B2"),
        ("b4", "no such band: 'b4'"),
        ("B10", "no such band: 'B10'"),
        (["red", "B4"], "more than once in .*: B4"),
        ([4], "no such band: 4"),
        (["B2,B3"], r"no such band: 'B2,B3' \(perhaps 'B2', 'B3'\)"),
        ("B4 B8", r"\(perhaps a list, \['B4', 'B8'\]\)"),
        (["B04", "Red"], r"\(perhaps 'B4', 'red'\)"),
    ],
)
def test_wrong_bands_are_named(names, words):
    with pytest.raises(SelectionError, match=words):
        resolve_bands(names)


@pytest.mark.parametrize(
    ("band", "resolution_m", "path"),
    [
        ("B4", 10, f"{NAME}_FRC_B4.tif"),
        ("B8A", 10, f"{NAME}_FRC_B8A.tif"),
        ("FLG", 10, f"MASKS/{NAME}_FLG_R1.tif"),
        ("FLG", 20, f"MASKS/{NAME}_FLG_R2.tif"),
        ("DTS", 20, f"MASKS/{NAME}_DTS_R2.tif"),
    ],
)
def test_files_lie_where_dlr_puts_them(band, resolution_m, path):
    product = Product.parse(NAME)
    assert product.file(BANDS[band], resolution_m) == f"32/U/PC/2021/{NAME}/{path}"


def test_folders():
    assert tile_folder("31UGS") == "31/U/GS/"
    assert year_folder("33TUN", 2016) == "33/T/UN/2016/"
    assert Product.parse(NAME).folder == f"32/U/PC/2021/{NAME}/"


@given(
    platform=st.sampled_from(["2A", "2B", "2X"]),
    date=st.dates(),
    tile=st.from_regex(r"[0-9]{2}[C-HJ-NP-X][A-HJ-NP-Z]{2}", fullmatch=True),
    version=st.tuples(st.integers(0, 99), st.integers(0, 99)),
)
def test_names_survive_a_round_trip(platform, date, tile, version):
    name = (
        f"SENTINEL{platform}_{date:%m%d}-000000-000_L3A_T{tile}_C_V{version[0]}-{version[1]}"
    ).replace("_", f"_{date.year:04}", 1)
    product = Product.parse(name)
    assert product.name == name
    assert (product.year, product.month, product.day) == (date.year, date.month, date.day)
    assert product.rank == version


@pytest.mark.parametrize(
    "name",
    [
        "",
        "DATA",
        NAME + "/",
        NAME + "\n",
        " " + NAME,
        NAME + "_FRC_B4.tif",
        NAME.replace("L3A", "L2A"),
        NAME.replace("202103", "202113"),
        NAME.replace("202103", "202100"),
        NAME.replace("20210315", "20210230"),
        NAME.replace("20210315", "20210300"),
        NAME.replace("20210315", "00000315"),
        NAME.replace("2021", "٢٠٢١"),  # digits, but not of ASCII
        NAME.replace("T32UPC", "T32UPO"),
        NAME.replace("T32UPC", "T32IPC"),
        NAME.replace("SENTINEL2X", "SENTINEL2x"),
        NAME.replace("SENTINEL2X", "SENTINEL1A"),
        NAME.replace("V1-2", "V12"),
        NAME.replace("V1-2", "V1-2/../../x"),
    ],
)
def test_other_names_are_no_products(name):
    assert Product.parse(name) is None


@pytest.mark.parametrize(
    "name",
    [
        "SENTINEL2A_20180315-000000-000_L3A_T32ULC_D_V1-1",
        "SENTINEL2B_20210715-000000-000_L3A_T32UQC_C_V4-0",
        "SENTINEL2X_20220731-095123-368_L3A_T35WNT_C_V1-3",
    ],
)
def test_products_seen_elsewhere_are_understood(name):
    assert Product.parse(name).name == name
