"""What is published: one version everywhere, and a wheel that installs and runs."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def version() -> str:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]


def test_the_changelogs_newest_version_is_the_packages():
    headings = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert headings[0] == version()


def test_the_citation_names_the_same_version():
    found = re.search(
        r'^version: "?([^"\s]+)', (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert found is not None
    assert found.group(1) == version()


def run(*words: object, cwd: Path) -> str:
    # Nothing here may look for newer packages, and coverage has no business in a copy of the source.
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("COV", "PYTHONPATH"))}
    environment = {**clean, "PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run(
        [str(word) for word in words], cwd=cwd, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that nothing of an earlier build is packed and none is left."""
    copy, out = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    shutil.copytree(ROOT / "src", copy / "src", ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    run(sys.executable, "-m", "pip", "wheel", ".", "--no-deps", "--no-build-isolation", "-w", out, cwd=copy)
    (file,) = out.iterdir()
    return file


def test_the_wheel_holds_every_module_and_nothing_else(wheel):
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    source = {path.relative_to(ROOT / "src").as_posix() for path in (ROOT / "src" / "vqgan").rglob("*.py")}
    for pattern in ("presets/*.yaml", "extraction/*.txt"):
        source |= {path.relative_to(ROOT / "src").as_posix() for path in (ROOT / "src").rglob(pattern)}
    others = ("py.typed", "evaluation/growth.html", "images/zoom.html", "checkpoints/zoo.toml")
    assert packed == source | {f"vqgan/{name}" for name in others}


def test_the_wheel_runs_in_a_fresh_environment(wheel, tmp_path):
    venv.create(tmp_path / "venv", system_site_packages=True, with_pip=False)
    scripts = tmp_path / "venv" / ("Scripts" if os.name == "nt" else "bin")
    python = scripts / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", wheel, cwd=tmp_path)
    # The site packages of this environment too, but none of its own links (an editable install of the source).
    site = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path).strip()
    (Path(site) / "outer.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    assert run(scripts / "vqgan", "--version", cwd=tmp_path) == f"vqgan {version()}\n"
    place = run(python, "-c", "import vqgan.cli.main; print(vqgan.__file__)", cwd=tmp_path)
    assert Path(place.strip()).is_relative_to(site)
    assert run(scripts / "vqgan", "sample", "--help", cwd=tmp_path).startswith("usage: vqgan sample")
