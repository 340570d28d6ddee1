"""Names of layers, from what exporters call nodes and tensors."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
import pytest
from onnx_models import Maker, value

from auditor.formats.limits import Limits
from auditor.formats.onnx_file import read_onnx_proto
from auditor.formats.onnx_names import MAX_PART, MAX_PARTS, unique_paths

SCOPES = "pkg.torch.onnx.name_scopes"


def scoped(node: onnx.NodeProto, *scopes: str) -> None:
    """Records a node's modules as torch's exporter does: the model, …, the operation."""
    entry = node.metadata_props.add()
    entry.key, entry.value = SCOPES, str(["", *scopes])


def chain(*nodes: tuple[str, str], weights: Sequence[str] = ()) -> onnx.ModelProto:
    """Nodes in a row, given by operator type and name; kernels (4 × 4) where they take one."""
    maker = Maker()
    x, left = "x", list(weights)
    for op_type, name in nodes:
        operands = []
        if op_type in ("MatMul", "Gemm"):
            operands = [maker.weight(left.pop(0) if left else f"w{len(maker.nodes)}", 4, 4)]
        if op_type == "Add":
            operands = [maker.weight(left.pop(0) if left else f"b{len(maker.nodes)}", 4)]
        x = maker.node(op_type, x, *operands, name=name)
    return maker.model([value("x", ["n", 4])], [x])


def names(model: onnx.ModelProto) -> list[str]:
    return [call.id for call in read_onnx_proto(model, Limits()).graph.calls[1:]]


def test_torchscript() -> None:
    """A layer alone in its module is the module; two in one are told apart."""
    made = chain(
        ("MatMul", "/layer1/layer1.0/fc/MatMul"),
        ("Add", "/layer1/layer1.0/fc/Add"),
        ("Cos", "/layer1/layer1.0/Cos"),
        ("Sin", "/head/Sin"),
        ("Sin", "/head/Sin_1"),
    )
    assert names(made) == ["layer1.0/fc", "layer1.0/Cos", "head/Sin", "head/Sin_1"]


def test_torch_dynamo() -> None:
    """The same layers have the same names as by TorchScript."""
    made = chain(("MatMul", "val_0"), ("Add", "linear"), ("Cos", "node_cos"), ("Sin", "node_sin"))
    nodes = made.graph.node
    scoped(nodes[0], "layer1", "layer1.0", "layer1.0.fc", "linear")
    scoped(nodes[1], "layer1", "layer1.0", "layer1.0.fc", "linear")
    scoped(nodes[2], "layer1", "layer1.0", "cos")
    scoped(nodes[3], "head", "sin")
    assert names(made) == ["layer1.0/fc", "layer1.0/node_cos", "head"]


def test_nodes_without_a_scope_do_not_hide_the_others() -> None:
    """torch's optimizer adds nodes of its own, and says nothing of where they belong."""
    made = chain(("Cos", "node_cos"), ("MatMul", "val_3"), ("Add", "linear_2"))
    scoped(made.graph.node[2], "encoder", "encoder.fc", "linear")
    scoped(made.graph.node[0], "encoder", "cos")
    assert names(made) == ["node_cos", "fc"]  # "encoder" is the model's own name


def test_parameters_name_modules_where_nodes_do_not() -> None:
    """Before torch 1.13 nodes were numbered only."""
    made = chain(
        ("Gemm", "Gemm_0"),
        ("Relu", "Relu_1"),
        ("MatMul", "MatMul_2"),
        ("Add", "Add_3"),
        ("Cos", "Cos_4"),
        weights=["encoder.layers.0.fc.weight", "onnx::MatMul_17", "head.bias"],
    )
    assert names(made) == ["encoder/layers.0/fc", "head", "Cos_4"]


def test_a_convolution_is_called_after_its_own_kernel() -> None:
    """torch folds batch normalization into it and records the module of the normalization."""
    maker = Maker()
    y = maker.node("Conv", "x", maker.weight("features.0.weight", 4, 2, 3, 3), name="node_Conv_9")
    y = maker.node("Cos", y, name="node_cos")
    made = maker.model([value("x", ["n", 2, 8, 8])], [y])
    scoped(made.graph.node[0], "features", "features.1", "batch_norm")
    scoped(made.graph.node[1], "cos")
    assert names(made) == ["features.0", "node_cos"]


@pytest.mark.parametrize(
    ("prefix", "suffix"),
    [
        ("model", ""),
        ("StatefulPartitionedCall/model", ""),
        ("model/StatefulPartitionedCall_2", ""),
        ("model", ":0"),
    ],
)
def test_tensorflow(prefix: str, suffix: str) -> None:
    made = chain(
        ("MatMul", f"{prefix}/dense/MatMul{suffix}"),
        ("Add", f"{prefix}/dense/BiasAdd{suffix}"),
        ("Cos", f"{prefix}/other/Cos{suffix}"),
        ("Sin", "Sin__12"),
    )
    assert names(made) == ["dense", "other", "Sin__12"]


def test_a_fused_node_lists_what_it_was_fused_of() -> None:
    made = chain(
        ("Gemm", "model/dense/MatMul;model/dense/BiasAdd"),
        ("Gemm", "model/dense_1/MatMul;model/dense_1/BiasAdd;model/dense_1/Relu"),
    )
    assert names(made) == ["dense", "dense_1"]


def test_paddle_and_nameless() -> None:
    made = chain(("Cos", "p2o.Cos.0"), ("Cos", "p2o.Cos.1"), ("Sin", ""), ("Sin", ""))
    assert names(made) == ["p2o.Cos.0", "p2o.Cos.1", "Sin_1", "Sin_2"]


def test_names_are_the_same_each_time() -> None:
    made = chain(("Cos", "a/b"), ("Cos", "a/b"), ("Cos", "a/b_1"), ("Cos", ""), ("Cos", "a"))
    assert names(made) == names(made)
    assert len(set(names(made))) == 5


@pytest.mark.parametrize(
    "name",
    [
        "/" * 400,
        "../../etc/passwd",
        "a#2",
        "a\nb\x00c",
        "x" * 4_000,
        "/".join(f"m{i}" for i in range(700)),
        ";".join(["model/dense/MatMul"] * 200),
        "0/1/2/3",
        ":0",
        "StatefulPartitionedCall",
        "<script>alert(1)</script>",
    ],
    ids=lambda name: name[:12],
)
def test_hostile_names_stay_short_and_in_one_line(name: str) -> None:
    made = chain(("Cos", name), ("Cos", name), ("MatMul", name), ("Add", name))
    found = names(made)
    assert len(set(found)) == len(found) == 3
    for path in found:
        parts = path.split("/")
        assert all(parts)
        assert len(parts) <= MAX_PARTS
        assert max(map(len, parts)) <= MAX_PART + len("_12")
        assert path.isprintable()
        assert "#" not in path


def test_numbers_do_not_collide_with_names() -> None:
    paths = unique_paths([("a",), ("a",), ("a_1",), ("a",)])
    assert paths == (("a",), ("a_2",), ("a_1",), ("a_3",))
