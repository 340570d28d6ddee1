"""A sample of the official tests of the installed onnx; all of them run in bench."""

from __future__ import annotations

import importlib
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

BENCH = Path(__file__).parents[2] / "bench"
#: One test in so many is run, a fixed choice across all operators.
OUTPUTS_EVERY = 8
GRADIENTS_EVERY = 40


@cache
def bench() -> ModuleType:
    """The benchmark as a module; those beside it are found as they are when it is run."""
    sys.path.insert(0, str(BENCH))
    try:
        return importlib.import_module("onnx_conformance")
    finally:
        sys.path.remove(str(BENCH))


@cache
def cases() -> tuple[object, ...]:
    """All official tests."""
    return tuple(bench().cases("*"))


def test_no_output_is_wrong_and_nearly_all_are_right() -> None:
    outcomes = [bench().forward(case) for case in cases()[::OUTPUTS_EVERY]]
    wrong = [o for o in outcomes if o.status in ("WRONG", "CRASH")]
    assert not wrong, wrong
    right = sum(outcome.status == "right" for outcome in outcomes)
    assert right >= 0.95 * len(outcomes)


def test_gradients_agree_with_differences() -> None:
    eligible = [case for case in cases() if bench().is_eligible(case)]
    outcomes = [bench().gradients(case) for case in eligible[::GRADIENTS_EVERY]]
    assert not [o for o in outcomes if o.status in ("WRONG", "CRASH")]
    apart = ("constant", "kink", "setting", "random")
    smooth = [outcome for outcome in outcomes if outcome.status not in apart]
    right = sum(outcome.status == "right" for outcome in smooth)
    assert right >= 0.95 * len(smooth), [o for o in smooth if o.status != "right"]


@pytest.mark.parametrize("name", ["test_relu", "test_softmax_axis_1", "test_gemm_all_attributes"])
def test_a_gradient_that_is_wrong_is_told(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    table = importlib.import_module("auditor.onnx_import.operators.table").TABLE
    (case,) = bench().cases(name)
    assert bench().gradients(case).status in ("right", "kink")
    kind = case.model.graph.node[0].op_type
    entries = table.entries[("", kind)]
    twice = [replace(entry, run=doubled_backward(entry.run)) for entry in entries]
    monkeypatch.setitem(table.entries, ("", kind), twice)
    assert bench().gradients(case).status == "WRONG"


def doubled_backward(run):  # type: ignore[no-untyped-def]
    """The operator with the same values and twice their gradient."""
    from keras import ops

    def wrong(*arguments):  # type: ignore[no-untyped-def]
        value = run(*arguments)
        return 2 * value - ops.stop_gradient(value)

    return wrong
