"""ONNX's own test models: every one is read, and inferred shapes agree with what they declare."""

import warnings
from pathlib import Path

import onnx
import pytest
from onnx import ModelProto, ValueInfoProto
from onnx_tensors import assert_same_tensors

from auditor.finding import Severity
from auditor.formats.limits import Limits
from auditor.formats.onnx_file import read_onnx, read_onnx_proto
from auditor.formats.onnx_tensors import dtype_name
from auditor.graph.layer_graph import LayerGraph, Shape
from auditor.graph.operators import Op

DATA = Path(onnx.__file__).parent / "backend" / "test" / "data"
FILES = sorted(DATA.glob("**/*.onnx"))


@pytest.fixture(scope="module")
def models() -> dict[str, ModelProto]:
    """The models of the node tests, which onnx builds in Python, by test name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tests' own expected outputs overflow on purpose
        from onnx.backend.test.case.node import collect_testcases

        return {case.name: case.model for case in collect_testcases(None) if case.model}


def check(graph: LayerGraph, name: str) -> None:
    place = {call.id: index for index, call in enumerate(graph.calls)}
    assert len(place) == len(graph.calls), name
    for edge in graph.edges:
        source, target = graph.by_id[edge.source], graph.by_id[edge.target]
        assert place[edge.source] < place[edge.target], name
        assert edge.source_slot < len(source.out_shapes), name
        assert edge.target_slot < len(target.in_shapes), name
    for call_id, slot in graph.outputs:
        assert slot < len(graph.by_id[call_id].out_shapes), name
    for call in graph.calls:
        assert (call.op is Op.ACTIVATION) <= (call.activation is not None), name
        for weight in call.weights:
            if weight.read is not None:
                assert weight.read().shape == weight.shape, (name, weight.name)


@pytest.mark.skipif(not FILES, reason="this release of onnx ships no model files")
def test_files() -> None:
    """None is refused or a hazard, and every tensor's bytes are those onnx reads."""
    compared = 0
    for path in FILES:
        file = read_onnx(path, Limits())
        assert file.hazards == (), path
        check(file.graph, str(path.relative_to(DATA)))
        if "sparse" not in path.parent.name:
            compared += assert_same_tensors(path)
    assert compared > 1000


def test_node_models(models: dict[str, ModelProto]) -> None:
    assert len(models) > 1000
    for name, model in models.items():
        file = read_onnx_proto(model, Limits())
        assert [h for h in file.hazards if h.severity is not Severity.INFO] == [], name
        check(file.graph, name)


def test_tensors_of_node_models(models: dict[str, ModelProto], tmp_path: Path) -> None:
    """One in five, and all with graphs within nodes, as from a file."""
    path, compared = tmp_path / "model.onnx", 0
    for index, (name, model) in enumerate(models.items()):
        within = any(attribute.HasField("g") for n in model.graph.node for attribute in n.attribute)
        if (index % 5 == 0 or within) and "sparse" not in name:
            path.write_bytes(model.SerializeToString())
            compared += assert_same_tensors(path)
    assert compared > 300


def declared(info: ValueInfoProto) -> Shape | None:
    kind = info.type.tensor_type
    if info.type.WhichOneof("value") != "tensor_type" or not kind.HasField("shape"):
        return None
    return tuple(d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim)


def test_inferred_shapes_and_dtypes_agree_with_declared_ones(models: dict[str, ModelProto]) -> None:
    """With the declarations taken away, what is inferred never contradicts them."""
    agreed = known = 0
    for name, model in models.items():
        bare = ModelProto.FromString(model.SerializeToString())
        del bare.graph.value_info[:]
        for info in bare.graph.output:
            info.ClearField("type")
        graph = read_onnx_proto(bare, Limits()).graph
        for (call_id, slot), info in zip(graph.outputs, model.graph.output, strict=True):
            wanted, call = declared(info), graph.by_id[call_id]
            if wanted is None:
                continue
            known += 1
            if slot == 0 and call.dtype:
                assert call.dtype == dtype_name(info.type.tensor_type.elem_type), name
            found = call.out_shapes[slot]
            if found is None:
                continue
            assert len(found) == len(wanted), (name, found, wanted)
            pairs = zip(found, wanted, strict=True)
            numbers = [(a, b) for a, b in pairs if isinstance(a, int) and isinstance(b, int)]
            assert all(a == b for a, b in numbers), (name, found, wanted)
            agreed += all(isinstance(dim, int) for dim in found)
    # Two in three are found whole; the rest depend on values, or belong to rare operators.
    assert agreed > 0.6 * known
