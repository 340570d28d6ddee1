"""GEB301, GEB302, GEB305: each with a smallest bad model and its mended twin."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
from builders import GraphBuilder, constant, normal

from auditor.errors import UnreadableModel
from auditor.finding import Confidence, Severity
from auditor.graph import Initializer, LayerGraph, Op

Judge = Callable[..., tuple]


def two_layers(
    hidden: object,
    head: object = "glorot_uniform",
    *,
    activation: str = "relu",
    bias: object = "zeros",
    dropout: bool = False,
    values: bool = True,
    trainable: bool = True,
) -> LayerGraph:
    build = GraphBuilder(values=values)
    x = build.dense(
        build.input((32,)), 16, activation, kernel=hidden, bias=bias, trainable=trainable
    )
    if dropout:
        x = build.dropout(x, 0.5)
    return build.graph(build.dense(x, 10, "softmax", kernel=head), loss="categorical_crossentropy")


@pytest.mark.parametrize("values", [True, False])
def test_zero_kernel_under_relu_and_its_twin(findings: Judge, values: bool) -> None:
    (found,) = findings("GEB301", two_layers("zeros", values=values))
    assert found.severity is Severity.ERROR
    assert found.layers == ("dense",)
    assert found.evidence[0].method == ("values read" if values else "initializer")
    assert findings("GEB301", two_layers("he_normal", values=values)) == ()


@pytest.mark.parametrize(
    ("hidden", "head", "settings", "severity"),
    [
        # Trained on ten Gaussian blobs these stay at their start, or at two classes in ten.
        ("zeros", "zeros", {"activation": "tanh"}, Severity.ERROR),
        (constant(0.1), constant(0.1), {}, Severity.ERROR),
        ("ones", "zeros", {}, Severity.ERROR),
        # These train: the layer after tells the units apart, or dropout does.
        (constant(0.1), "glorot_uniform", {}, Severity.WARNING),
        (constant(0.1), constant(0.1), {"dropout": True}, Severity.WARNING),
    ],
)
def test_symmetry(
    findings: Judge, hidden: object, head: object, settings: dict, severity: Severity
) -> None:
    (found,) = findings("GEB301", two_layers(hidden, head, **settings))
    assert found.severity is severity


@pytest.mark.parametrize(
    ("hidden", "head", "settings"),
    [
        ("glorot_uniform", "zeros", {}),
        ("glorot_uniform", "ones", {}),
        ("zeros", "glorot_uniform", {"activation": "tanh"}),
        ("zeros", "glorot_uniform", {"activation": "gelu"}),
        ("zeros", "glorot_uniform", {"bias": constant(0.1)}),
        (constant(0.1), "glorot_uniform", {"bias": "random_normal"}),
        ("zeros", "glorot_uniform", {"trainable": False}),
    ],
)
def test_what_is_degenerate_and_trains(
    findings: Judge, hidden: object, head: object, settings: dict
) -> None:
    assert findings("GEB301", two_layers(hidden, head, **settings)) == ()


def test_identical_columns_are_found_in_values(findings: Judge) -> None:
    column = np.random.default_rng(0).normal(size=(32, 1)).astype(np.float32)
    (found,) = findings("GEB301", two_layers(np.repeat(column, 16, axis=1)))
    assert found.severity is Severity.WARNING


def test_zero_last_layer_of_a_residual_branch(findings: Judge) -> None:
    build = GraphBuilder()
    x = build.dense(build.input((16,)), 16, "relu")
    y = build.dense(build.dense(x, 16, "relu"), 16, kernel="zeros")
    graph = build.graph(build.dense(build.add(Op.ADD, x, y), 4, "softmax"))
    assert findings("GEB301", graph) == ()


def test_a_dead_branch_is_a_warning(findings: Judge) -> None:
    build = GraphBuilder()
    x = build.dense(build.input((16,)), 16, "relu")
    y = build.dense(x, 16, "relu", kernel="zeros")
    graph = build.graph(build.dense(build.add(Op.ADD, x, y), 4, "softmax"))
    (found,) = findings("GEB301", graph)
    assert found.severity is Severity.WARNING


def test_low_rank_adapter(findings: Judge) -> None:
    build = GraphBuilder()
    x = build.input((64,))
    frozen = build.dense(x, 64, trainable=False)
    low = build.dense(build.dense(x, 4, bias=None), 64, kernel="zeros", bias=None)
    graph = build.graph(build.add(Op.ADD, frozen, low))
    assert findings("GEB301", graph) == ()


def test_depthwise_kernels_may_be_alike(findings: Judge) -> None:
    build = GraphBuilder()
    x = build.conv(build.input((8, 8, 4)), 4, 3, depthwise=True, kernel=constant(1 / 9))
    assert findings("GEB301", build.graph(build.conv(x, 8, 1))) == ()


def relu_stack(
    depth: int, kernel: object, *, width: int = 256, activation: str = "relu", norm: bool = False,
    values: bool = True, form: str = "keras",
) -> LayerGraph:  # fmt: skip
    build = GraphBuilder(values=values, format_=form)
    x = build.input((width,))
    for _ in range(depth):
        x = build.dense(x, width, None if norm else activation, kernel=kernel)
        if norm:
            x = build.activation(build.batch_norm(x), activation)
    return build.graph(build.dense(x, 10, "softmax"), loss="categorical_crossentropy")


@pytest.mark.parametrize("values", [True, False])
def test_exploding_stack_and_its_twin(findings: Judge, values: bool) -> None:
    (found,) = findings("GEB302", relu_stack(30, normal(0.2), values=values))
    assert (found.severity, found.confidence) == (Severity.ERROR, Confidence.HIGH)
    assert "he_normal" in found.remedy
    typical = next(e.value for e in found.evidence if e.name.startswith("typical"))
    # √(σ² · fan-in / 2)
    assert typical == pytest.approx((0.04 * 256 / 2) ** 0.5, rel=0.05)
    assert findings("GEB302", relu_stack(30, "he_normal", values=values)) == ()


def test_vanishing_stack(findings: Judge) -> None:
    (found,) = findings("GEB302", relu_stack(30, normal(0.01)))
    assert found.severity is Severity.ERROR
    assert "shrinks" in found.message


def test_keras_default_normal_in_depth(findings: Judge) -> None:
    # RandomNormal() has σ = 0.05: 0.57 a layer at width 256, 10⁻⁷ over 30 layers.
    assert findings("GEB302", relu_stack(30, normal(0.05)))[0].severity is Severity.ERROR
    assert findings("GEB302", relu_stack(4, normal(0.05))) == ()


@pytest.mark.parametrize(
    ("depth", "kernel", "activation", "norm"),
    [
        (16, "glorot_uniform", "relu", False),
        (30, "he_uniform", "relu", False),
        (30, "orthogonal", "tanh", False),
        (30, "glorot_normal", "tanh", False),
        (30, "lecun_normal", "selu", False),
        (30, normal(0.2), "relu", True),
        (3, normal(0.2), "relu", False),
        (20, "glorot_uniform", "sigmoid", False),
    ],
)
def test_scales_that_are_not_at_fault(
    findings: Judge, depth: int, kernel: object, activation: str, norm: bool
) -> None:
    graph = relu_stack(depth, kernel, activation=activation, norm=norm)
    assert findings("GEB302", graph) == ()


def test_skips_carry_the_gradient_past_a_badly_scaled_branch(findings: Judge) -> None:
    build = GraphBuilder()
    x = build.input((256,))
    for _ in range(3):
        branch = x
        for _ in range(10):
            branch = build.dense(branch, 256, "relu", kernel=normal(0.02))
        x = build.add(Op.ADD, x, branch)
    found = findings("GEB302", build.graph(build.dense(x, 10)))
    assert {finding.severity for finding in found} == {Severity.WARNING}


def test_a_single_layer_far_off(findings: Judge) -> None:
    def graph(stddev: float, *, norm: bool = False) -> LayerGraph:
        build = GraphBuilder()
        x = build.dense(build.input((256,)), 256, "relu", kernel="he_normal")
        x = build.dense(x, 256, kernel=normal(stddev))
        x = build.activation(build.batch_norm(x) if norm else x, "relu")
        return build.graph(build.dense(x, 10))

    (found,) = findings("GEB302", graph(20.0))
    assert "dense_1" in found.message
    assert found.severity is Severity.WARNING
    assert findings("GEB302", graph(20.0, norm=True)) == ()
    assert len(findings("GEB302", graph(1e-5))) == 1


def test_a_small_head_is_a_way_to_start_at_zero(findings: Judge) -> None:
    build = GraphBuilder()
    x = build.dense(build.input((64,)), 64, "tanh")
    assert findings("GEB302", build.graph(build.dense(x, 4, kernel=normal(1e-6)))) == ()


def trained(graph: LayerGraph, factor: float) -> LayerGraph:
    """The same layers after some training: biases moved, kernels scaled."""
    random = np.random.default_rng(1)
    calls = []
    for call in graph.calls:
        weights = tuple(
            replace(weight, read=type(weight.read)(
                weight.read() * factor if weight.role == "kernel"
                else random.normal(0, 0.01, weight.shape).astype(np.float32)
            ))
            for weight in call.weights
        )  # fmt: skip
        calls.append(replace(call, weights=weights))
    return replace(graph, calls=tuple(calls))


def test_trained_weights_are_hardly_accused(findings: Judge) -> None:
    start = relu_stack(10, "he_normal")
    assert findings("GEB302", trained(start, 3.0)) == ()
    (found,) = findings("GEB302", trained(relu_stack(30, "he_normal"), 3.0))
    assert (found.severity, found.confidence) == (Severity.WARNING, Confidence.LOW)


def test_weights_of_unknown_law_are_a_guess(findings: Judge) -> None:
    random = np.random.default_rng(0)
    kernel = random.normal(0, 0.2, (256, 256)).astype(np.float32)
    (found,) = findings("GEB302", relu_stack(30, kernel, form="onnx"))
    assert (found.severity, found.confidence) == (Severity.WARNING, Confidence.LOW)


def test_positive_weights_blow_up_their_mean(findings: Judge) -> None:
    uniform = Initializer(name="random_uniform", config={"minval": 0.0, "maxval": 1.0})
    (found,) = findings("GEB302", relu_stack(10, uniform))
    assert found.severity is Severity.ERROR


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_non_finite_weights_and_their_twin(findings: Judge, value: float) -> None:
    kernel = np.random.default_rng(0).normal(0, 0.1, (32, 16)).astype(np.float32)
    assert findings("GEB305", two_layers(kernel)) == ()
    broken = kernel.copy()
    broken[3, 4:7] = value
    (found,) = findings("GEB305", two_layers(broken))
    assert found.severity is Severity.ERROR
    assert found.layers == ("dense",)
    assert found.evidence[0].value == 3


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int8])
def test_any_dtype_is_read(findings: Judge, dtype: type) -> None:
    assert findings("GEB305", two_layers(np.ones((32, 16), dtype))) == ()


@dataclass(frozen=True)
class Gone:
    def __call__(self) -> np.ndarray:
        raise UnreadableModel("model.keras: the file has changed")


def test_values_that_cannot_be_read_are_told(
    skipped: Callable[[LayerGraph], dict[str, str]],
) -> None:
    graph = two_layers("he_normal")
    lost = replace(graph.calls[1].weights[0], read=Gone())
    first = replace(graph.calls[1], weights=(lost, *graph.calls[1].weights[1:]))
    broken = replace(graph, calls=(graph.calls[0], first, *graph.calls[2:]))
    assert "dense: kernel" in skipped(broken)["GEB305"]


def test_architecture_alone_has_no_values(
    skipped: Callable[[LayerGraph], dict[str, str]],
) -> None:
    assert "no weight values" in skipped(two_layers("he_normal", values=False))["GEB305"]
