"""Patterns of nodes, one by one: found, right in numbers, and not found where they are not."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator
from onnx_models import Maker, gelu, layer_norm, value

from auditor.formats.limits import Limits
from auditor.formats.onnx_file import read_onnx_proto
from auditor.formats.onnx_layers import LAYERS
from auditor.graph.layer_graph import LayerCall
from auditor.graph.operators import ACTIVATIONS, Op

Build = Callable[[Maker, str], str]
WIDTH = 6


def model(
    build: Build, shape: tuple[Any, ...] = ("n", 4, WIDTH), opset: int = 17
) -> onnx.ModelProto:
    maker = Maker(opset=opset)
    y = build(maker, "x")
    return maker.model([value("x", shape)], [y])


def calls(made: onnx.ModelProto) -> tuple[LayerCall, ...]:
    return read_onnx_proto(made, Limits()).graph.calls[1:]


def number(maker: Maker, values: Any) -> str:
    return maker.constant(values)


# -- activations -----------------------------------------------------------------------------------


def gelu_halved(m: Maker, x: str) -> str:
    error = m.node("Add", number(m, 1.0), m.node("Erf", m.node("Mul", x, number(m, 0.70710678))))
    return m.node("Mul", m.node("Mul", x, number(m, 0.5)), error)


def gelu_tanh(m: Maker, x: str) -> str:
    cube = m.node("Pow", x, number(m, 3.0))
    inner = m.node("Add", x, m.node("Mul", cube, number(m, 0.044715)))
    tanh = m.node("Tanh", m.node("Mul", inner, number(m, 0.79788456)))
    return m.node("Mul", m.node("Mul", x, number(m, 0.5)), m.node("Add", tanh, number(m, 1.0)))


def gelu_tanh_factored(m: Maker, x: str) -> str:
    square = m.node("Mul", m.node("Mul", x, x), number(m, 0.044715))
    inner = m.node(
        "Mul", m.node("Mul", x, number(m, 0.79788456)), m.node("Add", square, number(m, 1.0))
    )
    half = m.node("Mul", m.node("Add", m.node("Tanh", inner), number(m, 1.0)), number(m, 0.5))
    return m.node("Mul", x, half)


def silu(m: Maker, x: str) -> str:
    return m.node("Mul", m.node("Sigmoid", x), x)


def silu_divided(m: Maker, x: str) -> str:
    return m.node("Div", x, m.node("Add", m.node("Exp", m.node("Neg", x)), number(m, 1.0)))


def hard_swish(m: Maker, x: str) -> str:
    return m.node("Mul", x, m.node("HardSigmoid", x, alpha=1 / 6, beta=0.5))


def hard_swish_clipped(m: Maker, x: str) -> str:
    clip = m.node("Clip", m.node("Add", x, number(m, 3.0)), number(m, 0.0), number(m, 6.0))
    return m.node("Div", m.node("Mul", x, clip), number(m, 6.0))


def hard_sigmoid(m: Maker, x: str) -> str:
    clip = m.node("Clip", m.node("Add", x, number(m, 3.0)), number(m, 0.0), number(m, 6.0))
    return m.node("Mul", clip, number(m, 1 / 6))


def mish(m: Maker, x: str) -> str:
    return m.node("Mul", x, m.node("Tanh", m.node("Softplus", x)))


def softmax(m: Maker, x: str) -> str:
    exponential = m.node("Exp", m.node("Sub", x, m.node("ReduceMax", x, axes=[-1])))
    return m.node("Div", exponential, m.node("ReduceSum", exponential, m.constant([-1], "int64")))


def sigmoid(m: Maker, x: str) -> str:
    return m.node("Reciprocal", m.node("Add", number(m, 1.0), m.node("Exp", m.node("Neg", x))))


def softplus(m: Maker, x: str) -> str:
    return m.node("Log", m.node("Add", m.node("Exp", x), number(m, 1.0)))


def softsign(m: Maker, x: str) -> str:
    return m.node("Div", x, m.node("Add", m.node("Abs", x), number(m, 1.0)))


def leaky(m: Maker, x: str) -> str:
    return m.node("Max", m.node("Mul", x, number(m, 0.2)), x)


def logistic(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def error_function(x: Any) -> Any:
    from math import erf

    return np.vectorize(erf)(x)


def exact_gelu(x: Any) -> Any:
    return 0.5 * x * (1 + error_function(x / np.sqrt(2)))


def clipped(x: Any) -> Any:
    return np.clip(x / 6 + 0.5, 0, 1)


def shifted_softmax(x: Any) -> Any:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


#: What is written, the activation it is, its formula, and how far an approximation is off.
WRITTEN: list[tuple[Build, str, Callable[[Any], Any], float]] = [
    (gelu, "gelu", exact_gelu, 1e-5),
    (gelu_halved, "gelu", exact_gelu, 1e-5),
    (gelu_tanh, "gelu", exact_gelu, 2e-3),
    (gelu_tanh_factored, "gelu", exact_gelu, 2e-3),
    (silu, "silu", lambda x: x * logistic(x), 1e-5),
    (silu_divided, "silu", lambda x: x * logistic(x), 1e-5),
    (hard_swish, "hard_silu", lambda x: x * clipped(x), 1e-5),
    (hard_swish_clipped, "hard_silu", lambda x: x * clipped(x), 1e-5),
    (hard_sigmoid, "hard_sigmoid", clipped, 1e-5),
    (mish, "mish", lambda x: x * np.tanh(np.log1p(np.exp(x))), 1e-5),
    (softmax, "softmax", shifted_softmax, 1e-5),
    (sigmoid, "sigmoid", logistic, 1e-5),
    (softplus, "softplus", lambda x: np.log1p(np.exp(x)), 1e-5),
    (softsign, "softsign", lambda x: x / (1 + np.abs(x)), 1e-5),
    (leaky, "leaky_relu", lambda x: np.where(x > 0, x, 0.2 * x), 1e-5),
]


@pytest.mark.parametrize(
    ("build", "name", "formula", "tolerance"), WRITTEN, ids=[w[0].__name__ for w in WRITTEN]
)
def test_activation(
    build: Build, name: str, formula: Callable[[Any], Any], tolerance: float
) -> None:
    """Found as one call, and the nodes really compute the activation they are taken for."""
    made = model(build)
    (call,) = calls(made)
    assert (call.op, call.activation) == (Op.ACTIVATION, name)
    assert len(call.nodes) == sum(node.op_type != "Constant" for node in made.graph.node)
    x = np.linspace(-4, 4, 4 * WIDTH, dtype=np.float32).reshape(1, 4, WIDTH)
    (y,) = ReferenceEvaluator(made).run(None, {"x": x})
    np.testing.assert_allclose(y, formula(x.astype(np.float64)), atol=tolerance)


def test_every_activation_of_the_table_is_tried() -> None:
    tried = {name for _, name, _, _ in WRITTEN} | {"prelu"}
    assert {layer.activation for layer in LAYERS if layer.activation} == tried
    assert tried <= ACTIVATIONS


def test_quick_gelu() -> None:
    """x·σ(1.702 x) is taken for a GELU, from which it is at most 0.021 off."""
    made = model(
        lambda m, x: m.node("Mul", x, m.node("Sigmoid", m.node("Mul", x, number(m, 1.702))))
    )
    (call,) = calls(made)
    assert call.activation == "gelu"
    x = np.linspace(-6, 6, 2401, dtype=np.float32)
    assert np.max(np.abs(exact_gelu(x) - x * logistic(1.702 * x))) < 0.021


def test_prelu_from_two_relus() -> None:
    def build(m: Maker, x: str) -> str:
        slope = m.weight("alpha", WIDTH)
        negative = m.node("Mul", m.node("Relu", m.node("Neg", x)), slope)
        return m.node("Add", m.node("Relu", x), negative)

    (call,) = calls(model(build))
    assert (call.op, call.activation) == (Op.ACTIVATION, "prelu")
    assert call.weights[0].shape == (WIDTH,)


# -- normalization ---------------------------------------------------------------------------------


def tensorflow_norm(m: Maker, x: str) -> str:
    """As tf.nn.batch_normalization writes it: γ/σ first, with a reciprocal."""
    axes = {"axes": [2]}
    mean = m.node("ReduceMean", x, **axes)
    difference = m.node("Sub", x, mean)
    variance = m.node("ReduceMean", m.node("Mul", difference, difference), **axes)
    rate = m.node("Reciprocal", m.node("Sqrt", m.node("Add", variance, number(m, 1e-3))))
    rate = m.node("Mul", rate, m.tensor("gamma", np.ones((1, 1, WIDTH)), "float32"))
    shift = m.node("Add", m.node("Mul", m.node("Neg", mean), rate),
                   m.tensor("beta", np.zeros((1, 1, WIDTH)), "float32"))  # fmt: skip
    return m.node("Add", m.node("Mul", x, rate), shift)


def pooled_norm(m: Maker, x: str) -> str:
    """The same with GlobalAveragePool for the mean over the last of three axes, as of tf2onnx."""
    made = tensorflow_norm(m, x)
    for node in m.nodes:
        if node.op_type == "ReduceMean":
            node.op_type = "GlobalAveragePool"
            del node.attribute[:]
    return made


def bare_norm(m: Maker, x: str) -> str:
    centred = m.node("Sub", x, m.node("ReduceMean", x, axes=[-1]))
    variance = m.node("ReduceMean", m.node("Pow", centred, number(m, 2.0)), axes=[-1])
    return m.node("Div", centred, m.node("Sqrt", m.node("Add", variance, number(m, 1e-5))))


@pytest.mark.parametrize(
    ("build", "roles"),
    [
        (lambda m, x: layer_norm(m, x, "norm", WIDTH), ["gamma", "beta"]),
        (tensorflow_norm, ["gamma", "beta"]),
        (pooled_norm, ["gamma", "beta"]),
        (bare_norm, []),
    ],
    ids=["torch", "tensorflow", "tf2onnx", "bare"],
)
def test_layer_norm(build: Build, roles: list[str]) -> None:
    made = model(build)
    (call,) = calls(made)
    assert call.op is Op.LAYER_NORM
    assert [weight.role for weight in call.weights] == roles
    assert call.config["epsilon"] > 0
    x = np.random.default_rng(0).normal(3, 2, (2, 4, WIDTH)).astype(np.float32)
    (y,) = ReferenceEvaluator(made).run(None, {"x": x})
    wanted = (x - x.mean(-1, keepdims=True)) / np.sqrt(
        x.var(-1, keepdims=True) + call.config["epsilon"]
    )
    np.testing.assert_allclose(y, wanted, atol=1e-4)


def test_mean_over_positions_is_no_layer_norm() -> None:
    def build(m: Maker, x: str) -> str:
        centred = m.node("Sub", x, m.node("ReduceMean", x, axes=[1]))
        variance = m.node("ReduceMean", m.node("Pow", centred, number(m, 2.0)), axes=[1])
        return m.node("Div", centred, m.node("Sqrt", m.node("Add", variance, number(m, 1e-5))))

    assert Op.LAYER_NORM not in {call.op for call in calls(model(build))}


@pytest.mark.parametrize("scaled", [True, False])
def test_rms_norm(scaled: bool) -> None:
    def build(m: Maker, x: str) -> str:
        mean = m.node("ReduceMean", m.node("Pow", x, number(m, 2.0)), axes=[-1])
        root = m.node("Sqrt", m.node("Add", mean, number(m, 1e-6)))
        normal = m.node("Mul", x, m.node("Reciprocal", root))
        return m.node("Mul", m.weight("gamma", WIDTH), normal) if scaled else normal

    (call,) = calls(model(build))
    assert call.op is Op.RMS_NORM
    assert [weight.role for weight in call.weights] == ["gamma"] * scaled


def test_group_norm_of_torch() -> None:
    def build(m: Maker, x: str) -> str:
        grouped = m.node("Reshape", x, m.constant([0, 2, -1], "int64"))
        plain = m.constant(np.ones(2)), m.constant(np.zeros(2))
        normal = m.node("InstanceNormalization", grouped, *plain)
        normal = m.node("Reshape", normal, m.node("Shape", x))
        scaled = m.node("Mul", normal, m.tensor("gamma", np.ones((4, 1, 1)), "float32"))
        return m.node("Add", scaled, m.tensor("beta", np.zeros((4, 1, 1)), "float32"))

    (call,) = calls(model(build, ("n", 4, 5, 5)))
    assert call.op is Op.GROUP_NORM
    assert [weight.role for weight in call.weights] == ["gamma", "beta"]
    assert call.out_shape == ("n", 4, 5, 5)


def test_unit_norm() -> None:
    def build(m: Maker, x: str) -> str:
        norm = m.node("ReduceL2", x, axes=[-1])
        return m.node("Div", x, m.node("Clip", norm, number(m, 1e-12)))

    (call,) = calls(model(build))
    assert call.op is Op.UNIT_NORM


# -- affine layers ---------------------------------------------------------------------------------


def test_dense_over_merged_axes() -> None:
    """TensorFlow's Tensordot: Reshape, MatMul, Reshape, Add."""

    def build(m: Maker, x: str) -> str:
        rows = m.node("Reshape", x, m.constant([-1, WIDTH], "int64"))
        product = m.node("MatMul", rows, m.weight("w", WIDTH, 3))
        back = m.node("Reshape", product, m.constant([-1, 4, 3], "int64"))
        return m.node("Add", back, m.weight("b", 3))

    (call,) = calls(model(build))
    assert call.op is Op.DENSE
    assert [weight.role for weight in call.weights] == ["kernel", "bias"]
    assert call.out_shape == ("n", 4, 3)


