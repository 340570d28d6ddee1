"""Mean-field laws of recurrent layers, unrolled over time.

Each step is a layer whose weights are taken as drawn anew, as is usual (Chen, Pennington,
Schoenholz 2018, "Dynamical isometry and a mean field theory of RNNs",
https://arxiv.org/abs/1806.05394; Gilboa et al. 2019, "Dynamical isometry and a mean field theory
of LSTMs and GRUs", https://arxiv.org/abs/1901.08987). Pre-activations are Gaussian and those of
different gates independent.

A memory that is kept from step to step makes neighbouring states alike, and neighbouring gradients
too, which then add up coherently in the next recurrent layer. So a unit's covariance over time is
followed, `(steps, steps)`, forward and backward: its diagonal by the second moments of the curves,
the rest to first order by their mean slopes. Gates have one law at all steps, that of the mean
variance of their pre-activations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from auditor.errors import UnreadableModel
from auditor.graph.activations import (
    ActivationMoments,
    Floats,
    Pointwise,
    activation_moments,
    curve,
)
from auditor.graph.dimensions import dimension, own_config
from auditor.graph.kernel_laws import connections, weight_moments
from auditor.graph.layer_graph import LayerCall, LayerGraph
from auditor.graph.layer_laws import OPEN_SEQUENCE
from auditor.graph.operators import Op
from auditor.graph.signal import Signal, Transfer

#: Blocks of a cell's kernels, in Keras' order: LSTM i f c o; GRU z r h.
BLOCKS = {Op.SIMPLE_RNN: 1, Op.LSTM: 4, Op.CONV_LSTM: 4, Op.GRU: 3}
#: Steps that are followed; a longer sequence has settled by then.
LONGEST = 48
#: What steps have in common is told from steps no farther apart than this.
NEAR = 8
#: Rounds of forward iteration: each brings the state one step farther back into its own law.
ROUNDS = 12
#: Relative change of a covariance below which it has settled.
SETTLED = 1e-4
#: Significant digits of variances handed to the quadratures, so that equal layers share them.
DIGITS = 3


@dataclass(frozen=True, kw_only=True)
class _Weights:
    """Power an input's and a state's unit brings into a pre-activation, and the blocks' biases."""

    entering: float
    recurrent: float
    biases: tuple[float, ...]


def recurrent(graph: LayerGraph, call: LayerCall, signals: tuple[Signal, ...]) -> Transfer | None:
    """Simple recurrence, GRU, LSTM and convolutional LSTM; both directions of a bidirectional.

    Covered are inputs with one sequence, without a first state given.
    """
    weights = _weights(graph, call)
    config = own_config(call)
    activation = curve(call.activation, config)
    gate = curve(str(config.get("recurrent_activation", "sigmoid")), {})
    if len(signals) != 1 or weights is None or activation is None or gate is None:
        return None
    length = min(dimension(call.in_shape, 1) or OPEN_SEQUENCE, LONGEST)
    cell = _CELLS[call.op](weights, activation, gate)
    with np.errstate(all="ignore"):
        state = cell.settle(_over_time(signals[0], length))
        if state is None:
            return None
        sequences = returns_sequences(call)
        seeds = _seeds(length) if sequences else _last(length)
        columns = [cell.back(seed) for seed in seeds]
    if any(column is None for column in columns):
        return None
    random, common = (_parts(column) for column in columns if column is not None)
    return Transfer(
        signal=_state_signal(state, cell.mean, sequences=sequences),
        inputs=(
            np.array(
                [
                    [random[0], random[0], common[0]],
                    [0.0, 0.0, 0.0],
                    [random[1], random[1], common[1]],
                ]
            ),
        ),
    )


def _over_time(signal: Signal, length: int) -> Floats:
    """Covariance over time of a unit of the input, its mean included."""
    fixed = signal.mean**2 + signal.between
    return fixed + signal.shared * _near(length) + signal.positional * np.eye(length)


