"""Targets that go with their output are left alone, whatever their form; the rest is named."""

import numpy as np
import pytest
from builders import GraphBuilder
from surveyed import surveyed

from auditor.graph import LayerGraph, LossSettings
from auditor.graph.target_fit import Misfit, Unfit, misfits

N = 40
IDS = np.arange(N) % 4
ROWS = np.eye(4)[IDS]
NORMAL = np.random.default_rng(0).normal(0, 1, (N, 1))


def graph(units=4, activation="softmax", loss="categorical_crossentropy", shape=(3,), **more):
    build = GraphBuilder()
    settings = (LossSettings(name=loss, **more),)
    return build.graph(build.dense(build.input(shape), units, activation), loss=settings)


def told(model: LayerGraph, y) -> tuple[Misfit, ...]:
    shape = model.inputs[0].shape[1:]
    return misfits(model, surveyed(model, np.zeros((len(y), *shape)), np.asarray(y)))


SPARSE, BINARY = "sparse_categorical_crossentropy", "binary_crossentropy"


@pytest.mark.parametrize(
    ("model", "y"),
    [
        (graph(), ROWS),
        (graph(), 0.9 * ROWS + 0.025),  # smoothed
        (graph(), np.random.default_rng(0).dirichlet(np.ones(4), N)),  # mixed
        (graph(loss=SPARSE), IDS),
        (graph(loss=SPARSE), IDS[:, None]),
        (graph(loss=SPARSE), IDS.astype("float32")),
        (graph(loss=SPARSE, config={"ignore_class": -1}), np.where(IDS == 1, -1, IDS)),
        (graph(loss=SPARSE, config={"ignore_class": 255}), np.where(IDS == 1, 255, IDS)),
        (graph(loss=SPARSE, shape=(7, 3)), np.resize(IDS, (N, 7))),
        (graph(loss=SPARSE, shape=(7, 3)), np.resize(IDS, (N, 7, 1))),
        (graph(loss="kl_divergence"), ROWS),
        (graph(1, "sigmoid", BINARY), IDS % 2),
        (graph(1, "sigmoid", BINARY), (IDS % 2)[:, None]),
        (graph(1, "sigmoid", BINARY), IDS % 2 == 1),
        (graph(1, None, BINARY, from_logits=True), IDS % 2),
        (graph(4, "sigmoid", BINARY), np.resize([1, 0, 1, 0, 0], (N, 4))),  # several labels
        (graph(4, "sigmoid", BINARY), np.random.default_rng(0).uniform(0, 1, (N, 4))),  # pixels
        (graph(1, "tanh", "hinge"), IDS % 2),
        (graph(1, "tanh", "hinge"), 2 * (IDS % 2) - 1),
        (graph(1, None, "mean_squared_error"), 1e6 * NORMAL),
        (graph(1, None, "mean_squared_error"), NORMAL[:, 0]),
        (graph(1, None, "mean_squared_error", shape=(7, 3)), np.resize(NORMAL, (N, 7))),
        (graph(1, "tanh", "mean_squared_error"), np.tanh(NORMAL)),
        (graph(1, "tanh", "mean_squared_error"), np.sign(NORMAL)),
        (graph(1, "relu", "mean_absolute_error"), np.abs(NORMAL)),
        (graph(1, "sigmoid", "mean_squared_error"), np.round(np.abs(np.tanh(NORMAL)), 2)),
        (graph(1, "sigmoid", "mean_squared_error"), IDS % 2 * 1.0005),  # rounding
        (graph(1, "exponential", "poisson"), IDS),
        (graph(loss="ctc", shape=(7, 3)), np.resize(IDS, (N, 3))),
        (graph(loss="mine", custom=True), 7 * IDS),
        (graph(1, "sigmoid", BINARY), np.full(N, np.nan)),
    ],
)
def test_targets_that_fit(model, y) -> None:
    assert told(model, y) == ()


@pytest.mark.parametrize(
    ("model", "y", "unfit", "refused"),
    [
        (graph(loss=SPARSE), ROWS, Unfit.FORMAT, True),
        (graph(loss=SPARSE), IDS + 1, Unfit.FORMAT, True),
        (graph(loss=SPARSE), IDS + 2, Unfit.UNITS, True),
        (graph(loss=SPARSE), IDS - 1, Unfit.FORMAT, True),
        (graph(loss=SPARSE), IDS / 4, Unfit.FORMAT, True),
        (graph(loss=SPARSE, shape=(7, 3)), IDS, Unfit.FORMAT, False),
        (graph(), IDS, Unfit.FORMAT, True),
        (graph(), IDS[:, None], Unfit.FORMAT, True),
        (graph(), ROWS[:, :3], Unfit.UNITS, True),
        (graph(), 255 * ROWS, Unfit.RANGE, False),
        (graph(1, "sigmoid", BINARY), IDS, Unfit.UNITS, False),
        (graph(1, "sigmoid", BINARY), ROWS, Unfit.UNITS, True),
        (graph(1, "sigmoid", BINARY), NORMAL, Unfit.RANGE, False),
        (graph(1, None, "mse"), ROWS, Unfit.UNITS, False),
        (graph(1, None, "mse", shape=(7, 3)), NORMAL, Unfit.FORMAT, False),
        (graph(1, None, "mse"), np.full(N, "cat"), Unfit.FORMAT, True),
        (graph(1, "elu", "mse"), 3 * NORMAL, Unfit.RANGE, False),
    ],
)
def test_targets_that_do_not(model, y, unfit, refused) -> None:
    (misfit,) = told(model, y)
    assert (misfit.unfit, misfit.refused) == (unfit, refused)
    assert not misfit.slack


def test_more_units_than_classes_are_slack() -> None:
    (misfit,) = told(graph(10, loss=SPARSE), IDS)
    assert misfit.slack


def test_range_is_that_of_the_output_as_it_leaves_the_model() -> None:
    """What is scaled behind its activation may come to any value."""
    from auditor.graph import Op

    build = GraphBuilder()
    call = build.dense(build.input((3,)), 1, "sigmoid")
    scaled = build.add(Op.SCALE, call, kind="Rescaling", config={"scale": 100.0, "offset": 0.0})
    model = build.graph(scaled, loss="mean_squared_error")
    assert told(model, 50 + 10 * NORMAL) == ()


def test_share_out_of_range_is_counted() -> None:
    y = np.where(np.arange(N) < 3, -2.0, 0.5)
    (misfit,) = told(graph(1, "tanh", "mse"), y)
    assert misfit.share == pytest.approx(3 / N)
