"""Holding every tensor of an ONNX file against onnx's own reading of it."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from auditor.formats.limits import Limits
from auditor.formats.onnx_file import TensorPlace, read_tensors


def assert_same_tensors(path: Path) -> int:
    """Assert that dtype, shape and bytes of all tensors agree; answers how many there are."""
    ours = read_tensors(path, Limits())
    theirs = dict(stored(onnx.load(path).graph, ()))
    assert set(ours) == set(theirs), path
    for place, tensor in theirs.items():
        wanted, read = np.asarray(numpy_helper.to_array(tensor)), ours[place].read
        assert read is not None, (path, place)
        found = read()
        assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape), (path, place)
        if wanted.dtype.kind == "O":
            assert found.tolist() == wanted.tolist(), (path, place)
        else:
            assert found.tobytes() == wanted.tobytes(), (path, place)
    return len(theirs)


def stored(
    graph: onnx.GraphProto, place: TensorPlace
) -> Iterator[tuple[TensorPlace, onnx.TensorProto]]:
    """Dense tensors by place, as `read_tensors` names it."""
    for tensor in graph.initializer:
        yield (*place, tensor.name), tensor
    for index, node in enumerate(graph.node):
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield (*place, index, attribute.name), attribute.t
            if attribute.HasField("g"):
                yield from stored(attribute.g, (*place, index, attribute.name))
