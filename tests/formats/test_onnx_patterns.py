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


def leaky_where(m: Maker, x: str) -> str:
    return m.node(
        "Where", m.node("Greater", x, number(m, 0.0)), x, m.node("Mul", x, number(m, 0.2))
    )


def leaky_min(m: Maker, x: str) -> str:
    below = m.node("Mul", m.node("Min", x, number(m, 0.0)), number(m, 0.2))
    return m.node("Add", m.node("Relu", x), below)


def gelu_of_jax(m: Maker, x: str) -> str:
    """x³ as x·(x·(c·x)), and constants laid out over the whole tensor."""

    def laid_out(value: float) -> str:
        return m.node("Expand", number(m, [value]), m.constant([1, 4, WIDTH], "int64"))

    cubic = m.node("Mul", x, m.node("Mul", x, m.node("Mul", x, laid_out(0.044715))))
    tanh = m.node("Tanh", m.node("Mul", m.node("Add", x, cubic), laid_out(0.79788456)))
    return m.node("Mul", x, m.node("Mul", m.node("Add", tanh, laid_out(1.0)), laid_out(0.5)))


def gelu_divided(m: Maker, x: str) -> str:
    error = m.node("Add", m.node("Erf", m.node("Mul", x, number(m, 0.70710678))), number(m, 1.0))
    return m.node("Div", m.node("Mul", x, error), number(m, 2.0))


def silu_of_paddle(m: Maker, x: str) -> str:
    """With the slope β = 1 multiplied out."""
    return m.node("Mul", x, m.node("Sigmoid", m.node("Mul", x, number(m, [1.0]))))


def hard_swish_min(m: Maker, x: str) -> str:
    bounded = m.node("Min", m.node("Relu", m.node("Add", number(m, 3.0), x)), number(m, 6.0))
    return m.node("Mul", m.node("Mul", x, number(m, 1 / 6)), bounded)


def hard_swish_straight(m: Maker, x: str) -> str:
    straight = m.node("Add", m.node("Mul", x, number(m, 1 / 6)), number(m, 0.5))
    return m.node("Mul", m.node("Clip", straight, number(m, 0.0), number(m, 1.0)), x)


def mish_logarithm(m: Maker, x: str) -> str:
    plus = m.node("Log", m.node("Add", m.node("Exp", x), number(m, 1.0)))
    return m.node("Mul", m.node("Tanh", plus), x)


def softplus_stable(m: Maker, x: str) -> str:
    powers = m.node("Exp", m.node("Neg", m.node("Abs", x)))
    return m.node("Add", m.node("Relu", x), m.node("Log", m.node("Add", powers, number(m, 1.0))))


def softplus_threshold(m: Maker, x: str) -> str:
    above = m.node("Greater", x, number(m, 20.0))
    return m.node("Where", above, x, m.node("Softplus", x))


def log_softmax(m: Maker, x: str) -> str:
    return m.node("Log", m.node("Softmax", x, axis=-1))


def log_sigmoid(m: Maker, x: str) -> str:
    return m.node("Neg", m.node("Softplus", m.node("Neg", x)))


def log_of_sigmoid(m: Maker, x: str) -> str:
    return m.node("Log", m.node("Sigmoid", x))


def elu(m: Maker, x: str) -> str:
    below = m.node("Sub", m.node("Exp", m.node("Min", x, number(m, 0.0))), number(m, 1.0))
    return m.node("Add", m.node("Relu", x), below)


def elu_where(m: Maker, x: str) -> str:
    below = m.node("Sub", m.node("Exp", x), number(m, 1.0))
    return m.node("Where", m.node("Greater", x, number(m, 0.0)), x, below)


def relu_where(m: Maker, x: str) -> str:
    return m.node("Where", m.node("Greater", x, number(m, 0.0)), x, number(m, 0.0))


def relu_masked(m: Maker, x: str) -> str:
    return m.node("Mul", x, m.node("Cast", m.node("Greater", x, number(m, 0.0)), to=1))


def relu6(m: Maker, x: str) -> str:
    return m.node("Min", m.node("Relu", x), number(m, 6.0))


def relu6_reversed(m: Maker, x: str) -> str:
    return m.node("Max", m.node("Min", x, number(m, 6.0)), number(m, 0.0))


def hard_tanh(m: Maker, x: str) -> str:
    return m.node("Max", m.node("Min", x, number(m, 1.0)), number(m, -1.0))


