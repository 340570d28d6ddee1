"""Recurrent layers along time: how fast a gradient grows or decays a step back."""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras.src.backend import get_keras_mask

from auditor.measurement import Estimate, TimeGrowth
from auditor.probe.backends import Backend, Tensor
from auditor.probe.growth import GrowthPoint, fit_growth, t_quantile
from auditor.probe.recording import RecordedCall
from auditor.probe.recurrent_cell import RecurrentCell
from auditor.probe.statistics import is_floating
from auditor.probe.training_pass import first_line

Array = np.ndarray[Any, Any]

#: Of a longer sequence, so many steps from its start are run.
STEPS = 128
#: Samples of the batch that are run, those with the longest sequences.
SAMPLES = 8
#: A regression with fewer steps would say nothing of its own error.
LEAST_STEPS = 3
#: Relative rounding of a step, by compute dtype.
ROUNDING = {"bfloat16": 2.0**-8, "float16": 2.0**-11, "float32": 2.0**-24, "float64": 2.0**-53}
#: Values of all states that are kept for the way back; fewer samples, then fewer steps, beyond.
KEPT_VALUES = 2**22


def runs_along_time(operation: Any) -> bool:
    """Whether `time_growth` is to be asked of this layer's calls."""
    return isinstance(operation, (keras.layers.RNN, keras.layers.Bidirectional))


def time_growth(call: RecordedCall, backend: Backend, seed: int) -> TimeGrowth | str:
    """The growth of ‖∂L/∂s_t‖ a step back in time, or why there is none.

    The cell is run step by step over the recorded sequence, in the layer's direction and mode
    and from its initial state: s_{t+1} = f(x_t, s_t), s all of the state (h and c of an LSTM, of
    every cell of a stack). Steps that a mask hides leave the state alone and are no steps. A
    Gaussian cotangent of each sample's last state is then pulled back, g_t = (∂s_{t+1}/∂s_t)ᵀ
    g_{t+1} with x_t held fixed, rescaled at every step so that it can neither overflow nor
    underflow; the regression of log ‖g_t‖ on t gives a sample's growth. Its exponent over many
    steps is the largest Lyapunov exponent of the driven cell (Vogt et al. 2022,
    doi:10.3389/fams.2022.818799); Pascanu et al. 2013 (arXiv:1211.5063) have the product itself.

    Of a bidirectional layer it is that of the direction whose growth is further from 1. Random
    layers draw from their seed generators as they stand, one draw for all steps, and a stateful
    layer starts from the state it holds: begin a pass with `ModelState.begin_pass`. The cell may
    move the layer's variables; the caller puts them back.
    """
    try:
        directions = _directions(call)
        if isinstance(directions, str):
            return directions
        found = [_growth(direction, call, backend, seed) for direction in directions]
    except Exception as error:  # a cell is the model's own code and may raise anything
        return f"run step by step, its cell raised {type(error).__name__}: {first_line(error)}"
    measured = [growth for growth in found if isinstance(growth, TimeGrowth)]
    if not measured:
        return str(found[0])
    return max(measured, key=lambda growth: _distance(growth.growth.value))


@dataclass(frozen=True, kw_only=True)
class _Direction:
    """One pass over the sequence: the layer that runs, and where it starts if that was given."""

    name: str
    layer: Any
    sequences: Tensor
    mask: Tensor | None
    initial_state: Any


def _directions(call: RecordedCall) -> tuple[_Direction, ...] | str:
    """The recurrent layers within the call, with what each is called with."""
    layer = call.operation
    bound = inspect.signature(layer.call).bind(*call.args, **call.kwargs).arguments
    sequences: Any = next(iter(bound.values()), None)
    if not is_floating(sequences) or len(sequences.shape) < 3:
        return "its input is no single sequence of floating-point numbers"
    mask = bound.get("mask")
    mask = get_keras_mask(sequences) if mask is None else mask
    state = bound.get("initial_state")
    if not isinstance(layer, keras.layers.Bidirectional):
        halves = [("", layer, state)]
    else:
        half = 0 if state is None else len(state) // 2
        halves = [
            ("forward", layer.forward_layer, None if state is None else state[:half]),
            ("backward", layer.backward_layer, None if state is None else state[half:]),
        ]
    for run in (layer, *(part for _, part, _ in halves)):
        if not _runs_as_keras_does(run):
            return "it is a recurrent layer with a loop of its own"
    return tuple(
        _Direction(name=name, layer=part, sequences=sequences, mask=mask, initial_state=given)
        for name, part, given in halves
    )


