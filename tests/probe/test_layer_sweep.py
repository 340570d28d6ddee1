"""Every layer of Keras: the Jacobians that the probe measures against exact ones."""

import os
import pickle
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import keras
import numpy as np
import pytest
from probe.exact_jacobian import Exact
from probe.layer_sweep import Bench, Swept, bench, double_precision, own_precision
from probe.layer_zoo import ABSTRACT, CASES, FOREIGN

from auditor.finding import Bound
from auditor.probe.jacobians import NO_INPUT, NO_OUTPUT, Jacobians

#: Agreement of float32 with itself; half precision rounds a thousand times as coarsely.
ADJOINT = 1e-5
HALF = {"mixed/float16": 5e-3, "mixed/float16 conv": 5e-3}
HALF |= {"mixed/bfloat16": 4e-2, "mixed/bfloat16 norm": 4e-2}
#: σ₁ and ‖J‖_F below are zero.
NOTHING = 1e-7
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def here() -> Bench:
    """The zoo on the backend of this process."""
    return bench(CASES)


@pytest.fixture(scope="module")
def truth(here: Bench) -> dict[str, Exact]:
    """Exact Jacobians: in double precision, but where a call has draws or dtypes of its own, or a
    kernel only in single."""
    with double_precision():
        double = bench([case for case in CASES if not own_precision(case)], "float64")
        known = double.exact(lambda _: True)
    return known | here.exact(
        lambda case: own_precision(case) or not any(i.startswith(case.name) for i in known)
    )


@pytest.fixture(scope="module")
def on_tensorflow(here: Bench, truth: dict[str, Exact]) -> Swept:
    found = here.measured()
    return Swept(measured=found, gaps=here.adjoint_gaps(found.found), truth=truth)


