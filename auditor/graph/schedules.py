"""What a declared learning rate is at a later step, by Keras' formulas for its schedules."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from auditor.graph.compile_settings import OptimizerSettings
from auditor.graph.dimensions import number


def rate_at(optimizer: OptimizerSettings, step: int) -> float | None:
    """The learning rate before the update with this number, from 0 on.

    None where the schedule is not known (a class of one's own, a setting that is no number), or
    has no value there.
    """
    if optimizer.schedule is None:
        return optimizer.learning_rate
    formula = FORMULAS.get(optimizer.schedule)
    if formula is None:
        return None
    try:
        rate = formula(optimizer.schedule_config, float(step))
    except (ArithmeticError, KeyError, TypeError, ValueError):
        return None
    return rate if math.isfinite(rate) else None


def _setting(config: Mapping[str, Any], name: str, default: float | None = None) -> float:
    """A numeric setting. Raises `KeyError` where there is neither one nor a default."""
    value = number(config.get(name))
    if value is not None:
        return value
    if default is None:
        raise KeyError(name)
    return default


def _progress(config: Mapping[str, Any], step: float) -> float:
    """Steps over those the schedule is for, whole where it goes down in stairs."""
    share = step / _setting(config, "decay_steps")
    return math.floor(share) if config.get("staircase") else share


def _exponential(config: Mapping[str, Any], step: float) -> float:
    decay = math.pow(_setting(config, "decay_rate"), _progress(config, step))
    return _setting(config, "initial_learning_rate") * decay


def _inverse_time(config: Mapping[str, Any], step: float) -> float:
    falling = 1 + _setting(config, "decay_rate") * _progress(config, step)
    return _setting(config, "initial_learning_rate") / falling


def _polynomial(config: Mapping[str, Any], step: float) -> float:
    first, length = _setting(config, "initial_learning_rate"), _setting(config, "decay_steps")
    last = _setting(config, "end_learning_rate", 1e-4)
    if config.get("cycle"):
        length *= max(math.ceil(step / length), 1)
    left = 1 - min(step, length) / length
    return float((first - last) * left ** _setting(config, "power", 1.0) + last)


def _cosine(config: Mapping[str, Any], step: float) -> float:
    first, length = _setting(config, "initial_learning_rate"), _setting(config, "decay_steps")
    peak, warm = first, 0.0
    if config.get("warmup_target") is not None:
        peak, warm = _setting(config, "warmup_target"), _setting(config, "warmup_steps", 0.0)
    if step < warm:
        return first + (peak - first) * step / warm
    alpha = _setting(config, "alpha", 0.0)
    share = min(step - warm, length) / length
    return peak * ((1 - alpha) * 0.5 * (1 + math.cos(math.pi * share)) + alpha)


def _restarting(config: Mapping[str, Any], step: float) -> float:
    length, first = _setting(config, "first_decay_steps"), _setting(config, "initial_learning_rate")
    longer, lower = _setting(config, "t_mul", 2.0), _setting(config, "m_mul", 1.0)
    alpha, share = _setting(config, "alpha", 0.0), step / length
    if longer == 1.0:
        cycle = math.floor(share)
        share -= cycle
    else:
        cycle = math.floor(math.log(1 - share * (1 - longer)) / math.log(longer))
        share = (share - (1 - longer**cycle) / (1 - longer)) / longer**cycle
    height = (1 - alpha) * 0.5 * lower**cycle * (1 + math.cos(math.pi * share)) + alpha
    return float(first * height)


def _piecewise(config: Mapping[str, Any], step: float) -> float:
    bounds, values = config["boundaries"], config["values"]
    place = sum(step > bound for bound in bounds)
    rate = number(values[place] if place < len(values) else None)
    if rate is None:
        raise KeyError("values")
    return rate


FORMULAS = {
    "CosineDecay": _cosine,
    "CosineDecayRestarts": _restarting,
    "ExponentialDecay": _exponential,
    "InverseTimeDecay": _inverse_time,
    "PiecewiseConstantDecay": _piecewise,
    "PolynomialDecay": _polynomial,
}
