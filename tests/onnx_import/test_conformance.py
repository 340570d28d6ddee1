"""A sample of the official tests of the installed onnx; all of them run in bench."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

BENCH = Path(__file__).parents[2] / "bench" / "onnx_conformance.py"
#: One test in so many is run, a fixed choice across all operators.
OUTPUTS_EVERY = 8
GRADIENTS_EVERY = 40


@cache
def bench() -> ModuleType:
    """The benchmark as a module."""
    spec = importlib.util.spec_from_file_location("onnx_conformance", BENCH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


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
    smooth = [o for o in outcomes if o.status not in ("kink", "flat", "random")]
    right = sum(outcome.status == "right" for outcome in smooth)
    assert right >= 0.9 * len(smooth), [o for o in smooth if o.status != "right"]


@pytest.mark.parametrize("name", ["test_relu", "test_softmax_axis_1", "test_gemm_all_attributes"])
def test_a_gradient_that_is_wrong_is_told(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    table = importlib.import_module("auditor.onnx_import.operators.table").TABLE
    (case,) = bench().cases(name)
    assert bench().gradients(case).status in ("right", "kink")
    kind = case.model.graph.node[0].op_type
    entries = table.entries[("", kind)]
    twice = [bench().replace(e, run=doubled_backward(e.run)) for e in entries]
    monkeypatch.setitem(table.entries, ("", kind), twice)
    assert bench().gradients(case).status == "WRONG"


def doubled_backward(run):  # type: ignore[no-untyped-def]
    """The operator with the same values and twice their gradient."""
    from keras import ops

    def wrong(*arguments):  # type: ignore[no-untyped-def]
        value = run(*arguments)
        return 2 * value - ops.stop_gradient(value)

    return wrong
