"""Optimizer steps as operators (ai.onnx.preview.training): formulas of the ONNX specification."""

from __future__ import annotations

from collections.abc import Callable

from keras import ops

from .table import Node, Value, operator
from .tensors import tensor

TRAINING = "ai.onnx.preview.training"


def _stepped(
    step: Callable[..., tuple[Value, ...]], node: Node, values: tuple[Value, ...], each: int
) -> tuple[Value, ...]:
    """A step for every variable: inputs are R, T, then each quantity of all variables in turn."""
    rate, count, *rest = (tensor(value) for value in values)
    total = len(rest) // each
    results = [
        step(node, rate, count, *(rest[number * total + place] for number in range(each)))
        for place in range(total)
    ]
    return tuple(value for kind in zip(*results, strict=True) for value in kind)


@operator("Adagrad", domain=TRAINING)
def adagrad(node: Node, *values: Value) -> tuple[Value, ...]:
    """Duchi, Hazan and Singer 2011."""
    return _stepped(_adagrad, node, values, 3)


def _adagrad(
    node: Node, rate: Value, count: Value, weight: Value, gradient: Value, squares: Value
) -> tuple[Value, ...]:
    regular = node.get("norm_coefficient", 0.0) * weight + gradient
    squares = squares + regular * regular
    steps = ops.cast(count, weight.dtype)
    decayed = rate / (1 + steps * node.get("decay_factor", 0.0))
    scale = ops.sqrt(squares) + node.get("epsilon", 0.0)
    return weight - decayed * regular / scale, squares


@operator("Adam", domain=TRAINING)
def adam(node: Node, *values: Value) -> tuple[Value, ...]:
    """Kingma and Ba 2015, with weight decay before or after the step."""
    return _stepped(_adam, node, values, 4)


def _adam(
    node: Node,
    rate: Value,
    count: Value,
    weight: Value,
    gradient: Value,
    momentum: Value,
    squares: Value,
) -> tuple[Value, ...]:
    alpha, beta = node.get("alpha", 0.9), node.get("beta", 0.999)
    regular = node.get("norm_coefficient", 0.0) * weight + gradient
    momentum = alpha * momentum + (1 - alpha) * regular
    squares = beta * squares + (1 - beta) * regular * regular
    started = count > 0
    steps = ops.cast(ops.where(started, count, ops.ones_like(count)), weight.dtype)
    corrected = rate * ops.sqrt(1 - beta**steps) / (1 - alpha**steps)
    rate = ops.where(started, corrected, rate)
    moved = weight - rate * momentum / (ops.sqrt(squares) + node.get("epsilon", 0.0))
    return (1 - node.get("norm_coefficient_post", 0.0)) * moved, momentum, squares


@operator("Momentum", domain=TRAINING)
def momentum(node: Node, *values: Value) -> tuple[Value, ...]:
    """Polyak 1964, or Nesterov 1983 by `mode`."""
    return _stepped(_momentum, node, values, 3)


def _momentum(
    node: Node, rate: Value, count: Value, weight: Value, gradient: Value, held: Value
) -> tuple[Value, ...]:
    alpha, beta = node.get("alpha", 0.0), node.get("beta", 0.0)
    regular = node.get("norm_coefficient", 0.0) * weight + gradient
    share = ops.where(count > 0, ops.full_like(rate, beta), ops.ones_like(rate))
    held = alpha * held + share * regular
    step = regular + alpha * held if node.get("mode") == "nesterov" else held
    return weight - rate * step, held
