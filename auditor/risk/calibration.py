"""`Calibration`: the coefficients of the risk, and which outcomes they were fitted to."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, kw_only=True)
class Term:
    """A hinge: how far a measure is beyond its knot, above (side 1) or below (side −1) it."""

    measure: str
    side: int
    knot: float

    def value(self, measures: Mapping[str, float]) -> float:
        """The hinge, 0 on the healthy side and where the measure is missing."""
        if self.measure not in measures:
            return 0.0
        return max(self.side * (measures[self.measure] - self.knot), 0.0)


@dataclass(frozen=True, kw_only=True)
class Logistic:
    """A logistic regression on hinges, each of which can only raise the probability.

    covariance: of the intercept and the coefficients, in this order, by the curvature of the
        likelihood at its maximum.
    """

    intercept: float
    terms: tuple[Term, ...]
    coefficients: tuple[float, ...]
    covariance: Array

    def contributions(self, measures: Mapping[str, float]) -> tuple[float, ...]:
        """What each term adds to the log odds."""
        return tuple(
            coefficient * term.value(measures)
            for term, coefficient in zip(self.terms, self.coefficients, strict=True)
        )

    def probability(self, measures: Mapping[str, float]) -> tuple[float, float, float]:
        """The probability, and the ends of its 95 % interval."""
        values = np.array([1.0, *(term.value(measures) for term in self.terms)])
        odds = float(values @ np.array([self.intercept, *self.coefficients]))
        error = math.sqrt(max(float(values @ self.covariance @ values), 0.0))
        return (
            _logistic(odds),
            _logistic(odds - 1.96 * error),
            _logistic(odds + 1.96 * error),
        )


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What was fitted, and to which models.

    risk: that training fails. rate: that it does at the declared rate and not at a lower one.
    depth, parameters: the most kernel layers on a path and the most weights of a model that was
        trained; optimizers, losses: those that were declared.
    provenance: a sentence or two on the outcomes, for people.
    """

    risk: Logistic
    rate: Logistic
    depth: int
    parameters: int
    optimizers: frozenset[str]
    losses: frozenset[str]
    provenance: str


@functools.cache
def calibration() -> Calibration:
    """The calibration that comes with this version."""
    text = files(__package__).joinpath("calibration.json").read_text(encoding="utf-8")
    document = json.loads(text)
    domain = document["domain"]
    return Calibration(
        risk=logistic(document["risk"]),
        rate=logistic(document["rate"]),
        depth=domain["depth"],
        parameters=domain["parameters"],
        optimizers=frozenset(domain["optimizers"]),
        losses=frozenset(domain["losses"]),
        provenance=document["provenance"],
    )


def logistic(document: Mapping[str, Any]) -> Logistic:
    """A regression from its JSON values."""
    terms = document["terms"]
    return Logistic(
        intercept=document["intercept"],
        terms=tuple(
            Term(measure=term["measure"], side=term["side"], knot=term["knot"]) for term in terms
        ),
        coefficients=tuple(term["coefficient"] for term in terms),
        covariance=np.array(document["covariance"]),
    )


def _logistic(odds: float) -> float:
    return 1 / (1 + math.exp(-max(-700.0, min(700.0, odds))))
