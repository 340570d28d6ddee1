"""Tables of the outcome benchmark: each measure alone, all together, verdicts against causes.

Told are the models with an odd number, of families that something is fitted on, and those of the
families held out whole. Only counts of causes and the verdicts' errors are of all models.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from outcome_fit import chances, drawn_later, held_out, measures_of, set_for_fitting
from outcome_labels import FAILED, Row, cause, fails, number, rate_too_high
from sklearn.metrics import roc_auc_score

Array = np.ndarray[Any, Any]

#: What a measure is judged by alone: its distance from where a healthy model has it.
ALONE: Mapping[str, Callable[[float], float]] = {
    "ratio": abs,
    "gsc": abs,
    "excess": abs,
    "step": lambda x: abs(x - np.log(3e-3)),
    "least_step": lambda x: -x,
    "trial_rise": lambda x: x,
    "trial_end": lambda x: x,
    "learned": lambda x: x,
    "learning": lambda x: -x,
    "late": lambda x: -x,
    "trial_fall": lambda x: -x,
    "overshoot": lambda x: x,
    "sharpness": lambda x: x,
    "depth": lambda x: x,
}
BINS = 10
#: Edges of gradient ratios, first layers over last.
RATIOS = (0.0, 1e-6, 1e-4, 1e-3, 1e-2, 1.0, 100.0, np.inf)
KIN: Mapping[str, tuple[str, ...]] = {
    "SGD": ("sgd", "momentum"),
    "Adam, AdamW": ("adam", "adamw"),
    "RMSprop": ("rmsprop",),
}
#: Factor of a growth rate that is still right.
WITHIN = 1.15
PROPAGATION = ("exploding", "vanishing")


def report(rows: Sequence[Row], plot: Path) -> str:
    """The tables; `plot` is written where matplotlib is installed."""
    fresh = [row for row in rows if drawn_later(row)]
    first = [row for row in rows if not drawn_later(row)]
    apart = [row for row in first if held_out(row)]
    told = [row for row in first if not held_out(row) and not set_for_fitting(row)]
    fitted = [row for row in first if set_for_fitting(row)]
    return "\n".join(
        [
            f"{len(rows)} models, {sum(map(fails, rows))} fail: {len(fitted)} fitted on, "
            f"{len(told)} told, {len(apart)} of families held out, {len(fresh)} fresh",
            _finals(rows),
            "",
            *_areas(told, apart, fresh),
            "",
            *_rate(rows),
            "",
            *_verdicts(rows),
            "",
            *_ratios(rows),
            "",
            _forecast(rows),
            *_drawn(told, plot),
        ]
    )


def _finals(rows: Sequence[Row]) -> str:
    finals = [number(row, "final") or 0.0 for row in rows]
    edges = (0, 0.25, 0.5, 0.7, 0.8, 0.9, 1.0, 1.5, np.inf)
    shares = [
        f"{low:g} to {high:g}: {sum(low < final <= high for final in finals)}"
        for low, high in pairwise(edges)
    ]
    return f"final loss over the constant guess's (fails above {FAILED:g}): " + ", ".join(shares)


def _areas(*parts: Sequence[Row]) -> list[str]:
    """For what is told, for the families held out, and for the models drawn later."""
    lines = [_line("area under the curve for failing", ("told", "held out", "fresh"))]
    for name, distance in ALONE.items():
        scores = [[distance(measures_of(row).get(name, 0.0)) for row in part] for part in parts]
        lines.append(
            _line(f"  {name} alone", [_area(p, s) for p, s in zip(parts, scores, strict=True)])
        )
    risks = [chances(part, "risk") for part in parts]
    lines.append(_line("  risk", [_area(p, r) for p, r in zip(parts, risks, strict=True)]))
    errors = [
        f"{calibration_error(p, r):.3f}" if p else "-" for p, r in zip(parts, risks, strict=True)
    ]
    return [*lines, _line("expected calibration error of the risk", errors)]


def _rate(rows: Sequence[Row]) -> list[str]:
    """GEB601: the chance it tells, for models that were tried at other rates."""
    known = [row for row in rows if cause(row) != "unknown"]
    odd = [row for row in known if int(row["number"]) % 2 and not drawn_later(row)]
    lines = []
    for name, part in (
        ("odd numbers", odd),
        ("odd, verdict stable", [row for row in odd if row["verdict"] == "stable"]),
        ("fresh", [row for row in known if drawn_later(row)]),
    ):
        outcomes = [rate_too_high(row) for row in part]
        area = _area(part, chances(part, "rate"), rate_too_high)
        said = [row for row in part if "GEB601" in row["codes"]]
        right = sum(map(rate_too_high, said))
        lines.append(
            f"GEB601, {name}: area {area}; {right} right of {len(said)} told, "
            f"{sum(outcomes)} too high of {len(part)}"
        )
    return lines


def _verdicts(rows: Sequence[Row]) -> list[str]:
    known = [(row, cause(row)) for row in rows if cause(row) != "unknown"]
    lines = [
        f"{'verdict against cause':<28}{'precision':>10}{'fail':>8}{'recall':>8}{'told':>6}"
        f"{'caused':>8}"
    ]
    first = [pair for pair in known if not drawn_later(pair[0])]
    for half, part in (
        ("even", [pair for pair in first if int(pair[0]["number"]) % 2 == 0]),
        ("odd", [pair for pair in first if int(pair[0]["number"]) % 2]),
        ("fresh", [pair for pair in known if drawn_later(pair[0])]),
        ("all", known),
    ):
        for name in PROPAGATION:
            told = [why for row, why in part if row["verdict"] == name]
            caused = [row for row, why in part if why == name]
            right = told.count(name)
            precision = f"{right / len(told):.3f}" if told else "-"
            recall = f"{right / len(caused):.3f}" if caused else "-"
            failing = f"{sum(map(bool, told)) / len(told):.3f}" if told else "-"
            lines.append(
                f"  {name + ', ' + half:<26}{precision:>10}{failing:>8}{recall:>8}{len(told):>6}"
                f"{len(caused):>8}"
            )
    pairs = Counter((row["verdict"], why or "trains") for row, why in known)
    lines.append("verdict and what became of it: " + _counted(pairs))
    return lines


def _ratios(rows: Sequence[Row]) -> list[str]:
    """How many train by how much of the gradient reaches the first layers."""
    lines = [
        f"{'trained, by gradient ratio':<28}"
        + "".join(f"{f'{low:g} to {high:g}':>18}" for low, high in pairwise(RATIOS))
    ]
    for name, kin in KIN.items():
        cells = []
        for low, high in pairwise(RATIOS):
            ratios = [(row, number(row, "ratio")) for row in rows if row["optimizer"] in kin]
            found = [
                row for row, ratio in ratios if ratio is not None and low < np.exp(ratio) <= high
            ]
            cells.append(f"{sum(not fails(row) for row in found)} of {len(found)}")
        lines.append(f"  {name:<26}" + "".join(f"{cell:>18}" for cell in cells))
    return lines


def _forecast(rows: Sequence[Row]) -> str:
    """How often the static forecast's growth rate is that of the probe."""
    pairs = [(number(row, "growth"), number(row, "forecast")) for row in rows]
    errors = [
        abs(np.log(predicted / seen))
        for seen, predicted in pairs
        if seen and predicted and np.isfinite(seen)
    ]
    within = np.mean(np.array(errors) <= np.log(WITHIN))
    return f"growth rate, forecast against probe: {within:.1%} of {len(errors)} within 15 %"


