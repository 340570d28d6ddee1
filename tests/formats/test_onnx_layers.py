"""Layers of several nodes, one by one, and what only looks like them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from onnx_models import Maker, value

from auditor.formats.limits import Limits
from auditor.formats.onnx_file import read_onnx_proto
from auditor.graph.layer_graph import LayerCall, LayerGraph
from auditor.graph.operators import Op

Build = Callable[[Maker, str], str]


def read(
    build: Build, shape: tuple[Any, ...] = ("n", 5, 8), opset: int = 17
) -> tuple[LayerGraph, onnx.ModelProto]:
    maker = Maker(opset=opset)
    made = maker.model([value("x", shape)], [build(maker, "x")])
    return read_onnx_proto(made, Limits()).graph, made


def ops(graph: LayerGraph) -> list[Op]:
    return [call.op for call in graph.calls[1:]]


def the(graph: LayerGraph, op: Op) -> LayerCall:
    (call,) = [call for call in graph.calls if call.op is op]
    return call


def integers(m: Maker, *values: int) -> str:
    return m.constant(list(values), "int64")


# -- attention -------------------------------------------------------------------------------------

HEADS, WIDTH = 2, 8


def heads(m: Maker, x: str, *, turned: bool = False) -> str:
    split = m.node("Reshape", x, integers(m, 0, 0, HEADS, WIDTH // HEADS))
    return m.node("Transpose", split, perm=[0, 2, 3, 1] if turned else [0, 2, 1, 3])


def merged(m: Maker, x: str) -> str:
    back = m.node("Transpose", x, perm=[0, 2, 1, 3])
    return m.node("Reshape", back, integers(m, 0, 0, WIDTH))


def projected(m: Maker, x: str, name: str, width: int = WIDTH) -> str:
    product = m.node("MatMul", x, m.weight(f"{name}.weight", WIDTH, width), name=f"/{name}/MatMul")
    return m.node("Add", product, m.weight(f"{name}.bias", width), name=f"/{name}/Add")


def attention(
    m: Maker,
    x: str,
    *,
    scale: Callable[[Maker, str], str] | None = None,
    mask: Callable[[Maker, str], str] | None = None,
    after: Callable[[Maker, str], str] | None = None,
    axis: int = -1,
) -> str:
    query, key, content = (projected(m, x, name) for name in ("q", "k", "v"))
    scores = m.node("MatMul", heads(m, query), heads(m, key, turned=True))
    scores = scale(m, scores) if scale else scores
    scores = mask(m, scores) if mask else scores
    share = m.node("Softmax", scores, axis=axis)
    share = after(m, share) if after else share
    return merged(m, m.node("MatMul", share, heads(m, content)))


def divided(m: Maker, x: str) -> str:
    return m.node("Div", x, m.constant(2.0))


CAUSAL = np.triu(np.full((5, 5), -np.inf), 1).reshape(1, 1, 5, 5)
ATTENTION: dict[str, Build] = {
    "bare": attention,
    "divided": lambda m, x: attention(m, x, scale=divided),
    "multiplied": lambda m, x: attention(
        m, x, scale=lambda m, s: m.node("Mul", m.constant(0.5), s)
    ),
    "mask added": lambda m, x: attention(
        m, x, scale=divided, mask=lambda m, s: m.node("Add", s, m.constant(CAUSAL))
    ),
    "mask chosen": lambda m, x: attention(
        m,
        x,
        mask=lambda m, s: m.node("Where", m.constant(CAUSAL == 0, "bool"), s, m.constant(-1e9)),
    ),
    "mask excluded": lambda m, x: attention(
        m,
        x,
        mask=lambda m, s: m.node("Where", m.constant(CAUSAL < 0, "bool"), m.constant(-1e9), s),
    ),
    "nan set to zero": lambda m, x: attention(
        m, x, after=lambda m, s: m.node("Where", m.node("IsNaN", s), m.constant(0.0), s)
    ),
    "dropped out": lambda m, x: attention(m, x, after=lambda m, s: m.node("Dropout", s)),
    "softmax over axis 3": lambda m, x: attention(m, x, axis=3),
}


@pytest.mark.parametrize("name", ATTENTION)
def test_attention(name: str) -> None:
    """Three projections of their own, and one call for all between them and the output."""
    graph, made = read(ATTENTION[name])
    assert ops(graph) == [Op.DENSE, Op.DENSE, Op.DENSE, Op.DOT_ATTENTION]
    call = graph.calls[-1]
    assert not call.weights
    assert call.in_shapes == (("n", 5, 8),) * 3
    assert call.out_shape == ("n", 5, 8)
    assert [source.id for source in graph.predecessors(call.id)] == ["q", "k", "v"]
    others = sum(node.op_type != "Constant" for node in made.graph.node) - 6
    assert len(call.nodes) == others
    if name in ("divided", "multiplied", "mask added"):
        assert call.config["scale"] == pytest.approx(0.5)


def test_attention_of_one_packed_projection() -> None:
    """One dense layer for query, key and value, split afterwards; scaled before the product."""

    def build(m: Maker, x: str) -> str:
        packed = projected(m, x, "qkv", 3 * WIDTH)
        m.node("Split", packed, integers(m, WIDTH, WIDTH, WIDTH), outputs=["q", "k", "v"], axis=2)
        query = m.node("Mul", heads(m, "q"), m.constant(0.70710678))
        key = m.node("Mul", heads(m, "k", turned=True), m.constant(0.70710678))
        share = m.node("Softmax", m.node("MatMul", query, key), axis=-1)
        return merged(m, m.node("MatMul", share, heads(m, "v")))

    graph, _ = read(build)
    assert ops(graph) == [Op.DENSE, Op.DOT_ATTENTION]
    call = graph.calls[-1]
    assert [source.id for source in graph.predecessors(call.id)] == ["qkv"]
    assert call.config["query_scale"] * call.config["key_scale"] == pytest.approx(0.5)


def test_attention_with_a_mask_that_comes_in() -> None:
    maker = Maker()
    y = attention(maker, "x", mask=lambda m, s: m.node("Add", s, "mask"))
    inputs = [value("x", ("n", 5, 8)), value("mask", ("n", 1, 5, 5))]
    graph = read_onnx_proto(maker.model(inputs, [y]), Limits()).graph
    call = the(graph, Op.DOT_ATTENTION)
    assert [source.id for source in graph.predecessors(call.id)] == ["q", "k", "v", "mask"]


def test_a_position_bias_by_head_is_a_weight_and_a_mask_is_none() -> None:
    bias, _ = read(
        lambda m, x: attention(m, x, mask=lambda m, s: m.node("Add", s, m.weight("b", 1, 2, 5, 5)))
    )
    (weight,) = the(bias, Op.DOT_ATTENTION).weights
    assert (weight.name, weight.role, weight.trainable) == ("b", "other", True)
    mask, _ = read(
        lambda m, x: attention(
            m, x, mask=lambda m, s: m.node("Add", s, m.tensor("mask", CAUSAL, "float32"))
        )
    )
    assert not the(mask, Op.DOT_ATTENTION).weights


def test_attention_by_einsum() -> None:
    """As Keras writes it: keys are the first operand, and scores have their axis last."""

    def build(m: Maker, x: str) -> str:
        query, key, content = (projected(m, x, name) for name in ("q", "k", "v"))
        scores = m.node("Einsum", key, query, equation="bsd,btd->bts")
        share = m.node("Softmax", m.node("Mul", scores, m.constant(0.5)), axis=-1)
        return m.node("Einsum", share, content, equation="bts,bsd->btd")

    graph, _ = read(build)
    assert ops(graph) == [Op.DENSE] * 3 + [Op.DOT_ATTENTION]
    assert [source.id for source in graph.predecessors(graph.calls[-1].id)] == ["q", "k", "v"]


def test_grouped_keys_are_repeated_within_attention() -> None:
    def build(m: Maker, x: str) -> str:
        query, key, content = (projected(m, x, name) for name in ("q", "k", "v"))

        def repeated(of: str, perm: list[int]) -> str:
            one = m.node("Unsqueeze", m.node("Transpose", of, perm=[0, 2, 1]), integers(m, 1))
            many = m.node("Expand", one, integers(m, 1, HEADS, 1, 1))
            return m.node("Transpose", many, perm=perm)

        shape = integers(m, 0, 0, HEADS, 8)
        wide = m.node("Reshape", m.node("Concat", query, query, axis=2), shape)
        left = m.node("Transpose", wide, perm=[0, 2, 1, 3])
        share = m.node("Softmax", m.node("MatMul", left, repeated(key, [0, 1, 2, 3])), axis=-1)
        return m.node("MatMul", share, repeated(content, [0, 1, 3, 2]))

    graph, _ = read(build)
    found = ops(graph)
    assert sorted(found[:-1]) == [Op.CONCATENATE, Op.DENSE, Op.DENSE, Op.DENSE]
    assert found[-1] is Op.DOT_ATTENTION


def test_shares_that_are_an_output_keep_attention_apart() -> None:
    maker = Maker()
    y = attention(maker, "x")
    share = next(node.output[0] for node in maker.nodes if node.op_type == "Softmax")
    graph = read_onnx_proto(maker.model([value("x", ("n", 5, 8))], [y, share]), Limits()).graph
    assert Op.DOT_ATTENTION not in ops(graph)
    assert ops(graph).count(Op.MATMUL) == 2


def test_softmax_over_queries_is_no_attention() -> None:
    graph, _ = read(lambda m, x: attention(m, x, axis=2))
    assert Op.DOT_ATTENTION not in ops(graph)


def test_a_product_with_a_kernel_is_no_attention() -> None:
    """Softmax(x·W)·V of a stored V is a dense layer behind a dense layer."""

    def build(m: Maker, x: str) -> str:
        share = m.node("Softmax", m.node("MatMul", x, m.weight("w", 8, 4)), axis=-1)
        return m.node("MatMul", share, m.weight("v", 4, 8))

    graph, _ = read(build)
    assert ops(graph) == [Op.DENSE, Op.DENSE]


def test_a_key_with_another_reader_stays_outside() -> None:
    """What splits the keys' heads is seen by another call, and so is its own."""

    def build(m: Maker, x: str) -> str:
        query, key = projected(m, x, "q"), projected(m, x, "k")
        split = heads(m, key, turned=True)
        scores = m.node("MatMul", heads(m, query), split)
        mixed = m.node("MatMul", m.node("Softmax", scores, axis=-1), heads(m, query))
        return m.node("Add", merged(m, mixed), m.node("ReduceSum", split, integers(m, 1, 2, 3)))

    graph, _ = read(build)
    call = the(graph, Op.DOT_ATTENTION)
    assert [source.op for source in graph.predecessors(call.id)] == [Op.DENSE, Op.PERMUTE]


