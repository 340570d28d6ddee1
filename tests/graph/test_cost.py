"""Multiply-adds, element operations and activation bytes: formulas, a framework's own count,
published figures."""

import numpy as np
import pytest
from builders import GraphBuilder

from auditor.formats.keras_live import read_live_model
from auditor.formats.limits import DEFAULT_LIMITS
from auditor.graph import Op
from auditor.graph.cost import model_cost


def costs(model):
    graph = read_live_model(model, DEFAULT_LIMITS).graph
    return graph, model_cost(graph)


def last(layer, *shapes):
    """Cost of the last call of a model of one layer."""
    import keras

    inputs = [keras.Input(shape) for shape in shapes]
    graph, cost = costs(keras.Model(inputs, layer(*inputs)))
    assert not cost.uncounted, [cost.calls[call_id].reason for call_id in cost.uncounted]
    return cost.calls[graph.outputs[0][0]]


def layer_cases():
    """(name, layer, input shapes, multiply-adds by hand), each for one sample."""
    from keras import layers as k
    from keras import ops

    once, three = ((16, 16, 6),), ((7, 12),)
    return {
        "dense": (k.Dense(5), ((12,),), 12 * 5),
        "dense on sequences": (k.Dense(5), three, 7 * 12 * 5),
        "dense on images": (k.Dense(5), once, 16 * 16 * 6 * 5),
        "einsum dense": (k.EinsumDense("abc,cde->abde", (None, 4, 3)), three, 7 * 12 * 4 * 3),
        "time-distributed dense": (k.TimeDistributed(k.Dense(5)), three, 7 * 12 * 5),
        "conv": (k.Conv2D(8, 3), once, 14 * 14 * 9 * 6 * 8),
        "strided same conv": (
            k.Conv2D(8, (3, 5), strides=2, padding="same"),
            once,
            8 * 8 * 15 * 6 * 8,
        ),
        "grouped conv": (k.Conv2D(8, 3, groups=2), once, 14 * 14 * 9 * 3 * 8),
        "dilated conv": (k.Conv2D(8, 3, dilation_rate=3), once, 10 * 10 * 9 * 6 * 8),
        "conv of sequences": (k.Conv1D(4, 3, padding="causal"), three, 7 * 3 * 12 * 4),
        "conv of volumes": (k.Conv3D(4, 2), ((5, 5, 5, 3),), 64 * 8 * 3 * 4),
        "conv over time": (
            k.TimeDistributed(k.Conv2D(8, 3)),
            ((4, 16, 16, 6),),
            4 * 14 * 14 * 9 * 6 * 8,
        ),
        "depthwise": (k.DepthwiseConv2D(3, depth_multiplier=2), once, 14 * 14 * 9 * 6 * 2),
        "separable": (
            k.SeparableConv2D(8, 3, depth_multiplier=2),
            once,
            14 * 14 * (9 * 12 + 12 * 8),
        ),
        # Each input position meets every tap, what falls beside the output too.
        "transposed": (k.Conv2DTranspose(8, 3, strides=2, padding="same"), once, 256 * 9 * 6 * 8),
        "simple recurrent": (k.SimpleRNN(4), three, 7 * (12 * 4 + 4 * 4)),
        "lstm": (k.LSTM(4), three, 7 * 4 * (12 * 4 + 4 * 4)),
        "gru of sequences": (k.GRU(4, return_sequences=True), three, 7 * 3 * (12 * 4 + 4 * 4)),
        "both directions": (k.Bidirectional(k.LSTM(4)), three, 2 * 7 * 4 * (12 * 4 + 4 * 4)),
        "stacked cells": (
            k.RNN([k.LSTMCell(4), k.GRUCell(3)]),
            three,
            7 * (4 * (12 * 4 + 4 * 4) + 3 * (4 * 3 + 3 * 3)),
        ),
        "conv lstm": (
            k.ConvLSTM2D(5, 3, padding="same"),
            ((4, 8, 8, 2),),
            4 * 64 * 9 * 4 * (2 * 5 + 5 * 5),
        ),
        "conv lstm of sequences": (
            k.ConvLSTM2D(5, 3, return_sequences=True),
            ((4, 8, 8, 2),),
            4 * 36 * 9 * 4 * (2 * 5 + 5 * 5),
        ),
        "self-attention": (
            lambda x: k.MultiHeadAttention(2, 3)(x, x),
            three,
            4 * 7 * 12 * 6 + 2 * 7 * 7 * (3 + 3),
        ),
        "cross-attention": (
            k.MultiHeadAttention(2, 3, value_dim=5),
            ((7, 12), (9, 8)),
            7 * 12 * 6 + 9 * 8 * 6 + 9 * 8 * 10 + 7 * 10 * 12 + 2 * 7 * 9 * (3 + 5),
        ),
        "attention along one axis": (
            lambda x: k.MultiHeadAttention(2, 3, attention_axes=(2,))(x, x),
            ((5, 7, 12),),
            4 * 35 * 12 * 6 + 2 * 5 * 7 * 7 * (3 + 3),
        ),
        "grouped queries": (
            lambda x: k.GroupQueryAttention(3, 4, 2)(x, x),
            three,
            7 * (12 * 12 * 2 + 2 * 12 * 6) + 4 * 7 * 7 * (3 + 3),
        ),
        "attention of given": (
            lambda q, v: k.Attention()([q, v]),
            ((7, 12), (9, 12)),
            7 * 9 * (12 + 12),
        ),
        "heads of given": (
            lambda x: ops.dot_product_attention(x, x, x),
            ((7, 2, 6),),
            2 * 7 * 7 * (6 + 6),
        ),
        "embedding": (k.Embedding(50, 8), ((7,),), 0),
        "dot": (lambda x, y: k.Dot((2, 2))([x, y]), ((7, 12), (9, 12)), 7 * 9 * 12),
        "batch normalization": (k.BatchNormalization(), once, 0),
        "pooling": (k.MaxPooling2D(), once, 0),
    }


