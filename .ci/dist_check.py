"""Build wheel and sdist, look into them, and try the wheel in empty environments.

Each environment has the wheel and what it needs, no extra and nothing of this checkout. In it the
package is imported, the command line asked for its version, the demo run to its end, and each
extra that lacks asked for: the answer must name it. With ``--newest`` versions come from the
index as they are, otherwise from constraints.txt. The wheel is built from the sdist, so both are
tried.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "s2l3a_xr"
BESIDE = {"LICENSE", "README.md", "CHANGELOG.md", "SECURITY.md", "pyproject.toml", "PKG-INFO"}
BESIDE |= {"constraints.txt", ".gitignore"}
STRAY = {"tests", "benchmarks", "docs", ".ci", ".github", "__pycache__", "conftest.py"}

SUPPORTED = ("3.11", "3.12", "3.13")

SMOKE = """
import sys, importlib.metadata, importlib.util
import s2l3a_xr
assert s2l3a_xr.__version__ == importlib.metadata.version("s2l3a_xr")
assert "site-packages" in s2l3a_xr.__file__, s2l3a_xr.__file__
for name in s2l3a_xr.__all__:
    getattr(s2l3a_xr, name)
s2l3a_xr.show_versions()
from s2l3a_xr._sample import SampleServer, build_sample_archive
with SampleServer(build_sample_archive()) as server:
    aoi, options = (11.68, 51.94, 11.70, 51.96), {"time": "2021-05", "archive": server.url}
    found = s2l3a_xr.search_l3a(aoi, **options)
    da = s2l3a_xr.open_l3a(aoi, **options)
    assert da.max() > 0
    lacking = {
        "plot": ("matplotlib", [found.plot, da.l3a.plot_rgb, lambda: da.l3a.quicklook("a.png")]),
        "explore": ("folium", [found.explore, da.l3a.explore]),
        "indices": ("spyndex", [lambda: da.l3a.index("EVI")]),
        "zonal": ("exactextract", [lambda: s2l3a_xr.extract_l3a(aoi, method="exact", **options)]),
        "cog": ("odc", [lambda: s2l3a_xr.to_cog(da, "cog")]),
        "io": ("pyarrow", [lambda: found.save("a.parquet")]),
        "stac": ("pystac_client", [lambda: s2l3a_xr.search_l3a(
            aoi, time="2021-05", archive=s2l3a_xr.StacArchive(server.stac_url))]),
    }
    for extra, (module, calls) in lacking.items():
        if importlib.util.find_spec(module):
            continue
        for call in calls:
            try:
                call()
            except (ImportError, s2l3a_xr.S2L3AError) as exc:
                assert f"s2l3a_xr[{extra}]" in str(exc), (extra, str(exc))
            else:
                raise AssertionError(f"{extra} lacks, and nobody said so")