def test_rotary_positions() -> None:
    def build(m: Maker, x: str) -> str:
        halves = integers(m, 4), integers(m, 8), integers(m, 2)
        right = m.node("Slice", x, halves[0], halves[1], halves[2])
        left = m.node("Slice", x, integers(m, 0), halves[0], halves[2])
        turned = m.node("Concat", m.node("Neg", right), left, axis=-1)
        cosines, sines = (m.tensor(name, np.ones((5, 8)), "float32") for name in ("cos", "sin"))
        return m.node("Add", m.node("Mul", x, cosines), m.node("Mul", turned, sines))

    graph, _ = read(build)
    (call,) = graph.calls[1:]
    assert (call.kind, call.op, call.weights) == ("RotaryEmbedding", Op.ELEMENTWISE, ())
    assert len(call.nodes) == 7


# -- recurrent -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "gates"), [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
@pytest.mark.parametrize("directions", [1, 2])
def test_recurrent_operators_with_what_exporters_put_around(
    kind: str, gates: int, directions: int
) -> None:
    """Batch first in and out, directions side by side: as torch's layer is."""

    def build(m: Maker, x: str) -> str:
        weights = (
            m.weight("W", directions, gates * 4, 8),
            m.weight("R", directions, gates * 4, 4),
            m.weight("B", directions, 2 * gates * 4),
        )
        steps = m.node("Transpose", x, perm=[1, 0, 2])
        direction = "bidirectional" if directions == 2 else "forward"
        y = m.node(kind, steps, *weights, hidden_size=4, direction=direction)
        if directions == 1:
            y = m.node("Squeeze", y, integers(m, 1))
        else:
            y = m.node("Transpose", y, perm=[0, 2, 1, 3])
            y = m.node("Reshape", y, integers(m, 0, 0, -1))
        return m.node("Transpose", y, perm=[1, 0, 2])

    graph, made = read(build)
    (call,) = graph.calls[1:]
    assert call.kind == kind
    assert call.in_shape == ("n", 5, 8)
    assert call.out_shape == ("n", 5, 4 * directions)
    kernel, recurrent, bias = call.weights
    assert [w.role for w in call.weights] == ["kernel", "recurrent_kernel", "bias"]
    assert (kernel.fan_in, recurrent.fan_in, bias.fan_in) == (8, 4, None)
    assert kernel.unit_axes == recurrent.unit_axes == (0, 1)
    assert call.config["units"] == 4
    assert call.config["layout"] == 1  # batch first
    assert len(call.nodes) == sum(node.op_type != "Constant" for node in made.graph.node)


