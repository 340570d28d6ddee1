"""GEB201, GEB203, GEB204, GEB205: each with a smallest bad model and its mended twin."""

from collections.abc import Callable

import pytest
from builders import GraphBuilder, constant, normal

from auditor.finding import Confidence, Severity
from auditor.graph import LayerGraph, LossSettings, Op
from auditor.measurement import CallMeasurement, ProbeResult

Judge = Callable[..., tuple]


def stack(
    activation: str, depth: int, *, width: int = 128, norm: bool = False, kernel: object = None
) -> LayerGraph:
    build = GraphBuilder()
    x = build.input((width,))
    for _ in range(depth):
        x = build.dense(x, width, None if norm else activation, kernel=kernel or "glorot_uniform")
        if norm:
            x = build.activation(build.batch_norm(x), activation)
    return build.graph(build.dense(x, 10, "softmax"), loss="categorical_crossentropy")


def test_sigmoid_stack_and_its_twin(findings: Judge) -> None:
    (found,) = findings("GEB201", stack("sigmoid", 20))
    assert found.severity is Severity.WARNING
    assert found.confidence is Confidence.HIGH
    assert len(found.layers) == 20
    (shrink,) = [e.value for e in found.evidence if e.name == "predicted factor on the gradient"]
    # 19 layers at a slope of at most 1/4 with glorot's fan-in · σ² = 1.
    assert 0.2**19 < shrink < 0.25**19
    assert findings("GEB201", stack("relu", 20, kernel="he_normal")) == ()


@pytest.mark.parametrize(
    ("activation", "depth", "norm"),
    [("sigmoid", 4, False), ("tanh", 20, False), ("softsign", 10, False), ("sigmoid", 20, True)],
)
def test_what_leaves_enough_of_the_gradient(
    findings: Judge, activation: str, depth: int, norm: bool
) -> None:
    assert findings("GEB201", stack(activation, depth, norm=norm)) == ()


def test_zero_kernels_are_not_the_activations_fault(findings: Judge) -> None:
    graph = stack("sigmoid", 10, kernel="zeros")
    assert findings("GEB201", graph) == ()
    assert len(findings("GEB301", graph)) == 1


def test_tanh_with_weights_too_small(findings: Judge) -> None:
    assert len(findings("GEB201", stack("tanh", 10, kernel=normal(0.02)))) == 1


def test_separate_activations_count_alike(findings: Judge) -> None:
    build = GraphBuilder()
    x = build.input((64,))
    for _ in range(8):
        x = build.activation(build.dense(x, 64), "sigmoid")
    assert len(findings("GEB201", build.graph(build.dense(x, 2)))[0].layers) == 8


def test_gates_and_recurrence_are_no_stack(findings: Judge) -> None:
    build = GraphBuilder()
    x = build.input((10, 32))
    for _ in range(6):
        x = build.lstm(x, 32, sequences=True)
    for _ in range(6):
        gate = build.dense(x, 32, "sigmoid")
        x = build.add(Op.MULTIPLY, build.dense(x, 32, "tanh"), gate)
    assert findings("GEB201", build.graph(build.dense(x, 2))) == ()


def test_run_and_shrink_are_options(findings: Judge) -> None:
    graph = stack("sigmoid", 4)
    assert len(findings("GEB201", graph, run=3, shrink=0.1)) == 1


def headed(
    activation: str | None, loss: str, *, units: int = 10, logits: bool = False, rank: int = 1
) -> LayerGraph:
    build = GraphBuilder()
    x = build.input((8,) if rank == 1 else (8, 8, 3))
    x = build.dense(x, 16, "relu", kernel="he_normal")
    return build.graph(build.dense(x, units, activation), loss=loss, from_logits=logits)


CATEGORICAL, SPARSE = "categorical_crossentropy", "sparse_categorical_crossentropy"
BINARY, SQUARED = "binary_crossentropy", "mean_squared_error"


