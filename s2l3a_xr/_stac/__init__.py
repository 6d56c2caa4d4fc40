"""STAC: APIs, static catalogues, and items in files or in memory, as archives."""

from s2l3a_xr._stac._api import DLR_STAC, StacArchive
from s2l3a_xr._stac._items import ItemArchive
from s2l3a_xr._stac._places import DLR_STAC_NAME, ArchiveLike, open_place

__all__ = ["DLR_STAC", "DLR_STAC_NAME", "ArchiveLike", "ItemArchive", "StacArchive", "open_place"]