def test_each_output_of_a_recurrent_operator_is_followed_by_itself() -> None:
    maker = Maker()
    weights = maker.weight("W", 1, 16, 8), maker.weight("R", 1, 16, 4)
    maker.node("LSTM", "x", *weights, hidden_size=4, outputs=["y", "h", "c"])
    every = maker.node("Squeeze", "y", integers(maker, 1))
    last = maker.node("Squeeze", "h", integers(maker, 0))
    ends = maker.node("Cos", every), maker.node("Cos", last), maker.node("Cos", "c")
    graph = read_onnx_proto(maker.model([value("x", (5, "n", 8))], list(ends)), Limits()).graph
    call = the(graph, Op.LSTM)
    assert call.out_shapes == ((5, "n", 4), ("n", 4), (1, "n", 4))
    slots = {edge.source_slot for edge in graph.edges if edge.source == call.id}
    assert slots == {0, 1, 2}


def test_a_turned_input_with_another_reader_stays_outside() -> None:
    def build(m: Maker, x: str) -> str:
        steps = m.node("Transpose", x, perm=[1, 0, 2])
        y = m.node("RNN", steps, m.weight("W", 1, 8, 8), m.weight("R", 1, 8, 8), hidden_size=8)
        return m.node("Add", m.node("Squeeze", y, integers(m, 1)), steps)

    graph, _ = read(build)
    assert ops(graph) == [Op.PERMUTE, Op.SIMPLE_RNN, Op.ADD]
    assert the(graph, Op.SIMPLE_RNN).config["layout"] == 0  # time first


