"""The forecast against closed forms, and against random networks simulated in numpy."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from builders import GraphBuilder, normal

from auditor.errors import UnreadableModel
from auditor.graph import Initializer, LayerGraph, Op
from auditor.graph.activations import curve
from auditor.graph.forecast import Forecast, forecast

WIDTH = 256


def mlp(
    activation: str | None, depth: int, kernel: object, *, width: int = WIDTH, norm: bool = False
) -> LayerGraph:
    build = GraphBuilder()
    x = build.input((width,))
    for _ in range(depth):
        x = build.dense(x, width, None if norm else activation, kernel=kernel, bias=None)
        if norm:
            x = build.activation(build.batch_norm(x), activation or "linear")
    return build.graph(build.dense(x, 10, "softmax"), loss="categorical_crossentropy")


def predicted(graph: LayerGraph) -> Forecast:
    made = forecast(graph)
    assert made is not None
    return made


def simulated(
    kernels: Sequence[np.ndarray], activation: str | None, *, norm: bool = False, samples: int = 64
) -> tuple[list[float], float]:
    """Mean square after each layer, and growth of ‖∂L/∂h‖ a layer for a random cotangent."""
    phi = curve(activation, {})
    assert phi is not None
    rng = np.random.default_rng(7)
    x = rng.normal(size=(samples, kernels[0].shape[0]))
    squares, slopes, scales, normals = [], [], [], []
    for kernel in kernels:
        h = x @ kernel
        scale = np.ones(h.shape[1])
        if norm:
            scale = np.sqrt(h.var(axis=0) + 1e-3)
            h = (h - h.mean(axis=0)) / scale
        x, slope = phi(h)
        slopes.append(slope)
        scales.append(scale)
        normals.append(h)
        squares.append(float((x**2).mean()))
    gradient = rng.normal(size=x.shape)
    last = np.linalg.norm(gradient, axis=1)
    for index in range(len(kernels) - 1, 0, -1):
        gradient = gradient * slopes[index]
        if norm:
            h = normals[index]
            gradient = (
                gradient - gradient.mean(axis=0) - h * (gradient * h).mean(axis=0)
            ) / scales[index]
        gradient = gradient @ kernels[index].T
    first = np.linalg.norm(gradient, axis=1)
    return squares, float(np.median(first / last)) ** (1 / (len(kernels) - 1))


def hidden_kernels(graph: LayerGraph) -> list[np.ndarray]:
    weights = [call.weight("kernel") for call in graph.calls if call.op is Op.DENSE]
    return [weight.read().astype(float) for weight in weights[:-1] if weight and weight.read]


def test_the_exploding_stack() -> None:
    # χ₁ = σ² · fan-in / 2 (Schoenholz et al. 2017), here of the variance that was drawn.
    made = predicted(mlp("relu", 30, normal(0.2)))
    assert made.growth_rate == pytest.approx(math.sqrt(0.04 * WIDTH / 2), rel=0.01)
    assert made.covered == 1.0


@pytest.mark.parametrize(
    ("activation", "kernel", "rate"),
    [
        ("relu", "he_normal", 1.0),
        ("relu", "glorot_uniform", math.sqrt(0.5)),
        (None, "lecun_normal", 1.0),
        (None, "orthogonal", 1.0),
        ("selu", "lecun_normal", 1.034),  # √1.0716 at the fixed point (Klambauer et al. 2017)
    ],
)
def test_known_rates(activation: str | None, kernel: str, rate: float) -> None:
    assert predicted(mlp(activation, 20, kernel)).growth_rate == pytest.approx(rate, rel=0.02)


def test_tanh_at_its_fixed_point() -> None:
    # q* = σ_w² E tanh²(√q* z), χ₁ = σ_w² E tanh′²; solved here by iteration with numpy's own
    # Hermite nodes, which are exact enough for a smooth function.
    z, weights = np.polynomial.hermite_e.hermegauss(101)
    weights = weights / weights.sum()
    q = 1.0
    for _ in range(500):
        q = 1.5**2 * float(weights @ np.tanh(math.sqrt(q) * z) ** 2)
    rate = 1.5 * math.sqrt(float(weights @ (1 - np.tanh(math.sqrt(q) * z) ** 2) ** 2))
    made = predicted(mlp("tanh", 40, normal(1.5 / math.sqrt(WIDTH))))
    assert made.growth_rate == pytest.approx(rate, rel=0.01)
    assert made.calls["dense_39"].variance == pytest.approx(q / 1.5**2, rel=0.02)


@pytest.mark.parametrize(
    ("activation", "kernel", "norm"),
    [
        ("relu", normal(0.2), False),
        ("relu", "he_normal", False),
        ("relu", normal(0.05, mean=0.02), False),
        ("tanh", "glorot_uniform", False),
        ("tanh", normal(0.15), False),
        ("sigmoid", "glorot_uniform", False),
        ("gelu", "he_normal", False),
        ("silu", normal(0.2), False),
        ("elu", "lecun_normal", False),
        ("softplus", "lecun_normal", False),
        ("relu", normal(0.2), True),
        ("tanh", "glorot_uniform", True),
        ("silu", "he_normal", True),
    ],
)
def test_against_simulated_networks(activation: str, kernel: str | Initializer, norm: bool) -> None:
    depth = 12
    graph = mlp(activation, depth, kernel, norm=norm)
    made = predicted(graph)
    squares, rate = simulated(hidden_kernels(graph), activation, norm=norm)
    # Fluctuations of a layer of 256 units are about √(5/256) = 14 % in the square; they add up
    # as √depth in the mean square, and average out as 1/√depth in the rate.
    way = [call.id for call in graph.calls if call.id in made.calls][2:-1]
    total = math.prod(made.calls[call_id].gain for call_id in way)
    start = made.calls["batchnorm"].gain * made.calls["activation"].gain if norm else 1.0
    assert (total / start) ** (1 / (depth - 1)) == pytest.approx(rate, rel=0.06)
    ends = [call.id for call in graph.calls if call.activation == activation]
    for end, square in zip(ends, squares, strict=True):
        assert made.calls[end].variance == pytest.approx(square, rel=0.6)


def test_batch_normalized_relu_grows_by_the_known_rate() -> None:
    # √(π/(π − 1)) a layer at any weight scale (Yang et al. 2019).
    for sigma in (0.01, 1.0):
        made = predicted(mlp("relu", 30, normal(sigma), norm=True))
        assert made.growth_rate == pytest.approx(math.sqrt(math.pi / (math.pi - 1)), rel=0.01)


def test_fused_and_separate_activations_agree() -> None:
    build = GraphBuilder()
    x = build.input((WIDTH,))
    for _ in range(8):
        x = build.activation(build.dense(x, WIDTH, kernel=normal(0.1), bias=None), "tanh")
    split = predicted(build.graph(build.dense(x, 10)))
    fused = predicted(mlp("tanh", 8, normal(0.1)))
    assert split.growth_rate == pytest.approx(fused.growth_rate, rel=1e-9)


def test_convolution_counts_the_taps_on_its_padding() -> None:
    def gain(size: int) -> float:
        build = GraphBuilder()
        x = build.conv(build.input((size, size, 64)), 64, 3, kernel=normal(0.05))
        x = build.conv(x, 64, 3, kernel=normal(0.05))
        return predicted(build.graph(build.conv(x, 4))).calls["conv2d_1"].gain

    # At one pixel a single tap of nine is left; on 16 pixels (1 − 2/48)² of them.
    assert gain(1) / gain(16) == pytest.approx(math.sqrt(1 / 9) / (1 - 2 / 48), rel=0.02)


def test_residual_sum_adds_what_is_independent() -> None:
    build = GraphBuilder()
    x = build.dense(build.input((WIDTH,)), WIDTH, kernel="lecun_normal")
    y = build.dense(x, WIDTH, kernel="lecun_normal")
    out = build.dense(build.add(Op.ADD, x, y), 10, kernel="lecun_normal")
    made = predicted(build.graph(out))
    assert made.calls["add"].variance == pytest.approx(2.0, rel=0.1)
    doubled = GraphBuilder()
    x = doubled.dense(doubled.input((WIDTH,)), WIDTH, kernel="lecun_normal")
    made = predicted(doubled.graph(doubled.dense(doubled.add(Op.ADD, x, x), 10)))
    # The same signal twice is twice the signal.
    assert made.calls["add"].variance == pytest.approx(4.0, rel=0.1)


@pytest.mark.parametrize(("source", "size"), [("relu", 2), ("linear", 3)])
def test_max_pooling_of_independent_positions(source: str, size: int) -> None:
    build = GraphBuilder()
    x = build.conv(build.input((24, 24, 32)), 64, 1, source, kernel=normal(0.2))
    x = build.conv(build.max_pool(x, size), 8, 1)
    made = predicted(build.graph(x))
    rng = np.random.default_rng(0)
    scale = 0.2 * math.sqrt(32)
    phi = curve(None if source == "linear" else source, {})
    assert phi is not None
    values = phi(scale * rng.normal(size=(100_000, size * size)))[0].max(axis=1)
    assert made.calls["maxpooling2d"].variance == pytest.approx((values**2).mean(), rel=0.05)


def test_dropout_adds_its_noise() -> None:
    build = GraphBuilder()
    x = build.dense(build.input((WIDTH,)), WIDTH, kernel="lecun_normal")
    made = predicted(build.graph(build.dense(build.dropout(x, 0.5), 10)))
    assert made.calls["dropout"].variance == pytest.approx(2 * made.calls["dense"].variance)
    assert made.calls["dropout"].gain == pytest.approx(math.sqrt(2))


def test_pixels_are_recognised_by_their_rescaling() -> None:
    build = GraphBuilder()
    x = build.add(
        Op.SCALE, build.input((8, 8, 3)), kind="Rescaling", config={"scale": 1 / 255, "offset": 0.0}
    )
    made = predicted(build.graph(build.conv(x, 4)))
    # Uniform on 0 … 1: mean square 1/3.
    assert made.calls["rescaling"].variance == pytest.approx(1 / 3)


def test_what_is_not_covered_is_said_and_passed() -> None:
    build = GraphBuilder()
    x = build.dense(build.input((16, WIDTH)), WIDTH, "relu")
    x = build.add(Op.OPAQUE, x, kind="Mystery")
    x = build.dense(build.normalization(Op.LAYER_NORM, x), WIDTH, "relu")
    made = predicted(build.graph(build.dense(x, 10)))
    assert "opaque" not in made.calls
    assert "mystery" not in made.calls
    # The normalization restores a known signal: what follows is covered again.
    assert "dense_2" in made.calls
    assert made.covered == pytest.approx(4 / 6)


def test_depth_beyond_floating_point() -> None:
    made = predicted(mlp("tanh", 1200, normal(0.4), width=32))
    assert made.growth_rate is not None
    assert 1.1 < made.growth_rate < 2.0
    assert all(math.isfinite(call.gain) for call in made.calls.values())


def test_milliseconds() -> None:
    graph = mlp("tanh", 200, "glorot_uniform", width=16)
    graph.weight_statistics  # noqa: B018 - reading is not what is timed
    start = time.perf_counter()
    forecast(graph)
    # 0.05 s here; the bound leaves room for a loaded machine.
    assert time.perf_counter() - start < 1.0


def unreadable() -> LayerGraph:
    def gone() -> np.ndarray:
        raise UnreadableModel("gone")

    graph = mlp("relu", 3, "he_normal")
    calls = tuple(
        replace(call, weights=tuple(replace(weight, read=gone) for weight in call.weights))
        for call in graph.calls
    )
    return replace(graph, calls=calls)


def test_unreadable_weights_fall_back_on_their_law() -> None:
    assert predicted(unreadable()).growth_rate == pytest.approx(1.0, abs=1e-9)


def odd_shapes(build: GraphBuilder) -> str:
    x = build.add(Op.CONV, build.input((None, None, 3)), shape=None)
    return build.add(Op.MAX_POOL, x, shape=("n", "m"), config={"pool_size": ["2", None]})


def empty_kernel(build: GraphBuilder) -> str:
    weight = build.weight("kernel", (0, 4), np.zeros((0, 4), np.float32), (1,))
    return build.add(Op.DENSE, build.input((0,)), weights=(weight,), shape=(None, 4))


def axes_out_of_range(build: GraphBuilder) -> str:
    weight = build.weight("kernel", (4, 4), "he_normal", (1,))
    odd = replace(weight, unit_axes=(7, -9))
    return build.add(Op.DENSE, build.input((4,)), weights=(odd,), shape=(None, 4))


def zeros_everywhere(build: GraphBuilder) -> str:
    x = build.input((4,))
    for _ in range(3):
        x = build.batch_norm(build.dense(x, 4, "relu", kernel="zeros"), gamma="zeros")
    return x


def non_finite(build: GraphBuilder) -> str:
    return build.dense(build.input((4,)), 4, "tanh", kernel=np.full((4, 4), np.nan))


def strange_settings(build: GraphBuilder) -> str:
    x = build.add(Op.DROPOUT, build.input((4,)), config={"rate": float("nan")})
    x = build.add(Op.SCALE, x, kind="Rescaling", config={"scale": [1, "x"], "offset": {}})
    x = build.add(Op.SCALE, x, kind="Add", config={"arguments": [None, {"config": 3}]})
    x = build.add(Op.CONCATENATE, x, x, config={"axis": "last"})
    return build.add(Op.LAYER_NORM, x, config={"epsilon": "tiny"})


def merge_of_nothing(build: GraphBuilder) -> str:
    build.input((4,))
    return build.add(Op.ADD, shape=(None, 4))


@pytest.mark.parametrize(
    "model",
    [
        odd_shapes,
        empty_kernel,
        axes_out_of_range,
        zeros_everywhere,
        non_finite,
        strange_settings,
        merge_of_nothing,
    ],
)
def test_odd_graphs_never_raise(
    model: Callable[[GraphBuilder], str], recwarn: pytest.WarningsRecorder
) -> None:
    build = GraphBuilder()
    made = forecast(build.graph(model(build)))
    assert made is None or 0 <= made.covered <= 1
    assert not recwarn.list


def test_no_way_from_input_to_output() -> None:
    build = GraphBuilder()
    build.input((4,))
    assert forecast(build.graph(build.add(Op.CONSTANT, shape=(3,)))) is None


def test_gates_are_no_layers_of_the_way() -> None:
    """A gate's gradient is that of the product times the signal; each layer halves it, once."""
    build = GraphBuilder()
    call = build.input((64,))
    for _ in range(8):
        gate = build.dense(call, 64, "sigmoid", kernel=normal(1e-3))
        signal = build.dense(call, 64, kernel=normal(1 / 8))
        call = build.add(Op.MULTIPLY, signal, gate)
    predicted = forecast(build.graph(build.dense(call, 1)))
    assert predicted is not None
    assert predicted.growth_rate == pytest.approx(0.5, rel=0.1)
