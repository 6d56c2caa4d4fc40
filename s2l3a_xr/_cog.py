"""From an array to cloud-optimised GeoTIFFs, through odc-geo and dask."""

from __future__ import annotations


def to_cog() -> None:
    """x"""
