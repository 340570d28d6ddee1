"""Fixtures shared by all tests. Keras runs on TensorFlow here, the probe's default backend."""

import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture(scope="session")
def example(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The saved model of an example script, built once: `example("healthy_cnn")`."""
    folder = tmp_path_factory.mktemp("examples")

    def build(name: str, suffix: str = ".keras") -> Path:
        path = folder / f"{name}{suffix}"
        if not path.exists():
            import keras

            # Keras numbers layers of a kind through a whole process.
            keras.utils.clear_session()
            model = runpy.run_path(str(EXAMPLES / f"{name}.py"))["build"]()
            model.save(path)
        return path

    return build


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Save a model of `models` or `textbook` once: `saved("unet")`, `saved("unet", ".h5")`."""
    folder = tmp_path_factory.mktemp("models")

    def build(name: str, suffix: str = ".keras") -> Path:
        from models import HEALTHY
        from textbook import TEXTBOOK

        path = folder / f"{name}{suffix}"
        if not path.exists():
            (HEALTHY | TEXTBOOK)[name]().save(path)
        return path

    return build


@pytest.fixture
def run_cli(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the installed `geb-audit` as a user would, in an empty folder."""
    script = Path(sys.executable).with_name("geb-audit")

    def run(*arguments: str | Path, cwd: Path = tmp_path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [script, *map(str, arguments)],
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    return run
