"""Statistics of one pass, call by call, taken where the tensors are: only they leave the device."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from auditor.graph.layer_graph import LayerCall
from auditor.graph.operators import AFFINE_OPS, Op
from auditor.probe.backends import Tensor, Watch

#: Activations with a flat zero side: a unit that never leaves it is dead.
DYING_ACTIVATIONS = frozenset({"relu", "relu6", "hard_silu", "sparse_plus", "threshold"})
#: Centre and half width of the range of bounded activations. Softmax is left out: its values are
#: bound to each other, so that an output near 1 says nothing of its derivative's scale.
BOUNDED_ACTIVATIONS = {
    "sigmoid": (0.5, 0.5),
    "hard_sigmoid": (0.5, 0.5),
    "sparse_sigmoid": (0.5, 0.5),
    "tanh": (0.0, 1.0),
    "hard_tanh": (0.0, 1.0),
    "softsign": (0.0, 1.0),
}
#: Share of the half range from which a value counts as saturated.
SATURATED_FROM = 0.95
#: Bins that |h − c| / r is counted in, from the middle of the range (0) to its end (1).
SATURATION_BINS = 40


#: What Keras keeps as attributes of a tensor.
KEPT_WITH_TENSORS = ("_keras_mask", "_keras_logits")


@dataclass(frozen=True, kw_only=True)
class TappedCall:
    """One call as its pass is traced: floating tensors it gave out, and a head's logits.

    Keras computes cross-entropies of a softmax or sigmoid output from the logits behind it, so
    that the probabilities themselves have no gradient; the logits then stand in for them.
    """

    id: str
    operation: Any
    tensors: tuple[Tensor, ...]
    logits: Tensor | None


@dataclass(frozen=True, kw_only=True)
class CallSlots:
    """Where a call's numbers are in the reduced values of a pass.

    `row` is its place in all values that every call has; `shape` that of the measured tensor,
    the batch first; `peaks` the slice of `peaks` with
    its units' max |h|; `gradient` its row of `gradient_norms`, None where the loss does not
    depend on the call; `saturated` its row of `saturated` and what goes with it, `channels` of
    `channel_means` and `channel_deviations`, None where these are not taken; `per_sample` whether
    the first axis is (a multiple of) the batch.
    """

    id: str
    operation: Any
    row: int
    shape: tuple[int, ...]
    peaks: slice
    gradient: int | None
    saturated: int | None
    channels: int | None
    per_sample: bool

    @property
    def values_per_sample(self) -> float:
        """Values in the tensor over the batch size; the whole tensor where there is no batch."""
        return float(math.prod(self.shape[1:])) if self.per_sample else float(math.prod(self.shape))


@dataclass(frozen=True, kw_only=True)
class PassSlots:
    """The layout of a pass' values; `skipped` gives calls without statistics, with the reason."""

    calls: tuple[CallSlots, ...]
    skipped: Mapping[str, str]


def tap(call_id: str, operation: Any, outputs: Any) -> TappedCall:
    """The floating tensors of a call's outputs."""
    tensors = tuple(t for t in keras.tree.flatten(outputs) if is_floating(t))
    # Only on TensorFlow does Keras take a loss from the logits.
    kept = tensors and keras.backend.backend() == "tensorflow"
    logits = logits_of(tensors[0]) if kept else None
    return TappedCall(
        id=call_id,
        operation=operation,
        tensors=tensors,
        logits=None if not kept or logits is tensors[0] else logits,
    )


def logits_of(output: Tensor) -> Tensor:
    """What a softmax or sigmoid was taken of, where Keras kept it with the output; else that."""
    return getattr(output, "_keras_logits", output)


def watched(outputs: Any, watch: Watch) -> Any:
    """A call's outputs with every floating tensor watched.

    Masks and logits that Keras keeps with a tensor go over to the one that takes its place. There
    is no public way to them: on JAX they are no attributes, but in a table of Keras' own.
    """
    from keras.src.backend.common.tensor_attributes import get_tensor_attr, set_tensor_attr

    def one(tensor: Any) -> Any:
        if not is_floating(tensor):
            return tensor
        replacement = watch(tensor)
        if replacement is not tensor:
            for name in KEPT_WITH_TENSORS:
                kept = get_tensor_attr(tensor, name)
                if kept is not None:
                    set_tensor_attr(replacement, name, kept)
        return replacement

    return keras.tree.map_structure(one, outputs)


def is_floating(tensor: Any) -> bool:
    """Whether it is a tensor of floating numbers, dense."""
    dtype = getattr(tensor, "dtype", None)
    if dtype is None or not hasattr(tensor, "shape") or keras.utils.is_keras_tensor(tensor):
        return False
    return "float" in keras.backend.standardize_dtype(dtype)