def _runs_as_keras_does(layer: Any) -> bool:
    """Whether the layer does nothing but run its cell over the sequence.

    A subclass may do so by another loop, which running the cell step by step would not be.
    """
    if isinstance(layer, keras.layers.Bidirectional):
        loop: tuple[str, ...] = ("call",)
    elif isinstance(layer, keras.layers.RNN):
        loop = ("call", "inner_loop")
    else:
        return False
    return all(getattr(type(layer), name).__module__.startswith("keras.src.") for name in loop)


@dataclass(frozen=True, kw_only=True)
class _Steps:
    """What is run: of some samples, the steps their masks leave, each from its first on.

    x `(samples, steps, ...)`; lengths `(samples,)`, beyond which x repeats itself and is not
    looked at; rows `(samples,)`, their places in the batch; longest: steps of a whole sequence.
    """

    x: Array
    lengths: Array
    rows: Array
    longest: int

    def first(self, samples: int, steps: int) -> _Steps:
        """The same, of fewer samples and steps."""
        return _Steps(
            x=self.x[:samples, :steps],
            lengths=np.minimum(self.lengths[:samples], steps),
            rows=self.rows[:samples],
            longest=self.longest,
        )


def _growth(
    direction: _Direction, call: RecordedCall, backend: Backend, seed: int
) -> TimeGrowth | str:
    """The growth along one direction, or why there is none."""
    steps = _steps(direction)
    if steps.longest < LEAST_STEPS:
        return f"its sequences have fewer than {LEAST_STEPS} steps"
    state = _initial_state(direction, steps.rows)
    values = sum(math.prod(leaf.shape[1:]) for leaf in keras.tree.flatten(state))
    samples = min(len(steps.rows), max(1, KEPT_VALUES // (values * STEPS)))
    steps = steps.first(samples, max(LEAST_STEPS, min(STEPS, KEPT_VALUES // (values * samples))))
    state = keras.tree.map_structure(lambda leaf: leaf[:samples], state)
    cell = RecurrentCell(direction.layer, state, training=bool(call.training), backend=backend)
    cell.settle(steps.x[:, 0])
    states, lengths = _forward(cell, steps)
    if lengths.max() < LEAST_STEPS:
        return f"its state is not finite from step {int(lengths.max()) + 1} on"
    changes = _backward(cell, steps.x, states, lengths, seed)
    fits = [
        _fit(changes[:length, sample])
        for sample, length in enumerate(lengths)
        if length >= LEAST_STEPS
    ]
    fitted = [fit for fit in fits if fit is not None]
    if not fitted:
        return "the gradient along time is not finite"
    run = int(lengths.max())
    where = f", {direction.name} direction" if direction.name else ""
    return TimeGrowth(
        growth=_estimate(
            fitted,
            f"regression of log‖g_t‖ on t over {run} products of a random cotangent with the "
            f"cell's Jacobian, {len(fitted)} samples{where}",
            products=run,
            rounding=ROUNDING.get(direction.layer.compute_dtype, ROUNDING["bfloat16"]),
        ),
        steps=run,
        length=steps.longest,
    )


def _steps(direction: _Direction) -> _Steps:
    """The samples with the longest sequences, and their first steps in the order they run."""
    x = _array(direction.sequences)
    batch, length = x.shape[:2]
    runs = np.ones((batch, length), bool)
    if direction.mask is not None:
        runs = _array(direction.mask).astype(bool).reshape(batch, length)
    places = np.arange(length)
    if direction.layer.go_backwards:
        runs, places = runs[:, ::-1], places[::-1]
    lengths = runs.sum(axis=1)
    rows = np.sort(np.argsort(-lengths, kind="stable")[:SAMPLES])
    longest = int(lengths.max(initial=0))
    # Steps that run first, in their order; the others behind them, where nothing looks.
    order = np.argsort(~runs[rows], axis=1, kind="stable")[:, : min(longest, STEPS)]
    return _Steps(
        x=x[rows[:, None], places[order]],
        lengths=np.minimum(lengths[rows], STEPS),
        rows=rows,
        longest=longest,
    )


def _initial_state(direction: _Direction, rows: Array) -> Any:
    """The state each sample starts from, as the layer would take it: lists of tensors."""
    layer, given = direction.layer, direction.initial_state
    if given is None and not layer.stateful:
        state = layer.get_initial_state(batch_size=len(rows))
    else:
        given = layer.states if given is None else given
        state = keras.tree.map_structure(lambda leaf: keras.ops.take(leaf, rows, axis=0), given)
    state = list(state) if keras.tree.is_nested(state) else [state]
    dtype = layer.cell.compute_dtype
    return keras.tree.map_structure(
        lambda leaf: keras.ops.convert_to_tensor(leaf, dtype=dtype), state
    )


def _forward(cell: RecurrentCell, steps: _Steps) -> tuple[list[tuple[Tensor, ...]], Array]:
    """The states before each step, and how many steps of each sample stay finite."""
    states, finite = [cell.start], []
    for index in range(steps.lengths.max()):
        state, is_finite = cell.step(steps.x[:, index], states[-1])
        states.append(state)
        finite.append(is_finite)
    stays = np.cumprod(_array(keras.ops.stack(finite)), axis=0).sum(axis=0)
    return states, np.minimum(steps.lengths, stays)


def _backward(
    cell: RecurrentCell, x: Array, states: Sequence[tuple[Tensor, ...]], lengths: Array, seed: int
) -> Array:
    """Log ‖g_t‖ − log ‖g_{t+1}‖ of each step and sample, `(steps, samples)`.

    A sample's entries from its length on mean nothing.
    """
    rng = np.random.default_rng([seed, 0x74696D65])
    cotangent = tuple(
        keras.ops.convert_to_tensor(
            rng.standard_normal(tuple(leaf.shape)).astype(np.float32), dtype=leaf.dtype
        )
        for leaf in cell.start
    )
    changes = []
    for index in reversed(range(lengths.max())):
        cotangent, change = cell.pull(x[:, index], states[index], cotangent, index < lengths)
        changes.append(change)
    return _array(keras.ops.stack(changes[::-1])).astype(np.float64)


@dataclass(frozen=True, kw_only=True)
class _Fit:
    """A sample's growth: its logarithm, −∞ where no gradient comes through, and the error."""

    log_rate: float
    log_error: float


def _fit(changes: Array) -> _Fit | None:
    """The regression over one sample's `(steps,)`; None where they are not finite."""
    broken = np.flatnonzero(~np.isfinite(changes))
    if broken.size:
        # Back in time, the last entry comes first.
        cut = changes[broken[-1]] == -np.inf
        return _Fit(log_rate=-math.inf, log_error=0.0) if cut else None
    log_norms = np.append(np.cumsum(changes[::-1])[::-1], 0.0)
    fit = fit_growth(
        [
            GrowthPoint(depth=depth, stage=None, log_norms=np.array([log_norm]))
            for depth, log_norm in enumerate(log_norms)
        ]
    )
    if fit is None or fit.interval is None:
        return None
    low, high = fit.interval
    return _Fit(log_rate=math.log(fit.rate), log_error=math.log(high / low) / 2)


def _estimate(fits: Sequence[_Fit], method: str, *, products: int, rounding: float) -> Estimate:
    """The median over samples.

    All samples share the weights, so that their regressions' errors do not average out: the
    error is the median one of a sample, with the samples' own standard error in quadrature, so
    that it holds for other sequences of the kind too. Twice the rounding of a step is added in
    the same way: it may go in one direction at all of them.
    """
    logs = np.array([fit.log_rate for fit in fits])
    rates = np.exp(logs)
    value = float(np.median(rates))
    alive = logs[np.isfinite(logs)]
    scatter = 0.0
    if alive.size > 1:
        scatter = t_quantile(alive.size - 1) * float(np.std(alive, ddof=1)) / math.sqrt(alive.size)
    regression = float(np.median([fit.log_error for fit in fits]))
    log_error = math.hypot(regression, scatter, 2 * rounding)
    return Estimate(
        value=value,
        low=float(rates.min()),
        high=float(rates.max()),
        error=value * math.sinh(min(log_error, 700.0)),
        method=method,
        products=products,
    )


def _distance(growth: float) -> float:
    """How far a growth is from 1, as a factor either way."""
    return abs(math.log(growth)) if growth > 0.0 else math.inf


def _array(tensor: Any) -> Array:
    """Its values; half precisions, which not every NumPy function takes, as float32."""
    array: Array = keras.ops.convert_to_numpy(tensor)
    kind = keras.backend.standardize_dtype(array.dtype)
    return array.astype(np.float32) if kind in ("bfloat16", "float16") else array
