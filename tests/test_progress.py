"""Bars count steps; where there is one step, there is nothing to count."""

from __future__ import annotations

import dask
import pytest

from s2l3a_xr._progress import run_counted


@pytest.mark.parametrize(("count", "done", "has_bar"), [(1, 0, False), (2, 0, True), (1, 1, True)])
def test_single_steps_have_no_bar(capsys, count, done, has_bar):
    tasks = [dask.delayed(str)(number) for number in range(count)]
    assert run_counted(tasks, unit="file", shown=True, done=done) == list(map(str, range(count)))
    assert (f"{count + done}/{count + done}" in capsys.readouterr().err) is has_bar