@pytest.mark.parametrize(
    ("activation", "loss", "units", "logits", "severity"),
    [
        ("softmax", BINARY, 1, False, Severity.ERROR),
        ("softmax", SQUARED, 1, False, Severity.ERROR),
        ("sigmoid", CATEGORICAL, 1, False, Severity.ERROR),
        (None, SPARSE, 1, True, Severity.ERROR),
        ("relu", CATEGORICAL, 10, False, Severity.ERROR),
        ("relu6", CATEGORICAL, 10, False, Severity.ERROR),
        (None, "poisson", 1, False, Severity.ERROR),
        ("tanh", "poisson", 1, False, Severity.ERROR),
        ("relu", SPARSE, 10, False, Severity.WARNING),
        ("relu", BINARY, 1, False, Severity.WARNING),
        ("sigmoid", CATEGORICAL, 10, False, Severity.WARNING),
        ("sigmoid", SPARSE, 10, False, Severity.WARNING),
        ("softmax", BINARY, 10, False, Severity.WARNING),
        ("softmax", BINARY, 2, False, Severity.INFO),
        ("tanh", BINARY, 1, False, Severity.WARNING),
        ("tanh", CATEGORICAL, 10, False, Severity.WARNING),
        ("softplus", BINARY, 1, False, Severity.WARNING),
        ("softmax", CATEGORICAL, 10, True, Severity.WARNING),
        ("sigmoid", BINARY, 1, True, Severity.WARNING),
        ("relu", BINARY, 1, True, Severity.WARNING),
        ("sigmoid", "hinge", 1, False, Severity.WARNING),
        ("relu", SQUARED, 1, False, Severity.WARNING),
    ],
)
def test_heads_that_do_not_go_with_their_loss(
    findings: Judge, activation: str | None, loss: str, units: int, logits: bool, severity: Severity
) -> None:
    (found,) = findings("GEB203", headed(activation, loss, units=units, logits=logits))
    assert found.severity is severity
    assert found.remedy


@pytest.mark.parametrize(
    ("activation", "loss", "units", "logits"),
    [
        ("softmax", CATEGORICAL, 10, False),
        ("softmax", SPARSE, 10, False),
        ("sigmoid", BINARY, 1, False),
        ("sigmoid", BINARY, 20, False),
        (None, CATEGORICAL, 10, True),
        ("log_softmax", CATEGORICAL, 10, True),
        (None, BINARY, 1, True),
        (None, SQUARED, 1, False),
        ("softplus", SQUARED, 1, False),
        ("sigmoid", SQUARED, 784, False),
        ("tanh", SQUARED, 784, False),
        ("exponential", "poisson", 1, False),
        ("relu", "poisson", 1, False),
        ("tanh", "hinge", 1, False),
        (None, "hinge", 1, False),
        ("softmax", "kl_divergence", 10, False),
    ],
)
def test_heads_made_for_their_loss(
    findings: Judge, activation: str | None, loss: str, units: int, logits: bool
) -> None:
    graph = headed(activation, loss, units=units, logits=logits)
    assert findings("GEB203", graph) == findings("GEB204", graph) == ()


def test_softmax_on_one_unit_needs_no_loss_to_be_wrong(findings: Judge) -> None:
    build = GraphBuilder()
    x = build.activation(build.dense(build.input((8,)), 1), "softmax")
    assert findings("GEB203", build.graph(x))[0].severity is Severity.ERROR


def test_softmax_along_another_axis_is_measured_along_it(findings: Judge) -> None:
    build = GraphBuilder()
    x = build.activation(build.dense(build.input((12, 8)), 1), "softmax", axis=1)
    assert findings("GEB203", build.graph(x)) == ()


def test_images_may_be_rebuilt_behind_relu(findings: Judge) -> None:
    assert findings("GEB203", headed("relu", SQUARED, units=3, rank=3)) == ()


def test_each_output_is_held_against_its_own_loss(findings: Judge) -> None:
    build = GraphBuilder()
    x = build.dense(build.input((8,)), 16, "relu")
    label, size = build.dense(x, 1, "softmax"), build.dense(x, 1)
    losses = (
        LossSettings(name=BINARY, output=label),
        LossSettings(name=SQUARED, output=size),
    )
    (found,) = findings("GEB203", build.graph(label, size, loss=losses))
    assert found.layers == (label,)


def test_arithmetic_and_custom_losses_are_not_judged(findings: Judge) -> None:
    build = GraphBuilder()
    x = build.dense(build.input((8,)), 10, "relu")
    product = build.add(Op.MULTIPLY, x, build.dense(x, 10, "softmax"))
    assert findings("GEB203", build.graph(product, loss=CATEGORICAL)) == ()
    custom = (LossSettings(name=CATEGORICAL, custom=True),)
    assert findings("GEB203", build.graph(x, loss=custom)) == ()


