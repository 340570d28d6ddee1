import math
from dataclasses import replace

import numpy as np
import pytest
from builders import Stored
from hypothesis import given
from hypothesis import strategies as st
from plan.plan_samples import compiled, finding, mlp, probe

from auditor.graph import LossSettings
from auditor.measurement import RateTrial
from auditor.plan.case import Case
from auditor.plan.learning_rate import learning_rate
from auditor.plan.settings import Setting


def recommended(case: Case, *, redrawn: bool = False) -> Setting:
    setting = learning_rate(case, redrawn=redrawn).setting
    assert setting is not None
    return setting


def test_declared_rate_inside_the_interval_is_kept() -> None:
    setting = recommended(Case(graph=compiled(mlp(), "adam", 1e-3), probe=probe()))
    assert setting.value == 1e-3
    assert setting.reason.startswith("current value is inside the interval")
    assert setting.low is not None
    assert setting.high is not None
    assert setting.low <= 1e-3 <= setting.high


def test_value_is_the_stated_formula_of_loss_and_slope() -> None:
    # 1.0 is outside every interval of Adam's, so it is not kept
    setting = recommended(
        Case(graph=compiled(mlp(), "adam", 1.0), probe=probe(loss_at_start=4.0, step_slope=-1e4))
    )
    assert setting.value == pytest.approx(0.05 * math.sqrt(4.0 / 1e4))
    assert "√(loss / slope)" in setting.formula
    assert "4" in setting.reason
    assert "1e+04" in setting.reason
    assert setting.current == 1.0


def test_momentum_lowers_the_rate() -> None:
    measured = probe(step_slope=-1.0)
    plain = recommended(Case(graph=compiled(mlp(), "sgd", 50.0), probe=measured))
    heavy = recommended(Case(graph=compiled(mlp(), "sgd", 50.0, momentum=0.9), probe=measured))
    assert isinstance(plain.value, float)
    assert plain.value == pytest.approx(4 * float(heavy.value or 0), rel=0.1)


def test_redrawn_weights_make_the_measurement_void() -> None:
    wild = probe(loss_at_start=1e9, step_slope=-1e20)
    case = Case(graph=compiled(mlp(), "adam", 1e-3), probe=wild)
    assert recommended(case, redrawn=True).value == 1e-3
    assert "redraws" in recommended(case, redrawn=True).reason


@pytest.mark.parametrize("slope", [-1e-30, -1e30])
def test_slope_out_of_proportion_stays_within_practice(slope: float) -> None:
    setting = recommended(Case(graph=compiled(mlp(), "adam", 10.0), probe=probe(step_slope=slope)))
    assert isinstance(setting.value, float)
    assert 1e-5 <= setting.value <= 3e-2
    assert "held between" in setting.formula


def test_accused_rate_is_lowered_and_answers_the_finding() -> None:
    accusation = finding("GEB601")
    setting = recommended(
        Case(graph=compiled(mlp(), "adam", 2e-3), findings=(accusation,), probe=probe())
    )
    assert isinstance(setting.value, float)
    assert setting.value <= 2e-4
    assert setting.high is not None
    assert setting.high < 2e-3
    assert setting.because == (accusation.fingerprint,)


def test_diverging_trial_lowers_the_rate_without_a_finding() -> None:
    rising = probe(trial_losses=(2.5, 40.0, math.inf))
    setting = recommended(Case(graph=compiled(mlp(), "sgd", 0.3), probe=rising))
    assert isinstance(setting.value, float)
    assert setting.value <= 0.03
    assert "not finite" in setting.reason


@pytest.mark.parametrize("loss", [None, math.nan, math.inf, -3.0, 0.0])
def test_unusable_measurement_falls_back_to_practice(loss: float | None) -> None:
    setting = recommended(
        Case(graph=compiled(mlp(), "sgd", None, momentum=0.9), probe=probe(loss_at_start=loss))
    )
    assert setting.value == 1e-2
    assert setting.formula.startswith("prior")


def test_uncompiled_and_unprobed_says_that_it_is_a_prior() -> None:
    setting = recommended(Case(graph=mlp()))
    assert setting.value == 1e-3
    assert setting.current is None
    assert "interval is wide" in setting.reason


def test_unknown_optimizer_keeps_its_rate() -> None:
    advice = learning_rate(Case(graph=compiled(mlp(), "Mine>Own", 7.0)), redrawn=False)
    assert advice.setting is not None
    assert advice.setting.value == 7.0
    assert any("Mine>Own" in note for note in advice.notes)


@given(
    loss=st.floats(allow_nan=True, allow_infinity=True),
    slope=st.floats(allow_nan=True, allow_infinity=True),
    rate=st.floats(allow_nan=True, allow_infinity=True),
    name=st.sampled_from(["sgd", "adam", "lion", "adadelta", "rmsprop"]),
)
def test_every_measurement_gives_a_usable_rate(
    loss: float, slope: float, rate: float, name: str
) -> None:
    measured = probe(loss_at_start=loss, step_slope=slope)
    setting = recommended(Case(graph=compiled(mlp(2), name, rate), probe=measured))
    assert isinstance(setting.value, float)
    assert setting.low is not None
    assert setting.high is not None
    assert 0 < setting.value < math.inf
    assert setting.low <= setting.value * 1.1
    assert setting.value <= setting.high * 1.1  # both are rounded to two digits


