"""Recurrent cells run over time: what their weights do to a small change of the state."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from auditor.errors import UnreadableModel
from auditor.graph.activations import Curve, Floats, curve
from auditor.graph.initializers import weight_law
from auditor.graph.layer_graph import LayerCall, LayerGraph
from auditor.graph.operators import Op
from auditor.graph.transfer import activation_settings

#: Sequences that are run, and steps of one whose length is open.
SEQUENCES, OPEN_LENGTH = 8, 100
#: Multiplications a sequence may cost; longer ones are run in part and their rate carried on.
BUDGET = 2e8
#: A state beyond this has left what single precision holds; its run is not carried on.
OVERFLOW = 1e38
#: Gates of a cell, by operator: its kernels hold so many blocks side by side.
GATES = {Op.SIMPLE_RNN: 1, Op.LSTM: 4, Op.GRU: 3}
#: Which of them makes the state, or the candidate for it.
CANDIDATE = {Op.SIMPLE_RNN: 0, Op.LSTM: 2, Op.GRU: 2}
#: Units from which on eigenvalues take seconds.
LARGE = 512

#: A cell's (state, change of the state) of every sequence, and the input's part → the next ones.
State = tuple[Floats, ...]
Step = Callable[[Floats, State, State], tuple[State, State]]


@dataclass(frozen=True, kw_only=True)
class Recurrence:
    """A recurrent layer's first cell (the forward one of a bidirectional layer), run over time.

    steps: length of its sequences, None where it is open. rate: factor a step on a small change
    of the state, geometric mean; total: the same over all steps, an open length taken as 100. Both
    are medians over random sequences. untouched: whether the kernels can still be the draws their
    initializers made; None where that is unknown.
    """

    call: LayerCall
    steps: int | None
    rate: float
    total: float
    untouched: bool | None

    @cached_property
    def radius(self) -> float | None:
        """Spectral radius of the recurrent kernel's block that makes the (candidate) state.

        None for a kernel so large that its eigenvalues are not worth their time.
        """
        recurrent = _values(self.call, "recurrent_kernel")
        if recurrent is None or len(recurrent) > LARGE:
            return None
        blocks = np.split(recurrent, GATES[self.call.op], axis=1)
        return float(np.abs(np.linalg.eigvals(blocks[CANDIDATE[self.call.op]])).max())


@dataclass(frozen=True)
class _Cell:
    kernel: Floats
    recurrent: Floats
    bias: Floats
    activation: Curve
    gate: Curve
    reset_after: bool = True


def recurrences(graph: LayerGraph) -> tuple[Recurrence, ...]:
    """The recurrent layers whose weights can be read, each run on standard normal inputs.

    A change δ of the first state is carried along exactly, δ_t = J_t δ_{t−1}, J_t = ∂h_t/∂h_{t−1}
    at the state reached (Pascanu et al. 2013): that the spectral radius is above 1 is necessary
    for it to explode under tanh, and is not sufficient under any activation.
    """
    if graph.format == "onnx":
        return ()  # ONNX orders and transposes the blocks otherwise
    found = (_recurrence(graph, call) for call in graph.layers() if call.op in GATES)
    return tuple(recurrence for recurrence in found if recurrence is not None)


def _recurrence(graph: LayerGraph, call: LayerCall) -> Recurrence | None:
    cell = _cell(call)
    if cell is None:
        return None
    steps = _steps(call)
    wanted = steps or OPEN_LENGTH
    affordable = max(int(BUDGET / (SEQUENCES * cell.recurrent.size)), 1)
    rate = _rate(call.op, cell, min(wanted, affordable))
    if rate is None:
        return None
    return Recurrence(
        call=call,
        steps=steps,
        rate=rate,
        total=math.exp(max(-700.0, min(wanted * math.log(rate), 700.0))) if rate > 0 else 0.0,
        untouched=_untouched(graph, call),
    )


def _cell(call: LayerCall) -> _Cell | None:
    """The cell's weights and activations; None where they are not known or not of this form."""
    kernel, recurrent = _values(call, "kernel"), _values(call, "recurrent_kernel")
    if kernel is None or recurrent is None or kernel.ndim != 2 or recurrent.ndim != 2:
        return None
    units, gates = recurrent.shape[0], GATES[call.op]
    if recurrent.shape[1] != gates * units or kernel.shape[1] != gates * units or not units:
        return None
    bias = _values(call, "bias")
    activation = curve(call.activation, activation_settings(call))
    gate = curve(str(call.config.get("recurrent_activation", "sigmoid")), {})
    if activation is None or gate is None:
        return None
    bias = np.zeros((1, gates * units)) if bias is None else bias.reshape(-1, gates * units)
    if not all(np.isfinite(values).all() for values in (kernel, recurrent, bias)):
        return None
    return _Cell(kernel, recurrent, bias, activation, gate, len(bias) == 2)


def _values(call: LayerCall, role: str) -> Floats | None:
    weight = call.weight(role)
    if weight is None or weight.read is None:
        return None
    try:
        values: np.ndarray[Any, Any] = np.asarray(weight.read())
    except UnreadableModel:
        return None
    return values.astype(np.float64) if values.dtype.kind == "f" else None


