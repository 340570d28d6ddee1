"""Every layer of Keras: the Jacobians that the probe measures against exact ones."""

import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from probe.exact_jacobian import Exact
from probe.layer_sweep import Bench, Swept, bench, double_precision, own_precision
from probe.layer_zoo import ABSTRACT, CASES, FOREIGN, of_each

from auditor.finding import Bound
from auditor.measurement import Estimate, JacobianMeasurement
from auditor.probe.jacobians import NO_INPUT, NO_OUTPUT, Jacobians

#: Agreement of float32 with itself; half precision rounds a thousand times as coarsely.
ADJOINT = 1e-5
HALF = {"mixed/float16": 5e-3, "mixed/float16 conv": 5e-3}
HALF |= {"mixed/bfloat16": 4e-2, "mixed/bfloat16 norm": 4e-2}
#: σ₁ and ‖J‖_F below are zero.
NOTHING = 1e-7
ROOT = Path(__file__).parents[2]
#: Configurations of every class that are swept.
CONFIGURATIONS = {"tensorflow": 1, "jax": 1, "torch": 1}
#: Which of their operations run is drawn, and not all of those have a derivative.
DRAWN = frozenset({"RandAugment"})
#: Seconds that a sweep may take.
PATIENCE = 900


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[], Any]], Any]:
    """What takes long is made once, by whichever process of the test run comes first."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent

    def get(name: str, make: Callable[[], Any]) -> Any:
        target, failed = folder / f"{name}.pickle", folder / f"{name}.failed"
        try:
            (folder / f"{name}.begun").mkdir()
        except FileExistsError:
            until = time.monotonic() + PATIENCE
            while not target.exists():
                assert not failed.exists(), f"{name} was not to be had"
                assert time.monotonic() < until
                time.sleep(0.1)
        else:
            try:
                part = target.with_suffix(".part")
                part.write_bytes(pickle.dumps(make()))
                part.rename(target)
            except BaseException:
                failed.touch()
                raise
        return pickle.loads(target.read_bytes())  # noqa: S301

    return get


def _truth(here: Bench) -> dict[str, Exact]:
    """Exact Jacobians by TensorFlow: in double precision, but where a call has draws or dtypes of
    its own, or a kernel only in single."""
    with double_precision():
        cases = {case.name: case for case in here.cases.values() if not own_precision(case)}
        double = bench(list(cases.values()), "float64")
        known = double.exact(lambda _: True)
    begun = {_case(call_id).name for call_id in known}
    # The same draws are to be had from the same models alone.
    return known | here.exact(lambda case: own_precision(case) or case.name not in begun)


def _on_tensorflow() -> Swept:
    here = bench(of_each(CONFIGURATIONS["tensorflow"]))
    found = here.measured()
    return Swept(measured=found, gaps=here.adjoint_gaps(found.found), truth=_truth(here))


def _elsewhere(backend: str, target: Path) -> tuple[Any, ...]:
    environment = os.environ | {
        "KERAS_BACKEND": backend,
        # Threads that wait for each other take longer than such small tensors.
        "OMP_NUM_THREADS": "1",
        # What Keras runs operation by operation on JAX is compiled operation by operation.
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
    }
    subprocess.run(
        [
            *(sys.executable, "-m", "probe.layer_sweep"),
            *(str(target), str(CONFIGURATIONS[backend])),
        ],
        env=environment,
        check=True,
        timeout=PATIENCE,
    )
    found: tuple[Any, ...] = pickle.loads(target.read_bytes())  # noqa: S301
    return found


@pytest.fixture(scope="module")
def on_tensorflow(shared: Callable[..., Any]) -> Swept:
    found: Swept = shared("swept-tensorflow", _on_tensorflow)
    return found


@pytest.fixture(
    scope="module",
    params=["tensorflow", "jax", "torch"],
)
def swept(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    shared: Callable[..., Any],
    on_tensorflow: Swept,
) -> Swept:
    """The sweep on each backend; what has no draws is held against TensorFlow's exact Jacobian."""
    backend = request.param
    if backend == "tensorflow":
        return on_tensorflow
    if find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    target = tmp_path_factory.mktemp(backend) / "swept"
    measured, gaps, own = shared(f"swept-{backend}", lambda: _elsewhere(backend, target))
    return Swept(measured=measured, gaps=gaps, truth=on_tensorflow.truth | own, backend=backend)


