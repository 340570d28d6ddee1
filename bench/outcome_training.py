"""Training of the outcome benchmark: short runs, what became of them, and what was seen on the way.

Every run is compiled whole, so that a model's dozen runs cost one compilation. A run that fails is
repeated with repairs, each alone, which say why it failed: at rates one to three powers of ten
away; after the scale of every kernel's output is set to 1 on one batch (LSUV, Mishkin & Matas
2016, without its orthogonal start); and with its propagation replaced, that is with the same
depth, width, family, optimizer and rate, but ReLU, He's scale and layer normalization (gated
units in place of plain recurrence). outcome_labels.py makes a cause of that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import keras
import numpy as np
from jax.lax import scan
from outcome_models import UNREPAIRED, USUAL_RATES, Spec, build, optimizer_of
from outcome_tasks import Array, Task

STEPS = 300
BATCH = 32
LAST = 25
#: A repair at or below this share of the best constant guess's loss has trained, and a model that
#: ends above it is tried with repairs.
TRAINS = 0.5
#: Powers of ten that other rates are away from the declared one, either way until one trains.
OTHER_RATES = ((-1, -2, -3), (1, 2, 3))


def observe(one: Spec, weights: Sequence[Array], data: Task) -> dict[str, Any]:
    """What became of the model from these weights, and of its repairs where it failed.

    Losses are over that of the best constant guess, infinite once one was not finite: `start` and
    `final` (mean of the last steps), `worst` (largest on the way), `final_rate_K` at the declared
    rate times 10ᴷ, `final_scaled` and `final_replaced` at the declared rate and
    `final_scaled_usual` and `final_replaced_usual` the least of that and of the optimizer's usual
    rate and up to two decades below, tried until one trains. `scaling`: the
    logarithm of what LSUV multiplied the signal by, over all kernels; `seen`: that of the relative
    gradient ‖∂L/∂W‖/‖W‖ of the first eighth of the kernels over the last eighth's, at the first
    step; `moved_first`, `moved_last`: that of the relative way of these kernels. `losses` and
    `profile`: the loss, and the logarithm that `seen` is the first of, at every step.
    """
    model = build(one, data.x.shape[1:], data.outputs)
    train = _trainer(one, model, data)
    seen = train(weights, one.rate)
    if seen["final"] <= TRAINS or one.family in UNREPAIRED:
        return seen
    for powers in OTHER_RATES:
        for power in powers:
            seen[f"final_rate_{power}"] = train(weights, one.rate * 10.0**power)["final"]
            if seen[f"final_rate_{power}"] <= TRAINS:
                break
    scaled, seen["scaling"] = _rescaled(model, data, weights)
    seen.update(_repaired("scaled", train, scaled, one))
    twin = replace(one, activation="relu", scale=1.0, normalization="layer")
    model = build(twin, data.x.shape[1:], data.outputs)
    train = _trainer(twin, model, data)
    start = [np.array(weight) for weight in model.get_weights()]
    seen.update(_repaired("replaced", train, start, one))
    return seen


def forget() -> None:
    """Drop what was compiled: no two models share any of it."""
    keras.utils.clear_session()
    jax.clear_caches()


Trainer = Callable[[Sequence[Array], float], dict[str, Any]]


def _repaired(name: str, train: Trainer, weights: Sequence[Array], one: Spec) -> dict[str, Any]:
    """The final loss at the declared rate, and the best at usual ones until one trains."""
    declared = train(weights, one.rate)["final"]
    best = declared
    for share in (1.0, 0.1, 0.01):
        if best <= TRAINS:
            break
        best = min(best, train(weights, USUAL_RATES[one.optimizer] * share)["final"])
    return {f"final_{name}": declared, f"final_{name}_usual": best}


def _trainer(one: Spec, model: keras.Model, data: Task) -> Trainer:
    """A run from given weights at a given rate, compiled once."""
    optimizer = optimizer_of(one, one.rate)
    optimizer.build(model.trainable_variables)
    loss_of = keras.losses.get(data.loss)
    places = [place for place, v in enumerate(model.trainable_variables) if v.path.endswith("nel")]
    ends = max(1, len(places) // 8)
    rate_place = next(
        place for place, v in enumerate(optimizer.variables) if v.path.endswith("learning_rate")
    )
    rng = np.random.default_rng(one.number)
    orders = [rng.permutation(len(data.x)) for _ in range(1 + STEPS * BATCH // len(data.x))]
    rows = np.concatenate(orders)[: STEPS * BATCH].reshape(STEPS, BATCH)

    def norms(values: Sequence[Any], relative_to: Sequence[Any]) -> Any:
        chosen = [_norm(values[p]) / (_norm(relative_to[p]) + 1e-30) for p in places]
        return jax.numpy.stack([*chosen[:ends], *chosen[-ends:]])

    def step(state: Any, chosen: Any) -> Any:
        trainable, others, slots = state
        x, y = chosen

        def loss(values: Any) -> Any:
            out, after = model.stateless_call(values, others, x, training=True)
            return jax.numpy.mean(loss_of(y, out)), after

        (value, after), gradients = jax.value_and_grad(loss, has_aux=True)(trainable)
        new, slots = optimizer.stateless_apply(slots, gradients, trainable)
        return (new, after, slots), (value, norms(gradients, trainable))

    # Convolutions inside of a compiled loop are ten times as slow on a CPU.
    loop = _stepwise(step) if one.family == "convolutional" else jax.jit(partial(scan, step))

    def run(trainable: Any, others: Any, slots: Any, x: Any, y: Any) -> Any:
        (after, _, _), told = loop((trainable, others, slots), (x, y))
        way = norms([a - b for a, b in zip(after, trainable, strict=True)], trainable)
        return *told, way

    def train(weights: Sequence[Array], rate: float) -> dict[str, Any]:
        slots = [v.value for v in optimizer.variables]
        slots[rate_place] = jax.numpy.asarray(rate, slots[rate_place].dtype)
        model.set_weights(weights)
        losses, gradients, way = run(
            [v.value for v in model.trainable_variables],
            [v.value for v in model.non_trainable_variables],
            slots,
            data.x[rows],
            data.y[rows],
        )
        return _told(np.array(losses) / data.baseline, np.array(gradients), np.array(way), ends)

    return train


def _stepwise(step: Callable[..., Any]) -> Callable[..., Any]:
    """`jax.lax.scan` of a step, a call at a time."""
    compiled = jax.jit(step)

    def loop(state: Any, pairs: tuple[Array, Array]) -> Any:
        told = []
        for pair in zip(*pairs, strict=True):
            state, one = compiled(state, pair)
            told.append(one)
        return state, tuple(np.stack(column) for column in zip(*told, strict=True))

    return loop


def _told(losses: Array, gradients: Array, way: Array, ends: int) -> dict[str, Any]:
    finite = bool(np.isfinite(losses).all())
    profile = _log(np.median(gradients[:, :ends], 1)) - _log(np.median(gradients[:, ends:], 1))
    return {
        "start": float(losses[0]),
        "final": float(losses[-LAST:].mean()) if finite else math.inf,
        "worst": float(losses.max()) if finite else math.inf,
        "seen": float(profile[0]),
        "moved_first": float(_log(np.median(way[:ends]))),
        "moved_last": float(_log(np.median(way[ends:]))),
        "losses": losses.tolist(),
        "profile": profile.tolist(),
    }


def _norm(values: Any) -> Any:
    """The Euclidean norm, without squares that overflow."""
    largest = jax.numpy.maximum(jax.numpy.abs(values).max(), 1e-30)
    return largest * jax.numpy.linalg.norm(values / largest)


def _log(values: Array) -> Array:
    logs: Array = np.log(np.maximum(values, 1e-30))
    return logs


def _rescaled(model: keras.Model, data: Task, start: Sequence[Array]) -> tuple[list[Array], float]:
    """Weights with every kernel's output of deviation 1, and the logarithm of all it took.

    The head is left out.
    """
    model.set_weights(start)
    batch = data.x[:256]
    total = 0.0
    kernels: list[Any] = [
        layer
        for layer in model.layers[:-1]
        if isinstance(layer, (keras.layers.Dense, keras.layers.Conv2D))
    ]
    outputs: Any = (
        keras.Model(model.input, [layer.output for layer in kernels]) if kernels else None
    )
    run = jax.jit(
        lambda trainable, others: outputs.stateless_call(trainable, others, batch, training=False)[
            0
        ]
    )
    for place, layer in enumerate(kernels):
        out = run(
            [v.value for v in outputs.trainable_variables],
            [v.value for v in outputs.non_trainable_variables],
        )
        deviation = float(np.std(np.asarray(out[place] if len(kernels) > 1 else out)))
        if not (math.isfinite(deviation) and deviation > 1e-30):
            continue
        kernel, *rest = layer.get_weights()
        layer.set_weights([kernel / deviation, *rest])
        total -= math.log(deviation)
    return [np.array(weight) for weight in model.get_weights()], total