def test_reshape_across_the_last_axis_is_no_part_of_a_dense_layer() -> None:
    def build(m: Maker, x: str) -> str:
        rows = m.node("Reshape", x, m.constant([-1, 4 * WIDTH], "int64"))
        return m.node("MatMul", rows, m.weight("w", 4 * WIDTH, 3))

    assert [call.op for call in calls(model(build))] == [Op.FLATTEN, Op.DENSE]


def test_constant_over_positions_is_no_bias() -> None:
    """A position embedding after a dense layer stays one."""

    def build(m: Maker, x: str) -> str:
        product = m.node("MatMul", x, m.weight("w", WIDTH, 3))
        return m.node("Add", product, m.weight("positions", 4, 3))

    assert [call.op for call in calls(model(build))] == [Op.DENSE, Op.SCALE]


@pytest.mark.parametrize("bias", [(3, 1, 1), (1, 3, 1, 1)])
def test_convolution_with_a_bias_of_its_own(bias: tuple[int, ...]) -> None:
    def build(m: Maker, x: str) -> str:
        product = m.node("Conv", x, m.weight("w", 3, 2, 3, 3))
        return m.node("Relu", m.node("Add", product, m.weight("b", *bias)))

    (call,) = calls(model(build, ("n", 2, 8, 8)))
    assert (call.op, call.activation) == (Op.CONV, "relu")
    assert call.parameters == 3 * 2 * 9 + 3