def _steps(call: LayerCall) -> int | None:
    shape = call.in_shape
    length = shape[1] if shape is not None and len(shape) == 3 else None
    return length if isinstance(length, int) and length > 0 else None


def _rate(op: Op, cell: _Cell, steps: int) -> float | None:
    """Geometric mean, over the steps, of the factor on a change of the state."""
    random = np.random.default_rng(0)
    units = cell.recurrent.shape[0]
    step = {Op.SIMPLE_RNN: _simple(cell), Op.LSTM: _lstm(cell), Op.GRU: _gru(cell)}[op]
    zeros = np.zeros((SEQUENCES, units))
    state: State = (zeros, zeros) if op is Op.LSTM else (zeros,)
    change: State = tuple(random.standard_normal(part.shape) for part in state)
    change = tuple(part / _size(change)[:, None] for part in change)
    logs = np.zeros(SEQUENCES)
    done = 0
    with np.errstate(all="ignore"):
        for _ in range(steps):
            entering = random.standard_normal((SEQUENCES, len(cell.kernel))) @ cell.kernel
            state, change = step(entering + cell.bias[0], state, change)
            size = _size(change)
            if not all(np.isfinite(part).all() for part in (*state, *change)):
                return None if done == 0 else math.exp(float(np.median(logs)) / done)
            logs += np.log(size)
            done += 1
            if max(float(np.abs(part).max()) for part in state) > OVERFLOW or not size.any():
                break
            change = tuple(part / np.where(size > 0, size, 1.0)[:, None] for part in change)
    return math.exp(max(-700.0, min(float(np.median(logs)) / done, 700.0)))


def _size(change: State) -> Floats:
    total: Floats = np.sqrt(sum(np.square(part).sum(axis=1) for part in change))
    return total


def _simple(cell: _Cell) -> Step:
    def step(entering: Floats, state: State, change: State) -> tuple[State, State]:
        value, slope = cell.activation(entering + state[0] @ cell.recurrent)
        return (value,), (slope * (change[0] @ cell.recurrent),)

    return step


def _lstm(cell: _Cell) -> Step:
    def step(entering: Floats, state: State, change: State) -> tuple[State, State]:
        (hidden, memory), (d_hidden, d_memory) = state, change
        raw = np.split(entering + hidden @ cell.recurrent, 4, axis=1)
        moved = np.split(d_hidden @ cell.recurrent, 4, axis=1)
        (let_in, s_in), (keep, s_keep) = cell.gate(raw[0]), cell.gate(raw[1])
        (made, s_made), (out, s_out) = cell.activation(raw[2]), cell.gate(raw[3])
        d_memory = (
            keep * d_memory
            + s_keep * moved[1] * memory
            + s_in * moved[0] * made
            + let_in * s_made * moved[2]
        )
        memory = keep * memory + let_in * made
        shown, s_shown = cell.activation(memory)
        d_hidden = s_out * moved[3] * shown + out * s_shown * d_memory
        return (out * shown, memory), (d_hidden, d_memory)

    return step


def _gru(cell: _Cell) -> Step:
    units = cell.recurrent.shape[0]
    gates, candidate = cell.recurrent[:, : 2 * units], cell.recurrent[:, 2 * units :]
    inner = cell.bias[1] if cell.reset_after else np.zeros(3 * units)

    def step(entering: Floats, state: State, change: State) -> tuple[State, State]:
        (hidden,), (d_hidden,) = state, change
        raw = entering[:, : 2 * units] + hidden @ gates + inner[: 2 * units]
        (both, slopes), moved = cell.gate(raw), d_hidden @ gates
        keep, reset = both[:, :units], both[:, units:]
        d_keep, d_reset = (slopes * moved)[:, :units], (slopes * moved)[:, units:]
        if cell.reset_after:
            seen = hidden @ candidate + inner[2 * units :]
            fed, d_fed = reset * seen, d_reset * seen + reset * (d_hidden @ candidate)
        else:
            fed = (reset * hidden) @ candidate
            d_fed = (d_reset * hidden + reset * d_hidden) @ candidate
        made, slope = cell.activation(entering[:, 2 * units :] + fed)
        d_made = slope * d_fed
        changed = keep * d_hidden + d_keep * hidden + (1 - keep) * d_made - d_keep * made
        return (keep * hidden + (1 - keep) * made,), (changed,)

    return step


def _untouched(graph: LayerGraph, call: LayerCall) -> bool | None:
    """Whether the kernels' values can be fresh draws of their initializers."""
    known: bool | None = None
    for index, weight in enumerate(call.weights):
        if weight.role not in ("kernel", "recurrent_kernel"):
            continue
        law = weight_law(weight.initializer, weight.shape) if weight.initializer else None
        seen = graph.weight_statistics.get((call.layer, index))
        if law is None or seen is None:
            return None
        if not law.explains(seen):
            return False
        known = True
    return known
