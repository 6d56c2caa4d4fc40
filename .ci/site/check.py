"""Open every page of the built site in Chromium, at desktop and phone width.

``python .ci/site/check.py SITE PICTURES`` serves SITE on loopback, and writes a picture of each
page to PICTURES. It ends with 1 where a page says something on the console, asks another host for
anything, is wider than the screen, lacks a picture, or has a link that leads nowhere; where search
finds nothing, or copying takes prompts along. Without Chromium it says so and ends with 0.
"""

from __future__ import annotations

import functools
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin

from playwright.sync_api import Browser, sync_playwright
from playwright.sync_api import TimeoutError as NotFoundInTimeError

WIDTHS = {"desktop": 1280, "phone": 390}
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")

_IDS = "() => [...document.querySelectorAll('[id]')].map(e => e.id)"
_LINKS = "() => [...document.querySelectorAll('a[href]')].map(e => e.href)"
_NO_PICTURE = "() => [...document.images].filter(e => !e.naturalWidth).map(e => e.src)"
_TOO_WIDE = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
_LOOK_AT_ALL = "() => document.querySelectorAll('img').forEach(e => e.loading = 'eager')"


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        """Say nothing."""


@contextmanager
def _served(site: Path) -> Iterator[str]:
    handler = functools.partial(_Quiet, directory=str(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


class SiteCheck:
    """What is wrong with a site, page by page."""

    def __init__(self, browser: Browser, base: str, pictures: Path) -> None:
        self.browser = browser
        self.base = base
        self.pictures = pictures
        self.faults: list[str] = []
        self.links: dict[str, set[str]] = {}
        self.ids: dict[str, set[str]] = {}

    def look_at(self, page_name: str, width_name: str) -> None:
        """Open a page, note its faults and links, and take its picture."""
        where = f"{page_name} ({width_name})"
        width = WIDTHS[width_name]
        page = self.browser.new_page(viewport={"width": width, "height": 900})
        page.on("console", lambda said: self._note(where, f"console: {said.text}"))
        page.on("pageerror", lambda error: self._note(where, f"script: {error}"))
        page.on("request", lambda request: self._stay_here(where, request.url))
        page.goto(self.base + page_name, wait_until="networkidle")
        page.evaluate(_LOOK_AT_ALL)
        page.wait_for_load_state("networkidle")
        for source in page.evaluate(_NO_PICTURE):
            self._note(where, f"no picture: {source}")
        if (over := page.evaluate(_TOO_WIDE)) > 0:
            self._note(where, f"{over} px wider than the screen")
        self.links[page_name] = set(page.evaluate(_LINKS))
        self.ids[page_name] = set(page.evaluate(_IDS))
        name = page_name.removesuffix(".html").replace("/", "-")
        page.screenshot(
            path=self.pictures / f"{width_name}-{name}.png", full_page=True, animations="disabled"
        )
        page.close()

    def follow_links(self, site: Path) -> int:
        """Hold each inner link against files and anchors, and return how many there are."""
        inner = [
            (page, *urldefrag(urljoin(self.base + page, link)))
            for page, links in self.links.items()
            for link in links
            if link.startswith(self.base)
        ]
        for page, url, anchor in inner:
            name = unquote(url.removeprefix(self.base)) or "index.html"
            if not (site / name).is_file():
                self._note(page, f"leads nowhere: {name}")
            elif anchor and name in self.ids and unquote(anchor) not in self.ids[name]:
                self._note(page, f"no such anchor: {name}#{anchor}")
        return len(inner)

    def search(self, words: str, expected: str) -> None:
        """Type into the search field, and look for a page among what is found."""
        page = self.browser.new_page(viewport={"width": WIDTHS["desktop"], "height": 900})
        page.goto(self.base, wait_until="networkidle")
        page.keyboard.press("/")
        page.keyboard.type(words)
        found = page.locator(".md-search-result__item a")
        try:
            found.first.wait_for(timeout=10_000)
        except NotFoundInTimeError:
            self._note("search", f"{words!r} finds nothing")
        else:
            targets = found.evaluate_all("found => found.map(e => e.href)")
            if not any(expected in target for target in targets):
                self._note("search", f"{words!r} does not find {expected}")
        page.screenshot(path=self.pictures / "search.png", animations="disabled")
        page.close()

    def copy(self, page_name: str, expected: str) -> None:
        """Copy the first commands of a page: without their prompts, as they are to be pasted."""
        page = self.browser.new_page()
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page.goto(self.base + page_name, wait_until="networkidle")
        page.locator(".language-console .md-code__button[data-md-type=copy]").first.click()
        page.wait_for_function("() => navigator.clipboard.readText()")
        copied = page.evaluate("() => navigator.clipboard.readText()")
        if copied != expected:
            self._note(page_name, f"copies {copied!r}")
        page.close()

    def _note(self, where: str, fault: str) -> None:
        self.faults.append(f"{where}: {fault}")

    def _stay_here(self, where: str, url: str) -> None:
        if not url.startswith((self.base, "data:", "blob:")):
            self._note(where, f"asks another host: {url}")


def main(site: Path, pictures: Path) -> int:
    """Check a site.

    Parameters
    ----------
    site : pathlib.Path
        What `mkdocs build` has written.
    pictures : pathlib.Path
        Folder for pictures of the pages; made anew.

    Returns
    -------
    int
        0 if nothing is wrong or there is no Chromium, else 1.
    """
    program = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if program is None:
        print("not checked: there is no Chromium (Debian: apt install chromium)")
        return 0
    shutil.rmtree(pictures, ignore_errors=True)
    pictures.mkdir(parents=True)
    pages = sorted(str(path.relative_to(site).as_posix()) for path in site.rglob("*.html"))
    pages.remove("404.html")
    with sync_playwright() as playwright, _served(site) as base:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        check = SiteCheck(browser, base, pictures)
        for width_name in WIDTHS:
            for page_name in pages:
                check.look_at(page_name, width_name)
        links = check.follow_links(site)
        check.search("open_l3a", "reference.html")
        check.search("eCognition", "ecognition.html")
        check.copy(
            "quick-start.html", 'python3 -m venv env && . env/bin/activate\npip install ".[all]"'
        )
        browser.close()
    print(*check.faults, sep="\n")
    print(f"{len(pages)} pages at {len(WIDTHS)} widths, {links} links: {len(check.faults)} faults")
    return 1 if check.faults or not pages else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