def test_formulas():
    for name, (layer, shapes, expected) in layer_cases().items():
        assert last(layer, *shapes).multiply_adds == expected, name


def test_products_of_computed_tensors():
    import keras
    from keras import ops

    x, y = keras.Input((7, 12)), keras.Input((9, 12))
    scores = ops.einsum("btc,bsc->bts", x, y)
    mixed = ops.matmul(scores, y)
    fixed = ops.matmul(np.ones((3, 7), "float32"), mixed)
    model = keras.Model([x, y], keras.layers.Identity()(fixed))
    graph, cost = costs(model)
    found = [cost.calls[call.id].multiply_adds for call in graph.calls if call.op is Op.MATMUL]
    assert found == [7 * 9 * 12, 7 * 9 * 12, 3 * 7 * 12]


def test_agrees_with_the_count_of_tensorflow_s_profiler():
    import keras
    import tensorflow as tf
    from keras import layers as k
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2
    from tensorflow.python.profiler import model_analyzer, option_builder

    model = keras.Sequential(
        [
            keras.Input((24, 24, 3)),
            k.Conv2D(8, 3, strides=2, padding="same", use_bias=False),
            k.DepthwiseConv2D(3, padding="same", use_bias=False),
            k.SeparableConv2D(12, 3, use_bias=False),
            k.Conv2D(16, 1, use_bias=False),
            k.Flatten(),
            k.Dense(10, use_bias=False),
        ]
    )
    call = tf.function(lambda x: model(x)).get_concrete_function(tf.TensorSpec((1, 24, 24, 3)))
    frozen = convert_variables_to_constants_v2(call)
    options = {**option_builder.ProfileOptionBuilder.float_operation(), "output": "none"}
    counted = model_analyzer.profile(frozen.graph, options=options).total_float_ops
    # Two floating-point operations a multiply-add.
    assert costs(model)[1].multiply_adds == counted / 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size", "published"),
    [
        # He et al. 2016 (3.8·10⁹ for ResNet-50); Simonyan & Zisserman 2015, by Canziani et al.
        # 2016 (15.5·10⁹); Sandler et al. 2018 (300 M); Tan & Le 2019 (0.39 B); Huang et al. 2017
        # (2.87·10⁹ for DenseNet-121); Szegedy et al. 2016 (5.7 B); Howard et al. 2017 (569 M).
        ("ResNet50", 224, 3.86e9),
        ("VGG16", 224, 15.5e9),
        ("MobileNet", 224, 569e6),
        ("MobileNetV2", 224, 300e6),
        ("EfficientNetB0", 224, 0.39e9),
        ("DenseNet121", 224, 2.87e9),
        ("InceptionV3", 299, 5.7e9),
    ],
)
def test_published_figures(name, size, published):
    import keras

    model = getattr(keras.applications, name)(weights=None, input_shape=(size, size, 3))
    _, cost = costs(model)
    assert not cost.uncounted
    # Papers round to two or three digits and disagree on whether the head counts.
    assert cost.multiply_adds == pytest.approx(published, rel=0.02)


