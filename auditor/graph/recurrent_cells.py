"""One step of a recurrent cell: the next state, and what becomes of a small change of it.

Arrays may have any axes before the last two: `(…, sequences, units)` beside kernels
`(…, inputs, gates · units)`, so that equal cells of many layers are run at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auditor.graph.activations import Curve
from auditor.graph.operators import Op

#: Of single or double precision.
Reals = NDArray[Any]
#: A cell's (state, change of the state) of every sequence, and the input's part → the next ones.
State = tuple[Reals, ...]
Step = Callable[[Reals, State, State], tuple[State, State]]


@dataclass(frozen=True)
class Cell:
    """Weights and activations of a cell, its gates side by side in Keras' order.

    kernel: (…, inputs, gates · units). recurrent: (…, units, gates · units). bias: (…, 1, gates ·
    units), or (…, 2, gates · units) where the state has a bias of its own. reset_after: whether a
    GRU resets what its kernel made of the state, rather than the state.
    """

    kernel: Reals
    recurrent: Reals
    bias: Reals
    activation: Curve
    gate: Curve
    reset_after: bool = True


def simple(cell: Cell) -> Step:
    """h′ = φ(W x + U h + b)."""

    def step(entering: Reals, state: State, change: State) -> tuple[State, State]:
        moved, d_moved = _both(state[0], change[0], cell.recurrent)
        value, slope = cell.activation(entering + moved)
        return (value,), (slope * d_moved,)

    return step


def lstm(cell: Cell) -> Step:
    """c′ = f·c + i·g, h′ = o·φ(c′); the state is (h, c)."""

    def step(entering: Reals, state: State, change: State) -> tuple[State, State]:
        (hidden, memory), (d_hidden, d_memory) = state, change
        made_of, d_made_of = _both(hidden, d_hidden, cell.recurrent)
        raw = np.split(entering + made_of, 4, axis=-1)
        moved = np.split(d_made_of, 4, axis=-1)
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


def gru(cell: Cell) -> Step:
    """h′ = z·h + (1 − z)·g, g = φ(W x + r·(U h)), or φ(W x + U (r·h)) with the reset before."""
    units = cell.recurrent.shape[-2]
    gates, candidate = cell.recurrent[..., : 2 * units], cell.recurrent[..., 2 * units :]
    inner = cell.bias[..., 1:, :] if cell.reset_after else np.zeros(3 * units)

    def step(entering: Reals, state: State, change: State) -> tuple[State, State]:
        (hidden,), (d_hidden,) = state, change
        made_of, moved = _both(hidden, d_hidden, gates)
        raw = entering[..., : 2 * units] + made_of + inner[..., : 2 * units]
        both, slopes = cell.gate(raw)
        keep, reset = both[..., :units], both[..., units:]
        d_keep, d_reset = (slopes * moved)[..., :units], (slopes * moved)[..., units:]
        if cell.reset_after:
            seen, d_seen = _both(hidden, d_hidden, candidate)
            seen = seen + inner[..., 2 * units :]
            fed, d_fed = reset * seen, d_reset * seen + reset * d_seen
        else:
            fed, d_fed = _both(reset * hidden, d_reset * hidden + reset * d_hidden, candidate)
        made, slope = cell.activation(entering[..., 2 * units :] + fed)
        d_made = slope * d_fed
        changed = keep * d_hidden + d_keep * hidden + (1 - keep) * d_made - d_keep * made
        return (keep * hidden + (1 - keep) * made,), (changed,)

    return step


def _both(one: Reals, other: Reals, kernel: Reals) -> tuple[Reals, Reals]:
    """Both times the kernel, in one product."""
    count = one.shape[-2]
    product = np.concatenate([one, other], axis=-2) @ kernel
    return product[..., :count, :], product[..., count:, :]


STEPS: Mapping[Op, Callable[[Cell], Step]] = {
    Op.SIMPLE_RNN: simple,
    Op.LSTM: lstm,
    Op.GRU: gru,
}