@pytest.mark.parametrize("loss", [CATEGORICAL, SPARSE, BINARY, "kl_divergence"])
def test_linear_output_under_a_loss_of_probabilities(findings: Judge, loss: str) -> None:
    (found,) = findings("GEB204", headed(None, loss))
    assert found.severity is Severity.WARNING
    assert ("from_logits=True" in found.remedy) == (loss != "kl_divergence")
    wanted = "sigmoid" if loss == BINARY else "softmax"
    assert findings("GEB204", headed(wanted, loss)) == ()


def test_without_a_loss_there_is_nothing_to_hold_the_output_against(
    skipped: Callable[[LayerGraph], dict[str, str]],
) -> None:
    build = GraphBuilder()
    graph = build.graph(build.dense(build.input((8,)), 10))
    assert "uncompiled" in skipped(graph)["GEB204"]


def probed(dead: dict[str, float], *, data: str = "synthetic", batches: int = 3) -> ProbeResult:
    return ProbeResult(
        backend="tensorflow",
        device="CPU",
        dtype="float32",
        seed=0,
        batch_size=16,
        batches=batches,
        data=data,
        targets="",
        loss="",
        seconds=0.0,
        calls={name: CallMeasurement(dead_share=share) for name, share in dead.items()},
    )


def relu_chain(*, skip: bool = False) -> LayerGraph:
    build = GraphBuilder()
    x = build.dense(build.input((64,)), 64, "relu")
    y = build.dense(x, 64, "relu")
    if skip:
        y = build.add(Op.ADD, x, y)
    return build.graph(build.dense(y, 10, "softmax"), loss=CATEGORICAL)


def test_a_dead_layer_blocks_everything(findings: Judge) -> None:
    (found,) = findings("GEB205", relu_chain(), probed({"dense_1": 1.0, "dense": 0.1}))
    assert found.severity is Severity.ERROR
    assert found.layers == ("dense_1",)
    assert findings("GEB205", relu_chain(), probed({"dense_1": 0.1, "dense": 0.1})) == ()


def test_a_dead_branch_has_a_way_around_it(findings: Judge) -> None:
    (found,) = findings("GEB205", relu_chain(skip=True), probed({"dense_1": 1.0}))
    assert found.severity is Severity.WARNING


def test_half_of_the_units_is_what_chance_explains(findings: Judge) -> None:
    # Three standard errors among 64 units are 0.19.
    assert findings("GEB205", relu_chain(), probed({"dense": 0.65})) == ()
    (found,) = findings("GEB205", relu_chain(), probed({"dense": 0.75, "dense_1": 0.9}))
    assert found.layers == ("dense", "dense_1")
    assert "90%" in found.message
    assert found.confidence is Confidence.MEDIUM
    (found,) = findings("GEB205", relu_chain(), probed({"dense": 0.75}, data="x.npz"))
    assert found.confidence is Confidence.HIGH
    (found,) = findings("GEB205", relu_chain(), probed({"dense": 0.4}, batches=0), share=0.1)
    assert found.confidence is Confidence.LOW


def test_a_branch_silenced_by_its_zero_scale_is_no_dead_branch(findings: Judge) -> None:
    def graph(gamma: str) -> LayerGraph:
        build = GraphBuilder()
        x = build.dense(build.input((64,)), 64, "relu")
        y = build.activation(build.batch_norm(build.dense(x, 64), gamma=gamma), "relu")
        return build.graph(build.dense(build.add(Op.ADD, x, y), 10))

    dead = probed({"activation": 1.0})
    assert findings("GEB205", graph("zeros"), dead) == ()
    assert len(findings("GEB205", graph("ones"), dead)) == 1


def test_nothing_measured_is_said(findings: Judge) -> None:
    build = GraphBuilder()
    graph = build.graph(build.dense(build.input((4,)), 2, kernel=constant(0.1)))
    assert findings("GEB205", graph, probed({})) == ()


@pytest.mark.parametrize(
    ("loss", "units", "divided"),
    [("binary_crossentropy", 1, False), ("categorical_crossentropy", 10, True)],
)
def test_only_categorical_losses_divide_by_a_sum(findings, loss, units, divided) -> None:
    build = GraphBuilder()
    graph = build.graph(build.dense(build.input((8,)), units), loss=loss)
    (finding,) = findings("GEB204", graph)
    assert ("divided by a sum" in finding.message) is divided