def tanh_shrink(m: Maker, x: str) -> str:
    return m.node("Sub", x, m.node("Tanh", x))


def hard_shrink(m: Maker, x: str) -> str:
    sides = m.node("Greater", x, number(m, 0.5)), m.node("Less", x, number(m, -0.5))
    return m.node("Where", m.node("Or", *sides), x, number(m, 0.0))


def soft_shrink(m: Maker, x: str) -> str:
    half, zero = number(m, 0.5), number(m, 0.0)
    above = m.node("Where", m.node("Greater", x, half), m.node("Sub", x, half), zero)
    less = m.node("Less", x, number(m, -0.5))
    return m.node("Add", above, m.node("Where", less, m.node("Add", x, half), zero))


def glu(m: Maker, x: str) -> str:
    m.node("Split", x, outputs=["left", "right"], axis=-1)
    return m.node("Mul", "left", m.node("Sigmoid", "right"))


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
    (leaky_where, "leaky_relu", lambda x: np.where(x > 0, x, 0.2 * x), 1e-5),
    (leaky_min, "leaky_relu", lambda x: np.where(x > 0, x, 0.2 * x), 1e-5),
    (gelu_of_jax, "gelu", exact_gelu, 2e-3),
    (gelu_divided, "gelu", exact_gelu, 1e-5),
    (silu_of_paddle, "silu", lambda x: x * logistic(x), 1e-5),
    (hard_swish_min, "hard_silu", lambda x: x * clipped(x), 1e-5),
    (hard_swish_straight, "hard_silu", lambda x: x * clipped(x), 1e-5),
    (mish_logarithm, "mish", lambda x: x * np.tanh(np.log1p(np.exp(x))), 1e-5),
    (softplus_stable, "softplus", lambda x: np.log1p(np.exp(x)), 1e-5),
    (softplus_threshold, "softplus", lambda x: np.log1p(np.exp(x)), 1e-5),
    (log_softmax, "log_softmax", lambda x: np.log(shifted_softmax(x)), 1e-5),
    (log_sigmoid, "log_sigmoid", lambda x: np.log(logistic(x)), 1e-5),
    (log_of_sigmoid, "log_sigmoid", lambda x: np.log(logistic(x)), 1e-5),
    (elu, "elu", lambda x: np.where(x > 0, x, np.expm1(x)), 1e-5),
    (elu_where, "elu", lambda x: np.where(x > 0, x, np.expm1(x)), 1e-5),
    (relu_where, "relu", lambda x: np.maximum(x, 0), 0),
    (relu_masked, "relu", lambda x: np.maximum(x, 0), 0),
    (relu6, "relu6", lambda x: np.clip(x, 0, 6), 0),
    (relu6_reversed, "relu6", lambda x: np.clip(x, 0, 6), 0),
    (hard_tanh, "hard_tanh", lambda x: np.clip(x, -1, 1), 0),
    (tanh_shrink, "tanh_shrink", lambda x: x - np.tanh(x), 1e-5),
    (hard_shrink, "hard_shrink", lambda x: np.where(np.abs(x) > 0.5, x, 0), 0),
    (soft_shrink, "soft_shrink", lambda x: np.sign(x) * np.maximum(np.abs(x) - 0.5, 0), 1e-5),
    (glu, "glu", lambda x: x[..., :3] * logistic(x[..., 3:]), 1e-5),
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
    assert len(call.nodes) == sum(
        node.op_type not in ("Constant", "Expand") for node in made.graph.node
    )
    x = np.linspace(-7.3, 7.3, 4 * WIDTH, dtype=np.float32).reshape(1, 4, WIDTH)
    (y,) = ReferenceEvaluator(made).run(None, {"x": x})
    np.testing.assert_allclose(y, formula(x.astype(np.float64)), atol=tolerance)


def test_every_activation_of_the_table_is_tried() -> None:
    tried = {name for _, name, _, _ in WRITTEN} | {"prelu"}
    assert {layer.activation for layer in LAYERS if layer.activation} == tried
    assert tried <= ACTIVATIONS


