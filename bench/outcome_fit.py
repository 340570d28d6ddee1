"""The risk's coefficients from outcomes: logistic regression on hinges that can only raise it.

Every coefficient is held at or above nothing, so that what a measure adds can be told as a reason;
a small ridge keeps them finite where a hinge divides the models cleanly. The interval of a risk
comes of the curvature of the penalised likelihood at its maximum, over the terms that are in use.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from outcome_labels import FAILED, Row, fails, number, rate_too_high
from outcome_models import FRESH, HELD_OUT, MIS_SCALED, UNREPAIRED
from scipy.optimize import minimize

from auditor.risk.calibration import Term, calibration
from auditor.risk.measures import MEASURES

Array = np.ndarray[Any, Any]
Measured = Mapping[str, float]

STORED = Path(__file__).parent.parent / "auditor" / "risk" / "calibration.json"
#: Half the inverse variance that coefficients are believed to have.
RIDGE = 0.3
Hinges = Mapping[tuple[str, int], tuple[float, ...]]
#: Where hinges stand, in natural logarithms: wide of what is healthy, and a few beyond.
RISK: Hinges = {
    ("ratio", 1): (2.0, 5.0),
    ("ratio", -1): (-3.0, -6.0),
    ("excess", 1): (1.0, 3.0),
    ("step", 1): (-4.0, -2.0),
    ("step", -1): (-7.0, -9.0),
    ("least_step", -1): (-9.0, -12.0),
    ("trial_end", 1): (0.0,),
    ("learned", 1): (-0.5,),
    ("learning", -1): (-1.0, -3.0),
    ("late", -1): (-1.2,),
    ("trial_fall", -1): (-2.0, -4.0),
    ("overshoot", 1): (0.0,),
    ("sharpness", 1): (4.0,),
    ("depth", 1): (2.0, 3.0),
}
RATE: Hinges = {
    ("step", 1): (-5.0, -4.0, -3.0, -1.0),
    ("trial_rise", 1): (0.0, 1.0),
    ("trial_end", 1): (-0.3, 0.0),
    ("overshoot", 1): (0.0, 2.0),
    ("sharpness", 1): (2.0, 4.0),
    ("learned", 1): (-1.0, -0.2),
    ("depth", 1): (2.0, 3.0),
}


def fit(
    measures: Sequence[Measured], outcomes: Sequence[bool], hinges: Hinges, ridge: float = RIDGE
) -> dict[str, Any]:
    """Intercept, coefficients and covariance, as calibration.json holds them."""
    possible = [
        Term(measure=measure, side=side, knot=knot)
        for (measure, side), knots in hinges.items()
        for knot in knots
    ]
    values = np.array([[term.value(one) for term in possible] for one in measures])
    design = np.hstack([np.ones((len(values), 1)), values])
    signs = np.where(np.array(outcomes), 1.0, -1.0)
    pull_back = np.full(design.shape[1], ridge)
    pull_back[0] = 0.0

    def loss(coefficients: Array) -> tuple[float, Array]:
        margin = signs * (design @ coefficients)
        value = np.logaddexp(0.0, -margin).sum() + pull_back @ np.square(coefficients)
        pull = -signs / (1 + np.exp(np.clip(margin, -500, 500)))
        return float(value), design.T @ pull + 2 * pull_back * coefficients

    bounds = [(None, None), *[(0.0, None)] * len(possible)]
    found = minimize(loss, np.zeros(design.shape[1]), jac=True, bounds=bounds, method="L-BFGS-B")
    used = np.flatnonzero((found.x > 1e-4) | (np.arange(len(found.x)) == 0))
    odds = design @ found.x
    weight = 1 / (2 + np.exp(odds) + np.exp(-odds))
    inner = design[:, used]
    hessian = inner.T @ (weight[:, None] * inner) + np.diag(2 * pull_back[used])
    return {
        "intercept": round(float(found.x[0]), 4),
        "terms": [
            {
                "measure": possible[place - 1].measure,
                "side": possible[place - 1].side,
                "knot": possible[place - 1].knot,
                "coefficient": round(float(found.x[place]), 4),
            }
            for place in used[1:]
        ],
        "covariance": [[float(f"{v:.4g}") for v in row] for row in np.linalg.inv(hessian)],
    }


def calibrate(rows: Sequence[Row], date: str) -> dict[str, Any]:
    """Both regressions on the models that are set for fitting, and what they hold for."""
    first = [row for row in rows if not drawn_later(row)]
    fitted = [row for row in first if set_for_fitting(row)]
    # The others were drawn to explode or vanish, which their losses rise by as well.
    tried = [
        row for row in fitted if row["family"] not in UNREPAIRED and int(row["number"]) < MIS_SCALED
    ]
    return {
        "provenance": (
            f"Calibrated in {date} on how {len(fitted)} of {len(first)} small networks trained on "
            "scikit-learn's digits and on generated tasks (bench/outcomes.py); to fail is to end "
            f"300 steps of 32 samples above {FAILED:.0%} of the best constant guess's loss."
        ),
        "domain": {
            "depth": max(int(row["layers"]) for row in fitted),
            "parameters": max(int(row["weights"]) for row in fitted),
            "optimizers": ["adam", "adamw", "rmsprop", "sgd"],
            "losses": [
                "categorical_crossentropy",
                "mean_squared_error",
                "sparse_categorical_crossentropy",
            ],
        },
        "risk": fit([measures_of(row) for row in fitted], [fails(row) for row in fitted], RISK),
        "rate": fit([measures_of(row) for row in tried], [rate_too_high(r) for r in tried], RATE),
    }


def held_out(row: Row) -> bool:
    """Whether the model is of a family that nothing is fitted on."""
    return row["family"] in HELD_OUT


def set_for_fitting(row: Row) -> bool:
    """Whether coefficients may be fitted to the model."""
    return int(row["number"]) % 2 == 0 and not held_out(row) and not drawn_later(row)


def drawn_later(row: Row) -> bool:
    """Whether the model was drawn when all that judges it stood."""
    return int(row["number"]) >= FRESH


def measures_of(row: Row) -> Measured:
    """The measures of a line of the table."""
    values = {name: number(row, name) for name in MEASURES}
    return {name: value for name, value in values.items() if value is not None}


def chances(rows: Sequence[Row], name: str) -> list[float]:
    """The probabilities that the stored calibration gives."""
    regression = getattr(calibration(), name)
    return [regression.probability(measures_of(row))[0] for row in rows]


def store(document: Mapping[str, Any], path: Path = STORED) -> None:
    """Write the calibration that the package ships."""
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
