"""Models as exporters really write them, beside how they were built: see tests/data/onnx."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import numpy_helper

from auditor.formats.limits import Limits
from auditor.formats.onnx_file import read_onnx
from auditor.graph.layer_graph import LayerCall, LayerGraph
from auditor.graph.operators import KERNEL_OPS, MERGE_OPS, NORMALIZATION_OPS, SHAPE_OPS, Op

FOLDER = Path(__file__).parents[1] / "data" / "onnx"
FILES = sorted(FOLDER.glob("*.onnx"))
#: What a model is made of beside its layers: sums and products of branches, axes and shapes.
PLUMBING = MERGE_OPS | SHAPE_OPS | {Op.INPUT}
#: Layers that are not of one node in any of these models.
WHOLE = KERNEL_OPS | NORMALIZATION_OPS | {Op.DOT_ATTENTION, Op.ACTIVATION}


#: A causal mask and tables of angles, which are stored as tensors and are no weights.
TABLES = {"mask", "cat", "cat_1"}


def graph_of(name: str) -> LayerGraph:
    return read_onnx(FOLDER / f"{name}.onnx", Limits()).graph


def layers(graph: LayerGraph) -> list[tuple[str, Op, str | None]]:
    return [(call.id, call.op, call.activation) for call in graph.calls if call.op not in PLUMBING]


def by_op(graph: LayerGraph, op: Op) -> list[LayerCall]:
    return [call for call in graph.calls if call.op is op]


@pytest.mark.parametrize("exporter", ["script", "dynamo"])
def test_resnet(exporter: str) -> None:
    """Both exporters fold the normalizations; the convolutions keep their own names."""
    found = layers(graph_of(f"torch_resnet_{exporter}"))
    last = "relu" if exporter == "dynamo" else "relu_1"
    assert found == [
        ("conv1", Op.CONV, "relu"),
        ("layer1.0/conv1", Op.CONV, "relu"),
        ("layer1.0/conv2", Op.CONV, None),
        (f"layer1.0/{last}", Op.ACTIVATION, "relu"),
        ("layer2.0/conv1", Op.CONV, "relu"),
        ("layer2.0/conv2", Op.CONV, None),
        ("layer2.0/downsample.0", Op.CONV, None),
        (f"layer2.0/{last}", Op.ACTIVATION, "relu"),
        ("avgpool", Op.GLOBAL_AVERAGE_POOL, None),
        ("fc", Op.DENSE, None),
    ]


@pytest.mark.parametrize("exporter", ["script", "dynamo"])
def test_mobilenet(exporter: str) -> None:
    graph = graph_of(f"torch_mobilenet_{exporter}")
    pooled = "ReduceMean" if exporter == "script" else "node_mean_1"
    assert layers(graph) == [
        ("features.0", Op.CONV, "hard_silu"),
        ("features.3", Op.DEPTHWISE_CONV, "relu6"),
        ("features.6/pool", Op.GLOBAL_AVERAGE_POOL, None),
        ("features.6/fc1", Op.CONV, "relu"),
        ("features.6/fc2", Op.CONV, "hard_sigmoid"),
        ("features.7", Op.CONV, "silu"),
        ("features.9", Op.GROUP_NORM, None),
        (pooled, Op.GLOBAL_AVERAGE_POOL, None),
        ("classifier.0", Op.DENSE, "mish"),
        ("classifier.3", Op.DENSE, None),
    ]
    # ZeroPad2d(1) stands before the depthwise convolution, which pads nothing by itself.
    (depthwise,) = by_op(graph, Op.DEPTHWISE_CONV)
    assert depthwise.config["pads"] == [1, 1, 1, 1]
    assert depthwise.in_shape == depthwise.out_shape == ("batch", 4, 6, 6)


@pytest.mark.parametrize("exporter", ["script", "dynamo"])
def test_transformer_encoder_layer(exporter: str) -> None:
    graph = graph_of(f"torch_encoder_{exporter}")
    added, pooled = ("Add", "ReduceMean") if exporter == "script" else ("node_add_4", "node_mean")
    assert layers(graph) == [
        ("embed", Op.EMBEDDING, None),
        (added, Op.SCALE, None),  # a learned position embedding is added
        ("layer/norm1", Op.LAYER_NORM, None),
        ("layer/self_attn/MatMul", Op.DENSE, None),
        ("layer/self_attn/Attention", Op.DOT_ATTENTION, None),
        ("layer/self_attn/Gemm", Op.DENSE, None),
        ("layer/norm2", Op.LAYER_NORM, None),
        ("layer/linear1", Op.DENSE, "gelu"),
        ("layer/linear2", Op.DENSE, None),
        (pooled, Op.GLOBAL_AVERAGE_POOL, None),
        ("head", Op.DENSE, None),
    ]
    packed, out = (graph.by_id[f"layer/self_attn/{kind}"] for kind in ("MatMul", "Gemm"))
    assert (packed.weights[0].fan_in, packed.weights[0].fan_out) == (8, 24)
    assert (out.weights[0].fan_in, out.weights[0].fan_out) == (8, 8)
    (attention,) = by_op(graph, Op.DOT_ATTENTION)
    assert [source.id for source in graph.predecessors(attention.id)] == [packed.id]


@pytest.mark.parametrize(
    "name",
    [
        "torch_gpt_script",
        "torch_gpt_dynamo",
        "torch_gpt_by_hand_script",
        "torch_gpt_by_hand_dynamo",
    ],
)
def test_gpt_block(name: str) -> None:
    graph = graph_of(name)
    (attention,) = by_op(graph, Op.DOT_ATTENTION)
    assert layers(graph) == [
        ("wte", Op.EMBEDDING, None),
        ("ln_1", Op.LAYER_NORM, None),
        ("c_attn", Op.DENSE, None),
        (attention.id, Op.DOT_ATTENTION, None),
        ("c_proj", Op.DENSE, None),
        ("ln_2", Op.LAYER_NORM, None),
        ("mlp.0", Op.DENSE, "gelu"),
        ("mlp.2", Op.DENSE, None),
    ]
    assert not attention.weights
    assert attention.out_shape == ("batch", 6, 8)
    assert [call.op for call in graph.calls if call.op in PLUMBING] == [Op.INPUT, Op.ADD, Op.ADD]


def test_llama_block() -> None:
    graph = graph_of("torch_llama_dynamo")
    assert [op for _, op, _ in layers(graph)] == [
        Op.RMS_NORM,
        Op.DENSE,
        Op.ELEMENTWISE,
        Op.DENSE,
        Op.ELEMENTWISE,
        Op.DENSE,
        Op.DOT_ATTENTION,
        Op.DENSE,
        Op.DENSE,
        Op.DENSE,
    ]
    assert [call.kind for call in by_op(graph, Op.ELEMENTWISE)] == ["RotaryEmbedding"] * 2
    assert graph.by_id["gate"].activation == "silu"
    assert graph.parameters == 8 + 3 * 64 - 2 * 32 + 64 + 2 * 96


@pytest.mark.parametrize("exporter", ["script", "dynamo"])
def test_recurrent_layers(exporter: str) -> None:
    graph = graph_of(f"torch_recurrent_{exporter}")
    assert [op for _, op, _ in layers(graph)] == [Op.LSTM, Op.LSTM, Op.GRU, Op.DENSE]
    first, second = by_op(graph, Op.LSTM)
    (gru,) = by_op(graph, Op.GRU)
    assert first.in_shape == ("batch", 7, 3)
    assert gru.out_shape == ("batch", 7, 4)
    for call, width in ((first, 3), (second, 8), (gru, 8)):
        kernel, recurrent, bias = call.weights
        assert (kernel.fan_in, recurrent.fan_in, bias.role) == (width, 4, "bias")
        assert call.config["units"] == 4


def test_keras_by_torch() -> None:
    """Channels last, every value cast to the type it has, normalization folded to a scale."""
    graph = graph_of("keras_cnn_torch")
    assert [(op, activation) for _, op, activation in layers(graph)] == [
        (Op.CONV, None),
        (Op.SCALE, None),
        (Op.SCALE, None),
        (Op.ACTIVATION, "relu"),
        (Op.CONV, "silu"),
        (Op.DEPTHWISE_CONV, "leaky_relu"),
        (Op.GLOBAL_AVERAGE_POOL, None),
        (Op.DENSE, "hard_silu"),
        (Op.DENSE, "softmax"),
    ]
    for call in (*by_op(graph, Op.CONV), *by_op(graph, Op.DEPTHWISE_CONV)):
        assert call.config["data_format"] == "channels_last"
        assert call.out_shape
        assert call.out_shape[-1] == 4


def test_keras_by_tensorflow() -> None:
    graph = graph_of("keras_transformer_tensorflow")
    names = [name for name, op, _ in layers(graph) if op in WHOLE]
    assert names == [
        "embedding_1",
        "layer_normalization_1",
        "multi_head_attention_1/value_1",
        "multi_head_attention_1/query_1",
        "multi_head_attention_1/key_1",
        "multi_head_attention_1/Attention",
        "multi_head_attention_1/attention_output_1",
        "layer_normalization_1_2",
        "dense_2_1",
        "dense_3_1/Tensordot/MatMul",
        "rms_normalization_1",
        "dense_4_1",
    ]
    assert graph.by_id["dense_2_1"].activation == "gelu"
    assert len(graph.by_id["layer_normalization_1"].nodes) == 13


def test_keras_lstm_by_tensorflow() -> None:
    first, second = by_op(graph_of("keras_lstm_tensorflow"), Op.LSTM)
    assert [weight.role for weight in first.weights] == ["kernel", "recurrent_kernel", "bias"]
    assert first.in_shape is not None
    assert first.in_shape[1:] == (7, 3)
    assert second.config["units"] == 4


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_nothing_is_lost(path: Path) -> None:
    """Every node that the input reaches is in one call, and every stored kernel in one layer."""
    graph = read_onnx(path, Limits()).graph
    proto = onnx.load(path).graph
    named = [name for call in graph.calls for name in call.nodes]
    assert len(set(named)) == len(named)
    assert set(named) <= {node.name for node in proto.node}
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.initializer}
    used = {weight.name for call in graph.calls for weight in call.weights}
    matrices = {
        name for name, array in stored.items() if array.ndim > 1 and array.dtype.kind == "f"
    }
    unread = {weight.name for call in graph.calls for weight in call.weights if weight.read is None}
    assert matrices <= used | unread | TABLES
    place = {call.id: index for index, call in enumerate(graph.calls)}
    assert all(place[edge.source] < place[edge.target] for edge in graph.edges)
    opaque = [call.id for call in graph.calls if call.op is Op.OPAQUE]
    assert opaque == []
