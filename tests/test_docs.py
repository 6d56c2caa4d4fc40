"""What the pages say is true: their Python runs, their links lead somewhere, their numbers hold."""

from __future__ import annotations

import contextlib
import io
import json
import re
import warnings
from dataclasses import fields
from pathlib import Path

import pytest
import shapely

import s2l3a_xr
from s2l3a_xr import _plan, _store
from s2l3a_xr._transport import _answer, _hosts

ROOT = Path(__file__).resolve().parent.parent
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
"""Blocks called "python internet" are for readers alone."""

SHOWN = re.compile(r"\n```text\n(.*?)^```$", re.DOTALL | re.MULTILINE)
"""What the block above it prints."""

AREA = (11.68, 51.94, 11.70, 51.96)
AREAS = {"aoi-over-two-zones.md": (11.95, 51.95, 13.6, 51.96)}

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


@pytest.fixture
def dlr(server, monkeypatch):
    """Let the sample server be DLR's."""
    monkeypatch.setattr("s2l3a_xr._archive.DLR_FILES", server.url)
    defaults = (server.stac_url, "S2_L3A_WASP")
    monkeypatch.setattr(s2l3a_xr.StacArchive.__init__, "__defaults__", defaults)
    return server


@every_page
@pytest.mark.usefixtures("dlr")
def test_python_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    area = shapely.box(*AREAS.get(page.name, AREA))
    (tmp_path / "aoi.geojson").write_text(json.dumps(shapely.geometry.mapping(area)), "utf-8")
    text = page.read_text("utf-8")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", s2l3a_xr.S2L3AWarning)
        names = {"__name__": "__main__"}  # what a page uses, it imports and makes itself
        for block in BLOCK.finditer(text):
            lines_above = "\n" * text.count("\n", 0, block.start(1))
            with contextlib.redirect_stdout(io.StringIO()) as printed:
                exec(compile(lines_above + block[1], str(page), "exec"), names)  # noqa: S102 - our own
            if shown := SHOWN.match(text, block.end() + 1):
                assert printed.getvalue().split() == shown[1].split(), printed.getvalue()


@every_page
def test_links_lead_somewhere(page):
    text = page.read_text("utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" not in target:
            assert (page.parent / target.partition("#")[0]).exists(), target


def test_the_index_has_every_page():
    index = (ROOT / "docs" / "index.md").read_text("utf-8")
    assert [p.name for p in PAGES[1:] if p.name != "index.md" and f"({p.name})" not in index] == []


def test_the_site_has_every_page():
    nav = (ROOT / "mkdocs.yml").read_text("utf-8").partition("\nnav:")[2]
    pages = [p.relative_to(ROOT / "docs").as_posix() for p in (*PAGES[1:], *NOTEBOOKS)]
    assert [p for p in pages if f": {p.replace('.ipynb', '.md')}\n" not in nav] == []


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda notebook: notebook.stem)
def test_notebooks_are_kept_as_written(notebook):
    """`make docs` runs them: results stand on the site, and no machine's paths in git."""
    kept = json.loads(notebook.read_text("utf-8"))
    code = [cell for cell in kept["cells"] if cell["cell_type"] == "code"]
    assert code
    assert [cell for cell in code if cell["outputs"] or cell["execution_count"]] == []
    assert kept["metadata"].keys() <= {"kernelspec", "language_info"}


def test_the_reference_has_every_public_name():
    pages = sorted((ROOT / "docs").glob("reference*.md"))
    reference = "".join(page.read_text("utf-8") for page in pages)
    errors = {name for name in s2l3a_xr.__all__ if name.endswith(("Error", "Warning"))}
    assert "\n::: s2l3a_xr._errors\n" in reference  # all of them
    names = set(s2l3a_xr.__all__) - errors - {"__version__"}
    assert [name for name in sorted(names) if f"\n::: s2l3a_xr.{name}\n" not in reference] == []


def test_the_diagram_names_modules():
    drawing = (ROOT / "docs" / "images" / "way-of-the-data.svg").read_text("utf-8")
    modules = set(
        re.findall(r"\b_[a-z]+", " ".join(re.findall(r'class="m"[^>]*>([^<]+)', drawing)))
    )
    assert len(modules) > 20
    there = {path.stem for path in (ROOT / "s2l3a_xr").iterdir()}
    assert modules - there == set()


def test_numbers_of_the_network():
    text = (ROOT / "docs" / "network.md").read_text("utf-8")
    for setting in fields(s2l3a_xr.Transport):
        assert f"| `{setting.name}` | {setting.default} |" in text
    for told in (
        f"at most {_plan.MERGE_GAP // 2**10} KiB",
        f"over {_plan.LONGEST_RANGE // 2**20} MiB",
        f"up to {_plan.MOST_RANGES} ranges",
        f"within the last {_hosts.RECENT_S:g} s",
        f"until {_store._KEEP_SHARE * 100:.0f} % are left",
        ", ".join(map(str, sorted(_answer._TRANSIENT))),
    ):
        assert told in text, told


CONTENDERS = {
    "s2l3a_xr": "s2l3a_xr", "rasterio": "rasterio pool 16", "odc-stac": "odc-stac",
    "lazycogs": "lazycogs", "stackstac": "stackstac", "rioxarray": "rioxarray",
    "whole files": "original script",
}  # fmt: skip
"""How rows begin where figures are quoted, and in the benchmarks."""


BENCHMARKS = (ROOT / "docs" / "benchmarks.md").read_text("utf-8")


def walls(case, contender):
    """Read the seconds of a case, as they may be quoted."""
    text = BENCHMARKS.partition(f"\n## {case}. ")[2].partition("\n## ")[0]
    found = re.findall(rf"^\| {contender}[^|]* \| ([\d.]+) \|", text, re.MULTILINE)
    return {form.format(float(wall)) for wall in found for form in ("{:.2f}", "{:.0f}")}


@pytest.mark.parametrize(("page", "cases"), [("README.md", "A"), ("docs/which-tool.md", "ABC")])
@pytest.mark.parametrize("start", CONTENDERS)
def test_seconds_are_those_of_the_benchmarks(page, cases, start):
    rows = re.findall(rf"^\| \**\[?{start}.*$", (ROOT / page).read_text("utf-8"), re.MULTILINE)
    cells = re.sub(r"`[^`]*`", "", rows[0]).strip("| ").split("|")
    for case, cell in zip(cases, cells[-1 - len(cases) : -1], strict=True):
        figures = re.findall(r"\d[\d.]*", cell)
        assert figures or (start, case) == ("whole files", "C")
        assert set(figures) <= walls(case, CONTENDERS[start])


@pytest.mark.parametrize("page", ["README.md", "docs/which-tool.md"])
def test_faults_are_those_of_the_benchmarks(page):
    silent = re.search(r"\| silently wrong of 335 reads[^|]*\|([^|]*)\|", BENCHMARKS)
    assert silent[1].strip() in " ".join((ROOT / page).read_text("utf-8").split())
