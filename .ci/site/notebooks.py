"""Notebooks, run against the sample archive and written as Markdown."""

from __future__ import annotations

import base64
import os
import re
import tempfile
from dataclasses import dataclass, field

import nbformat
from nbclient import NotebookClient

from s2l3a_xr._sample import SampleServer, build_sample_archive

SHOWN_URL = "http://127.0.0.1:8000/S2_L3A_WASP/files/"
"""What `s2l3a serve-sample` prints: the server of a run has another port each time."""

_TIMEOUT_S = 120
_STYLE_OR_BREAK = re.compile(r"<style.*?</style>|\n\s*", re.DOTALL)
_BAR = re.compile(r"\s*\d+%\|")
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(kw_only=True)
class RanNotebook:
    """What a notebook holds once it has run."""

    cells: list[str] = field(default_factory=list)
    """Markdown; ``{stem}`` stands for the notebook's name in links to pictures."""

    pictures: list[bytes] = field(default_factory=list)
    """PNGs, in the order in which they are shown."""

    def markdown(self, stem: str) -> str:
        """Join the cells to a page whose pictures are called after `stem`."""
        return "\n\n".join(self.cells).replace("{stem}", stem)


def run_notebook(text: str) -> RanNotebook:
    """Run a notebook in an empty folder, with a fresh server of the sample archive.

    Parameters
    ----------
    text : str
        The notebook's JSON.

    Returns
    -------
    RanNotebook
        Its text, code, results and pictures.

    Raises
    ------
    nbclient.exceptions.CellExecutionError
        A cell raises an error, or draws a picture without a sentence on what it shows.
    """
    notebook = nbformat.reads(text, as_version=4)
    with tempfile.TemporaryDirectory() as folder, SampleServer(build_sample_archive()) as server:
        client = NotebookClient(
            notebook,
            timeout=_TIMEOUT_S,
            extra_arguments=["--log-level=ERROR"],
            resources={"metadata": {"path": folder}},
        )
        # What is missing is a moving bar, which nobody would see move.
        no_bar = {"PYTHONWARNINGS": "ignore:IProgress not found"}
        client.execute(env={**os.environ, **no_bar, "S2L3A_ARCHIVE": server.url})
        shown = {server.url: SHOWN_URL, folder: "."}
    ran = RanNotebook()
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            ran.cells.append(cell.source)
            continue
        ran.cells.append(f"```python\n{cell.source}\n```")
        for output in cell.outputs:
            _add_output(ran, output, cell.metadata.get("alt", ""), shown)
    return ran


def _add_output(ran: RanNotebook, output: nbformat.NotebookNode, alt: str, shown: dict) -> None:
    if output.output_type == "stream":
        _add_text(ran, output.text, shown)
        return
    data = output.data
    if "image/png" in data:
        if not alt:
            msg = 'a picture needs a sentence on what it shows: the cell\'s metadata "alt"'
            raise ValueError(msg)
        ran.pictures.append(base64.b64decode(data["image/png"]))
        ran.cells.append(f"![{alt}]({{stem}}-{len(ran.pictures)}.png)")
    elif "<table" in data.get("text/html", "") and "xr-wrap" not in data["text/html"]:
        html = _public(_STYLE_OR_BREAK.sub("", data["text/html"]), shown)
        ran.cells.append(f'<div class="output">{html}</div>')
    else:
        _add_text(ran, data.get("text/plain", ""), shown)


def _add_text(ran: RanNotebook, text: str, shown: dict[str, str]) -> None:
    lines = [line.rpartition("\r")[2] for line in _COLOURS.sub("", text).rstrip().split("\n")]
    lines = [line for line in lines if not _BAR.match(line)]
    if any(lines):
        ran.cells.append(f"```{{.text .output}}\n{_public(chr(10).join(lines), shown)}\n```")


def _public(text: str, shown: dict[str, str]) -> str:
    for mine, public in shown.items():
        text = text.replace(mine, public)
    return text
