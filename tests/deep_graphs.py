"""Graphs of a thousand calls, 64 wide: what the cost of static rules is measured on."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from builders import GraphBuilder, Kernel

from auditor.graph import LayerGraph, Op
from auditor.graph.weight import Weight

CALLS, WIDTH, STEPS, HEADS = 1000, 64, 8, 4


class _Drawer(GraphBuilder):
    """Values from one pool of draws, in place of a billion of their own."""

    def __init__(self, *, values: bool) -> None:
        super().__init__(values=values)
        self.pool = self.random.normal(size=1 << 20).astype(np.float32)

    def draw(self, initializer: Any, shape: tuple[int, ...]) -> np.ndarray:
        if initializer.name in ("zeros", "ones"):
            return super().draw(initializer, shape)
        size = int(np.prod(shape))
        start = int(self.random.integers(self.pool.size - size))
        fans = sum(shape[-2:]) * float(np.prod(shape[:-2]))
        return self.pool[start : start + size].reshape(shape) * np.float32((2 / fans) ** 0.5)


def dense(*, values: bool) -> LayerGraph:
    builder = _Drawer(values=values)
    last = builder.input((WIDTH,))
    for _ in range(CALLS):
        last = builder.dense(last, WIDTH, "relu", kernel="glorot_normal")
    return builder.graph(builder.dense(last, 10, "softmax"), loss="categorical_crossentropy")


def convolutional(*, values: bool) -> LayerGraph:
    builder = _Drawer(values=values)
    last = builder.input((16, 16, WIDTH))
    for _ in range(CALLS // 4):
        inner = builder.conv(last, WIDTH, kernel="glorot_normal")
        inner = builder.activation(builder.batch_norm(inner), "relu")
        last = builder.add(Op.ADD, last, inner)
    last = builder.global_average(last)
    return builder.graph(builder.dense(last, 10, "softmax"), loss="categorical_crossentropy")


def recurrent(*, values: bool) -> LayerGraph:
    builder = _Drawer(values=values)
    last = builder.input((STEPS, WIDTH))
    for _ in range(CALLS):
        last = builder.lstm(last, WIDTH, sequences=True)
    return builder.graph(builder.dense(last, 1), loss="mse")


def transformer(*, values: bool) -> LayerGraph:
    builder = _Drawer(values=values)
    last = builder.input((16, WIDTH))
    for _ in range(CALLS // 8):
        inner = builder.normalization(Op.LAYER_NORM, last)
        last = builder.add(Op.ADD, last, builder.dropout(_attention(builder, inner), 0.1))
        inner = builder.normalization(Op.LAYER_NORM, last)
        inner = builder.dense(inner, 4 * WIDTH, "gelu", kernel="glorot_normal")
        inner = builder.dense(inner, WIDTH, kernel="glorot_normal")
        last = builder.add(Op.ADD, last, inner)
    last = builder.normalization(Op.LAYER_NORM, last)
    return builder.graph(builder.dense(last, 10), loss="mse")


def _attention(builder: GraphBuilder, source: str) -> str:
    shape = (WIDTH, HEADS, WIDTH // HEADS)
    kernel: Kernel = "glorot_normal"
    weights: list[Weight] = [
        builder.weight(f"{part}_kernel", shape, kernel, (1, 2))
        for part in ("query", "key", "value")
    ]
    weights.append(builder.weight("output_kernel", (HEADS, WIDTH // HEADS, WIDTH), kernel, (2,)))
    config = {"num_heads": HEADS, "key_dim": WIDTH // HEADS}
    return builder.add(
        Op.ATTENTION,
        source,
        source,
        kind="MultiHeadAttention",
        config=config,
        weights=tuple(weights),
    )


GRAPHS: Mapping[str, Callable[..., LayerGraph]] = {
    "dense": dense,
    "convolution, normalized and residual": convolutional,
    "lstm": recurrent,
    "transformer": transformer,
}