#: What looks like a layer but for one number, operand or operator.
NEAR_MISSES: dict[str, Build] = {
    "gelu, other slope": lambda m, x: m.node(
        "Mul",
        m.node("Mul", x, number(m, 0.5)),
        m.node("Add", m.node("Erf", m.node("Mul", x, number(m, 0.5))), number(m, 1.0)),
    ),
    "gelu of another value": lambda m, x: m.node(
        "Mul",
        m.node("Mul", m.node("Cos", x), number(m, 0.5)),
        m.node("Add", m.node("Erf", m.node("Mul", x, number(m, 0.70710678))), number(m, 1.0)),
    ),
    "silu of two values": lambda m, x: m.node("Mul", m.node("Cos", x), m.node("Sigmoid", x)),
    "hard swish, other shift": lambda m, x: m.node(
        "Div",
        m.node(
            "Mul",
            x,
            m.node("Clip", m.node("Add", x, number(m, 2.0)), number(m, 0.0), number(m, 6.0)),
        ),
        number(m, 6.0),
    ),
    "hard swish, other bound": lambda m, x: m.node(
        "Div",
        m.node(
            "Mul",
            x,
            m.node("Clip", m.node("Add", x, number(m, 3.0)), number(m, 0.0), number(m, 5.0)),
        ),
        number(m, 6.0),
    ),
    "mish by sigmoid": lambda m, x: m.node("Mul", x, m.node("Sigmoid", m.node("Softplus", x))),
    "leak steeper than 1": lambda m, x: m.node("Max", m.node("Mul", x, number(m, 2.0)), x),
    "leak downward": lambda m, x: m.node("Max", m.node("Mul", x, number(m, -0.2)), x),
    "softplus plus 2": lambda m, x: m.node("Log", m.node("Add", m.node("Exp", x), number(m, 2.0))),
    "softsign plus 2": lambda m, x: m.node(
        "Div", x, m.node("Add", m.node("Abs", x), number(m, 2.0))
    ),
    "relu bounded by 5": lambda m, x: m.node("Min", m.node("Relu", x), number(m, 5.0)),
    "elu of plus 1": lambda m, x: m.node(
        "Add",
        m.node("Relu", x),
        m.node("Add", m.node("Exp", m.node("Min", x, number(m, 0.0))), number(m, 1.0)),
    ),
    "shrink, one side": lambda m, x: m.node(
        "Where",
        m.node("Or", m.node("Greater", x, number(m, 0.5)), m.node("Less", x, number(m, -2.0))),
        x,
        number(m, 0.0),
    ),
    "softmax without its sum": lambda m, x: m.node(
        "Div",
        m.node("Exp", m.node("Sub", x, m.node("ReduceMax", x, axes=[-1]))),
        m.node("ReduceMax", x, axes=[-1]),
    ),
}


@pytest.mark.parametrize(("largest", "total"), [(-1, -1), (1, 1), (1, -1), (-1, 1)])
def test_softmax_shifts_and_sums_over_one_axis(largest: int, total: int) -> None:
    def build(m: Maker, x: str) -> str:
        powers = m.node("Exp", m.node("Sub", x, m.node("ReduceMax", x, axes=[largest])))
        return m.node("Div", powers, m.node("ReduceSum", powers, m.constant([total], "int64")))

    found = calls(model(build))
    assert (len(found) == 1) == (largest == total)


@pytest.mark.parametrize("name", NEAR_MISSES)
def test_near_misses_stay_apart(name: str) -> None:
    """No call takes all of the nodes, or what it is taken for is what a node of it is."""
    made = model(NEAR_MISSES[name])
    written = sum(node.op_type != "Constant" for node in made.graph.node)
    found = calls(made)
    assert len(found) > 1
    assert all(len(call.nodes) < written for call in found)


@pytest.mark.parametrize("build", [w[0] for w in WRITTEN], ids=[w[0].__name__ for w in WRITTEN])
def test_a_second_user_of_any_value_inside_keeps_nodes_apart(build: Build) -> None:
    maker = Maker(opset=17)
    y = build(maker, "x")
    inside = [
        node.output[0]
        for node in maker.nodes
        if node.op_type not in ("Constant", "Expand", "Split") and node.output[0] != y
    ]
    for name in inside:
        other = Maker(opset=17)
        build(other, "x")
        z = other.node("Cos", name, outputs=["seen"])
        made = other.model([value("x", ("n", 4, WIDTH))], [y, z])
        graph = read_onnx_proto(made, Limits()).graph
        (seen,) = [call for call in graph.calls if call.kind == "Cos"]
        (source,) = graph.predecessors(seen.id)
        node = next(node for node in other.nodes if node.output[0] == name)
        # What the other user looks at is the end of the call it looks at.
        assert source.nodes[-1] == name, (name, node.op_type, source)


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


