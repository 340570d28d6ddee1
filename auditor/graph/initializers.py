"""The law of a weight's values at initialization, as its initializer states it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from auditor.graph.statistics import WeightStatistics
from auditor.graph.weight import Initializer

#: Keras draws "truncated" normals within two standard deviations; this is the variance left of 1.
TRUNCATED_VARIANCE = 1 - 4 * math.exp(-2) / math.sqrt(2 * math.pi) / math.erf(math.sqrt(2))
#: Kurtosis of the laws: what the sampling error of an empirical variance depends on.
NORMAL, UNIFORM = 3.0, 1.8
#: How many standard errors apart an empirical moment and its law may be.
STANDARD_ERRORS = 5.0
#: Relative slack for values rounded to half precision.
ROUNDING = 2e-3

#: scale, fan and distribution behind Keras' named variance-scaling initializers.
NAMED_SCALINGS: Mapping[str, tuple[float, str]] = {
    "glorot_uniform": (1.0, "fan_avg"),
    "glorot_normal": (1.0, "fan_avg"),
    "he_uniform": (2.0, "fan_in"),
    "he_normal": (2.0, "fan_in"),
    "lecun_uniform": (1.0, "fan_in"),
    "lecun_normal": (1.0, "fan_in"),
}


@dataclass(frozen=True, kw_only=True)
class WeightLaw:
    """Mean, variance, support and kurtosis of independent draws."""

    mean: float
    variance: float
    low: float = -math.inf
    high: float = math.inf
    kurtosis: float = NORMAL

    @property
    def mean_square(self) -> float:
        """Expected square of a value."""
        return self.mean**2 + self.variance

    def explains(self, seen: WeightStatistics) -> bool:
        """Whether values with these statistics can be fresh draws of this law.

        Compares mean, variance (its standard error is σ²√((κ−1)/n)) and support. Training moves
        the values of a layer of some size out of these bounds within its first epochs.
        """
        if seen.nonfinite:
            return False
        sigma = math.sqrt(self.variance)
        slack = ROUNDING * max(sigma, abs(self.mean))
        if seen.low < self.low - slack or seen.high > self.high + slack:
            return False
        mean_error = sigma / math.sqrt(seen.count)
        variance_error = self.variance * math.sqrt((self.kurtosis - 1) / seen.count)
        return (
            abs(seen.mean - self.mean) <= STANDARD_ERRORS * mean_error + slack
            and abs(seen.variance - self.variance)
            <= STANDARD_ERRORS * variance_error + 2 * ROUNDING * self.variance
        )


def keras_fans(shape: tuple[int, ...]) -> tuple[float, float]:
    """Fan-in and fan-out as Keras' initializers compute them from a shape alone.

    They are what the law of the values depends on, and differ from the connections a unit has in
    depthwise and transposed convolutions (`keras.initializers.compute_fans`).
    """
    if not shape:
        return 1.0, 1.0
    if len(shape) == 1:
        return float(shape[0]), float(shape[0])
    field = math.prod(shape[:-2])
    return float(shape[-2] * field), float(shape[-1] * field)


def weight_law(initializer: Initializer, shape: tuple[int, ...]) -> WeightLaw | None:
    """The law of a weight of this shape; None for an initializer that is not known.

    Sources of the variances: LeCun 1998, Glorot & Bengio 2010, He et al. 2015, Saxe et al. 2014
    (orthogonal), as Keras implements them.
    """
    name, config = initializer.name, initializer.config
    if name in NAMED_SCALINGS:
        scale, mode = NAMED_SCALINGS[name]
        distribution = "uniform" if name.endswith("uniform") else "truncated_normal"
        return _scaled(scale, mode, distribution, shape)
    match name:
        case "zeros" | "ones" | "constant":
            value = {"zeros": 0.0, "ones": 1.0}.get(name, _number(config, "value", 0.0))
            return WeightLaw(mean=value, variance=0.0, low=value, high=value)
        case "random_normal" | "normal":
            sigma = _number(config, "stddev", 0.05)
            return WeightLaw(mean=_number(config, "mean", 0.0), variance=sigma**2)
        case "truncated_normal":
            mean, sigma = _number(config, "mean", 0.0), _number(config, "stddev", 0.05)
            return _truncated(mean, sigma)
        case "random_uniform" | "uniform":
            low, high = _number(config, "minval", -0.05), _number(config, "maxval", 0.05)
            return _uniform(min(low, high), max(low, high))
        case "variance_scaling":
            return _scaled(
                _number(config, "scale", 1.0),
                str(config.get("mode", "fan_in")),
                str(config.get("distribution", "truncated_normal")),
                shape,
            )
        case "orthogonal" | "orthogonal_initializer":
            rows, columns = math.prod(shape[:-1]), shape[-1] if shape else 1
            gain = _number(config, "gain", 1.0)
            return WeightLaw(mean=0.0, variance=gain**2 / max(rows, columns, 1))
        case "identity" | "identity_initializer" if len(shape) == 2:
            share = min(shape) / max(math.prod(shape), 1)
            gain = _number(config, "gain", 1.0)
            return WeightLaw(
                mean=gain * share,
                variance=gain**2 * share * (1 - share),
                low=min(0.0, gain),
                high=max(0.0, gain),
            )
    return None


def _scaled(scale: float, mode: str, distribution: str, shape: tuple[int, ...]) -> WeightLaw | None:
    fan_in, fan_out = keras_fans(shape)
    fans = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}
    if mode not in fans or scale < 0:
        return None
    variance = scale / max(1.0, fans[mode])
    match distribution:
        case "uniform":
            limit = math.sqrt(3 * variance)
            return _uniform(-limit, limit)
        case "truncated_normal" | "normal":
            # Keras widens σ before it truncates, so that the variance left is the one meant.
            return _truncated(0.0, math.sqrt(variance / TRUNCATED_VARIANCE))
        case "untruncated_normal":
            return WeightLaw(mean=0.0, variance=variance)
    return None


def _uniform(low: float, high: float) -> WeightLaw:
    return WeightLaw(
        mean=(low + high) / 2,
        variance=(high - low) ** 2 / 12,
        low=low,
        high=high,
        kurtosis=UNIFORM,
    )


def _truncated(mean: float, sigma: float) -> WeightLaw:
    return WeightLaw(
        mean=mean,
        variance=sigma**2 * TRUNCATED_VARIANCE,
        low=mean - 2 * abs(sigma),
        high=mean + 2 * abs(sigma),
    )


def _number(config: Mapping[str, Any], key: str, default: float) -> float:
    value = config.get(key, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return default
    return float(value) if math.isfinite(value) else default