def _near(length: int) -> Floats:
    """1 for steps that are near each other, 0 for others."""
    steps = np.arange(length)
    near: Floats = (np.abs(steps[:, None] - steps[None, :]) <= NEAR).astype(np.float64)
    return near


def _seeds(length: int) -> tuple[Floats, Floats]:
    """A gradient of power 1 at all steps: random, and common to those near each other."""
    return np.eye(length) / length, _near(length) / length


def _last(length: int) -> tuple[Floats, Floats]:
    seed = np.zeros((length, length))
    seed[-1, -1] = 1.0
    return seed, seed


def _parts(covariance: Floats) -> tuple[float, float]:
    """Power of what is random and of what is common: the mean covariance of near steps."""
    whole = float(np.trace(covariance))
    near = _near(len(covariance)) - np.eye(len(covariance))
    pairs = float(near.sum()) / len(covariance)
    common = float((near * covariance).sum()) / pairs if pairs else 0.0
    common = min(max(common, 0.0), whole)
    return whole - common, common


def _state_signal(state: Floats, mean: float, *, sequences: bool) -> Signal:
    square = mean**2
    if not sequences:
        within = max(float(state[-1, -1]) - square, 0.0)
        return Signal(mean=mean, between=0.0, within=within, shared=within)
    random, common = _parts(state / len(state))
    within = max(random + common - square, 0.0)
    return Signal(
        mean=mean, between=0.0, within=within, shared=min(max(common - square, 0.0), within)
    )


def returns_sequences(call: LayerCall) -> bool:
    """Whether every step's state is given out, rather than the last one's."""
    told = own_config(call).get("return_sequences")
    if isinstance(told, bool):
        return told
    shapes = call.in_shape, call.out_shape
    return all(shape is not None for shape in shapes) and len(shapes[0] or ()) == len(
        shapes[1] or ()
    )


def _weights(graph: LayerGraph, call: LayerCall) -> _Weights | None:
    kernel, state = (weight_moments(graph, call, role) for role in ("kernel", "recurrent_kernel"))
    fans = connections(call, "kernel"), connections(call, "recurrent_kernel")
    if kernel is None or state is None or fans[0] is None or fans[1] is None:
        return None
    return _Weights(
        entering=kernel.mean_square * fans[0][0],
        recurrent=state.mean_square * fans[1][0],
        biases=_biases(call),
    )


def _biases(call: LayerCall) -> tuple[float, ...]:
    """The mean bias of each block: read, or as the layer draws it."""
    count = BLOCKS[call.op]
    weight = call.weight("bias")
    drawn = [0.0] * count
    if count == 4 and own_config(call).get("unit_forget_bias", True) and not call.nodes:
        drawn[1] = 1.0
    if weight is None:
        return (0.0,) * count
    if weight.read is None or call.nodes:
        return tuple(drawn)
    try:
        values: np.ndarray[Any, Any] = np.asarray(weight.read(), dtype=np.float64)
    except (UnreadableModel, TypeError, ValueError):
        return tuple(drawn)
    rows = values.reshape(-1, values.shape[-1]) if values.ndim else values.reshape(1, 1)
    if rows.shape[1] % count or not np.isfinite(rows).all():
        return tuple(drawn)
    blocks = rows.sum(axis=0).reshape(count, -1).mean(axis=1)
    return tuple(float(value) for value in blocks)