def flax_norm(m: Maker, x: str, *, count: float = WIDTH, floor: float = 0.0) -> str:
    """As jax2tf and tf2onnx write Flax's: sums times 1/n, E[x²] − E[x]², all laid out."""

    def total(of: str) -> str:
        return m.node("ReduceSum", of, m.constant([-1], "int64"), keepdims=0)

    def laid_out(of: str) -> str:
        return m.node("Reshape", of, m.constant([0, 4, 1], "int64"))

    share = number(m, 1 / count)
    mean = m.node("Mul", total(x), share)
    square = m.node("Mul", total(m.node("Mul", x, x)), share)
    variance = m.node("Sub", square, m.node("Mul", mean, mean))
    variance = m.node("Add", laid_out(m.node("Max", number(m, floor), variance)), number(m, 1e-3))
    rate = m.node("Reciprocal", m.node("Sqrt", variance))
    rate = m.node("Mul", rate, m.tensor("gamma", np.ones((1, 1, WIDTH)), "float32"))
    scaled = m.node("Mul", m.node("Sub", x, laid_out(mean)), rate)
    return m.node("Add", scaled, m.tensor("beta", np.zeros((1, 1, WIDTH)), "float32"))


def deviation_norm(m: Maker, x: str) -> str:
    """(x − μ) / (σ + ε), as in hand-written layers."""
    centred = m.node("Sub", x, m.node("ReduceMean", x, axes=[-1]))
    variance = m.node("ReduceMean", m.node("Mul", centred, centred), axes=[-1])
    return m.node("Div", centred, m.node("Add", m.node("Sqrt", variance), number(m, 1e-6)))


def power_norm(m: Maker, x: str) -> str:
    """With powers for squares and roots."""
    centred = m.node("Sub", x, m.node("ReduceMean", x, axes=[-1]))
    variance = m.node("ReduceMean", m.node("Pow", centred, number(m, 2.0)), axes=[-1])
    root = m.node("Pow", m.node("Add", number(m, 1e-5), variance), number(m, -0.5))
    return m.node("Mul", m.node("Mul", root, centred), m.weight("gamma", WIDTH))


@pytest.mark.parametrize("build", [flax_norm, deviation_norm, power_norm])
def test_layer_norm_of_other_hands(build: Build) -> None:
    made = model(build)
    (call,) = calls(made)
    assert call.op is Op.LAYER_NORM
    x = np.random.default_rng(0).normal(3, 2, (2, 4, WIDTH)).astype(np.float32)
    (y,) = ReferenceEvaluator(made).run(None, {"x": x})
    gamma = call.weights[0].read() if call.weights and call.weights[0].read else 1.0
    wanted = (x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True) * gamma
    np.testing.assert_allclose(y, wanted, rtol=2e-3, atol=2e-3)  # epsilon left out


def test_a_sum_divided_by_another_number_is_no_mean() -> None:
    found = calls(model(lambda m, x: flax_norm(m, x, count=WIDTH + 1)))
    assert Op.LAYER_NORM not in {call.op for call in found}


def test_a_variance_kept_above_another_number_than_zero_is_none() -> None:
    found = calls(model(lambda m, x: flax_norm(m, x, floor=0.5)))
    assert Op.LAYER_NORM not in {call.op for call in found}


@pytest.mark.parametrize(
    ("axes", "shape", "op"),
    [
        ([-1], ("n", 4, WIDTH), Op.LAYER_NORM),
        ([1], ("n", 4, WIDTH), Op.INSTANCE_NORM),
        ([2, 3], ("n", 4, 5, 5), Op.INSTANCE_NORM),
        ([1, 2], ("n", 4, 5, 5), Op.INSTANCE_NORM),
        ([1], ("n", 4, 5, 5), Op.LAYER_NORM),
        ([1, 2, 3], ("n", 4, 5, 5), Op.LAYER_NORM),
        ([0], ("n", 4, WIDTH), None),
        ([0, 2, 3], ("n", 4, 5, 5), None),
    ],
)
def test_which_normalization_it_is_by_its_axes(
    axes: list[int], shape: tuple[Any, ...], op: Op | None
) -> None:
    def build(m: Maker, x: str) -> str:
        centred = m.node("Sub", x, m.node("ReduceMean", x, axes=axes))
        variance = m.node("ReduceMean", m.node("Mul", centred, centred), axes=axes)
        return m.node("Div", centred, m.node("Sqrt", m.node("Add", variance, number(m, 1e-5))))

    found = calls(model(build, shape))
    if op is None:
        assert len(found) > 1
        assert not {call.op for call in found} & {Op.LAYER_NORM, Op.INSTANCE_NORM, Op.GROUP_NORM}
    else:
        assert [call.op for call in found] == [op]