def _counted(pairs: Mapping[tuple[str, str], int]) -> str:
    return ", ".join(
        f"{verdict} {why} {count}"
        for (verdict, why), count in sorted(pairs.items(), key=lambda item: -item[1])
    )


def _line(name: str, cells: Sequence[str]) -> str:
    return f"{name:<40}" + "".join(f"{cell:>10}" for cell in cells)


def _area(
    rows: Sequence[Row], scores: Sequence[float], truth: Callable[[Row], bool] = fails
) -> str:
    outcomes = [truth(row) for row in rows]
    if len(set(outcomes)) < 2:
        return "-"
    return f"{roc_auc_score(outcomes, np.asarray(scores)):.3f}"


def calibration_error(rows: Sequence[Row], risks: Sequence[float]) -> float:
    """Mean distance between risk and share of failures, over bins of equal width."""
    outcomes, chance = np.array([fails(row) for row in rows]), np.array(risks)
    places = np.minimum((chance * BINS).astype(int), BINS - 1)
    total = 0.0
    for place in range(BINS):
        here = places == place
        if here.any():
            total += here.sum() * abs(chance[here].mean() - outcomes[here].mean())
    return float(total / max(len(chance), 1))


def _drawn(rows: Sequence[Row], path: Path) -> list[str]:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return []
    risks, outcomes = np.array(chances(rows, "risk")), np.array([fails(row) for row in rows])
    figure = Figure(figsize=(9, 4), layout="constrained")
    ratio, reliability = figure.subplots(1, 2)
    for failed, colour in ((False, "tab:green"), (True, "tab:red")):
        chosen = [measures_of(row) for row in rows if fails(row) is failed]
        ratio.scatter(
            [one.get("ratio", 0.0) / np.log(10) for one in chosen],
            [one.get("step", 0.0) / np.log(10) for one in chosen],
            s=14,
            color=colour,
            label="fails" if failed else "trains",
        )
    ratio.set(xlabel="log10 gradient, first over last", ylabel="log10 first step over weights")
    ratio.legend()
    edges = np.linspace(0, 1, BINS + 1)
    for low, high in pairwise(edges):
        here = (risks >= low) & (risks < high + (high == 1.0))
        if here.any():
            reliability.plot(risks[here].mean(), outcomes[here].mean(), "o", color="tab:blue")
    reliability.plot([0, 1], [0, 1], color="grey", linewidth=1)
    reliability.set(xlabel="risk", ylabel="share that fails")
    figure.savefig(path, dpi=110)
    return [f"drawn: {path.name}"]