class _Recurrence:
    """A cell's law. `settle` comes first; it leaves behind what `back` needs."""

    def __init__(self, weights: _Weights, activation: Pointwise, gate: Pointwise) -> None:
        self.weights = weights
        self.activation = activation
        self.gate = gate
        self.mean = 0.0

    def settle(self, entering: Floats) -> Floats | None:
        """The covariance of the states over time, for that of the inputs."""
        state = np.zeros_like(entering)
        for _ in range(max(ROUNDS, len(entering)) if self.slow else ROUNDS):
            after = self.state(self.weights.entering * entering, state)
            if not np.isfinite(after).all() or float(after.max()) > 1e100:
                return None
            moved = float(np.abs(after - state).max())
            state = after
            if moved <= SETTLED * float(np.abs(after).max()):
                break
        return state

    def back(self, seed: Floats) -> Floats | None:
        """The covariance of the gradient at the inputs, for that at the outputs."""
        reached = np.zeros_like(seed)
        inputs = reached
        for _ in range(len(seed)):
            inputs, to_state = self.gradient(seed + reached)
            after = self.weights.recurrent * _earlier(to_state)
            if not np.isfinite(after).all() or float(np.trace(after)) > 1e100:
                return None
            moved = float(np.abs(after - reached).max())
            reached = after
            if moved <= SETTLED * float(np.abs(seed + after).max()):
                break
        return self.weights.entering * inputs

    #: Whether the state has to be brought forward step by step.
    slow = False

    def state(self, entering: Floats, state: Floats) -> Floats:
        """One round forward."""
        raise NotImplementedError

    def gradient(self, reached: Floats) -> tuple[Floats, Floats]:
        """From the states' gradient to the pre-activations', of inputs and of the state before."""
        raise NotImplementedError

    def law(self, phi: Pointwise, block: int, variance: float) -> ActivationMoments:
        """Moments of a curve of this block's pre-activations."""
        return _moments(phi, self.weights.biases[block], variance)


class _Simple(_Recurrence):
    slow = True

    def state(self, entering: Floats, state: Floats) -> Floats:
        before = entering + self.weights.recurrent * _later(state)
        self.made = self.law(self.activation, 0, float(np.diag(before).mean()))
        self.mean = self.made.mean
        return _through(self.made, before)

    def gradient(self, reached: Floats) -> tuple[Floats, Floats]:
        moved = _off(self.made.slope_second, self.made.slope**2, reached)
        return moved, moved


class _Lstm(_Recurrence):
    """c′ = f·c + i·g, h = o·φ(c′)."""

    def state(self, entering: Floats, state: Floats) -> Floats:
        before = entering + self.weights.recurrent * _later(state)
        variance = float(np.diag(before).mean())
        self.let_in = self.law(self.gate, 0, variance)
        self.kept = self.law(self.gate, 1, variance)
        self.made = self.law(self.activation, 2, variance)
        self.opened = self.law(self.gate, 3, variance)
        self.candidates = _through(self.made, before)
        fed = _off(self.let_in.second, self.let_in.mean**2, self.candidates)
        self.memory = _remembered(fed, self.kept)
        self.shown = _moments(self.activation, 0.0, float(np.diag(self.memory).mean()))
        return _off(self.opened.second, self.opened.mean**2, _through(self.shown, self.memory))

    def gradient(self, reached: Floats) -> tuple[Floats, Floats]:
        opened, shown = self.opened, self.shown
        into = _off(opened.second * shown.slope_second, (opened.mean * shown.slope) ** 2, reached)
        memory = _remembered(into[::-1, ::-1], self.kept)[::-1, ::-1]
        let_in, kept, made = self.let_in, self.kept, self.made
        moved = (
            _off(let_in.second * made.slope_second, (let_in.mean * made.slope) ** 2, memory)
            + _off(let_in.slope_second, let_in.slope**2, memory * self.candidates)
            + _off(kept.slope_second, kept.slope**2, memory * _later(self.memory))
            + _off(opened.slope_second, opened.slope**2, reached * _through(shown, self.memory))
        )
        return moved, moved


