"""Holds the ONNX importer against the official tests of the installed onnx.

    KERAS_BACKEND=tensorflow python bench/onnx_conformance.py              # outputs and gradients
    python bench/onnx_conformance.py --forward --only 'test_conv_*'

Outputs: a row an operator with how many of its tests came out right, were refused in a clear line,
draw random numbers (whose shapes and dtypes are compared), or came out wrong, which must be none.

Gradients, of tests with float inputs and outputs, in double precision: the framework's against
central differences; see onnx_gradients.py for what the columns mean. Every test that is not right
is named below its table, and so is what ran as a constant.

Exits 1 where an output or a gradient is wrong, or anything but a clear refusal came out.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from onnx_official import Case, Outcome, cases, draws_numbers, fed, interpreter  # sets up Keras

# isort: split
import keras
import numpy as np
from onnx_gradients import gradients, is_counted, is_eligible

from auditor.onnx_import.interpreter.value import concrete
from auditor.onnx_import.refused import NotImportable

#: Spacing of numbers at 1: another order of the same sums differs by a step or two of the largest
#: value, whatever tolerance a test asks for.
STEPS = {"float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}
FORWARD = ("right", "refused", "random", "WRONG", "CRASH")
GRADIENT = ("right", "constant", "kink", "setting", "random", "refused", "WRONG", "CRASH")


def forward(case: Case) -> Outcome:
    """Run a test and compare what it gives."""
    begun = time.perf_counter()
    runner = None
    try:
        runner = interpreter(case)
        names = [name for name, _ in runner.model.graph.inputs]
        for inputs, wanted in case.data:
            found = runner.run(dict(zip(names, map(fed, inputs), strict=True)))
            status, why = compare(case, found, wanted, random=draws_numbers(runner.model.graph))
            if status != "right":
                break
    except NotImportable as error:
        status, why = "refused", error.reason
    except Exception as error:
        status, why = "CRASH", f"{type(error).__name__}: {error}"[:300]
    return Outcome(
        name=case.name,
        operator=case.operator,
        status=status,
        why=why,
        hosted=tuple(runner.hosted.values()) if runner else (),
        seconds=time.perf_counter() - begun,
    )


def compare(
    case: Case, found: Sequence[Any], wanted: Sequence[Any], *, random: bool
) -> tuple[str, str]:
    """Status and reason for these outputs."""
    if len(found) != len(wanted):
        return "WRONG", f"{len(found)} outputs for {len(wanted)}"
    for place, (ours, theirs) in enumerate(zip(found, wanted, strict=True)):
        why = _different(concrete(ours), theirs, case)
        if why:
            if random and not why.startswith(("dtype", "shape")):
                return "random", "draws random numbers"
            return "WRONG", f"output {place}: {why}"
    return "right", ""


def _different(ours: Any, theirs: Any, case: Case) -> str:
    if theirs is None or ours is None:
        return "" if theirs is None and ours is None else f"{ours!r} for {theirs!r}"
    if isinstance(theirs, (list, tuple)):
        if not isinstance(ours, (list, tuple)) or len(ours) != len(theirs):
            return f"{ours!r} for a sequence of {len(theirs)}"
        whys = (_different(a, b, case) for a, b in zip(ours, theirs, strict=True))
        return next(filter(None, whys), "")
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    if ours.dtype != theirs.dtype and not {ours.dtype.kind, theirs.dtype.kind} <= set("OUST"):
        return f"dtype {ours.dtype} for {theirs.dtype}"
    if ours.shape != theirs.shape:
        return f"shape {ours.shape} for {theirs.shape}"
    if theirs.dtype.kind in "OUST":
        return "" if ours.astype(str).tolist() == theirs.astype(str).tolist() else "other text"
    rtol, atol = case.rtol, case.atol
    name = theirs.dtype.name
    if theirs.dtype.kind == "V" or name in STEPS:
        ours, theirs = ours.astype(np.float32), theirs.astype(np.float32)
    with np.errstate(all="ignore"):
        if name in STEPS:
            finite = np.abs(theirs[np.isfinite(theirs)])
            rtol = max(rtol, 2 * STEPS[name])
            atol = max(atol, STEPS[name] * float(finite.max(initial=0.0)))
        if np.allclose(ours, theirs, rtol=rtol, atol=atol, equal_nan=True):
            return ""
        error = np.nanmax(np.abs(ours.astype(np.float64) - theirs.astype(np.float64)))
    return f"differs by {error:.3g}"


def table(outcomes: Sequence[Outcome], statuses: Sequence[str]) -> str:
    """A row an operator, the sum last."""
    rows: dict[str, Counter[str]] = {}
    for outcome in outcomes:
        rows.setdefault(outcome.operator, Counter())[outcome.status] += 1
    rows = dict(sorted(rows.items()))
    rows["all"] = sum(rows.values(), Counter())
    width = max(map(len, rows), default=0)
    lines = [f"{'operator':{width}}  {'tests':>5}  " + "  ".join(f"{s:>8}" for s in statuses)]
    for name, counts in rows.items():
        cells = "  ".join(f"{counts[status] or '':>8}" for status in statuses)
        lines.append(f"{name:{width}}  {counts.total():>5}  {cells}")
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    """Print the tables; 1 where something came out wrong."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="*", help="tests whose names fit this pattern")
    parser.add_argument("--forward", action="store_true", help="outputs alone, no gradients")
    parser.add_argument("--gradients", action="store_true", help="gradients alone, no outputs")
    parser.add_argument("--json", type=Path, help="write every outcome to this file")
    given = parser.parse_args(arguments)
    chosen = list(cases(given.only))
    told: dict[str, list[Outcome]] = {}
    if not given.gradients:
        told["outputs"] = report("outputs", forward, chosen, FORWARD)
    if not given.forward:
        eligible = list(filter(is_eligible, chosen))
        counted = {case.name for case in filter(is_counted, eligible)}
        told["gradients"] = report("gradients", gradients, eligible, GRADIENT)
        print(share([outcome for outcome in told["gradients"] if outcome.name in counted]))
    if given.json:
        plain = {what: [asdict(outcome) for outcome in found] for what, found in told.items()}
        given.json.write_text(json.dumps(plain, indent=1))
    wrong = [o for found in told.values() for o in found if o.status in ("WRONG", "CRASH")]
    return 1 if wrong else 0


