"""What became of a trained model, and why: labels made of what its training and repairs did.

A run fails where its loss is not finite or ends above FAILED of the best constant guess's: the
outcomes lie on both sides of that with few between, for what learns at all gets below it in a few
hundred steps. The cause is told by what mends it:

- another rate alone: the rate was too high, or too low;
- the scale of the kernels (LSUV) or another propagation, where no rate alone does, or where the
  declared rate is a usual one. It exploded where the loss starts a hundred times too high; else the
  relative gradients of the first and last kernels tell, where they are far apart; else the model
  exploded where LSUV has to shrink its kernels and vanished where it has to enlarge them (behind
  normalizations a kernel's scale is of no account). Gradients that far apart count where nothing
  mends it, too;
- nothing: other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from outcome_models import UNREPAIRED, USUAL_RATES

Row = Mapping[str, str]

FAILED = 0.85
#: LSUV has to change the signal by this much, natural logarithm, to have found something.
SCALED = math.log(3)
#: Relative gradients of the first and last kernels are this far apart, natural logarithm, where
#: one of the two gets none to speak of.
APART = math.log(1e3)
#: A loss at start this many times that of the best constant guess: outputs ten times too large.
FAR_OFF = 100.0
#: A rate is a usual one within this many powers of ten.
USUAL = 0.5


def fails(row: Row) -> bool:
    """Whether the model did not learn as declared."""
    return not (number(row, "final") or 0.0) <= FAILED


def cause(row: Row) -> str:
    """Why: exploding, vanishing, rate_high, rate_low, other; unknown where nothing was tried."""
    if not fails(row):
        return ""
    if row["family"] in UNREPAIRED:
        return "unknown"
    direction = _direction(row)
    free = _scale_free(row)
    here = (_mends(row, "final_scaled") and not free) or _mends(row, "final_replaced")
    anywhere = here or (_mends(row, "final_scaled_usual") and not free)
    anywhere = anywhere or _mends(row, "final_replaced_usual")
    lower = any(_mends(row, f"final_rate_{power}") for power in (-1, -2, -3))
    higher = any(_mends(row, f"final_rate_{power}") for power in (1, 2, 3))
    if lower or higher:
        usual = abs(math.log10(float(row["rate"]) / USUAL_RATES[row["optimizer"]])) <= USUAL
        if direction and here and usual:
            return direction
        return "rate_high" if lower else "rate_low"
    if direction and (anywhere or abs(number(row, "seen") or 0.0) > APART):
        return direction
    return "other"


def rate_too_high(row: Row) -> bool:
    """Whether the model fails, and a lower rate ends at half of its loss or less, or trains."""
    if not fails(row):
        return False
    lower = [number(row, f"final_rate_{power}") for power in (-1, -2, -3)]
    ends = min((loss for loss in lower if loss is not None), default=math.inf)
    return ends <= max(FAILED, 0.5 * min(number(row, "final") or math.inf, 1e9))


def number(row: Row, name: str) -> float | None:
    """A figure of the table; None where there is none, infinite where it was not a number."""
    text = row.get(name, "")
    if text == "":
        return None
    value = float(text)
    return math.inf if math.isnan(value) else value


def _mends(row: Row, name: str) -> bool:
    loss = number(row, name)
    return loss is not None and loss <= FAILED


def _scale_free(row: Row) -> bool:
    """Whether the scale of a kernel is of no account; recurrent models have no such layer."""
    return row["normalization"] != "none" and row["family"] != "recurrent"


def _direction(row: Row) -> str:
    """What the start of training and LSUV say of the propagation, whether or not it matters."""
    if not (number(row, "start") or 0.0) <= FAR_OFF:
        return "exploding"
    seen = number(row, "seen") or 0.0
    if math.isfinite(seen) and abs(seen) > APART:
        return "exploding" if seen > 0 else "vanishing"
    scaling = 0.0 if _scale_free(row) else number(row, "scaling") or 0.0
    if abs(scaling) > SCALED:
        return "vanishing" if scaling > 0 else "exploding"
    return ""
