"""Real models that Python packages ship, where these are installed."""

import importlib.util
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from auditor.formats.limits import Limits
from auditor.formats.onnx_file import read_onnx
from auditor.graph.operators import KERNEL_OPS, Op
from auditor.graph.paths import trunk

#: Package → where it keeps its models.
PACKAGES = {"rapidocr_onnxruntime": "models", "silero_vad": "data"}


def files(package: str) -> list[Path]:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        pytest.skip(f"{package} is not installed")
    return sorted(Path(spec.submodule_search_locations[0], PACKAGES[package]).glob("*.onnx"))


@pytest.mark.parametrize("package", PACKAGES)
def test_values_are_those_onnx_reads(package: str) -> None:
    for path in files(package):
        graph = read_onnx(path, Limits()).graph
        stored = {tensor.name: tensor for tensor in onnx.load(path).graph.initializer}
        compared = 0
        for weight in (weight for call in graph.calls for weight in call.weights):
            tensor = stored.get(weight.name)
            if tensor is not None and tuple(tensor.dims) == weight.shape and weight.read:
                np.testing.assert_array_equal(weight.read(), numpy_helper.to_array(tensor))
                compared += 1
        assert compared == sum(
            weight.name in stored for call in graph.layers() for weight in call.weights
        )


@pytest.mark.parametrize("package", PACKAGES)
def test_layers_are_on_the_way_from_input_to_output(package: str) -> None:
    for path in files(package):
        graph = read_onnx(path, Limits()).graph
        kernels = [call for call in graph.calls if call.op in KERNEL_OPS or call.op is Op.CONTROL]
        assert kernels, path.name
        assert {call.id for call in kernels} <= {call.id for call in trunk(graph)}, path.name
