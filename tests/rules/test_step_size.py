"""GEB602: steps that get nowhere."""

from dataclasses import replace

import pytest
from builders import GraphBuilder
from measured import probe

from auditor.measurement import CallMeasurement

STANDING = (2.412, 2.412, 2.412, 2.411, 2.411)


def graph(optimizer: str = "adadelta", bias: str = "zeros", **config):
    build = GraphBuilder()
    call = build.dense(build.input((8,)), 8, "relu", kernel="he_normal")
    made = build.graph(
        build.dense(call, 3, "softmax"),
        loss="sparse_categorical_crossentropy",
        optimizer=optimizer,
        learning_rate=1e-3,
    )
    optimizer_settings = replace(made.compile.optimizer, **config)
    return replace(made, compile=replace(made.compile, optimizer=optimizer_settings))


def measured(ratio: float, losses: tuple[float, ...] = STANDING):
    return probe(trial_losses=losses, calls={"dense": CallMeasurement(update_ratio=ratio)})


def test_steps_that_get_nowhere_are_named(findings) -> None:
    (finding,) = findings("GEB602", graph(), measured(1e-5))
    assert "adadelta" in finding.message
    assert finding.severity == "warning"


@pytest.mark.parametrize(
    ("ratio", "losses"),
    [(1e-3, STANDING), (1e-5, (2.4, 2.39, 2.38, 2.37, 2.36))],
)
def test_either_movement_or_progress_is_enough(findings, ratio, losses) -> None:
    assert findings("GEB602", graph(), measured(ratio, losses)) == ()


def test_momentum_adds_steps_up(findings) -> None:
    heavy = graph("sgd", config={"momentum": 0.9})
    assert findings("GEB602", heavy, measured(1e-5)) == ()
    assert findings("GEB602", graph("sgd"), measured(1e-5)) != ()


def test_warm_up_and_fine_tuning_are_not_judged(findings) -> None:
    assert findings("GEB602", graph(schedule="CosineDecay"), measured(1e-9)) == ()
    trained = replace(
        graph(),
        calls=tuple(
            replace(call, weights=tuple(replace(w, initializer=None) for w in call.weights))
            for call in graph().calls
        ),
    )
    assert findings("GEB602", trained, measured(1e-9)) == ()