def test_constant_along_width_is_no_bias_of_a_convolution() -> None:
    def build(m: Maker, x: str) -> str:
        return m.node("Add", m.node("Conv", x, m.weight("w", 6, 2, 3, 3)), m.weight("b", 6))

    assert [call.op for call in calls(model(build, ("n", 2, 8, 8)))] == [Op.CONV, Op.SCALE]


def test_an_activation_with_other_readers_before_it_is_not_fused() -> None:
    maker = Maker()
    h = maker.node("MatMul", "x", maker.weight("w", WIDTH, WIDTH), name="fc")
    y = maker.node("Add", maker.node("Relu", h, name="relu"), h, name="sum")
    made = maker.model([value("x", ["n", WIDTH])], [y])
    assert [(c.id, c.activation) for c in calls(made)] == [
        ("fc", None),
        ("relu", "relu"),
        ("sum", None),
    ]


def test_an_observed_inside_keeps_nodes_apart() -> None:
    """Where a value inside a pattern is a model output too, each node is its own call."""
    maker = Maker(opset=16)
    y = gelu(maker, "x")
    error = next(node.output[0] for node in maker.nodes if node.op_type == "Erf")
    made = maker.model([value("x", ["n", WIDTH])], [y, error])
    assert "gelu" not in {call.activation for call in calls(made)}
    assert {call.kind for call in calls(made)} == {"Div", "Erf", "Add", "Mul"}


def test_a_slope_that_is_no_hard_swish() -> None:
    made = model(lambda m, x: m.node("Mul", x, m.node("HardSigmoid", x)))  # slope 0.2
    assert [call.op for call in calls(made)] == [Op.ACTIVATION, Op.MULTIPLY]