class _Gru(_Recurrence):
    """h′ = z·h + (1 − z)·g, g = φ(W x + r·(U h))."""

    def state(self, entering: Floats, state: Floats) -> Floats:
        inner = self.weights.recurrent * _later(state)
        variance = float(np.diag(entering + inner).mean())
        self.kept = self.law(self.gate, 0, variance)
        self.reset = self.law(self.gate, 1, variance)
        before = entering + _off(self.reset.second, self.reset.mean**2, inner)
        self.made = self.law(self.activation, 2, float(np.diag(before).mean()))
        self.candidates = _through(self.made, before)
        self.inner, self.past = inner, _later(state)
        kept = self.kept
        self.renewed = 1 - 2 * kept.mean + kept.second
        self.mean = self.made.mean
        fed = _off(self.renewed, (1 - kept.mean) ** 2, self.candidates)
        return _remembered(fed, kept)

    def gradient(self, reached: Floats) -> tuple[Floats, Floats]:
        kept, reset, made = self.kept, self.reset, self.made
        memory = _remembered(reached[::-1, ::-1], kept)[::-1, ::-1]
        renewed = _off(
            self.renewed * made.slope_second, ((1 - kept.mean) * made.slope) ** 2, memory
        )
        gates = _off(
            kept.slope_second, kept.slope**2, memory * (self.past + self.candidates)
        ) + _off(reset.slope_second, reset.slope**2, renewed * self.inner)
        return renewed + gates, gates + _off(reset.second, reset.mean**2, renewed)


_CELLS: Mapping[Op, type[_Recurrence]] = {
    Op.SIMPLE_RNN: _Simple,
    Op.LSTM: _Lstm,
    Op.CONV_LSTM: _Lstm,
    Op.GRU: _Gru,
}


def _moments(phi: Pointwise, mean: float, variance: float) -> ActivationMoments:
    return activation_moments(
        phi, float(f"{mean:.{DIGITS}g}"), 0.0, float(f"{variance:.{DIGITS}g}")
    )


def _off(diagonal: float, rest: float, covariance: Floats) -> Floats:
    """The covariance with its diagonal times one factor, all else times another."""
    made: Floats = covariance * rest
    np.fill_diagonal(made, np.diag(covariance) * diagonal)
    return made


def _through(moments: ActivationMoments, covariance: Floats) -> Floats:
    """E φ(x_t) φ(x_s) of Gaussian values: exact on the diagonal's mean, else to first order."""
    made: Floats = moments.mean**2 + moments.slope**2 * covariance
    size = np.diag(covariance)
    mean = float(size.mean())
    spread = moments.second - moments.mean**2
    np.fill_diagonal(made, moments.mean**2 + (spread * size / mean if mean > 0 else spread))
    return made


def _later(covariance: Floats) -> Floats:
    """The covariance of what each step gets from the step before it; the first gets nothing."""
    made = np.zeros_like(covariance)
    made[1:, 1:] = covariance[:-1, :-1]
    return made


def _earlier(covariance: Floats) -> Floats:
    """The covariance of what each step gets back from the step after it."""
    made = np.zeros_like(covariance)
    made[:-1, :-1] = covariance[1:, 1:]
    return made


def _remembered(fed: Floats, kept: ActivationMoments) -> Floats:
    """The covariance of m_t = f_t·m_{t−1} + u_t, u of covariance `fed`, f independent of it.

    With the gate's mean alone m = A·u, A_{ts} = f̄^{t−s}; its variance feeds noise into each step,
    Var f · E m²_{t−1}, which is then remembered likewise.
    """
    steps = np.arange(len(fed))
    apart = steps[:, None] - steps[None, :]
    powers: Floats = np.where(apart >= 0, kept.mean ** np.maximum(apart, 0), 0.0)
    made = powers @ fed @ powers.T
    noise = max(kept.second - kept.mean**2, 0.0)
    power, extra = np.zeros(len(fed)), np.zeros(len(fed))
    carried = 0.0
    for step in steps:
        extra[step] = noise * (power[step - 1] if step else 0.0)
        carried = kept.mean**2 * carried + extra[step]
        power[step] = made[step, step] + carried
    return made + (powers * extra) @ powers.T