class PassReduction:
    """Reduces tapped tensors and their gradients to a handful of small tensors.

    The tensors are stacked over calls, so that few come out of a compiled pass however many
    calls there are:

    - `forward_norms` `(calls, batch)`: ‖h‖₂ of each sample;
    - `means`, `zeros` `(calls,)`: mean of h, share of exact zeros;
    - `peaks`: max |h| a unit for calls whose units can die, over all values for the others;
    - `saturated`: share beyond 95 % of the range, for bounded activations; of |h − c| / r, with
      centre and half width of the range, `saturation_counts` `(calls, SATURATION_BINS)`,
      `saturation_means` and `saturation_peaks`;
    - `channel_means`, `channel_deviations`: root mean squares over channels of their means and
      of their standard deviations over samples and positions, for the `profiled` calls;
    - `gradient_norms` `(calls with a gradient, batch)`: ‖∂L/∂h‖₂ of each sample;
    - `variable_gradient_norms` `(variables,)`.
    """

    def __init__(
        self,
        calls: Mapping[str, LayerCall],
        unit_axes: Mapping[str, int],
        batch: int,
        batch_is_fixed: bool,
        sample_norms: Callable[[Tensor], Tensor],
        profiled: Collection[str] = (),
    ) -> None:
        self._calls = calls
        self._unit_axes = unit_axes
        self._batch = batch
        self._batch_is_fixed = batch_is_fixed
        self._sample_norms = sample_norms
        self._profiled = profiled

    def reduce(
        self, tapped: Sequence[TappedCall], gradients: Mapping[int, Tensor]
    ) -> tuple[dict[str, Tensor], PassSlots]:
        """The reduced values, and where each call's are; `gradients` by `id` of their tensor."""
        slots: list[CallSlots] = []
        skipped: dict[str, str] = {}
        columns: dict[str, list[Tensor]] = defaultdict(list)
        peaks = 0
        for call in tapped:
            reason = _unmeasurable(call)
            if reason:
                skipped[call.id] = reason
                continue
            tensor, gradient = _measured(call, gradients)
            single = _single(tensor)
            per_sample = self._per_sample(call.id, tensor)
            columns["forward_norms"].append(self._norms(single, per_sample))
            columns["means"].append(keras.ops.mean(single))
            columns["zeros"].append(
                keras.ops.mean(keras.ops.cast(keras.ops.equal(single, 0.0), "float32"))
            )
            unit_peaks, count = self._peaks(call.id, single)
            columns["peaks"].append(unit_peaks)
            saturation = self._saturation(call.id, single)
            moments = self._channel_moments(call.id, single)
            for name, value in {**saturation, **moments}.items():
                columns[name].append(value)
            if gradient is not None:
                columns["gradient_norms"].append(self._norms(_single(gradient), per_sample))
            slots.append(
                CallSlots(
                    id=call.id,
                    operation=call.operation,
                    row=len(slots),
                    shape=self._shape(tensor, per_sample),
                    peaks=slice(peaks, peaks + count),
                    gradient=None if gradient is None else len(columns["gradient_norms"]) - 1,
                    saturated=len(columns["saturated"]) - 1 if saturation else None,
                    channels=len(columns["channel_means"]) - 1 if moments else None,
                    per_sample=per_sample,
                )
            )
            peaks += count
        values = {
            name: keras.ops.concatenate(column) if name == "peaks" else keras.ops.stack(column)
            for name, column in columns.items()
            if column
        }
        return values, PassSlots(calls=tuple(slots), skipped=skipped)

    def variable_norms(self, gradients: Sequence[Tensor | None]) -> Tensor:
        """‖∂L/∂w‖₂ of each variable, 0 where the loss does not depend on it."""
        zero = keras.ops.zeros((1,), "float32")
        norms = [
            zero if g is None else self._sample_norms(keras.ops.reshape(g, (1, -1)))
            for g in gradients
        ]
        return keras.ops.concatenate(norms) if norms else zero[:0]

    def output_norms(self, outputs: Sequence[Tensor]) -> Tensor:
        """‖y‖₂ of each sample over all outputs with a loss together, `(batch,)`."""
        norms = [
            self._norms(_single(output), per_sample=output.shape[0] == self._batch)
            for output in outputs
        ]
        if not norms:
            return keras.ops.zeros((self._batch,))
        return self._sample_norms(keras.ops.stack(norms, axis=-1))

    def _per_sample(self, call_id: str, tensor: Tensor) -> bool:
        """Whether the first axis is the batch, or the batch folded into another axis."""
        call = self._calls.get(call_id)
        first = call.out_shape[0] if call is not None and call.out_shape else None
        if isinstance(first, int) and not self._batch_is_fixed:
            return False
        return bool(tensor.shape[0] % self._batch == 0)

    def _norms(self, tensor: Tensor, per_sample: bool) -> Tensor:
        """`(batch,)`; a tensor without a batch axis has its norm spread over the samples."""
        if per_sample:
            return self._sample_norms(keras.ops.reshape(tensor, (self._batch, -1)))
        whole = self._sample_norms(keras.ops.reshape(tensor, (1, -1)))
        return keras.ops.broadcast_to(whole / math.sqrt(self._batch), (self._batch,))

    def _shape(self, tensor: Tensor, per_sample: bool) -> tuple[int, ...]:
        shape = tuple(int(size) for size in tensor.shape)
        if not per_sample or shape[0] == self._batch:
            return shape
        return (self._batch, shape[0] // self._batch, *shape[1:])

    def _peaks(self, call_id: str, tensor: Tensor) -> tuple[Tensor, int]:
        magnitudes = keras.ops.abs(tensor)
        if not can_die(self._calls.get(call_id)):
            return keras.ops.reshape(keras.ops.max(magnitudes), (1,)), 1
        units = self._unit_axes.get(call_id, -1) % len(tensor.shape)
        others = tuple(axis for axis in range(len(tensor.shape)) if axis != units)
        return keras.ops.max(magnitudes, axis=others), int(tensor.shape[units])

    def _saturation(self, call_id: str, tensor: Tensor) -> dict[str, Tensor]:
        """How far the values of a bounded activation lie from the centre of their range."""
        call = self._calls.get(call_id)
        if call is None or call.op not in AFFINE_OPS | {Op.ACTIVATION}:
            return {}
        bounds = BOUNDED_ACTIVATIONS.get(call.activation or "")
        if bounds is None:
            return {}
        centre, half = bounds
        distance = keras.ops.abs(tensor - centre)
        beyond = keras.ops.greater(distance, SATURATED_FROM * half)
        shares = keras.ops.reshape(distance, (-1,)) / half
        # A value that is not a number has no bin; the mean tells of it.
        inside = keras.ops.where(keras.ops.isnan(shares), 0.0, keras.ops.minimum(shares, 1.0))
        bins = keras.ops.cast(keras.ops.floor(inside * SATURATION_BINS), "int32")
        bins = keras.ops.minimum(bins, SATURATION_BINS - 1)
        # Whole numbers: single precision stops counting at 2²⁴.
        counts = keras.ops.segment_sum(
            keras.ops.ones_like(bins), bins, num_segments=SATURATION_BINS
        )
        return {
            "saturated": keras.ops.mean(keras.ops.cast(beyond, "float32")),
            "saturation_counts": counts,
            "saturation_means": keras.ops.mean(shares),
            "saturation_peaks": keras.ops.max(shares),
        }

    def _channel_moments(self, call_id: str, tensor: Tensor) -> dict[str, Tensor]:
        if call_id not in self._profiled or len(tensor.shape) < 2:
            return {}
        units = self._unit_axes.get(call_id, -1) % len(tensor.shape)
        others = tuple(axis for axis in range(len(tensor.shape)) if axis != units)
        # In units of the largest value, so that no square overflows or loses its digits.
        largest = keras.ops.max(keras.ops.abs(tensor))
        scale = keras.ops.where(largest > 0, largest, keras.ops.ones_like(largest))
        means, variances = keras.ops.moments(tensor / scale, axes=others)
        return {
            "channel_means": scale * keras.ops.sqrt(keras.ops.mean(keras.ops.square(means))),
            "channel_deviations": scale * keras.ops.sqrt(keras.ops.mean(variances)),
        }


def can_die(call: LayerCall | None) -> bool:
    """Whether the call ends in an activation with a flat zero side."""
    return (
        call is not None
        and call.activation in DYING_ACTIVATIONS
        and call.op in AFFINE_OPS | {Op.ACTIVATION}
    )


def _unmeasurable(call: TappedCall) -> str:
    if not call.tensors:
        return "its output holds no floating-point numbers"
    if not all(isinstance(size, int) for size in call.tensors[0].shape):
        return "the shape of its output depends on the data"
    if len(call.tensors[0].shape) == 0 or math.prod(call.tensors[0].shape) == 0:
        return "its output is a single number or empty"
    return ""


def _measured(call: TappedCall, gradients: Mapping[int, Tensor]) -> tuple[Tensor, Tensor | None]:
    """The call's first floating output that the loss depends on, with its gradient.

    The first output without one where the loss depends on none.
    """
    for tensor in call.tensors:
        if id(tensor) in gradients and all(isinstance(size, int) for size in tensor.shape):
            return tensor, gradients[id(tensor)]
    logits = None if call.logits is None else gradients.get(id(call.logits))
    return call.tensors[0], logits


def _single(tensor: Tensor) -> Tensor:
    """Half precisions as float32: their sums would overflow or lose digits."""
    dtype = keras.backend.standardize_dtype(tensor.dtype)
    return tensor if dtype in ("float32", "float64") else keras.ops.cast(tensor, "float32")


def sample_median(norms: np.ndarray[Any, Any], alive: np.ndarray[Any, Any]) -> float:
    """Median over the samples that are alive; of the finite ones where some are not.

    `norms` `(batch,)`; `alive` `(batch,)` says which samples have a gradient anywhere.
    """
    counted = norms[alive] if alive.any() else norms
    finite = counted[np.isfinite(counted)]
    return float(np.median(finite)) if finite.size else float(counted.max())
