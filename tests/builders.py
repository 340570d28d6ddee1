"""A concise way to build a `LayerGraph` by hand, with numpy weights drawn as Keras draws them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from auditor.graph import (
    CompileSettings,
    Edge,
    Initializer,
    InputSpec,
    LayerCall,
    LayerGraph,
    LossSettings,
    Op,
    OptimizerSettings,
    Weight,
)
from auditor.graph.initializers import weight_law


@dataclass(frozen=True)
class Stored:
    """A `TensorReader` over an array in memory."""

    values: np.ndarray

    def __call__(self) -> np.ndarray:
        return self.values


Kernel = str | Initializer | np.ndarray


def normal(stddev: float, mean: float = 0.0) -> Initializer:
    return Initializer(name="random_normal", config={"mean": mean, "stddev": stddev})


def constant(value: float) -> Initializer:
    return Initializer(name="constant", config={"value": value})


class GraphBuilder:
    """Adds calls one by one; each method returns the id of the call it added.

    `values=False` gives weights that have an initializer only, as in a file of architecture alone.
    """

    def __init__(self, seed: int = 0, *, values: bool = True, format_: str = "keras") -> None:
        self.random = np.random.default_rng(seed)
        self.values = values
        self.format = format_
        self.calls: list[LayerCall] = []
        self.edges: list[Edge] = []
        self.inputs: list[InputSpec] = []

    def input(self, shape: tuple[int | None, ...], dtype: str = "float32") -> str:
        call = self.add(Op.INPUT, kind="InputLayer", shape=(None, *shape), dtype=dtype)
        spec = InputSpec(name=call, call=call, shape=(None, *shape), dtype=dtype)
        self.inputs.append(spec)
        return call

    def add(
        self,
        op: Op,
        *sources: str,
        kind: str | None = None,
        shape: tuple[int | str | None, ...] | None = None,
        activation: str | None = None,
        config: Mapping[str, Any] | None = None,
        weights: tuple[Weight, ...] = (),
        trainable: bool = True,
        dtype: str = "float32",
        name: str | None = None,
    ) -> str:
        """Any call; its output shape is the first source's unless one is given."""
        kind = kind or op.value.replace("-", " ").title().replace(" ", "")
        stem = name or kind.lower()
        count = sum(call.id == stem or call.id.startswith(f"{stem}_") for call in self.calls)
        id_ = stem if count == 0 else f"{stem}_{count}"
        in_shapes = tuple(self.shape(source) for source in sources)
        out = shape if shape is not None else (in_shapes[0] if in_shapes else None)
        self.calls.append(
            LayerCall(
                id=id_,
                name=id_,
                layer=id_,
                kind=kind,
                op=op,
                activation=activation,
                config=dict(config or {}),
                in_shapes=in_shapes,
                out_shapes=(out,),
                dtype=dtype,
                weights=weights,
                trainable=trainable,
            )
        )
        self.edges += [
            Edge(source=source, target=id_, target_slot=slot) for slot, source in enumerate(sources)
        ]
        return id_

    def shape(self, call_id: str) -> tuple[int | str | None, ...] | None:
        return next(call.out_shape for call in self.calls if call.id == call_id)

    def weight(
        self, role: str, shape: tuple[int, ...], kernel: Kernel, unit_axes: tuple[int, ...] = ()
    ) -> Weight:
        initializer = Initializer(name=kernel) if isinstance(kernel, str) else kernel
        if isinstance(initializer, np.ndarray):
            values: np.ndarray | None = initializer
            initializer = None
        else:
            values = self.draw(initializer, shape) if self.values else None
        units = math.prod(shape[axis] for axis in unit_axes)
        return Weight(
            name=role,
            role=role,
            shape=shape,
            dtype="float32",
            trainable=not role.startswith("moving"),
            fan_in=math.prod(shape) // units if unit_axes else None,
            fan_out=units if unit_axes else None,
            unit_axes=unit_axes,
            initializer=initializer,
            read=None if values is None else Stored(values),
        )

    def draw(self, initializer: Initializer, shape: tuple[int, ...]) -> np.ndarray:
        law = weight_law(initializer, shape)
        assert law is not None, initializer
        if math.isfinite(law.low):
            values = self.random.uniform(-1, 1, shape) * math.sqrt(3 * law.variance) + law.mean
        else:
            values = self.random.normal(law.mean, math.sqrt(law.variance), shape)
        return np.clip(values, law.low, law.high).astype(np.float32)

    def dense(
        self,
        source: str,
        units: int,
        activation: str | None = None,
        *,
        kernel: Kernel = "glorot_uniform",
        bias: Kernel | None = "zeros",
        trainable: bool = True,
    ) -> str:
        shape = self.shape(source)
        assert shape is not None
        weights = [self.weight("kernel", (shape[-1], units), kernel, (1,))]
        if bias is not None:
            weights.append(self.weight("bias", (units,), bias))
        return self.add(
            Op.DENSE,
            source,
            kind="Dense",
            shape=(*shape[:-1], units),
            activation=activation,
            weights=tuple(weights),
            trainable=trainable,
            config={"units": units, "activation": activation or "linear"},
        )

    def conv(
        self,
        source: str,
        filters: int,
        size: int = 3,
        activation: str | None = None,
        *,
        kernel: Kernel = "glorot_uniform",
        strides: int = 1,
        depthwise: bool = False,
    ) -> str:
        shape = self.shape(source)
        assert shape is not None
        _, height, width, channels = shape
        kernel_shape = (size, size, channels, 1 if depthwise else filters)
        out = channels if depthwise else filters
        role, axes = ("depthwise_kernel", (2, 3)) if depthwise else ("kernel", (3,))
        return self.add(
            Op.DEPTHWISE_CONV if depthwise else Op.CONV,
            source,
            kind="DepthwiseConv2D" if depthwise else "Conv2D",
            shape=(None, -(-height // strides), -(-width // strides), out),
            activation=activation,
            weights=(
                self.weight(role, kernel_shape, kernel, axes),
                self.weight("bias", (out,), "zeros"),
            ),
            config={
                "kernel_size": [size, size],
                "strides": [strides, strides],
                "padding": "same",
                "dilation_rate": [1, 1],
                "data_format": "channels_last",
                "groups": 1,
            },
        )

    def batch_norm(self, source: str, gamma: Kernel = "ones") -> str:
        return self.normalization(Op.BATCH_NORM, source, gamma=gamma)

    def normalization(self, op: Op, source: str, gamma: Kernel = "ones") -> str:
        shape = self.shape(source)
        assert shape is not None
        width = (shape[-1],)
        weights = (self.weight("gamma", width, gamma), self.weight("beta", width, "zeros"))
        return self.add(op, source, weights=weights, config={"epsilon": 1e-3})

    def activation(self, source: str, name: str, **config: Any) -> str:
        return self.add(Op.ACTIVATION, source, kind="Activation", activation=name, config=config)

    def dropout(self, source: str, rate: float) -> str:
        return self.add(Op.DROPOUT, source, kind="Dropout", config={"rate": rate})

    def flatten(self, source: str) -> str:
        shape = self.shape(source)
        assert shape is not None
        return self.add(Op.FLATTEN, source, kind="Flatten", shape=(None, math.prod(shape[1:])))

    def global_average(self, source: str) -> str:
        shape = self.shape(source)
        assert shape is not None
        return self.add(
            Op.GLOBAL_AVERAGE_POOL,
            source,
            kind="GlobalAveragePooling2D",
            shape=(None, shape[-1]),
        )

    def max_pool(self, source: str, size: int = 2) -> str:
        shape = self.shape(source)
        assert shape is not None
        return self.add(
            Op.MAX_POOL,
            source,
            kind="MaxPooling2D",
            shape=(None, shape[1] // size, shape[2] // size, shape[3]),
            config={"pool_size": [size, size]},
        )

    def lstm(self, source: str, units: int, *, sequences: bool = False) -> str:
        shape = self.shape(source)
        assert shape is not None
        return self.add(
            Op.LSTM,
            source,
            kind="LSTM",
            activation="tanh",
            shape=(*shape[:-1], units) if sequences else (None, units),
            weights=(
                self.weight("kernel", (shape[-1], 4 * units), "glorot_uniform", (1,)),
                self.weight("recurrent_kernel", (units, 4 * units), "orthogonal", (1,)),
                self.weight("bias", (4 * units,), "zeros"),
            ),
        )

    def embedding(self, source: str, tokens: int, width: int) -> str:
        shape = self.shape(source)
        assert shape is not None
        table = Initializer(name="random_uniform", config={"minval": -0.05, "maxval": 0.05})
        return self.add(
            Op.EMBEDDING,
            source,
            kind="Embedding",
            shape=(*shape, width),
            weights=(self.weight("embeddings", (tokens, width), table),),
        )

    def graph(
        self,
        *outputs: str,
        loss: str | tuple[LossSettings, ...] | None = None,
        from_logits: bool = False,
        optimizer: str = "adam",
        learning_rate: float = 1e-3,
    ) -> LayerGraph:
        """The graph; compiled when a loss is given, which then serves all outputs."""
        settings = None
        if loss is not None:
            one = (LossSettings(name=str(loss), from_logits=from_logits),)
            settings = CompileSettings(
                optimizer=OptimizerSettings(name=optimizer, learning_rate=learning_rate),
                losses=one if isinstance(loss, str) else loss,
            )
        return LayerGraph(
            name="model",
            format=self.format,
            writer="tests",
            calls=tuple(self.calls),
            edges=tuple(self.edges),
            inputs=tuple(self.inputs),
            outputs=tuple((output, 0) for output in outputs),
            compile=settings,
        )