def test_blame_of_redrawn_weights_does_not_lower_the_rate() -> None:
    accusation = finding("GEB601")
    case = Case(graph=compiled(mlp(), "adam", 2e-3), findings=(accusation,), probe=probe())
    setting = recommended(case, redrawn=True)
    assert setting.value == 2e-3
    assert setting.because == (accusation.fingerprint,)


def test_custom_loss_has_no_known_end_so_the_declared_rate_of_practice_stays() -> None:
    graph = compiled(mlp(), "rmsprop", 5e-5)
    assert graph.compile is not None
    custom = replace(graph.compile, losses=(LossSettings(name="wasserstein", custom=True),))
    setting = recommended(Case(graph=replace(graph, compile=custom), probe=probe()))
    assert setting.value == 5e-5
    assert setting.formula.startswith("prior")


def test_trained_weights_may_be_tuned_at_lower_rates() -> None:
    graph = compiled(mlp(), "adam", 2e-4)
    trained = tuple(
        replace(
            call,
            weights=tuple(
                replace(w, read=Stored(np.asarray(w.read()) * 2 + 0.1)) if w.read else w
                for w in call.weights
            ),
        )
        for call in graph.calls
    )
    measured = probe(data="data.npz")
    fresh = recommended(Case(graph=graph, probe=measured))
    tuned = recommended(Case(graph=replace(graph, calls=trained), probe=measured))
    assert fresh.low == pytest.approx(10 * (tuned.low or 0))
    assert fresh.value != 2e-4
    assert tuned.value == 2e-4


def tried(*losses: float, rate: float = 1e-4) -> RateTrial:
    return RateTrial(rate=rate, losses=losses)


def test_rate_too_high_gives_way_to_one_that_was_tried() -> None:
    """Linear regression on raw pixels: 0.01 diverges, and so does a tenth of it."""
    measured = probe(
        data="digits.npz",
        loss_at_start=107.0,
        step_slope=-3.7e5,
        step_curvature=1.95e9,
        trial_losses=(77.0, 9.4e4, 2.8e8),
        rate_trials=(tried(77.0, 400.0, 6e3, rate=1e-3), tried(77.0, 60.0, 48.0)),
    )
    setting = recommended(
        Case(graph=compiled(mlp(), "sgd", 0.01), findings=(finding("GEB601"),), probe=measured)
    )
    assert setting.value == 1e-4
    assert "at 0.0001 it was tried, and the loss fell from 77 to 48" in setting.reason
    assert setting.high is not None
    # Twice slope over curvature is where the loss turns up.
    assert setting.high == pytest.approx(2 * 3.7e5 / 1.95e9, rel=0.05)


def test_curvature_along_the_step_holds_the_estimate() -> None:
    steep = probe(data="own.npz", loss_at_start=100.0, step_slope=-1e4, step_curvature=1e7)
    setting = recommended(Case(graph=compiled(mlp(), "sgd", 50.0), probe=steep))
    assert setting.value == pytest.approx(1e-3)
    assert setting.high == pytest.approx(2e-3)
    assert "lowest point along the first step" in setting.formula


def test_rate_that_works_is_not_lowered() -> None:
    """Normalized layers have steep gradients and do not mind them."""
    measured = probe(step_slope=-4e6, step_curvature=-3e9)
    graph = compiled(mlp(), "sgd", 0.1)
    setting = recommended(Case(graph=graph, probe=measured))
    assert setting.value == 0.1
    assert setting.high == 0.1
    assert "in every trial step" in setting.reason
    rising = replace(measured, trial_losses=(2.5, 2.7, 2.4, 2.3))
    assert recommended(Case(graph=graph, probe=rising)).value != 0.1


def test_rate_that_works_on_synthetic_batches_is_not_raised() -> None:
    graph = compiled(mlp(), "sgd", 1e-2)
    synthetic = probe(step_slope=-4.0, step_curvature=None)
    assert recommended(Case(graph=graph, probe=synthetic)).value == 1e-2
    real = replace(synthetic, data="digits.npz")
    assert recommended(Case(graph=graph, probe=real)).value == pytest.approx(0.16)
    standing = replace(synthetic, trial_losses=(2.5, 2.499, 2.498, 2.497, 2.496))
    assert recommended(Case(graph=graph, probe=standing)).value == pytest.approx(0.16)


@pytest.mark.parametrize(
    ("optimizer", "value"), [("adadelta", 1.0), ("adagrad", 0.1), ("muon", 1e-2), ("lamb", 5e-3)]
)
def test_default_rate_of_keras_does_not_suit_every_optimizer(optimizer, value) -> None:
    standing = probe(trial_losses=(2.5, 2.4999, 2.4998), step_curvature=None)
    assert recommended(Case(graph=compiled(mlp(), optimizer, 1e-3), probe=standing)).value == value


def test_gradient_that_is_not_finite_is_not_the_rates_doing() -> None:
    lost = probe(trial_losses=(2.5, math.nan), step_slope=None, step_curvature=None)
    assert recommended(Case(graph=compiled(mlp(), "adam", 1e-3), probe=lost)).value == 1e-3
