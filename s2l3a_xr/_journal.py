"""What a Zarr store was made of, and which regions of it are complete; kept in the store.

It is a group of its own beside the arrays, which `xarray.open_zarr` does not look into. What the
pixels are stands in its attributes before any is written. Its array holds a number for each
region: 0 until the region is complete, then its checksum. Each number is a chunk, so a task
that has written a region can say so by itself.
"""

from __future__ import annotations

import contextlib
import os
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from s2l3a_xr._disk import set_aside
from s2l3a_xr._errors import ExportError
from s2l3a_xr._texts import printable, redact

GROUP = "l3a_journal"
_REGIONS = "regions"
_WRITTEN = 2**32
"""On top of a checksum, which may be 0."""

_HALF = re.compile(r".*\.[0-9a-f]{32}\.partial")
_ABOUT = frozenset({".zgroup", ".zarray", ".zattrs", ".zmetadata", "zarr.json"})
_OF_SYSTEMS = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})
_CHUNK = re.compile(r"c|(c[./])?\d+([./]\d+)*", re.ASCII)
_ORPHAN = re.compile(r"\d+(\.\d+)+", re.ASCII)
"""A chunk whose array is gone: replacing a store on a server was interrupted."""
_MOST_NAMED = 3


@dataclass(frozen=True, slots=True)
class Place:
    """Where a store is; picklable.

    Parameters
    ----------
    store : str or zarr.abc.store.Store
        Path, URL or store.
    options : dict or None
        For fsspec, where the store is a URL.
    """

    store: Any
    options: dict[str, Any] | None

    def __str__(self) -> str:
        return printable(redact(str(self.store)))

    @property
    def folder(self) -> Path | None:
        """The folder, where the store is one here."""
        is_path = isinstance(self.store, str) and "://" not in self.store
        return Path(self.store) if is_path else None

    def group(self, mode: Literal["r", "r+", "a", "w"], path: str | None = None) -> Any:  # noqa: ANN401 - an optional extra
        """Open a group of the store.

        Parameters
        ----------
        mode : str
            As in `zarr.open_group`.
        path : str, optional
            Of the group; the root's by default.

        Returns
        -------
        zarr.Group
            The group.
        """
        import zarr  # noqa: PLC0415 - an optional extra

        return zarr.open_group(
            self.store, mode=mode, path=path, zarr_format=2, storage_options=self.options
        )

    def members(self) -> set[str]:
        """Name what is in the root group.

        Returns
        -------
        set of str
            Arrays and groups.
        """
        with warnings.catch_warnings():  # of what a killed process left half-written
            warnings.simplefilter("ignore")
            return set(self.group("r"))

    def names(self) -> list[str]:
        """Name all files of a store that is there, foreign ones too.

        Returns
        -------
        list of str
            Paths in the store.
        """
        from zarr.core.sync import sync  # noqa: PLC0415 - an optional extra

        store = self.group("r").store

        async def listed() -> list[str]:
            return [name async for name in store.list()]

        return sync(listed())

    def array(self, path: str) -> Any:  # noqa: ANN401 - an optional extra
        """Open an array of the store for writing.

        Parameters
        ----------
        path : str
            Of the array.

        Returns
        -------
        zarr.Array
            The array.
        """
        import zarr  # noqa: PLC0415 - an optional extra

        return zarr.open_array(
            self.store, mode="r+", path=path, zarr_format=2, storage_options=self.options
        )


@dataclass(frozen=True, slots=True)
class Journal:
    """What is known of a store that an export has begun.

    Parameters
    ----------
    place : Place
        Where the store is.
    regions : tuple of int
        Pixels of a region along (time, band, y, x).
    laid : bool
        Whether the arrays are there.
    """

    place: Place
    regions: tuple[int, ...]
    laid: bool

    def sums(self) -> np.ndarray:
        """Tell which regions are complete.

        Returns
        -------
        ndarray of int64, shape (region,)
            The checksum, -1 where a region is not complete.
        """
        numbers = self.place.array(f"{GROUP}/{_REGIONS}")[:]
        sums: np.ndarray = np.where(numbers >= _WRITTEN, numbers - _WRITTEN, -1)
        return sums

    def note(self, region: int, checksum: int) -> None:
        """Tell that a region is complete.

        Parameters
        ----------
        region : int
            Its number.
        checksum : int
            CRC-32 of its pixels as they are stored.
        """
        self.place.array(f"{GROUP}/{_REGIONS}")[region] = _WRITTEN + checksum

    def strike(self, regions: Sequence[int]) -> None:
        """Tell that regions are not complete any more.

        Parameters
        ----------
        regions : sequence of int
            Their numbers.
        """
        numbers = self.place.array(f"{GROUP}/{_REGIONS}")
        for region in regions:
            numbers[region] = 0