def test_shared_layers_cost_at_each_call(saved):
    from auditor.formats.read import read_model

    graph = read_model(saved("siamese")).graph
    cost = model_cost(graph)
    tower = {
        call.id: cost.calls[call.id].multiply_adds for call in graph.calls if "tower" in call.id
    }
    first = sum(value for call_id, value in tower.items() if "#2" not in call_id)
    assert first == 26 * 26 * 9 * 16 + 13 * 13 * 16 * 32
    assert sum(tower.values()) == 2 * first


def test_element_operations_are_counted_apart():
    from keras import layers as k

    image = (8, 8, 4)
    assert last(k.Conv2D(4, 1, activation="relu"), image).element_operations == 2 * 8 * 8 * 4
    assert last(k.Conv2D(4, 1, use_bias=False), image).element_operations == 0
    assert last(k.BatchNormalization(), image).element_operations == 8 * 8 * 4
    assert last(k.MaxPooling2D(2), image).element_operations == 4 * 4 * 4 * 4
    assert last(k.GlobalAveragePooling2D(), image).element_operations == 8 * 8 * 4
    assert last(lambda *x: k.Add()(x), image, image, image).element_operations == 2 * 8 * 8 * 4
    assert last(lambda *x: k.Concatenate()(x), image, image).element_operations == 0
    assert last(k.Dropout(0.5), image).element_operations == 0
    assert last(k.LSTM(5), (7, 3)).element_operations == 7 * 5 * 13
    attention = last(lambda x: k.MultiHeadAttention(2, 3)(x, x), (7, 12))
    assert attention.element_operations == 7 * (3 * 6 + 12) + 2 * 7 * 7


@pytest.mark.parametrize(("policy", "width"), [("float32", 4), ("mixed_float16", 2)])
def test_activation_bytes_follow_the_dtype(policy, width):
    from keras import layers as k

    cost = last(k.Conv2D(5, 3, dtype=policy), (8, 8, 4))
    assert cost.activation_bytes == 6 * 6 * 5 * width


def test_sums_are_over_all_calls():
    build = GraphBuilder(values=False)
    out = build.dense(build.dense(build.input((10,)), 20, "relu"), 3)
    cost = model_cost(build.graph(out))
    assert cost.multiply_adds == 10 * 20 + 20 * 3
    assert cost.element_operations == 2 * 20 + 3
    assert cost.activation_bytes == 4 * (10 + 20 + 3)
    assert cost.uncounted == cost.unsized == ()


def test_an_unknown_size_is_told_and_left_out():
    build = GraphBuilder(values=False)
    x = build.lstm(build.embedding(build.input((None,), "int32"), 50, 8), 4)
    out = build.dense(x, 2)
    graph = build.graph(out)
    cost = model_cost(graph)
    assert cost.uncounted == (x,)
    assert cost.calls[x].reason == "the size of an input is not known"
    assert cost.multiply_adds == 4 * 2
    assert cost.unsized == (graph.inputs[0].call, "embedding")