@pytest.fixture(scope="module", params=["tensorflow", "jax", "torch"])
def swept(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Swept:
    """The sweep on each backend; what has no draws is held against TensorFlow's exact Jacobian."""
    on_tensorflow: Swept = request.getfixturevalue("on_tensorflow")
    backend = request.param
    if backend == "tensorflow":
        return on_tensorflow
    if find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    target = tmp_path_factory.mktemp(backend) / "swept"
    environment = os.environ | {
        "KERAS_BACKEND": backend,
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
    }
    subprocess.run(
        [sys.executable, "-m", "probe.layer_sweep", str(target)],
        env=environment,
        check=True,
        timeout=900,
    )
    measured, gaps, own = pickle.loads(target.read_bytes())  # noqa: S301
    return Swept(measured=measured, gaps=gaps, truth=on_tensorflow.truth | own)


def test_no_layer_of_keras_is_missing():
    kinds = {name for name in dir(keras.layers) if isinstance(getattr(keras.layers, name), type)}
    names = {case.name.split("/")[0] for case in CASES}
    tested = {getattr(keras.layers, name) for name in names & kinds}
    missing = {name for name in kinds if getattr(keras.layers, name) not in tested}
    assert missing == ABSTRACT | FOREIGN


def test_every_call_is_measured_or_skipped_for_the_reason_expected(swept: Swept):
    wrong = {}
    for call_id, reason in swept.measured.skipped.items():
        expected = _case(call_id).skipped
        # Nodes inside of a model, such as those that make a mask.
        inner = call_id not in _BY_NAME and reason in (NO_INPUT, NO_OUTPUT)
        if not inner and (not expected or expected not in reason):
            wrong[call_id] = reason
    wrong |= {i: "measured" for i in swept.measured.found if _case(i).skipped}
    # A kernel that a backend lacks on this processor is named as such.
    unexpected = {i: why for i, why in wrong.items() if not why.startswith("no derivative: ")}
    assert unexpected == {}
    assert len(wrong) < 0.03 * len(swept.measured.found), wrong


def test_products_with_the_jacobian_and_its_transpose_are_adjoint(swept: Swept):
    wrong = {i: gap for i, gap in swept.gaps.items() if not gap <= HALF.get(i, ADJOINT)}
    assert wrong == {}


def test_norms_agree_with_the_exact_jacobian(swept: Swept):
    errors, covered = _compared(swept.measured, swept.truth)
    assert len(errors) > 700
    assert np.median(list(errors.values())) <= 0.01
    assert {what: error for what, error in errors.items() if error > 0.05} == {}
    assert np.mean(list(covered.values())) >= 0.95
    assert _above_truth(swept.measured, swept.truth) == {}


def test_it_is_known_which_calls_couple_samples(swept: Swept):
    wrong = {
        i: found.couples_samples
        for i, found in swept.measured.found.items()
        if i in swept.truth and found.couples_samples != swept.truth[i].couples
    }
    assert wrong == {}


@pytest.mark.parametrize(
    ("thresholds", "worst"),
    [
        ({"EXPLICIT_SIDE": 0}, 0.06),
        # With four draws a small Jacobian is told no better; the error has to say so.
        ({"EXPLICIT_SIDE": 0, "SMALL_VALUES": 0, "SAMPLES": 2}, 0.25),
    ],
    ids=["as small ones", "as large ones"],
)
def test_estimators_are_honest_on_calls_of_any_kind(
    here: Bench, truth: dict[str, Exact], thresholds: dict[str, int], worst: float
):
    measured = here.measured(**thresholds)
    errors, covered = _compared(measured, truth)
    sampled = {
        what: error for what, error in errors.items() if "exact" not in _method(measured, what)
    }
    assert len(sampled) > 250
    assert np.median(list(sampled.values())) <= 0.01
    assert {what: error for what, error in sampled.items() if error > worst} == {}
    assert np.mean([covered[what] for what in sampled]) >= 0.95
    assert _above_truth(measured, truth) == {}


def test_the_same_twice(here: Bench, on_tensorflow: Swept):
    # A part of them, since a call's numbers do not depend on what is measured beside it.
    some = Bench(cases=here.cases, calls=here.calls[::7], linearizer=here.linearizer)
    again = some.measured().found
    assert again
    assert again == {i: on_tensorflow.measured.found[i] for i in again}


def _case(call_id: str):
    """By the longest name that the id begins with."""
    names = [name for name in _BY_NAME if call_id == name or call_id.startswith(f"{name}/")]
    return _BY_NAME[max(names, key=len)]


_BY_NAME = {case.name: case for case in CASES}


def _method(measured: Jacobians, what: tuple[str, str]) -> str:
    found = measured.found[what[0]]
    return (found.spectral_norm if what[1] == "spectral" else found.frobenius_norm).method


def _pairs(measured: Jacobians, truth: dict[str, Exact]):
    for call_id, found in measured.found.items():
        if call_id in truth:
            exact = truth[call_id]
            spectral = np.median(exact.spectral_norms[: found.samples])
            whole = np.median(exact.frobenius_norms[: found.samples])
            yield (call_id, "spectral"), found.spectral_norm, float(spectral)
            yield (call_id, "frobenius"), found.frobenius_norm, float(whole)


def _compared(measured: Jacobians, truth: dict[str, Exact]):
    """Relative errors, and whether the stated one covers it but for rounding."""
    errors, covered = {}, {}
    for what, estimate, exact in _pairs(measured, truth):
        off = abs(estimate.value - exact)
        rounding = _case(what[0]).close * max(exact, NOTHING)
        errors[what] = off / exact if exact > NOTHING else float(off > NOTHING)
        covered[what] = off <= estimate.error + rounding
    return errors, covered


def _above_truth(measured: Jacobians, truth: dict[str, Exact]):
    return {
        what: (estimate.value, exact)
        for what, estimate, exact in _pairs(measured, truth)
        if estimate.bound is Bound.LOWER
        and estimate.value > exact * (1.0 + _case(what[0]).close) + NOTHING
    }