def find_journal(place: Place, made_of: Mapping[str, Any], *, overwrite: bool) -> Journal | None:
    """Look at what is in the place of a store.

    Parameters
    ----------
    place : Place
        Where the store is to be.
    made_of : mapping
        What its pixels will be, in JSON's types.
    overwrite : bool
        Whether a store of something else may be replaced.

    Returns
    -------
    Journal or None
        Of an export of the same; None where one is to be begun.

    Raises
    ------
    ExportError
        Something else is there, or a store is to be replaced that has other files in it.
    """
    folder = place.folder
    try:
        root = place.group("r")
    except FileNotFoundError:
        _check_free(place, folder)
        return None
    try:
        told = dict(place.group("r", GROUP).attrs)
    except FileNotFoundError:
        told = {}
    if not told.keys() >= {"made_of", "regions", "laid"}:
        if overwrite:
            _check_alone(place)
            return None
        if not (dict(root.attrs) or place.members() - {GROUP}):
            return None  # an export was interrupted before it could say what it makes
        msg = (
            f"{place} is a Zarr store already, which was not made by to_zarr of this package; "
            "pass overwrite=True to replace it, or write to another place."
        )
        raise ExportError(msg)
    differing = [
        f"{name} ({_shown(told['made_of'].get(name))}, not {_shown(value)})"
        for name, value in made_of.items()
        if told["made_of"].get(name) != value
    ]
    if not differing:
        return Journal(place, tuple(told["regions"]), bool(told["laid"]))
    if overwrite:
        _check_alone(place)
        return None
    msg = (
        f"{place} is there already and was made of something else: {'; '.join(differing)}; pass "
        "overwrite=True (--overwrite) to replace all of it, or write to another place; months are "
        "not added to a store, ask for all of them at once."
    )
    raise ExportError(msg)


def _check_free(place: Place, folder: Path | None) -> None:
    """Refuse what is no store: replacing it would remove all that is in it."""
    if folder is None or not os.path.lexists(folder):
        return
    # zarr writes `.zgroup` under such a name at first, and `.zattrs` at the same time.
    if not folder.is_dir() or not all(
        is_half(path) or path.name == ".zattrs" for path in folder.iterdir()
    ):
        is_newer = (folder / "zarr.json").exists()
        what = (
            "a Zarr store of format 3, which to_zarr does not write"
            if is_newer
            else "no Zarr store"
        )
        msg = f"{place} is there already and is {what}; write to another place."
        raise ExportError(msg)


def _check_alone(place: Place) -> None:
    """Refuse to remove a store with what is none of Zarr's in it."""
    if others := _others(place.names()):
        named = ", ".join(others[:_MOST_NAMED]) + (", …" if len(others) > _MOST_NAMED else "")
        msg = (
            f"{place} is to be replaced, and {len(others)} file(s) in it are none of Zarr's: "
            f"{printable(named)}; remove them, or write to another place."
        )
        raise ExportError(msg)


def _others(names: Iterable[str]) -> list[str]:
    """Choose what is neither metadata nor a chunk of an array."""
    names = sorted(names)
    splits = {name: name.rpartition("/") for name in names}
    arrays = {folder for folder, _, last in splits.values() if last in {".zarray", "zarr.json"}}

    def is_chunk(name: str) -> bool:
        parts = name.split("/")
        return any(
            "/".join(parts[:depth]) in arrays and _CHUNK.fullmatch("/".join(parts[depth:]))
            for depth in range(len(parts))
        )

    return [
        name
        for name, (_, _, last) in splits.items()
        if last not in _ABOUT | _OF_SYSTEMS
        and not _HALF.fullmatch(last)
        and not _ORPHAN.fullmatch(last)
        and not is_chunk(name)
    ]


def is_half(path: Path) -> bool:
    """Tell whether a file is what a killed process left half-written under zarr's own names.

    Parameters
    ----------
    path : Path
        In a store.

    Returns
    -------
    bool
        False for whatever else ends in ``.partial``.
    """
    return _HALF.fullmatch(path.name) is not None


def _shown(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}…"  # noqa: PLR2004 - a line holds two


def begin_journal(
    place: Place,
    made_of: Mapping[str, Any],
    regions: tuple[int, ...],
    count: int,
    *,
    overwrite: bool,
) -> Journal:
    """Begin a store anew, with its journal alone.

    Parameters
    ----------
    place : Place
        Where.
    made_of : mapping
        What its pixels will be.
    regions : tuple of int
        Pixels of a region along (time, band, y, x).
    count : int
        How many regions there are.
    overwrite : bool
        Whether a store that is there is removed.

    Returns
    -------
    Journal
        No region is complete.
    """
    if overwrite:
        with contextlib.suppress(FileNotFoundError):
            place.group("r")  # what is no store stays
            _remove(place)
    place.group("a")  # before the other, or a kill would leave what is no store
    group = place.group("a", GROUP)
    group.create_array(
        _REGIONS, shape=(count,), chunks=(1,), dtype="int64", fill_value=0, compressors=None,
        attributes={"_ARRAY_DIMENSIONS": ["region"]}, overwrite=True,
    )  # fmt: skip
    # In one step: item by item, a kill would leave some of them.
    group.update_attributes({"made_of": dict(made_of), "regions": list(regions), "laid": False})
    return Journal(place, regions, laid=False)


def _remove(place: Place) -> None:
    """Remove a store; a folder in one step, so that a kill leaves no half of it."""
    if place.folder is None:
        place.group("w")
        return
    with set_aside(place.folder.parent) as hidden:
        place.folder.replace(hidden / place.folder.name)


def mark_laid(journal: Journal) -> Journal:
    """Tell that the arrays are there, without their pixels.

    Parameters
    ----------
    journal : Journal
        Of the store.

    Returns
    -------
    Journal
        The same, laid.
    """
    journal.place.group("r+", GROUP).attrs["laid"] = True
    return Journal(journal.place, journal.regions, laid=True)
