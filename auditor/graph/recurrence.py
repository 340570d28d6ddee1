"""Recurrent cells run over time: what their weights do to a small change of the state."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from auditor.errors import UnreadableModel
from auditor.graph.activations import Curve, Floats, curve
from auditor.graph.freshness import drawn
from auditor.graph.layer_graph import LayerCall, LayerGraph
from auditor.graph.operators import Op
from auditor.graph.recurrent_cells import STEPS, Cell, Reals, State
from auditor.graph.transfer import activation_settings

#: Sequences that are run, and steps of one whose length is open.
SEQUENCES, OPEN_LENGTH = 8, 100
#: Multiplications that a layer, and all layers together, may cost; longer sequences are run in part
#: and their rate carried on.
BUDGET, ALL_BUDGET = 2e8, 2e9
#: Steps that are run of however many layers.
FEWEST = 10
#: A state beyond this has left what single precision holds; its run is not carried on.
OVERFLOW = 1e38
#: Weights, in values, of the layers that are run side by side: they stay in the processor's cache.
TOGETHER = 1 << 19
#: Gates of a cell, by operator: its kernels hold so many blocks side by side.
GATES = {Op.SIMPLE_RNN: 1, Op.LSTM: 4, Op.GRU: 3}
#: Which of them makes the state, or the candidate for it.
CANDIDATE = {Op.SIMPLE_RNN: 0, Op.LSTM: 2, Op.GRU: 2}
#: Units from which on eigenvalues take seconds.
LARGE = 512


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
        blocks = np.split(recurrent.astype(np.float64), GATES[self.call.op], axis=1)
        return float(np.abs(np.linalg.eigvals(blocks[CANDIDATE[self.call.op]])).max())


def recurrences(graph: LayerGraph) -> tuple[Recurrence, ...]:
    """The recurrent layers whose weights can be read, each run on standard normal inputs.

    A change δ of the first state is carried along exactly, δ_t = J_t δ_{t−1}, J_t = ∂h_t/∂h_{t−1}
    at the state reached (Pascanu et al. 2013): that the spectral radius is above 1 is necessary
    for it to explode under tanh, and is not sufficient under any activation.
    """
    if graph.format == "onnx":
        return ()  # ONNX orders and transposes the blocks otherwise
    recurrent = [call for call in graph.layers() if call.op in GATES]
    # All layers are run on the same sequences, so that equal ones can be run side by side.
    alike: dict[Hashable, list[LayerCall]] = {}
    for call in recurrent:
        alike.setdefault(_form(call), []).append(call)
    cost = SEQUENCES * sum(_recurrent_size(call) for call in recurrent)
    most = max(int(ALL_BUDGET / max(cost, 1)), FEWEST)
    rates: dict[str, float | None] = {}
    for calls in alike.values():
        for batch in _batches(calls):
            rates.update(_rates(batch, most))
    return tuple(
        _recurrence(graph, call, rate)
        for call in recurrent
        if (rate := rates.get(call.id)) is not None
    )


def _recurrence(graph: LayerGraph, call: LayerCall, rate: float) -> Recurrence:
    steps = _steps(call)
    wanted = steps or OPEN_LENGTH
    return Recurrence(
        call=call,
        steps=steps,
        rate=rate,
        total=math.exp(max(-700.0, min(wanted * math.log(rate), 700.0))) if rate > 0 else 0.0,
        untouched=_untouched(graph, call),
    )


def _form(call: LayerCall) -> Hashable:
    """What layers that are run side by side have in common."""
    return call.op, *(weight.shape for weight in call.weights), *_curves(call), _steps(call)


def _batches(calls: list[LayerCall]) -> Iterator[list[LayerCall]]:
    count = max(TOGETHER // max(calls[0].parameters, 1), 1)
    for start in range(0, len(calls), count):
        yield calls[start : start + count]


def _recurrent_size(call: LayerCall) -> int:
    weight = call.weight("recurrent_kernel")
    return weight.size if weight is not None else 0


def _rates(calls: list[LayerCall], most: int) -> Mapping[str, float | None]:
    """Rates of layers of one form, over so many steps at most; unknown cells are left out."""
    cells = {call.id: cell for call in calls if (cell := _cell(call)) is not None}
    if not cells:
        return {}
    first = next(iter(cells.values()))
    # In single precision, as the model itself runs.
    kernel, recurrent, bias = (
        np.stack(parts).astype(np.float32)
        for parts in zip(
            *((cell.kernel, cell.recurrent, cell.bias) for cell in cells.values()), strict=True
        )
    )
    together = Cell(kernel, recurrent, bias, first.activation, first.gate, first.reset_after)
    affordable = max(int(BUDGET / (SEQUENCES * first.recurrent.size)), 1)
    wanted = _steps(calls[0]) or OPEN_LENGTH
    found = _run(calls[0].op, together, min(wanted, affordable, most))
    return dict(zip(cells, found, strict=True))


def _cell(call: LayerCall) -> Cell | None:
    """The cell's weights and activations; None where they are not known or not of this form."""
    kernel, recurrent = _values(call, "kernel"), _values(call, "recurrent_kernel")
    if kernel is None or recurrent is None or kernel.ndim != 2 or recurrent.ndim != 2:
        return None
    units, gates = recurrent.shape[0], GATES[call.op]
    if recurrent.shape[1] != gates * units or kernel.shape[1] != gates * units or not units:
        return None
    bias = _values(call, "bias")
    activation, gate = _curves(call)
    if activation is None or gate is None:
        return None
    bias = np.zeros((1, gates * units)) if bias is None else bias.reshape(-1, gates * units)
    if not all(np.isfinite(values).all() for values in (kernel, recurrent, bias)):
        return None
    return Cell(kernel, recurrent, bias, activation, gate, len(bias) == 2)


