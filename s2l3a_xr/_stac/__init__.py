"""STAC: APIs, static catalogues, and items in files or in memory, as archives."""

from s2l3a_xr._stac._api import COLLECTION, DLR_STAC, StacArchive, is_api
from s2l3a_xr._stac._documents import links_of
from s2l3a_xr._stac._items import ItemArchive
from s2l3a_xr._stac._links import Links
from s2l3a_xr._stac._places import (
    DLR_STAC_NAME,
    ArchiveLike,
    name_source,
    open_place,
    usual_archive,
)

__all__ = [
    "COLLECTION",
    "DLR_STAC",
    "DLR_STAC_NAME",
    "ArchiveLike",
    "ItemArchive",
    "Links",
    "StacArchive",
    "is_api",
    "links_of",
    "name_source",
    "open_place",
    "usual_archive",
]
