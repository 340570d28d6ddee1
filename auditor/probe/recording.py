"""Recording every call's arguments in one forward pass, to run each call again by itself."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np

from auditor.probe.backends import Backend, Tensor
from auditor.probe.model_io import ModelInputs, in_mode
from auditor.probe.state import untrained_state
from auditor.probe.statistics import is_floating
from auditor.probe.taps import Taps


@dataclass(frozen=True, kw_only=True)
class RecordedCall:
    """One call as it ran: the layer or operation, and its concrete arguments.

    args, kwargs: as they came in, Keras masks still on their tensors. training: the mode it ran
    in, None for an operation that has none. batch: samples in the batch. outputs: shape and dtype
    of its floating outputs, flattened.
    """

    id: str
    operation: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    training: bool | None
    batch: int
    outputs: tuple[tuple[tuple[int, ...], str], ...]

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """The floating tensors among the arguments, flattened: what J is a derivative for."""
        return tuple(t for t in keras.tree.flatten((self.args, self.kwargs)) if _is_input(t))

    @property
    def per_sample(self) -> bool:
        """Whether all floating tensors, in and out, have a first axis that the batch divides."""
        shapes = [tuple(tensor.shape) for tensor in self.inputs]
        shapes += [shape for shape, _ in self.outputs]
        return all(shape and shape[0] and shape[0] % self.batch == 0 for shape in shapes)

    def run(self, inputs: Sequence[Tensor]) -> Any:
        """Call again with other values for `inputs`; whatever the layer returns."""
        given = iter(inputs)

        def other(leaf: Any) -> Any:
            if not _is_input(leaf):
                return leaf
            tensor = next(given)
            if keras.backend.backend() == "torch":
                # Layers may work in place there, and the next run is to meet the same values.
                return _with_mask_of(keras.ops.copy(tensor), leaf)
            return _own_mask(leaf) if tensor is leaf else _with_mask_of(tensor, leaf)

        args, kwargs = _mapped(other, self.args, self.kwargs)
        if self.training is not None and "training" not in kwargs:
            kwargs["training"] = self.training
        with _own_draws(self.id):
            return self.operation(*args, **kwargs)

    def floating_outputs(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Call again as a function from its floating inputs to its floating outputs."""
        return tuple(t for t in keras.tree.flatten(self.run(inputs)) if is_floating(t))

    def of_samples(self, samples: int) -> RecordedCall:
        """The same call with the first samples alone; only for a `per_sample` one."""
        if samples >= self.batch:
            return self

        def rows(leaf: Any) -> Any:
            shape = tuple(getattr(leaf, "shape", ()))
            if not keras.ops.is_tensor(leaf) or not shape or shape[0] % self.batch:
                return leaf
            kept = _with_mask_of(leaf[: samples * (shape[0] // self.batch)], leaf)
            mask = _mask_of(kept)
            if mask is not None and mask.shape[0] % self.batch == 0:
                _set_mask(kept, mask[: samples * (mask.shape[0] // self.batch)])
            return kept

        args, kwargs = _mapped(rows, self.args, self.kwargs)
        outputs = tuple(
            ((samples * (shape[0] // self.batch), *shape[1:]), dtype)
            for shape, dtype in self.outputs
        )
        return replace(self, args=args, kwargs=kwargs, batch=samples, outputs=outputs)


def record(
    model: Any, inputs: ModelInputs, x: Sequence[Any], *, backend: Backend, training: bool = True
) -> tuple[RecordedCall, ...]:
    """The calls of one forward pass, in the order they ran; what the model raises goes through."""
    calls: list[RecordedCall] = []

    def run(tensors: Sequence[Tensor]) -> list[tuple[Tensor, Tensor | None]]:
        # A compiled pass may be traced more than once.
        calls[:] = _recorded(model, inputs, tensors, training=training)
        return [(leaf, _mask_of(leaf)) for leaf in _tensors(calls)]

    variables = (*model.trainable_variables, *untrained_state(model))
    found = backend.once(run, variables)([keras.ops.convert_to_tensor(array) for array in x])
    # Where the pass was compiled, it is the calls of its trace that were recorded.
    values = {
        id(leaf): value if value is leaf or mask is None else _masked(value, mask)
        for leaf, (value, mask) in zip(_tensors(calls), found, strict=True)
    }

    def concrete(leaf: Any) -> Any:
        return values.get(id(leaf), leaf)

    made = []
    for call in calls:
        args, kwargs = _mapped(concrete, call.args, call.kwargs)
        made.append(replace(call, args=args, kwargs=kwargs))
    return tuple(made)


def _recorded(
    model: Any, inputs: ModelInputs, tensors: Sequence[Tensor], *, training: bool
) -> list[RecordedCall]:
    """The calls of a pass over these inputs."""
    batch = int(tensors[0].shape[0])
    calls: list[RecordedCall] = []
    pending: list[tuple[tuple[Any, ...], Mapping[str, Any], bool | None]] = []

    def on_inputs(_: str, operation: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        layer = isinstance(operation, keras.layers.Layer)
        # Some layers take the mask off the tensor they are given.
        args, kept = _mapped(_own_mask, args, kwargs)
        pending.append((args, kept, _training_now(kwargs) if layer else None))

    def on_output(call_id: str, operation: Any, outputs: Any) -> Any:
        args, kwargs, mode = pending.pop()
        floating = [tensor for tensor in keras.tree.flatten(outputs) if is_floating(tensor)]
        calls.append(
            RecordedCall(
                id=call_id,
                operation=operation,
                args=args,
                kwargs=kwargs,
                training=mode,
                batch=batch,
                outputs=tuple(
                    (tuple(t.shape), keras.backend.standardize_dtype(t.dtype)) for t in floating
                ),
            )
        )
        return outputs

    with Taps(model, on_output, on_inputs=on_inputs):
        model(inputs.pack(tensors), **in_mode(model, training=training))
    return calls


def _tensors(calls: Sequence[RecordedCall]) -> list[Tensor]:
    """All tensors among the arguments of the calls, each once."""
    leaves = keras.tree.flatten([(call.args, dict(call.kwargs)) for call in calls])
    return list({id(leaf): leaf for leaf in leaves if keras.ops.is_tensor(leaf)}.values())


def _masked(tensor: Tensor, mask: Tensor) -> Tensor:
    _set_mask(tensor, mask)
    return tensor


@contextmanager
def _own_draws(name: str) -> Iterator[None]:
    """The same draws from Python's and NumPy's generators, each time a call of this name runs.

    Some layers, such as `AugMix`, draw what they do from there, each time that they are traced.
    """
    python_state, numpy_state = random.getstate(), np.random.get_state()
    seed = zlib.crc32(name.encode())
    random.seed(seed)
    np.random.seed(seed)
    try:
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)


def _mapped(
    function: Callable[[Any], Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return tuple(keras.tree.map_structure(function, (args, dict(kwargs))))


def _is_input(leaf: Any) -> bool:
    # Arrays and variables among the arguments are constants of the call.
    return bool(keras.ops.is_tensor(leaf)) and is_floating(leaf)


def _training_now(kwargs: Mapping[str, Any]) -> bool:
    """The mode of the layer that is being called: its own argument, else that of the call around.

    There is no public way to the latter.
    """
    from keras.src.backend.common import global_state

    if kwargs.get("training") is not None:
        return bool(kwargs["training"])
    context = global_state.get_global_attribute("current_call_ctx")
    return bool(context.get_value("training")) if context is not None else False


def _mask_of(tensor: Tensor) -> Tensor | None:
    from keras.src import backend

    # On JAX traced tensors take no attributes, and Keras keeps their masks in a table.
    return backend.get_keras_mask(tensor)


def _set_mask(tensor: Tensor, mask: Tensor) -> None:
    from keras.src import backend

    backend.set_keras_mask(tensor, mask)


def _own_mask(leaf: Any) -> Any:
    """A tensor that has a mask, as another tensor with the same one."""
    masked = keras.ops.is_tensor(leaf) and _mask_of(leaf) is not None
    return _with_mask_of(keras.ops.copy(leaf), leaf) if masked else leaf


def _with_mask_of(tensor: Tensor, original: Tensor) -> Tensor:
    mask = _mask_of(original)
    return tensor if mask is None else _masked(tensor, mask)
