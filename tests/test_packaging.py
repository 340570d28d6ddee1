"""The wheel holds every package and data file of the tree; the installed project is whole."""

import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import entry_points
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAPPED = {"rules": "auditor/rules", "reports": "auditor/reports", "auditor": "auditor"}


@pytest.fixture(scope="module")
def wheel_names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    # A copy: building in the tree would leave build/ and egg-info behind in it.
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    for name in MAPPED:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    build = "from setuptools import build_meta; build_meta.build_wheel('..')"
    done = subprocess.run(
        [sys.executable, "-c", build], cwd=source, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def tree_names() -> set[str]:
    names = set()
    for top, target in MAPPED.items():
        for path in (ROOT / top).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                names.add(f"{target}/{path.relative_to(ROOT / top).as_posix()}")
    return names


def test_wheel_holds_the_tree(wheel_names: set[str]) -> None:
    assert tree_names() - wheel_names == set()


def test_wheel_holds_nothing_else(wheel_names: set[str]) -> None:
    others = {name for name in wheel_names - tree_names() if ".dist-info/" not in name}
    assert others == set()


def test_every_folder_with_code_is_a_named_package() -> None:
    with (ROOT / "pyproject.toml").open("rb") as stream:
        named = set(tomllib.load(stream)["tool"]["setuptools"]["packages"])
    modules = [Path(name) for name in tree_names() if name.endswith(".py")]
    found = {module.parent.as_posix().replace("/", ".") for module in modules}
    assert found == named


@pytest.mark.parametrize("group", ["geb_audit.rules", "geb_audit.reporters"])
def test_entry_points_load(group: str) -> None:
    ours = [point for point in entry_points(group=group) if point.value.startswith("auditor.")]
    assert ours
    for point in ours:
        point.load()