# -- affine ----------------------------------------------------------------------------------------


def test_zeros_around_positions_are_a_convolution_s_padding() -> None:
    def build(m: Maker, x: str) -> str:
        padded = m.node("Pad", x, integers(m, 0, 0, 1, 2, 0, 0, 3, 4))
        return m.node("Conv", padded, m.weight("w", 4, 2, 3, 3), pads=[1, 1, 1, 1])

    graph, _ = read(build, ("n", 2, 8, 8))
    (call,) = graph.calls[1:]
    assert (call.op, call.in_shape) == (Op.CONV, ("n", 2, 8, 8))
    assert call.config["pads"] == [2, 3, 4, 5]


@pytest.mark.parametrize(
    ("widths", "rest", "mode"),
    [
        ((0, 0, 1, 1, 0, 0, 1, 1), (), "reflect"),
        ((0, 0, 1, 1, 0, 0, 1, 1), (1.0,), "constant"),
        ((0, 1, 0, 0, 0, 1, 0, 0), (), "constant"),
    ],
    ids=["mirrored", "ones", "channels"],
)
def test_other_padding_is_its_own_call(
    widths: tuple[int, ...], rest: tuple[float, ...], mode: str
) -> None:
    def build(m: Maker, x: str) -> str:
        filler = [m.constant(number) for number in rest]
        padded = m.node("Pad", x, integers(m, *widths), *filler, mode=mode)
        channels = 2 + widths[1] + widths[5]
        return m.node("Conv", padded, m.weight("w", 4, channels, 3, 3))

    graph, _ = read(build, ("n", 2, 8, 8))
    assert ops(graph) == [Op.PAD, Op.CONV]