def report(
    what: str, judge: Callable[[Case], Outcome], chosen: Sequence[Case], statuses: Sequence[str]
) -> list[Outcome]:
    """Print the table of outcomes, and each that did not come out right."""
    begun = time.perf_counter()
    found = [judge(case) for case in chosen]
    seconds = time.perf_counter() - begun
    print(f"{what}\n{table(found, statuses)}")
    for outcome in found:
        if outcome.status != "right" or outcome.why:
            print(f"{outcome.status:8} {outcome.name}: {outcome.why}")
    for outcome in found:
        if outcome.hosted:
            print(f"hosted   {outcome.name}: {outcome.hosted[0]}")
    print(f"{what} on {keras.backend.backend()}: {sums(found, statuses)} in {seconds:.0f} s\n")
    return found


def sums(outcomes: Sequence[Outcome], statuses: Sequence[str]) -> str:
    """How many came out how."""
    counts = Counter(outcome.status for outcome in outcomes)
    return ", ".join(f"{counts[status]} {status}" for status in statuses) + f" of {len(outcomes)}"


def share(outcomes: Sequence[Outcome]) -> str:
    """What share of the tests that can be differentiated at their point is right."""
    apart = Counter(outcome.status for outcome in outcomes)
    without = sum(apart[status] for status in ("constant", "kink", "setting", "random"))
    smooth = len(outcomes) - without
    right = apart["right"]
    return (
        f"of tests with tensors of 16 to 64 bits: {sums(outcomes, GRADIENT)};\n"
        f"{right} of the {smooth} differentiable at the point, {right / max(smooth, 1):.1%}"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
