"""A healthy file never gets a finding of GEB9, other than that it needs code of its own."""

import warnings
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from formats.crafted import archives
from models import HEALTHY

from auditor.formats.limits import DEFAULT_LIMITS
from auditor.formats.onnx_file import read_onnx_proto
from auditor.formats.read import read_model
from auditor.hazard import Hazard

FILES = sorted((Path(onnx.__file__).parent / "backend" / "test" / "data").glob("*/*/model.onnx"))


def accused(hazards: tuple[Hazard, ...]) -> list[Hazard]:
    return [hazard for hazard in hazards if hazard.code != "GEB910"]


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("name", HEALTHY)
def test_models(name: str, suffix: str, saved: Callable[..., Path]) -> None:
    assert read_model(saved(name, suffix)).hazards == ()


@pytest.mark.parametrize("name", ["founding_case", "healthy_cnn", "healthy_resnet"])
def test_examples(name: str, example: Callable[..., Path]) -> None:
    assert read_model(example(name)).hazards == ()


@pytest.mark.skipif(not FILES, reason="this release of onnx ships no model files")
def test_onnx_files() -> None:
    for path in FILES:
        assert accused(read_model(path).hazards) == [], path


def test_onnx_node_models() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tests' own expected outputs overflow on purpose
        from onnx.backend.test.case.node import collect_testcases

        models = {case.name: case.model for case in collect_testcases(None) if case.model}
    assert len(models) > 1000
    for name, model in models.items():
        assert accused(read_onnx_proto(model, DEFAULT_LIMITS).hazards) == [], name


@pytest.mark.parametrize("name", ["stored", "deflated", "commented", "streamed", "zip64"])
def test_archives_written_otherwise(name: str, tmp_path: Path) -> None:
    assert read_model(archives.healthy(tmp_path)[name]).hazards == ()