print("smoke: ok")
"""


class NotRightError(Exception):
    """What was built is not what must be."""


def run(*words: str | Path, cwd: Path | None = None) -> str:
    """Run a command and give its stdout; its error otherwise.

    Parameters
    ----------
    *words : str or path
        The command.
    cwd : Path, optional
        Where.

    Returns
    -------
    str
        What it printed.
    """
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL"))}
    ended = subprocess.run(  # noqa: S603 - our own words
        [str(word) for word in words],
        capture_output=True, text=True, check=False, cwd=cwd, env=environment,
    )  # fmt: skip
    if ended.returncode:
        msg = f"{' '.join(map(str, words))[:200]} ended with {ended.returncode}:\n{ended.stderr}"
        raise NotRightError(msg)
    return ended.stdout


def find_pythons() -> list[str]:
    """Find an interpreter of each supported version, and say which have none.

    Returns
    -------
    list of str
        Those on the path, or that pyenv has installed.
    """
    found = []
    for version in SUPPORTED:
        pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
        installed = sorted(pyenv.glob(f"{version}.*/bin/python"))
        for python in (f"python{version}", *map(str, reversed(installed))):
            try:
                run(python, "-c", "import venv")
            except (NotRightError, OSError):  # none, or a shim of pyenv that leads nowhere
                continue
            found.append(python)
            break
        else:
            print(f"Python {version}: not on this machine, not tried")
    return found


def check_contents(wheel: Path, sdist: Path) -> None:
    """Compare what was packed with what git knows.

    Parameters
    ----------
    wheel, sdist : Path
        The files.
    """
    tracked = run("git", "ls-files", PACKAGE, cwd=ROOT).split()
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
    packed = {name for name in names if ".dist-info/" not in name}
    kept = {PurePosixPath(name).name for name in names - packed}
    _must_be_empty("the wheel lacks", set(tracked) - packed)
    _must_be_empty("the wheel has besides", packed - set(tracked))
    _must_be_empty("the wheel lacks", {"LICENSE", "METADATA", "entry_points.txt"} - kept)
    _must_be_empty("the wheel lacks", {f"{PACKAGE}/py.typed"} - packed)
    with tarfile.open(sdist) as file:
        names = {name.partition("/")[2] for name in file.getnames()}
    beside = {name for name in names if name and not name.startswith(f"{PACKAGE}/")}
    _must_be_empty("the sdist lacks", (set(tracked) | BESIDE) - names)
    _must_be_empty("the sdist has besides", beside - BESIDE - {PACKAGE})
    _must_be_empty("stray", {n for n in names | packed if STRAY & set(PurePosixPath(n).parts)})


def _must_be_empty(what: str, names: set[str]) -> None:
    if names:
        msg = f"{what}: {', '.join(sorted(names)[:10])}"
        raise NotRightError(msg)


def try_wheel(python: str, wheel: Path, folder: Path, constraints: Path | None) -> None:
    """Install the wheel into an empty environment and use it.

    Parameters
    ----------
    python : str
        Interpreter.
    wheel : Path
        The wheel.
    folder : Path
        Where the environment goes, and what is written.
    constraints : Path or None
        Versions; None for the newest.
    """
    began = time.monotonic()
    run(python, "-m", "venv", folder / "venv")
    bin_ = folder / "venv" / ("Scripts" if os.name == "nt" else "bin")
    versions = ["-c", constraints] if constraints else []
    run(bin_ / "python", "-m", "pip", "install", "-qq", *versions, wheel)
    installed = time.monotonic()
    told = run(bin_ / "python", "-I", "-c", SMOKE, cwd=folder)
    run(bin_ / "s2l3a", "demo", "demo", cwd=folder)
    tifs = len(list((folder / "demo").glob("s2_l3a_*.tif")))
    version = run(bin_ / "s2l3a", "--version", cwd=folder).strip()
    if "smoke: ok" not in told or not tifs:
        msg = f"{python}: smoke test or demo did nothing"
        raise NotRightError(msg)
    ended = time.monotonic()
    name = run(bin_ / "python", "--version").strip()
    print(f"{name}: {version}; installed in {installed - began:.0f} s, demo of {tifs} GeoTIFFs and "
          f"smoke test in {ended - installed:.0f} s")  # fmt: skip


def check_types(python: str, site: Path, folder: Path) -> None:
    """Let mypy read user code against the wheel alone, as an editor would.

    Parameters
    ----------
    python : str
        Interpreter that has mypy.
    site : Path
        Interpreter of the environment that has the wheel.
    folder : Path
        Away from the checkout.
    """
    shutil.copy(ROOT / "tests" / "typing" / "user_code.py", folder)
    told = run(
        python, "-m", "mypy", "--strict", "--python-executable", site, "user_code.py", cwd=folder
    )
    print(f"mypy --strict on user code: {told.strip()}")


def main() -> int:
    """Check all.

    Returns
    -------
    int
        Exit code.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--python", nargs="+", help="interpreters; otherwise all supported ones that are here"
    )
    parser.add_argument("--newest", action="store_true", help="without constraints.txt")
    options = parser.parse_args()
    pythons = options.python or find_pythons()
    constraints = None if options.newest else ROOT / "constraints.txt"
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        away = Path(name)
        try:
            run(sys.executable, "-m", "build", "--outdir", away / "dist", ROOT)
            [wheel], [sdist] = (away / "dist").glob("*.whl"), (away / "dist").glob("*.tar.gz")
            check_contents(wheel, sdist)
            print(f"{wheel.name} {wheel.stat().st_size // 1024} KiB, {sdist.name} "
                  f"{sdist.stat().st_size // 1024} KiB: contents are right, "
                  f"built in {time.monotonic() - began:.0f} s")  # fmt: skip
            for number, python in enumerate(pythons):
                folder = away / str(number)
                folder.mkdir()
                try_wheel(python, wheel, folder, constraints)
            check_types(sys.executable, away / "0" / "venv" / "bin" / "python", away)
        except NotRightError as exc:
            print(exc, file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
