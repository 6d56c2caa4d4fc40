"""Hooks of mkdocs: pages from outside ``docs/``, links that lead there, notebooks that are run."""

from __future__ import annotations

import posixpath
import re
import sys
from functools import cache
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

sys.path.insert(0, str(Path(__file__).parent))
from notebooks import RanNotebook, run_notebook

ROOT = Path(__file__).resolve().parents[2]

PAGES_OF = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "LICENSE": "license.txt",
    "benchmarks/README.md": "benchmarking.md",
}
"""Files of the project that are pages of the site; the tour in README has become the home page."""

_LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)\s#]+)")
_FOR_READERS = re.compile(r"^```python internet$", re.MULTILINE)
_OPTION = re.compile(r"(?<=<code>)--[\w-]+")
_TEST = re.compile(r"(?<=<code>)test_\w+")

_run = cache(run_notebook)  # `mkdocs serve` builds again and again


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add pages from elsewhere, and what notebooks have printed and drawn."""
    for source, uri in PAGES_OF.items():
        if uri != "index.md" and (ROOT / source).exists():
            text = _relinked((ROOT / source).read_text("utf-8"), source, uri)
            files.append(File.generated(config, uri, content=text))
    for notebook in [file for file in files if file.src_uri.endswith(".ipynb")]:
        ran: RanNotebook = _run((ROOT / "docs" / notebook.src_uri).read_text("utf-8"))
        stem = notebook.src_uri.removesuffix(".ipynb")
        files.append(File.generated(config, f"{stem}.md", content=ran.markdown(Path(stem).name)))
        for number, png in enumerate(ran.pictures, start=1):
            files.append(File.generated(config, f"{stem}-{number}.png", content=png))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links to files of the project into links to their pages."""
    del config, files
    markdown = _FOR_READERS.sub("```python", markdown)
    uri = page.file.src_uri
    return markdown if page.file.generated_by else _relinked(markdown, f"docs/{uri}", uri)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Keep options in one line, cut names of tests between words, hide a mark of docstrings."""
    del page, config, files
    html = html.replace("<p>::</p>\n", "")  # reStructuredText for "what follows is as it stands"
    html = _TEST.sub(lambda name: name[0].replace("_", "_<wbr>"), html)
    return _OPTION.sub(r'<span class="option">\g<0></span>', html)


def _relinked(markdown: str, source: str, uri: str) -> str:
    """Let links of `source`, a path in the project, lead on from its page `uri`."""

    def page_of(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), link[1]))
        target = PAGES_OF.get(target, target.removeprefix("docs/"))
        target = re.sub(r"\.ipynb$", ".md", target)
        return posixpath.relpath(target, posixpath.dirname(uri) or ".")

    return _LINK.sub(page_of, markdown)
