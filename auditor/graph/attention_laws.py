"""Mean-field laws of attention at initialization, where scores know nothing of the values.

The scores of one query are Gaussian with a variance s² over the keys; the weights aᵢⱼ are their
softmax over n keys. Forward, what the values of a sample have in common passes whole, and what
differs between positions is averaged, to E Σⱼ aᵢⱼ² of its power, of which 1/n is the same for every
query (rank collapse: Dong, Cordonnier, Loukas 2021; Noci et al. 2022, "Signal propagation in
transformers", https://arxiv.org/abs/2206.03126). Backward, the same holds of the gradient.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from auditor.graph.activations import Floats
from auditor.graph.dimensions import dimension, number
from auditor.graph.kernel_laws import WeightMoments, connections, weight_moments
from auditor.graph.layer_graph import LayerCall, LayerGraph
from auditor.graph.layer_laws import OPEN_SEQUENCE
from auditor.graph.signal import NO_WAY, Backward, Signal, Transfer

#: Scores that vary more than this are all but one-hot; the quadrature stays within it.
LARGEST_SCORE = 1e4
#: Digits of a score's variance that count, so that equal blocks share one quadrature.
DIGITS = 6
#: Rounds, at most, of the search for the sum of exponentials' logarithm, and its tolerance.
HALVINGS, TOLERANCE = 200, 1e-12


@lru_cache(maxsize=1024)
def concentration(keys: int, variance: float) -> float:
    """E Σⱼ aⱼ², a the softmax of `keys` independent scores N(0, variance): 1/keys … 1.

    One score is averaged over exactly, against the sum R of all others' exponentials, which is
    taken as a number: that for which E Σⱼ aⱼ = n·E[eᶻ/(eᶻ + R)] = 1.
    """
    if keys <= 1:
        return 1.0
    sigma = math.sqrt(min(variance, LARGEST_SCORE))
    z = np.linspace(-12.0, 12.0, 2401)
    weights = np.exp(-(z**2) / 2)
    weights /= weights.sum()
    low, high = -12.0 * sigma - 1.0, 12.0 * sigma + math.log(keys) + sigma**2 / 2 + 1.0
    middle = (low + high) / 2
    for _ in range(HALVINGS):
        share = _logistic(sigma * z - middle)
        total = keys * float(weights @ share)
        low, high = (middle, high) if total > 1 else (low, middle)
        # Newton's step on log E Σ aⱼ, as long as it stays within the bracket.
        slope = keys * float(weights @ (share * (1 - share)))
        newton = middle + total / slope * math.log(total) if total > 0 < slope else math.inf
        after = newton if low < newton < high else (low + high) / 2
        moved, middle = abs(after - middle), after
        if moved < TOLERANCE * max(abs(high), 1.0):
            break
    share = _logistic(sigma * z - middle)
    return min(max(keys * float(weights @ share**2), 1 / keys), 1.0)


def _logistic(x: Floats) -> Floats:
    value: Floats = 1 / (1 + np.exp(-np.clip(x, -700.0, 700.0)))
    return value


def attention(graph: LayerGraph, call: LayerCall, signals: tuple[Signal, ...]) -> Transfer | None:
    """Multi-head and grouped-query attention, projections included.

    Inputs are query, value and, where there is a third, key. Biases are taken as zeros.
    """
    query, value, key = _three(signals)
    slots = {"query": 0, "value": min(1, len(signals) - 1), "key": min(len(signals) - 1, 2)}
    maps = {part: _projection(graph, call, part) for part in ("query", "key", "value", "output")}
    if len(signals) > 3 or any(pair is None for pair in maps.values()):
        return None
    fans = {part: pair for part, pair in maps.items() if pair is not None}
    queries, keys, values = (
        _projected(signal, fans[part])
        for part, signal in (("query", query), ("key", key), ("value", value))
    )
    count = dimension(call.in_shapes[slots["value"]], 1) or OPEN_SEQUENCE
    spread = min(queries.mean_square * keys.positional, LARGEST_SCORE)
    rate = number(call.config.get("dropout")) or 0.0
    mixing = _Mixing(count, spread, rate if 0 <= rate < 1 else 0.0)
    mixed = mixing.signal(values)
    back = _scatter(fans["output"])
    inputs = [NO_WAY for _ in signals]
    inputs[slots["value"]] = inputs[slots["value"]] + (
        back * _scatter(fans["value"]) * mixing.gradient
    )
    # dL/dzᵢⱼ = aᵢⱼ·(gᵢ·(vⱼ − Σ a v)): random at every query and key.
    scored = back * mixing.power * (1 - 1 / count) * values.positional
    for part, other in (("query", keys.positional), ("key", queries.mean_square)):
        power = scored * other * _scatter(fans[part])
        inputs[slots[part]] = inputs[slots[part]] + _random(power)
    return Transfer(signal=_projected(mixed, fans["output"]), inputs=tuple(inputs))


def given_attention(
    graph: LayerGraph, call: LayerCall, signals: tuple[Signal, ...]
) -> Transfer | None:
    """Attention of given query, value and key (that order), without projections.

    A position that attends to the tensor it is part of meets itself with the score n·q, far above
    what it meets others with.
    """
    if call.kind != "Attention" or call.nodes or len(signals) > 3:
        return None
    if call.config.get("score_mode", "dot") != "dot":
        return None
    query, value, key = _three(signals)
    width = dimension(call.in_shapes[0], -1)
    count = dimension(call.in_shapes[min(1, len(signals) - 1)], 1) or OPEN_SEQUENCE
    sources = graph.predecessors(call.id)
    if width is None or len(sources) != len(signals):
        return None
    spread = min(width * query.mean_square * key.positional, LARGEST_SCORE)
    itself = 0.0
    if sources[0].id == sources[-1].id:
        itself = min(width * query.positional, 700.0)
    alone = 1 / (1 + (count - 1) * math.exp(min(spread / 2 - itself, 700.0))) if itself else 0.0
    rate = number(call.config.get("dropout")) or 0.0
    mixing = _Mixing(count, spread, rate if 0 <= rate < 1 else 0.0, alone)
    inputs = [NO_WAY for _ in signals]
    slot = min(1, len(signals) - 1)
    inputs[slot] = mixing.gradient
    # Softmax is flat where one weight has it all.
    scored = mixing.power * (1 - alone) ** 2 * width * value.positional
    inputs[0] = inputs[0] + _random(scored * key.positional)
    inputs[-1] = inputs[-1] + _random(scored * query.mean_square)
    return Transfer(signal=mixing.signal(value), inputs=tuple(inputs))


class _Mixing:
    """What the weights of attention do to a signal and to a gradient along positions."""

    def __init__(self, count: int, spread: float, rate: float, alone: float = 0.0) -> None:
        rounded = float(f"{spread:.{DIGITS}g}")
        rest = concentration(count, rounded)
        self.count = count
        self.power = (alone**2 + (1 - alone) ** 2 * rest) / (1 - rate)
        self.level = min((1 - alone) ** 2 / count, self.power)

    def signal(self, values: Signal) -> Signal:
        """The weighted mean of the values."""
        within = values.shared + self.power * values.positional
        return Signal(
            mean=values.mean,
            between=values.between,
            within=within,
            shared=min(values.shared + self.level * values.positional, within),
        )

    @property
    def gradient(self) -> Backward:
        """The transposed weights: a common gradient passes whole, a random one is averaged."""
        apart = max(self.power - self.level, 0.0)
        return np.array(
            [
                [apart, apart, apart],
                [0.0, 1.0, 0.0],
                [self.level, 0.0, 1.0],
            ]
        )


def _three(signals: tuple[Signal, ...]) -> tuple[Signal, Signal, Signal]:
    """Query, value, key."""
    value = signals[min(1, len(signals) - 1)]
    return signals[0], value, signals[2] if len(signals) > 2 else value


def _random(power: float) -> Backward:
    """Whatever the gradient was, what comes back is random, with this share of its power."""
    return np.array([[power, power, power], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])


Fan = tuple[WeightMoments, float]


def _projection(graph: LayerGraph, call: LayerCall, part: str) -> Fan | None:
    moments = weight_moments(graph, call, f"{part}_kernel")
    fan = connections(call, f"{part}_kernel")
    return (moments, fan[0]) if moments is not None and fan is not None else None


def _scatter(fan: Fan) -> float:
    """Factor on the power of a random gradient."""
    moments, incoming = fan
    return moments.mean_square * incoming


def _projected(signal: Signal, fan: Fan) -> Signal:
    moments, incoming = fan
    share = moments.mean_square * incoming
    return Signal(
        mean=incoming * moments.mean * signal.mean,
        between=incoming * moments.variance * signal.mean**2 + share * signal.between,
        within=share * signal.within,
        shared=share * signal.shared,
    )