def channels_last(m: Maker, x: str, op_type: str = "Conv", group: int = 1) -> str:
    turned = m.node("Transpose", x, perm=[0, 3, 1, 2])
    y = m.node(op_type, turned, m.weight("w", 4, 4 // group, 3, 3), group=group)
    back = m.node("Transpose", y, perm=[0, 2, 3, 1])
    return m.node("Add", back, m.weight("b", 1, 1, 1, 4))


@pytest.mark.parametrize(
    ("op_type", "group", "op", "role"),
    [
        ("Conv", 1, Op.CONV, "kernel"),
        ("Conv", 4, Op.DEPTHWISE_CONV, "depthwise_kernel"),
        ("ConvTranspose", 1, Op.CONV_TRANSPOSE, "kernel"),
    ],
)
def test_convolution_turned_from_channels_last(op_type: str, group: int, op: Op, role: str) -> None:
    graph, _ = read(lambda m, x: channels_last(m, x, op_type, group), ("n", 8, 8, 4))
    (call,) = graph.calls[1:]
    assert call.op is op
    assert call.config["data_format"] == "channels_last"
    assert [weight.role for weight in call.weights] == [role, "bias"]
    assert (call.in_shape or ())[-1] == (call.out_shape or ())[-1] == 4


def test_half_turned_convolution_stays_channels_first() -> None:
    def build(m: Maker, x: str) -> str:
        turned = m.node("Transpose", x, perm=[0, 3, 1, 2])
        y = m.node("Conv", turned, m.weight("w", 4, 4, 3, 3))
        back = (m.node("Transpose", y, perm=[0, 2, 3, 1]) for _ in range(2))
        return m.node("Add", *back)

    graph, _ = read(build, ("n", 8, 8, 4))
    assert ops(graph) == [Op.PERMUTE, Op.CONV, Op.PERMUTE, Op.PERMUTE, Op.ADD]
    assert "data_format" not in the(graph, Op.CONV).config


def test_batch_normalization_stays_a_call_between_convolution_and_activation() -> None:
    def build(m: Maker, x: str) -> str:
        y = m.node("Conv", x, m.weight("w", 4, 2, 3, 3))
        statistics = [m.tensor(name, np.ones(4), "float32") for name in ("g", "b", "m", "v")]
        return m.node("Relu", m.node("BatchNormalization", y, *statistics))

    graph, _ = read(build, ("n", 2, 8, 8))
    assert ops(graph) == [Op.CONV, Op.BATCH_NORM, Op.ACTIVATION]


@pytest.mark.parametrize("restored", [(-1, 5, 6), (-1, 6, 5)], ids=["kept", "mixed"])
def test_gemm_over_rows_is_a_dense_layer_where_its_units_stay(restored: tuple[int, ...]) -> None:
    def build(m: Maker, x: str) -> str:
        rows = m.node("Reshape", x, integers(m, -1, 8))
        y = m.node("Gemm", rows, m.weight("w", 6, 8), m.weight("b", 6), transB=1)
        return m.node("Reshape", y, integers(m, *restored))

    graph, _ = read(build)
    if restored[-1] != 6:
        assert Op.RESHAPE in ops(graph)
        return
    (call,) = graph.calls[1:]
    assert call.op is Op.DENSE
    kernel = call.weights[0]
    assert (kernel.fan_in, kernel.fan_out, kernel.unit_axes) == (8, 6, (0,))
    assert (call.in_shape, call.out_shape) == (("n", 5, 8), ("n", 5, 6))


def test_projection_into_heads_with_a_bias_a_head() -> None:
    """As Keras' attention has it by TensorFlow: Reshape, MatMul, Reshape, Add."""

    def build(m: Maker, x: str) -> str:
        rows = m.node("Reshape", x, integers(m, -1, 8))
        y = m.node("MatMul", rows, m.weight("w", 8, 6))
        return m.node("Add", m.node("Reshape", y, integers(m, -1, 5, 2, 3)), m.weight("b", 2, 3))

    graph, _ = read(build)
    (call,) = graph.calls[1:]
    assert (call.op, call.out_shape) == (Op.DENSE, ("n", 5, 2, 3))
    assert call.parameters == 8 * 6 + 6


def test_einsum_with_a_bias() -> None:
    def build(m: Maker, x: str) -> str:
        y = m.node("Einsum", x, m.weight("w", 8, 2, 3), equation="abc,cde->abde")
        return m.node("Add", y, m.weight("b", 2, 3))

    graph, _ = read(build)
    (call,) = graph.calls[1:]
    assert call.op is Op.EINSUM_DENSE
    assert [(w.role, w.fan_in) for w in call.weights] == [("kernel", 8), ("bias", None)]


def test_weights_do_not_stand_among_the_settings() -> None:
    graph, _ = read(lambda m, x: projected(m, x, "fc", 2))
    (call,) = graph.calls[1:]
    assert not set(call.config) & {"A", "B"}


def test_one_scale_and_shift() -> None:
    """Folded batch normalization: γ and β a channel; and numbers written into the graph."""

    def channels(m: Maker, x: str) -> str:
        return m.node("Add", m.node("Mul", x, m.weight("g", 1, 5, 1)), m.weight("b", 1, 5, 1))

    (call,) = read(channels)[0].calls[1:]
    assert (call.kind, call.op) == ("Scale", Op.SCALE)
    assert [weight.role for weight in call.weights] == ["gamma", "beta"]

    def numbers(m: Maker, x: str) -> str:
        return m.node("Add", m.node("Mul", x, m.constant(2.0)), m.constant(-1.0))

    (call,) = read(numbers)[0].calls[1:]
    assert (call.kind, call.op, call.weights) == ("Rescaling", Op.SCALE, ())
    assert (call.config["scale"], call.config["offset"]) == (2.0, -1.0)


# -- embedding -------------------------------------------------------------------------------------


def looked_up(m: Maker, x: str, *, rank: int = 2) -> str:
    """tf.gather as tf2onnx writes it, with indices below zero counted from the end."""
    below = m.node("Less", m.node("Cast", x, to=1), m.constant(0.0))
    ended = m.node("Add", x, m.constant(12, "int64"))
    first = m.node("Mul", m.node("Cast", below, to=7), ended)
    second = m.node("Mul", x, m.node("Cast", m.node("Not", below), to=7))
    return m.node("Gather", m.weight("table", *(12, 4, 2)[:rank]), m.node("Add", first, second))


@pytest.mark.parametrize("rank", [2, 3])
def test_look_up_in_a_table(rank: int) -> None:
    maker = Maker()
    y = looked_up(maker, "x", rank=rank)
    made = maker.model([value("x", ("n", 5), TensorProto.INT64)], [y])
    graph = read_onnx_proto(made, Limits()).graph
    if rank == 3:
        assert Op.EMBEDDING not in ops(graph)
        return
    (call,) = graph.calls[1:]
    assert (call.op, call.out_shape) == (Op.EMBEDDING, ("n", 5, 4))
    assert call.weights[0].role == "embeddings"


# -- quantized -------------------------------------------------------------------------------------


def quantized_dense(m: Maker, x: str, scale: str, zero: str) -> str:
    kernel = m.tensor("w", np.arange(48).reshape(8, 6), "int8")
    product = m.node("MatMulInteger", x, kernel, zero, m.tensor("wz", np.int8(0)))
    scales = m.node("Mul", scale, m.tensor("ws", np.float32(0.1)))
    return m.node("Mul", m.node("Cast", product, to=1), scales)


def test_dynamically_quantized_dense_layer() -> None:
    def build(m: Maker, x: str) -> str:
        m.node("DynamicQuantizeLinear", x, outputs=["q", "s", "z"])
        return m.node("Relu", m.node("Add", quantized_dense(m, "q", "s", "z"), m.weight("b", 6)))

    graph, made = read(build)
    (call,) = graph.calls[1:]
    assert (call.op, call.activation) == (Op.DENSE, "relu")
    assert [(w.role, w.trainable) for w in call.weights] == [("kernel", False), ("bias", True)]
    assert len(call.nodes) == len(made.graph.node)


def test_dense_layers_that_share_a_quantization_leave_it_outside() -> None:
    maker = Maker()
    maker.node("DynamicQuantizeLinear", "x", outputs=["q", "s", "z"])
    y = maker.node("Relu", quantized_dense(maker, "q", "s", "z"))
    other = maker.node("Cast", "q", to=1)
    made = maker.model([value("x", ("n", 5, 8))], [y, other])
    graph = read_onnx_proto(made, Limits()).graph
    assert ops(graph) == [Op.QUANTIZE, Op.DENSE, Op.CAST]
    assert {source.op for source in graph.predecessors(the(graph, Op.DENSE).id)} == {Op.QUANTIZE}


def test_a_product_of_other_scales_is_not_taken_in() -> None:
    """Times a tensor that the graph computes is a multiplication of its own."""

    def build(m: Maker, x: str) -> str:
        m.node("DynamicQuantizeLinear", x, outputs=["q", "s", "z"])
        kernel = m.tensor("w", np.arange(48).reshape(8, 6), "int8")
        product = m.node("Cast", m.node("MatMulInteger", "q", kernel, "z"), to=1)
        return m.node("Mul", product, m.node("Cos", "s"))

    graph, _ = read(build)
    assert Op.MULTIPLY in ops(graph)


def test_dynamically_quantized_convolution_with_a_rounded_bias() -> None:
    def build(m: Maker, x: str) -> str:
        m.node("DynamicQuantizeLinear", x, outputs=["q", "s", "z"])
        kernel = m.tensor("w", np.arange(4 * 2 * 9).reshape(4, 2, 3, 3), "int8")
        product = m.node("ConvInteger", "q", kernel, "z", m.tensor("wz", np.int8(0)))
        scale = m.tensor("ws", np.float32(0.1))
        rounded = m.node("Floor", m.node("Div", m.weight("b", 4), m.node("Mul", "s", scale)))
        shaped = m.node("Reshape", m.node("Cast", rounded, to=6), integers(m, 1, 4, 1, 1))
        added = m.node("Cast", m.node("Add", product, shaped), to=1)
        return m.node("Mul", added, m.node("Mul", "s", scale))

    graph, _ = read(build, ("n", 2, 8, 8))
    (call,) = graph.calls[1:]
    assert call.op is Op.CONV
    assert [weight.role for weight in call.weights] == ["kernel", "bias"]


def test_quantized_and_back() -> None:
    def build(m: Maker, x: str) -> str:
        scale, zero = m.tensor("s", np.float32(0.1)), m.tensor("z", np.int8(0))
        return m.node("DequantizeLinear", m.node("QuantizeLinear", x, scale, zero), scale, zero)

    graph, _ = read(build)
    assert [(call.op, len(call.nodes)) for call in graph.calls[1:]] == [(Op.QUANTIZE, 2)]


# -- operators of onnxruntime ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("op_type", "weights", "op", "activation"),
    [
        ("FusedGemm", ((6, 8), (6,)), Op.DENSE, "relu"),
        ("FusedMatMul", ((8, 6),), Op.DENSE, None),
        ("BiasGelu", ((8,),), Op.ACTIVATION, "gelu"),
        ("QuickGelu", (), Op.ACTIVATION, "gelu"),
        ("SimplifiedLayerNormalization", ((8,),), Op.RMS_NORM, None),
        ("RotaryEmbedding", (), Op.ELEMENTWISE, None),
    ],
)
def test_operators_of_the_runtime(
    op_type: str, weights: tuple[tuple[int, ...], ...], op: Op, activation: str | None
) -> None:
    maker = Maker(domains=("com.microsoft",))
    names = [maker.weight(f"w{place}", *shape) for place, shape in enumerate(weights)]
    settings = {"transB": 1, "activation": "Relu"} if op_type == "FusedGemm" else {}
    y = maker.node(op_type, "x", *names, domain="com.microsoft", **settings)
    (call,) = read_onnx_proto(maker.model([value("x", ("n", 8))], [y]), Limits()).graph.calls[1:]
    assert (call.op, call.activation, call.note) == (op, activation, "")
    assert len(call.weights) == len(weights)
    if op is Op.DENSE:
        assert (call.weights[0].fan_in, call.weights[0].fan_out) == (8, 6)


def test_the_runtime_s_product_of_two_computed_tensors() -> None:
    maker = Maker(domains=("com.microsoft",))
    y = maker.node("FusedMatMul", "x", "x", domain="com.microsoft", transB=1)
    (call,) = read_onnx_proto(maker.model([value("x", ("n", 8))], [y]), Limits()).graph.calls[1:]
    assert call.op is Op.MATMUL


# -- nodes that say nothing ------------------------------------------------------------------------


def test_nodes_that_give_what_they_take_do_not_part_a_layer() -> None:
    """Keras by torch casts every value to the type it has; torch leaves Identity and Expand."""

    def build(m: Maker, x: str) -> str:
        h = m.node("Cast", m.node("MatMul", m.node("Identity", x), m.weight("w", 8, 6)), to=1)
        h = m.node("Add", h, m.weight("b", 6))
        h = m.node("Cast", m.node("Reshape", h, m.node("Shape", h)), to=1)
        h = m.node("Mul", h, m.node("Sigmoid", m.node("Cast", h, to=1)))
        return m.node("Cos", m.node("Identity", h))

    graph, _ = read(build)
    assert [(call.op, call.activation) for call in graph.calls[1:]] == [
        (Op.DENSE, "silu"),
        (Op.ELEMENTWISE, None),
    ]
    assert len(graph.calls[1].nodes) == 10


def test_a_cast_to_another_type_stays() -> None:
    graph, _ = read(lambda m, x: m.node("Cos", m.node("Cast", x, to=TensorProto.DOUBLE)))
    assert ops(graph) == [Op.CAST, Op.ELEMENTWISE]


def test_an_identity_that_gives_an_output_stays() -> None:
    graph, _ = read(lambda m, x: m.node("Identity", m.node("Cos", x)))
    assert ops(graph) == [Op.ELEMENTWISE, Op.IDENTITY]


def test_only_the_shape_of_a_value_inside_is_no_use_of_it() -> None:
    """torch scales by 1/√d with d read off the shape of the split heads."""

    def build(m: Maker, x: str) -> str:
        query, key, content = (projected(m, x, name) for name in ("q", "k", "v"))
        split = heads(m, query)
        width = m.node("Gather", m.node("Shape", split), integers(m, -1), axis=0)
        root = m.node("Sqrt", m.node("Cast", width, to=1))
        scores = m.node("Div", m.node("MatMul", split, heads(m, key, turned=True)), root)
        return merged(m, m.node("MatMul", m.node("Softmax", scores, axis=-1), heads(m, content)))

    graph, _ = read(build)
    assert ops(graph) == [Op.DENSE, Op.DENSE, Op.DENSE, Op.DOT_ATTENTION]
