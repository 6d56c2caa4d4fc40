"""Read spoilt files one after the other: ``python mutant_child.py TOOL FOLDER FIRST``.

Prints a line of JSON for each. Whoever started it watches for silence and for the end. Imports
nothing of this package: it runs in interpreters that have little.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

_MOST_BYTES = 14 << 30
_SIDE = 512


def main() -> None:
    """Read the files from the first one on."""
    tool, folder, first = TOOLS[sys.argv[1]], Path(sys.argv[2]), int(sys.argv[3])
    resource.setrlimit(resource.RLIMIT_AS, (_MOST_BYTES, _MOST_BYTES))
    for path in sorted(folder.glob("*.tif"))[first:]:
        try:
            pixels = tool(path)
            told = {"pixels": hashlib.sha256(pixels.astype("int16").tobytes()).hexdigest()}
        except BaseException as error:
            told = {"error": type(error).__name__}
        peak = Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]
        sys.stdout.write(json.dumps({"peak_mb": int(peak) / 1024, **told}) + "\n")
        sys.stdout.flush()


def _tifffile(path: Path) -> Any:
    """Unpack the blocks at the corner, as ``fsspec_tifffile`` does."""
    import numpy as np  # noqa: PLC0415 - each interpreter has its own
    import tifffile  # noqa: PLC0415

    result = np.full((_SIDE, _SIDE), -10000, np.int16)
    with path.open("rb") as opened, tifffile.TiffFile(opened) as tiff:
        page = tiff.pages.first
        across = -(-page.imagewidth // page.tilewidth)
        for number in (0, 1, across, across + 1):
            offset, count = page.dataoffsets[number], page.databytecounts[number]
            opened.seek(offset)
            data = opened.read(count)
            block, (*_, top, left, _), _ = page.decode(data or None, number)
            if block is not None:
                part = result[top:, left:][: block.shape[1], : block.shape[2]]
                part[:] = block[0, : part.shape[0], : part.shape[1], 0]
    return result


def _rasterio(path: Path) -> Any:
    import rasterio  # noqa: PLC0415
    from rasterio.windows import Window  # noqa: PLC0415

    with rasterio.open(path) as source:
        return source.read(1, window=Window(0, 0, _SIDE, _SIDE))


def _async_geotiff(path: Path) -> Any:
    from async_geotiff import GeoTIFF, Window  # noqa: PLC0415
    from obstore.store import LocalStore  # noqa: PLC0415

    async def read() -> Any:
        tiff = await GeoTIFF.open(path.name, store=LocalStore(path.parent))
        window = Window(col_off=0, row_off=0, width=_SIDE, height=_SIDE)
        return (await tiff.read(window=window)).data[0]

    return asyncio.run(read())


TOOLS: dict[str, Callable[[Path], Any]] = {
    "tifffile": _tifffile,
    "rasterio": _rasterio,
    "async-geotiff": _async_geotiff,
}

if __name__ == "__main__":
    main()
