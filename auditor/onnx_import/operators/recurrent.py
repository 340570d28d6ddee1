"""Recurrent layers: RNN, GRU, LSTM, in both directions, with lengths, peepholes and clipping."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from keras import ops

from .mathematics import evaluated
from .numbers import product, smaller
from .table import Node, Unsupported, Value, is_known, operator
from .tensors import dtype_of, tensor

Function = Callable[[Value], Value]
#: (projected input (N, gates · H), states) → new states; the first of them is the output.
Step = Callable[[Value, tuple[Value, ...]], tuple[Value, ...]]
#: What to multiply a state by, and the weights: a hook for kernels with quantised operands.
Product = Callable[[Value, Value], Value]


@dataclass(frozen=True, kw_only=True)
class Direction:
    """The weights of one direction.

    w: (I, gates · H). r: (H, gates · H). wb, rb: (gates · H) or None. p: (3 · H) or None.
    """

    w: Value
    r: Value
    wb: Value
    rb: Value
    p: Value
    functions: tuple[Function, ...]
    backward: bool


@operator("RNN")
def rnn(
    node: Node,
    x: Value,
    w: Value,
    r: Value,
    b: Value = None,
    lengths: Value = None,
    h0: Value = None,
) -> Value:
    """(T, N, I) → Y (T, D, N, H), Y_h (D, N, H); with layout 1 the batch comes first."""
    directions = _directions(node, w, r, b, None, ("Tanh",))
    return recurred(node, x, directions, rnn_step, lengths, (h0,))


@operator("GRU")
def gru(
    node: Node,
    x: Value,
    w: Value,
    r: Value,
    b: Value = None,
    lengths: Value = None,
    h0: Value = None,
) -> Value:
    """(T, N, I) → Y (T, D, N, H), Y_h (D, N, H); with layout 1 the batch comes first."""
    directions = _directions(node, w, r, b, None, ("Sigmoid", "Tanh"))
    return recurred(node, x, directions, gru_step, lengths, (h0,))


@operator("LSTM")
def lstm(
    node: Node,
    x: Value,
    w: Value,
    r: Value,
    b: Value = None,
    lengths: Value = None,
    h0: Value = None,
    c0: Value = None,
    p: Value = None,
) -> Value:
    """(T, N, I) → Y (T, D, N, H), Y_h, Y_c (D, N, H); with layout 1 the batch comes first."""
    directions = _directions(node, w, r, b, p, ("Sigmoid", "Tanh", "Tanh"))
    return recurred(node, x, directions, lstm_step, lengths, (h0, c0))


def rnn_step(node: Node, direction: Direction, multiply: Product) -> Step:
    """The step h ← f(W x + R h + b)."""
    clip = _clipping(node)

    def step(projected: Value, states: tuple[Value, ...]) -> tuple[Value, ...]:
        recurrent = _plus(multiply(states[0], direction.r), direction.rb)
        return (direction.functions[0](clip(projected + recurrent)),)

    return step


def gru_step(node: Node, direction: Direction, multiply: Product) -> Step:
    """Gates z, r, h; `linear_before_reset` gates R h + b instead of h."""
    clip = _clipping(node)
    f, g = direction.functions[:2]
    size = direction.r.shape[0]
    before = bool(node.get("linear_before_reset", 0))

    def step(projected: Value, states: tuple[Value, ...]) -> tuple[Value, ...]:
        h = states[0]
        if before:
            recurrent = _plus(multiply(h, direction.r), direction.rb)
        else:
            bias = None if direction.rb is None else direction.rb[: 2 * size]
            recurrent = _plus(multiply(h, direction.r[:, : 2 * size]), bias)
        update = f(clip(projected[:, :size] + recurrent[:, :size]))
        reset = f(clip(projected[:, size : 2 * size] + recurrent[:, size : 2 * size]))
        if before:
            candidate = reset * recurrent[:, 2 * size :]
        else:
            bias = None if direction.rb is None else direction.rb[2 * size :]
            candidate = _plus(multiply(reset * h, direction.r[:, 2 * size :]), bias)
        new = g(clip(projected[:, 2 * size :] + candidate))
        return (new + update * (h - new),)

    return step


def lstm_step(node: Node, direction: Direction, multiply: Product) -> Step:
    """Gates i, o, f, c; peepholes i, o, f; `input_forget` couples f = 1 − i."""
    clip = _clipping(node)
    f, g, h = direction.functions
    size = direction.r.shape[0]
    coupled = bool(node.get("input_forget", 0))
    peeps = (
        None
        if direction.p is None
        else [direction.p[place * size : (place + 1) * size] for place in range(3)]
    )

    def step(projected: Value, states: tuple[Value, ...]) -> tuple[Value, ...]:
        hidden, cell = states
        gates = projected + _plus(multiply(hidden, direction.r), direction.rb)
        i, o, forget, c = (gates[:, place * size : (place + 1) * size] for place in range(4))
        if peeps is not None:
            i = i + peeps[0] * cell
            forget = forget + peeps[2] * cell
        i = f(clip(i))
        forget = 1 - i if coupled else f(clip(forget))
        cell = forget * cell + i * g(clip(c))
        if peeps is not None:
            o = o + peeps[1] * cell
        return f(clip(o)) * h(cell), cell

    return step


def recurred(
    node: Node,
    x: Value,
    directions: Sequence[Direction],
    step_of: Callable[[Node, Direction, Product], Step],
    lengths: Value,
    initial: tuple[Value, ...],
    multiply: Product = product,
) -> Value:
    """All directions over time → (Y, final states …), laid out as the node says."""
    batch_first = bool(node.get("layout", 0))
    x = tensor(x)
    dtype = dtype_of(x)
    if batch_first:
        x = ops.swapaxes(x, 0, 1)
    sequences = []
    finals: list[tuple[Value, ...]] = []
    for number, direction in enumerate(directions):
        size = direction.r.shape[0]
        states = tuple(
            ops.zeros((ops.shape(x)[1], size), dtype)
            if start is None
            else (tensor(start)[:, number] if batch_first else tensor(start)[number])
            for start in initial
        )
        order = _backward_order(x, lengths) if direction.backward else None
        inputs = x if order is None else _reordered(x, order)
        projected = _plus(multiply(inputs, direction.w), direction.wb)
        ys, states = _over_time(projected, states, step_of(node, direction, multiply), lengths)
        sequences.append(ys if order is None else _reordered(ys, order))
        finals.append(states)
    y = ops.stack(sequences, axis=2 if batch_first else 1)
    last = [ops.stack(states, axis=0) for states in zip(*finals, strict=True)]
    if batch_first:  # Y is (T, N, D, H) here
        return (ops.swapaxes(y, 0, 1), *(ops.swapaxes(state, 0, 1) for state in last))
    return (y, *last)


def functions_of(
    node: Node, defaults: Sequence[str], number: int
) -> tuple[tuple[Function, ...], ...]:
    """The activation functions of each direction; alpha and beta go to those that take them."""
    names = [str(name) for name in node.get("activations") or ()]
    if len(names) < len(defaults) * number:
        names = list(defaults) * number
    alphas = iter(node.get("activation_alpha") or ())
    betas = iter(node.get("activation_beta") or ())
    made = [activation(name.lower(), alphas, betas) for name in names]
    each = len(defaults)
    return tuple(tuple(made[start : start + each]) for start in range(0, number * each, each))


def direction_names(node: Node) -> tuple[bool, ...]:
    """Whether each direction runs backward."""
    direction = str(node.get("direction", "forward")).lower()
    try:
        # Version 1 of GRU spells its default "foward".
        return {
            "forward": (False,),
            "foward": (False,),
            "reverse": (True,),
            "bidirectional": (False, True),
        }[direction]
    except KeyError:
        raise Unsupported(f"a direction named {direction!r}") from None


def _directions(
    node: Node, w: Value, r: Value, b: Value, p: Value, defaults: Sequence[str]
) -> list[Direction]:
    backward = direction_names(node)
    functions = functions_of(node, defaults, len(backward))
    w, r = tensor(w), tensor(r)
    b = None if b is None else tensor(b)
    half = w.shape[1]
    return [
        Direction(
            w=ops.transpose(w[number]),
            r=ops.transpose(r[number]),
            wb=None if b is None else b[number, :half],
            rb=None if b is None else b[number, half:],
            p=None if p is None else tensor(p)[number],
            functions=functions[number],
            backward=backward[number],
        )
        for number in range(len(backward))
    ]


def _over_time(
    projected: Value, states: tuple[Value, ...], step: Step, lengths: Value
) -> tuple[Value, tuple[Value, ...]]:
    """(T, N, gates · H) and initial states → outputs (T, N, H) and final states.

    A scan, because compilers take minutes over a hundred steps written out.
    """
    steps = projected.shape[0]
    if lengths is None:

        def advance(carried: tuple[Value, ...], inputs: Value) -> Any:
            new = step(inputs, carried)
            return new, new

        if steps == 1:
            states = step(projected[0], states)
            return ops.expand_dims(states[0], 0), states
        states, sequences = ops.scan(advance, states, projected)
        return sequences[0], states
    ends = ops.reshape(ops.cast(tensor(lengths), "int32"), (-1, 1))

    def advance_within(carried: tuple[Value, ...], now: tuple[Value, Value]) -> Any:
        running = ops.less(now[0], ends)
        new = step(now[1], carried)
        kept = tuple(ops.where(running, a, b) for a, b in zip(new, carried, strict=True))
        return kept, tuple(ops.where(running, value, ops.zeros_like(value)) for value in new)

    times = ops.arange(steps, dtype="int32")
    states, sequences = ops.scan(advance_within, states, (times, projected))
    return sequences[0], states


def _backward_order(x: Value, lengths: Value) -> Value:
    """(T, N) which time step comes when: each sequence backward within its own length."""
    steps = x.shape[0]
    if lengths is None:
        return None if steps == 1 else np.arange(steps)[::-1]
    times = np.arange(steps, dtype=np.int32)[:, None]
    if is_known(lengths):
        ends = np.asarray(lengths, np.int32)[None, :]
        return np.where(times < ends, ends - 1 - times, times)
    times = ops.convert_to_tensor(times)
    ends = ops.expand_dims(ops.cast(lengths, "int32"), 0)
    return ops.where(ops.less(times, ends), ends - 1 - times, times + 0 * ends)


def _reordered(x: Value, order: Value) -> Value:
    if len(order.shape) == 1:
        return ops.flip(x, axis=0)
    return ops.take_along_axis(x, ops.expand_dims(order, -1), axis=0)


def _plus(x: Value, bias: Value) -> Value:
    return x if bias is None else x + bias


def _clipping(node: Node) -> Function:
    threshold = node.get("clip")
    if not threshold:
        return lambda x: x
    return lambda x: ops.clip(x, -float(threshold), float(threshold))


def activation(name: str, alphas: Iterator[float], betas: Iterator[float]) -> Function:
    """The function of a name in lower case, with parameters where it takes any."""
    tanh = partial(evaluated, "Tanh")
    plain: Mapping[str, Function] = {
        "relu": ops.relu,
        "tanh": tanh,
        "sigmoid": ops.sigmoid,
        "softsign": ops.softsign,
        "softplus": ops.softplus,
    }
    if name in plain:
        return plain[name]
    if name == "affine":
        a, b = float(next(alphas, 1.0)), float(next(betas, 0.0))
        return lambda x: a * x + b
    if name == "scaledtanh":
        a, b = float(next(alphas, 1.0)), float(next(betas, 1.0))
        return lambda x: a * tanh(b * x)
    if name == "hardsigmoid":
        a, b = float(next(alphas, 0.2)), float(next(betas, 0.5))
        return lambda x: ops.clip(a * x + b, 0.0, 1.0)
    if name == "leakyrelu":
        a = float(next(alphas, 0.01))
        return lambda x: ops.where(ops.greater(x, 0), x, a * x)
    if name == "thresholdedrelu":
        a = float(next(alphas, 1.0))
        return lambda x: ops.where(ops.greater(x, a), x, 0 * x)
    if name == "elu":
        a = float(next(alphas, 1.0))
        return lambda x: ops.where(
            ops.greater(x, 0), x, a * ops.expm1(smaller(x, ops.zeros_like(x)))
        )
    raise Unsupported(f"an activation named {name!r}")