def test_means_over_different_axes_are_no_normalization() -> None:
    def build(m: Maker, x: str) -> str:
        centred = m.node("Sub", x, m.node("ReduceMean", x, axes=[1]))
        variance = m.node("ReduceMean", m.node("Mul", centred, centred), axes=[2])
        return m.node("Div", centred, m.node("Sqrt", m.node("Add", variance, number(m, 1e-5))))

    assert len(calls(model(build))) > 1


def test_a_deviation_that_is_used_again_keeps_the_norm_apart() -> None:
    def build(m: Maker, x: str) -> str:
        y = bare_norm(m, x)
        root = next(node.output[0] for node in m.nodes if node.op_type == "Sqrt")
        return m.node("Mul", y, root)

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


#: Numbers that patterns ask for, and operators they are made of.
NUMBERS = (0.0, 0.5, 1.0, 2.0, 3.0, 6.0, 1 / 6, 0.044715, 0.79788456, 0.70710678, -1.0, 1e-5)
UNARY = [
    "Abs",
    "Cast",
    "Erf",
    "Exp",
    "Identity",
    "Log",
    "Neg",
    "Reciprocal",
    "Relu",
    "Sigmoid",
    "Softplus",
    "Sqrt",
    "Tanh",
]
BINARY = ["Add", "Div", "Max", "Min", "Mul", "Pow", "Sub"]


@pytest.mark.parametrize("seed", range(40))
def test_random_graphs_keep_every_node_and_their_order(seed: int) -> None:
    """Whatever is grouped: each node is in one call, before those that use it, and no value of a
    group but its outputs is used outside."""
    random = np.random.default_rng(seed)
    maker, given = Maker(seed=seed), ["x"]
    for step in range(60):
        x = given[-1 - int(random.integers(min(3, len(given))))]
        choice = random.random()
        if choice < 0.4:
            kind = UNARY[random.integers(len(UNARY))]
            y = maker.node(kind, x, **({"to": 1} if kind == "Cast" else {}))
        elif choice < 0.9:
            other = given[-1 - int(random.integers(min(4, len(given))))]
            if random.random() < 0.5:
                other = number(maker, NUMBERS[random.integers(len(NUMBERS))])
            pair = (x, other) if random.random() < 0.7 else (other, x)
            y = maker.node(BINARY[random.integers(len(BINARY))], *pair)
        elif choice < 0.95:
            y = maker.node("ReduceMean", x, axes=[-1])
        else:
            y = maker.node("MatMul", x, maker.weight(f"w{step}", WIDTH, WIDTH))
        given.append(y)
    # A mean has one column, which a product with a kernel cannot take; shapes are not run here.
    made = maker.model([value("x", ("n", 4, WIDTH))], [given[-1], given[len(given) // 2]])
    graph = read_onnx_proto(made, Limits()).graph
    by_output = {node.output[0]: node for node in maker.nodes}
    named = [name for call in graph.calls for name in call.nodes]
    assert len(set(named)) == len(named)
    wanted = {name for name, node in by_output.items() if node.op_type != "Constant"}
    assert set(named) == wanted
    place = {name: index for index, call in enumerate(graph.calls) for name in call.nodes}
    for name in wanted:
        for taken in by_output[name].input:
            if taken in place:
                assert place[taken] <= place[name]
    edges = {(edge.source, edge.target) for edge in graph.edges}
    home = {name: call.id for call in graph.calls for name in call.nodes}
    silent = {name for name in wanted if by_output[name].op_type in ("Cast", "Identity")}
    for name in wanted - silent:
        for taken in set(by_output[name].input) & wanted:
            while taken in silent and taken not in (given[-1], given[len(given) // 2]):
                taken = by_output[taken].input[0]
            if taken in home and home[taken] != home[name]:
                assert (home[taken], home[name]) in edges
