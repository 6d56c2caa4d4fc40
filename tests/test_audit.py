"""`make audit` says "not checked" where nobody answered, and never "clean"."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parent.parent / ".ci" / "audit.py"
needs_pip_audit = pytest.mark.skipif(find_spec("pip_audit") is None, reason="make audit brings it")


@pytest.fixture(scope="module")
def audit():
    if not SCRIPT.exists():
        pytest.skip("not in a checkout")
    spec = spec_from_file_location("audit", SCRIPT)
    module = module_from_spec(spec)
    sys.modules["audit"] = module  # dataclasses look it up
    spec.loader.exec_module(module)
    yield module
    del sys.modules["audit"]


SOUND = {"name": "affine", "version": "2.4.0", "vulns": []}
HOLE = {"id": "PYSEC-1", "fix_versions": ["3.8"], "description": "", "aliases": []}
HOLED = {"name": "idna", "version": "3.7", "vulns": [HOLE]}
UNKNOWN = {"name": "tqdm", "skip_reason": "Dependency not found on PyPI"}


@pytest.mark.parametrize(
    ("packages", "code", "said"),
    [
        ([SOUND], 0, "no known hole in 1 packages"),
        ([SOUND, HOLED], 1, "idna 3.7: PYSEC-1, fixed in 3.8"),
        ([UNKNOWN], 3, "not checked: 1 of 1 packages, the first is tqdm"),
        ([SOUND, UNKNOWN], 3, "not checked: 1 of 2 packages"),
        ([HOLED, UNKNOWN], 1, "not checked: 1 of 2 packages"),
        ([], 3, "not checked: no advisory source answered"),
        (None, 3, "not checked: no advisory source answered (no route)"),
    ],
)
def test_answers(audit, packages, code, said):
    answer = "" if packages is None else json.dumps({"dependencies": packages, "fixes": []})
    result = audit.judge(answer, "Traceback\nno route\n")
    assert (result.code, said in result.text()) == (code, True), result.text()
    assert code == 0 or "no known hole" not in result.text()


class _Osv(BaseHTTPRequestHandler):
    said = b"{}"
    status = 200

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(self.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(self.said)))
        self.end_headers()
        self.wfile.write(self.said)

    def log_message(self, *_):
        pass


@pytest.fixture
def osv():
    server = HTTPServer(("127.0.0.1", 0), type("Osv", (_Osv,), {}))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def run(tmp_path, osv_url):
    """Run it with no way to PyPI, as behind a proxy that is not there."""
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("affine==2.4.0\n")
    environment = {**os.environ, "https_proxy": "http://127.0.0.1:1", "no_proxy": "127.0.0.1"}
    environment |= {"HTTPS_PROXY": "http://127.0.0.1:1", "NO_PROXY": "127.0.0.1"}
    return subprocess.run(  # noqa: S603 - our own script
        [sys.executable, str(SCRIPT), str(requirements), "--osv-url", osv_url],
        capture_output=True, text=True, check=False, timeout=120, env=environment,
    )  # fmt: skip


@needs_pip_audit
@pytest.mark.slow
def test_nobody_answers(tmp_path):
    ended = run(tmp_path, "http://127.0.0.1:1/")
    assert ended.returncode == 3, ended.stderr
    assert ended.stdout.startswith("not checked: no advisory source answered")


@needs_pip_audit
@pytest.mark.slow
def test_a_source_that_fails_has_not_answered(tmp_path, osv):
    osv.RequestHandlerClass.status = 503
    ended = run(tmp_path, f"http://127.0.0.1:{osv.server_port}/")
    assert (ended.returncode, "not checked" in ended.stdout) == (3, True), ended.stdout


@needs_pip_audit
@pytest.mark.slow
def test_the_second_source_will_do(tmp_path, osv):
    url = f"http://127.0.0.1:{osv.server_port}/"
    ended = run(tmp_path, url)
    assert (ended.returncode, ended.stdout) == (0, "no known hole in 1 packages\n"), ended.stderr
    found = {
        "id": "GHSA-1",
        "summary": "x",
        "affected": [
            {
                "package": {"name": "affine", "ecosystem": "PyPI"},
                "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "3"}]}],
                "versions": ["2.4.0"],
            }
        ],
        "modified": "2026-01-01T00:00:00Z",
    }
    osv.RequestHandlerClass.said = json.dumps({"vulns": [found]}).encode()
    ended = run(tmp_path, url)
    assert (ended.returncode, "affine 2.4.0: GHSA-1" in ended.stdout) == (1, True), ended.stderr
