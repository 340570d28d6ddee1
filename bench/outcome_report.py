"""Tables of the outcome benchmark: each measure alone, all together, verdicts against causes.

A risk is fitted by logistic regression on the even half of the models, families that are held out
left aside; everything that is told is of the odd half, or of these families.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from outcome_models import HELD_OUT
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

Array = np.ndarray[Any, Any]
Row = Mapping[str, str]

#: Logarithms beyond this say no more than that.
FAR = 30.0
#: What a measure is judged by alone: its distance from where a healthy model has it.
ALONE: Mapping[str, Callable[[float], float]] = {
    "log_ratio": abs,
    "rate_of_growth": abs,
    "log_gsc": abs,
    "log_forward": abs,
    "loss_excess": abs,
    "gradient": abs,
    "update_median": lambda x: abs(x - math.log(2e-3)),
    "update_high": lambda x: abs(x - math.log(5e-3)),
    "trial_rise": lambda x: x,
    "sharpness_rate": lambda x: x,
    "step_rate": lambda x: x,
    "dead": lambda x: x,
    "saturated": lambda x: x,
}
#: What the risk is made of. Squares let a measure be bad on both sides.
TOGETHER = (
    "log_ratio",
    "rate_of_growth",
    "log_gsc",
    "loss_excess",
    "update_low",
    "update_median",
    "update_high",
    "trial_rise",
    "step_rate",
    "saturated",
)
BINS = 10


def report(rows: Sequence[Row], plot: Path) -> str:
    """The tables; `plot` is written where matplotlib is installed."""
    told = [row for row in rows if int(row["number"]) % 2 and row["family"] not in HELD_OUT]
    fitted = [row for row in rows if not int(row["number"]) % 2 and row["family"] not in HELD_OUT]
    apart = [row for row in rows if row["family"] in HELD_OUT]
    lines = [
        f"{len(rows)} models, {sum(map(fails, rows))} fail; {len(fitted)} fitted on, {len(told)} "
        f"told, {len(apart)} of families held out ({', '.join(HELD_OUT)})",
        "",
        f"{'area under the curve for failing, alone':<44}{'told':>8}{'held out':>10}",
    ]
    for name, distance in ALONE.items():
        areas = [
            _area(part, [distance(_number(row, name)) for row in part]) for part in (told, apart)
        ]
        lines.append(f"{name:<44}{areas[0]:>8}{areas[1]:>10}")
    predict = _fit(fitted)
    if predict is None:
        return "\n".join([*lines, "too few outcomes of both kinds to fit a risk"])
    risks = [predict(part) if part else np.empty(0) for part in (told, apart)]
    areas = [_area(part, list(risk)) for part, risk in zip((told, apart), risks, strict=True)]
    lines += [f"{'all together (logistic)':<44}{areas[0]:>8}{areas[1]:>10}", ""]
    error = _calibration_error(np.array([fails(row) for row in told]), risks[0])
    lines += [f"expected calibration error, told: {error:.3f}", ""]
    lines.append(
        f"{'verdict against cause':<24}{'precision':>10}{'recall':>8}{'verdicts':>10}{'causes':>8}"
    )
    lines += [_verdict_line(rows, name) for name in ("exploding", "vanishing")]
    _draw(told, risks[0], plot)
    return "\n".join(lines)


def fails(row: Row) -> bool:
    """Whether the model did not learn as declared."""
    return row["fails"] == "1"


def _number(row: Row, name: str) -> float:
    text = row.get(name, "")
    value = 0.0 if text == "" else float(text)
    return FAR if math.isnan(value) else max(-FAR, min(FAR, value))


def _area(rows: Sequence[Row], scores: Sequence[float]) -> str:
    outcomes = [fails(row) for row in rows]
    if len(set(outcomes)) < 2:
        return "-"
    return f"{roc_auc_score(outcomes, np.asarray(scores)):.3f}"


def _features(rows: Sequence[Row]) -> Array:
    plain = np.array([[_number(row, name) for name in TOGETHER] for row in rows])
    return np.hstack([plain, np.square(plain) / FAR, np.maximum(plain, 0.0)])


def _fit(rows: Sequence[Row]) -> Callable[[Sequence[Row]], Array] | None:
    outcomes = [fails(row) for row in rows]
    if min(sum(outcomes), len(outcomes) - sum(outcomes)) < 10:
        return None
    scaler = StandardScaler().fit(_features(rows))
    model = LogisticRegression(C=0.3, max_iter=5000).fit(
        scaler.transform(_features(rows)), outcomes
    )

    def predict(others: Sequence[Row]) -> Array:
        risks: Array = model.predict_proba(scaler.transform(_features(others)))[:, 1]
        return risks

    return predict


def _calibration_error(outcomes: Array, risks: Array) -> float:
    """Mean distance between risk and share of failures, over bins of equal width."""
    places = np.minimum((risks * BINS).astype(int), BINS - 1)
    total = 0.0
    for place in range(BINS):
        here = places == place
        if here.any():
            total += here.sum() * abs(risks[here].mean() - outcomes[here].mean())
    return float(total / max(len(risks), 1))


def _verdict_line(rows: Sequence[Row], name: str) -> str:
    said = [row for row in rows if row["verdict"] == name]
    caused = [row for row in rows if row["cause"] == name]
    both = sum(row["cause"] == name for row in said)
    precision = f"{both / len(said):.2f}" if said else "-"
    recall = f"{both / len(caused):.2f}" if caused else "-"
    return f"{name:<24}{precision:>10}{recall:>8}{len(said):>10}{len(caused):>8}"


def _draw(rows: Sequence[Row], risks: Array, path: Path) -> None:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return
    figure = Figure(figsize=(9, 4), layout="constrained")
    ratio, reliability = figure.subplots(1, 2)
    for failed, colour in ((False, "tab:green"), (True, "tab:red")):
        chosen = [row for row in rows if fails(row) is failed]
        ratio.scatter(
            [_number(row, "log_ratio") / math.log(10) for row in chosen],
            [_number(row, "trial_rise") for row in chosen],
            s=14,
            color=colour,
            label="fails" if failed else "trains",
        )
    ratio.set(xlabel="log10 gradient, first over last", ylabel="log loss, trial steps")
    ratio.legend()
    edges = np.linspace(0, 1, BINS + 1)
    outcomes = np.array([fails(row) for row in rows])
    for low, high in pairwise(edges):
        here = (risks >= low) & (risks < high + (high == 1.0))
        if here.any():
            reliability.plot(risks[here].mean(), outcomes[here].mean(), "o", color="tab:blue")
    reliability.plot([0, 1], [0, 1], color="grey", linewidth=1)
    reliability.set(xlabel="risk", ylabel="share that fails")
    figure.savefig(path, dpi=110)
