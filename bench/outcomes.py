"""Verdicts against what training does: several hundred small models, each audited and trained.

    python bench/outcomes.py run --count 600     # resumable; two to four seconds a model
    python bench/outcomes.py report              # tables, and outcomes.png beside the results

Every model is audited as it is saved, on synthetic batches as users' are, and then trained as it
was declared (outcome_training.py says what fails, and how the cause is found). The results are in
outcomes.csv, one line a model; a second run goes on where the first one stopped. Models with an
even number set what is fitted, odd ones are reported, and whole families only reported. Keras runs
on PyTorch, which compiles nothing: that is what a small model's time goes into.
"""

from __future__ import annotations

import argparse
import csv
import math
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "torch")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

RESULTS = Path(__file__).with_suffix(".csv")


def main() -> int:
    """Run or report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("action", choices=("run", "report"))
    parser.add_argument("--count", type=int, default=600)
    parser.add_argument("--part", default="0/1", help="this share of the models, as 0/2 and 1/2")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    if options.action == "report":
        from outcome_report import report

        print(report(read(options.results), options.results.with_suffix(".png")))
        return 0
    part, parts = (int(number) for number in options.part.split("/"))
    run([number for number in range(options.count) if number % parts == part], options.results)
    return 0


def read(path: Path) -> list[dict[str, str]]:
    """The results so far, by number."""
    if not path.exists():
        return []
    with path.open(newline="") as lines:
        return sorted(csv.DictReader(lines), key=lambda row: int(row["number"]))


def run(numbers: list[int], path: Path) -> None:
    """Audit and train those that are not in the file yet."""
    done = {int(row["number"]) for row in read(path)}
    for number in numbers:
        if number in done:
            continue
        started = time.perf_counter()
        row = observed(number)
        row["seconds"] = round(time.perf_counter() - started, 1)
        new = not path.exists()
        with path.open("a", newline="") as lines:
            writer = csv.DictWriter(lines, list(row))
            if new:
                writer.writeheader()
            writer.writerow(row)
        told = row["cause"] or "trains"
        print(
            f"{number:4} {row['family']:18} {told:10} {row['verdict']:9} {row['seconds']:6} s",
            flush=True,
        )


def observed(number: int) -> dict[str, Any]:
    """One line of the results."""
    import outcome_models
    import outcome_training
    import torch

    from auditor import audit

    torch.set_num_threads(1)  # small models: more threads wait for each other

    one = outcome_models.spec(number)
    data = outcome_training.task(one.task)
    model = outcome_models.build(one, data.x.shape[1:], data.outputs)
    model.compile(outcome_models.optimizer_of(one, one.rate), data.loss)
    result = audit(model, batch_size=16)
    outcome = outcome_training.observe(one, model, data)
    row: dict[str, Any] = asdict(one)
    row.update(measures(result, one.rate))
    row["verdict"] = result.verdict
    row["codes"] = " ".join(sorted({f"{f.code}{f.severity[0]}" for f in result.findings}))
    row["start"], row["final"], row["cause"] = outcome.start, outcome.final, outcome.cause
    row["best_rate"] = "" if outcome.best_rate is None else outcome.best_rate
    row["fails"] = int(outcome.fails)
    return {name: _short(value) for name, value in row.items()}


def measures(result: Any, rate: float) -> Mapping[str, float | None]:
    """What a probe says of a model before training, one number each."""
    probe = result.probe
    names = (
        "log_ratio rate_of_growth growth_low growth_high log_gsc log_forward loss_excess gradient "
        "update_low update_median update_high trial_rise sharpness_rate step_rate dead saturated "
        "depth_measured forecast"
    )
    if probe is None:
        return dict.fromkeys(names.split())
    updates = [c.update_ratio for c in probe.calls.values() if c.update_ratio is not None]
    dead = [c.dead_share for c in probe.calls.values() if c.dead_share is not None]
    saturated = [c.saturated_share for c in probe.calls.values() if c.saturated_share is not None]
    sharpness = probe.sharpness
    largest = None if sharpness is None else (sharpness.preconditioned or sharpness.largest).value
    trial = probe.trial_losses
    rise = None
    if trial:
        finite = all(math.isfinite(loss) for loss in trial)
        rise = math.log(max(trial[-1], 1e-30) / max(trial[0], 1e-30)) if finite else math.inf
    step = None
    if probe.step_slope and probe.step_curvature is not None:
        # The rate against the one at which the quadratic model of the loss is back at its start.
        step = rate * probe.step_curvature / (2 * abs(probe.step_slope))
    low, high = probe.growth_interval or (None, None)
    return {
        "log_ratio": _log(probe.gradient_ratio),
        "rate_of_growth": _log(probe.growth_rate),
        "growth_low": _log(low),
        "growth_high": _log(high),
        "log_gsc": _log(probe.gsc),
        "log_forward": _log(probe.forward_ratio),
        "loss_excess": _log(_ratio(probe.loss_at_start, probe.loss_expected)),
        "gradient": _log(probe.gradient_norm.p50 if probe.gradient_norm else None),
        "update_low": _log(min(updates, default=None)),
        "update_median": _log(sorted(updates)[len(updates) // 2] if updates else None),
        "update_high": _log(max(updates, default=None)),
        "trial_rise": rise,
        "sharpness_rate": None if largest is None else rate * largest,
        "step_rate": step,
        "dead": max(dead, default=None),
        "saturated": max(saturated, default=None),
        "depth_measured": probe.depth,
        "forecast": _log(result.forecast.growth_rate if result.forecast else None),
    }


def _log(value: float | None) -> float | None:
    """The natural logarithm; infinite where there is none."""
    if value is None:
        return None
    if math.isnan(value):
        return math.inf
    return math.log(value) if value > 0 else -math.inf


def _ratio(value: float | None, expected: float | None) -> float | None:
    return None if value is None or not expected else value / expected


def _short(value: Any) -> Any:
    return "" if value is None else float(f"{value:.5g}") if isinstance(value, float) else value


if __name__ == "__main__":
    sys.exit(main())
