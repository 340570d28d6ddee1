"""An estimate is shown with its bound, its error and its method, and no digit is invented."""

import math
from dataclasses import replace

import pytest
from measures_by_hand import estimate

from auditor.finding import Bound
from auditor.reports import estimate_view

EXACT = estimate(2.0, spread=0.0)
RITZ = estimate(
    5.43, 0.021, method="Golub–Kahan, 8 steps", bound=Bound.LOWER, products=16, spread=0.1
)


def test_an_exact_value_stands_alone():
    assert (estimate_view.value(EXACT), estimate_view.error(EXACT)) == ("2", "")
    assert estimate_view.how(EXACT) == "exact, diagonal Jacobian; 1 product"


def test_a_closed_form_took_no_products():
    assert estimate_view.how(replace(EXACT, products=0)) == "exact, diagonal Jacobian"


def test_a_lower_bound_can_only_be_too_small():
    assert (estimate_view.value(RITZ), estimate_view.error(RITZ)) == ("≥ 5.43", "+ 0.021")
    assert estimate_view.how(RITZ) == (
        "lower bound; at most 0.021 too small; median of samples from 4.89 to 5.97; "
        "Golub–Kahan, 8 steps; 16 products"
    )


def test_an_upper_bound_can_only_be_too_large():
    upper = replace(RITZ, bound=Bound.UPPER)
    assert (estimate_view.value(upper), estimate_view.error(upper)) == ("≤ 5.43", "− 0.021")
    assert "upper bound; at most 0.021 too large" in estimate_view.how(upper)


def test_an_estimate_goes_either_way():
    either = replace(RITZ, bound=Bound.NONE)
    assert (estimate_view.value(either), estimate_view.error(either)) == ("5.43", "± 0.021")
    assert "± 0.021 (95 %)" in estimate_view.how(either)


@pytest.mark.parametrize("error", [math.inf, math.nan])
def test_an_error_that_is_no_number_is_seen(error):
    assert estimate_view.error(replace(RITZ, error=error)) in ("+ ∞", "+ NaN")


def test_rounding_is_not_shown_as_an_error():
    assert estimate_view.error(replace(RITZ, error=1e-7)) == ""