def _curves(call: LayerCall) -> tuple[Curve | None, Curve | None]:
    """The activations of the state and of the gates."""
    gate = str(call.config.get("recurrent_activation", "sigmoid"))
    return curve(call.activation, activation_settings(call)), curve(gate, {})


def _values(call: LayerCall, role: str) -> Reals | None:
    weight = call.weight(role)
    if weight is None or weight.read is None:
        return None
    try:
        values: np.ndarray[Any, Any] = np.asarray(weight.read())
    except UnreadableModel:
        return None
    return values if values.dtype.kind == "f" else None


def _steps(call: LayerCall) -> int | None:
    shape = call.in_shape
    length = shape[1] if shape is not None and len(shape) == 3 else None
    return length if isinstance(length, int) and length > 0 else None


def _run(op: Op, cell: Cell, steps: int) -> list[float | None]:
    """Geometric mean, over the steps, of the factor on a change of the state, for each layer.

    `cell` holds the weights of several layers, along a first axis. A layer's run ends where its
    numbers do, and its rate is None where they do at once.
    """
    random = np.random.default_rng(0)
    layers, inputs = cell.kernel.shape[:2]
    units = cell.recurrent.shape[1]
    step, parts = STEPS[op](cell), 2 if op is Op.LSTM else 1
    state: State = (np.zeros((layers, SEQUENCES, units), np.float32),) * parts
    change: State = tuple(random.standard_normal((SEQUENCES, units)) for _ in range(parts))
    change = tuple(np.tile(part, (layers, 1, 1)) for part in _divided(change, _size(change)))
    logs = np.zeros((layers, SEQUENCES))
    done = np.zeros(layers, dtype=np.int64)
    running = np.ones(layers, dtype=np.bool_)
    with np.errstate(all="ignore"):
        for _ in range(steps):
            drawn_inputs = random.standard_normal((SEQUENCES, inputs)).astype(np.float32)
            state, change = step(drawn_inputs @ cell.kernel + cell.bias[:, :1], state, change)
            size = _size(change)
            running &= _finite(*state, *change)
            logs[running] += np.log(size[running])
            done += running
            running &= size.any(axis=1)
            for part in state:
                running &= np.abs(part).max(axis=(1, 2)) <= OVERFLOW
            if not running.any():
                break
            change = _divided(change, np.where(size > 0, size, 1.0))
        rates = np.exp(np.clip(np.median(logs, axis=1) / done, -700.0, 700.0))
    return [float(rate) if count else None for rate, count in zip(rates, done, strict=True)]


def _size(change: State) -> Floats:
    """Norm of the change, of each layer and sequence."""
    squares = (np.square(part, dtype=np.float64).sum(axis=-1) for part in change)
    total: Floats = np.sqrt(sum(squares))
    return total


def _divided(change: State, size: Floats) -> State:
    return tuple((part / size[..., None]).astype(np.float32) for part in change)


def _finite(*parts: Reals) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Of each layer, whether all its numbers are."""
    ends: np.ndarray[Any, np.dtype[np.bool_]] = np.logical_and.reduce(
        [np.isfinite(part).all(axis=(1, 2)) for part in parts]
    )
    return ends


def _untouched(graph: LayerGraph, call: LayerCall) -> bool | None:
    """Whether the kernels' values can be fresh draws of their initializers."""
    known: bool | None = None
    for index, weight in enumerate(call.weights):
        if weight.role not in ("kernel", "recurrent_kernel"):
            continue
        seen = graph.weight_statistics.get((call.layer, index))
        fresh = drawn(weight, seen) if seen is not None else None
        if fresh is None:
            return None
        if not fresh:
            return False
        known = True
    return known