def test_no_layer_of_keras_is_missing():
    kinds = {name for name in dir(keras.layers) if isinstance(getattr(keras.layers, name), type)}
    names = {case.name.split("/")[0] for case in CASES}
    tested = {getattr(keras.layers, name) for name in names & kinds}
    missing = {name for name in kinds if getattr(keras.layers, name) not in tested}
    assert missing == ABSTRACT | FOREIGN


def test_every_call_is_measured_or_skipped_for_the_reason_expected(swept: Swept):
    wrong = {}
    for call_id, reason in swept.measured.skipped.items():
        if call_id in DRAWN:
            continue
        expected = _skipped(call_id, swept.backend)
        # Nodes inside of a model, such as those that make a mask.
        inner = call_id not in _BY_NAME and reason in (NO_INPUT, NO_OUTPUT)
        if not inner and (not expected or expected not in reason):
            wrong[call_id] = reason
    wrong |= {i: "measured" for i in swept.measured.found if _skipped(i, swept.backend)}
    assert wrong == {}


def test_products_with_the_jacobian_and_its_transpose_are_adjoint(swept: Swept):
    wrong = {i: gap for i, gap in swept.gaps.items() if not gap <= HALF.get(i, ADJOINT)}
    assert wrong == {}
    assert len(swept.gaps) > 0.9 * len(swept.measured.found)


def test_norms_agree_with_the_exact_jacobian(swept: Swept):
    errors, covered = _compared(swept.measured, swept.truth)
    assert len(errors) > 1.9 * len(swept.measured.found)
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


def test_backends_agree(swept: Swept, on_tensorflow: Swept):
    """Random vectors are the same everywhere, so that estimates are as well as exact values."""
    if swept.backend == "tensorflow":
        pytest.skip("with itself")
    pairs = {
        i: (found, on_tensorflow.measured.found[i])
        for i, found in swept.measured.found.items()
        if i in on_tensorflow.measured.found and not _case(i).random
    }
    assert len(pairs) > 100
    wrong = {
        i: (one.spectral_norm.value, other.spectral_norm.value)
        for i, (one, other) in pairs.items()
        if not _close(one.spectral_norm, other.spectral_norm, max(1e-3, _case(i).close))
        or not _close(one.frobenius_norm, other.frobenius_norm, max(1e-3, _case(i).close))
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
    on_tensorflow: Swept, thresholds: dict[str, int], worst: float
):
    """Where every fourth of the calls is small enough to be written out, and is not."""
    written = [i for i, found in on_tensorflow.measured.found.items() if "whole" in _method(found)]
    cases = {_case(i).name: _case(i) for i in written if not own_precision(_case(i))}
    measured = bench(list(cases.values())[::4]).measured(**thresholds)
    errors, covered = _compared(measured, on_tensorflow.truth)
    sampled = {
        what: error for what, error in errors.items() if "exact" not in _method_of(measured, what)
    }
    assert len(sampled) > 30
    assert np.median(list(sampled.values())) <= 0.01
    assert {what: error for what, error in sampled.items() if error > worst} == {}
    assert np.mean([covered[what] for what in sampled]) >= 0.95
    assert _above_truth(measured, on_tensorflow.truth) == {}


def test_the_same_twice(on_tensorflow: Swept):
    """Bit by bit, though it is other calls that are measured beside."""
    # Draws are other ones among other models.
    cases = [case for case in of_each(CONFIGURATIONS["tensorflow"]) if not case.random]
    again = bench(cases[::8]).measured().found
    assert len(again) > 10
    assert again == {i: on_tensorflow.measured.found[i] for i in again}


def _case(call_id: str):
    """By the longest name that the id begins with."""
    names = [name for name in _BY_NAME if call_id == name or call_id.startswith(f"{name}/")]
    return _BY_NAME[max(names, key=len)]


_BY_NAME = {case.name: case for case in CASES}


def _skipped(call_id: str, backend: str) -> str:
    case = _case(call_id)
    return case.skipped if backend in case.skipped_on else ""


def _method(found: JacobianMeasurement) -> str:
    return found.spectral_norm.method


def _method_of(measured: Jacobians, what: tuple[str, str]) -> str:
    found = measured.found[what[0]]
    return (found.spectral_norm if what[1] == "spectral" else found.frobenius_norm).method


def _close(one: Estimate, other: Estimate, tolerance: float) -> bool:
    gap = abs(one.value - other.value)
    return gap <= tolerance * max(one.value, other.value) + NOTHING


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