def test_what_an_opaque_call_computes_is_not_guessed():
    build = GraphBuilder(values=False)
    x = build.add(Op.OPAQUE, build.input((10,)), kind="Lambda")
    cost = model_cost(build.graph(build.dense(x, 3)))
    assert cost.uncounted == (x,)
    assert cost.calls[x].reason
    assert cost.calls[x].activation_bytes == 40


def test_samples_cut_into_rows_are_counted_whole():
    import keras
    from keras import ops

    x = keras.Input((7, 12))
    rows = ops.reshape(x, (-1, 12))
    graph, cost = costs(keras.Model(x, keras.layers.Dense(5)(rows)))
    assert cost.calls[graph.outputs[0][0]].multiply_adds == 7 * 12 * 5


def onnx_graph(text, **kernels):
    """The graph of a model in ONNX's textual form, with initializers of these shapes."""
    import onnx.numpy_helper
    import onnx.parser

    from auditor.formats.onnx_file import read_onnx_proto

    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}')
    for name, shape in kernels.items():
        tensor = onnx.numpy_helper.from_array(np.ones(shape, np.float32), name)
        model.graph.initializer.append(tensor)
    return read_onnx_proto(model, DEFAULT_LIMITS).graph


@pytest.mark.parametrize("batch", ["N", "1", "4"])
def test_onnx_convolutions_for_one_sample_whatever_the_batch(batch):
    graph = onnx_graph(
        f"""agraph (float[{batch}, 6, 16, 16] x) => (float[{batch}, 8, 14, 14] y)
        {{ y = Conv <group = 2, kernel_shape = [3, 3]> (x, w) }}""",
        w=(8, 3, 3, 3),
    )
    cost = model_cost(graph)
    assert cost.multiply_adds == 14 * 14 * 9 * 3 * 8
    assert cost.activation_bytes == 4 * (6 * 256 + 8 * 14 * 14)


def test_onnx_recurrence_counts_every_step_and_direction():
    graph = onnx_graph(
        """agraph (float[N, 7, 12] x) => (float[7, 2, N, 4] y)
        { t = Transpose <perm = [1, 0, 2]> (x)
          y = LSTM <direction = "bidirectional", hidden_size = 4> (t, w, r) }""",
        w=(2, 16, 12),
        r=(2, 16, 4),
    )
    assert model_cost(graph).multiply_adds == 2 * 7 * 4 * (12 * 4 + 4 * 4)


def test_onnx_products():
    graph = onnx_graph(
        """agraph (float[N, 7, 12] x) => (float[N, 7, 12] y)
        { q = MatMul (x, w)  t = Transpose <perm = [0, 2, 1]> (x)
          s = MatMul (q, t)  y = MatMul (s, x) }""",
        w=(12, 12),
    )
    assert model_cost(graph).multiply_adds == 7 * 12 * 12 + 2 * 7 * 7 * 12


def test_every_operator_of_the_vocabulary_is_counted_or_told_why_not():
    """No operator breaks the count, on shapes as bare as a damaged file may have them."""
    from auditor.graph import InputSpec, LayerCall, LayerGraph

    for op in Op:
        for shapes in ((), (None,), ((None, 3),), ((None, 3), (None, 3)), ((),), ((None, 0, 2),)):
            call = LayerCall(
                id="c", name="c", layer="c", kind="K", op=op, in_shapes=shapes, out_shapes=shapes
            )
            graph = LayerGraph(
                name="",
                format="keras",
                writer="",
                calls=(call,),
                edges=(),
                inputs=(InputSpec(name="x", call="c", shape=(None, 3), dtype="float32"),),
                outputs=(("c", 0),),
            )
            found = model_cost(graph).calls["c"]
            assert (found.multiply_adds is None) == bool(found.reason)
