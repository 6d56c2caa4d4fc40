"""Random numbers that belong to places: the same place always has the same number."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Hashes = NDArray[np.uint32]

_MASK = 0xFFFFFFFF


def hash_of(first: NDArray[Any], second: NDArray[Any], seed: int) -> Hashes:
    """Mix two arrays of integers into well spread 32-bit numbers."""
    left = first.astype(np.uint32) * np.uint32(0x9E3779B1)
    mixed: Hashes = left ^ (second.astype(np.uint32) * np.uint32(0x85EBCA77))
    mixed ^= np.uint32((seed * 0xC2B2AE3D + 0x27D4EB2F) & _MASK)
    mixed ^= mixed >> np.uint32(15)
    mixed *= np.uint32(0x2C1B3C6D)
    mixed ^= mixed >> np.uint32(12)
    mixed *= np.uint32(0x297A2D39)
    mixed ^= mixed >> np.uint32(15)
    return mixed


def unit_of(hashes: Hashes) -> Floats:
    """Turn hashes into numbers from 0 to below 1."""
    return (hashes >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)


def value_noise(x: Floats, y: Floats, wavelength_m: float, seed: int) -> Floats:
    """Smooth noise between -1 and 1 of one wavelength.

    Parameters
    ----------
    x, y : ndarray of float32
        Places, metres.
    wavelength_m : float
        Distance between two independent values.
    seed : int
        Another seed gives another field.

    Returns
    -------
    ndarray of float32
        Of the shape of `x`.
    """
    scale = np.float32(1 / wavelength_m)
    fx, fy = x * scale, y * scale
    cx, cy = np.floor(fx), np.floor(fy)
    fx -= cx
    fy -= cy
    # A small lattice, looked up, costs a fraction of hashing at every pixel.
    column, row = cx.astype(np.int32), cy.astype(np.int32)
    left, top = int(column.min()), int(row.min())
    width = int(column.max()) - left + 2
    height = int(row.max()) - top + 2
    lattice = unit_of(
        hash_of(
            np.arange(left, left + width, dtype=np.int32)[None, :],
            np.arange(top, top + height, dtype=np.int32)[:, None],
            seed,
        )
    ).ravel()
    at = (row - np.int32(top)) * np.int32(width) + (column - np.int32(left))
    fx *= fx * (np.float32(3) - 2 * fx)
    fy *= fy * (np.float32(3) - 2 * fy)
    upper: Floats = lattice[at]
    upper += (lattice[at + 1] - upper) * fx
    at += np.int32(width)
    lower = lattice[at]
    lower += (lattice[at + 1] - lower) * fx
    upper += (lower - upper) * fy
    upper *= np.float32(2)
    upper -= np.float32(1)
    return upper


def upsample(nodes: Floats, step: int) -> Floats:
    """Interpolate linearly between the nodes of a grid.

    Parameters
    ----------
    nodes : ndarray of float32, shape (rows / step + 1, cols / step + 1)
        Values at every `step`-th pixel, the end included.
    step : int
        Pixels from node to node.

    Returns
    -------
    ndarray of float32, shape (rows, cols)
        Values at every pixel.
    """
    rows, cols = (nodes.shape[0] - 1) * step, (nodes.shape[1] - 1) * step
    share = np.arange(step, dtype=np.float32) / np.float32(step)
    down = nodes[:-1, None, :] + (nodes[1:] - nodes[:-1])[:, None, :] * share[None, :, None]
    down = down.reshape(rows, nodes.shape[1])
    begin, rise = down[:, :-1], down[:, 1:] - down[:, :-1]
    result = np.empty((rows, cols), np.float32)
    for offset in range(step):  # five times as fast as a third axis of so few steps
        np.add(begin, rise * share[offset], out=result[:, offset::step])
    return result
