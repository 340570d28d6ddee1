"""The resizing of images on TensorFlow, differentiable more than once.

Resizing is linear, and its gradient is the transposed map, which TensorFlow does not differentiate
in turn: of bicubic and scaled resizing it knows no gradient there, of bilinear resizing it takes
zero for it. Both J v, by two reverse passes, and H v go through it. The transpose of the
transpose is the resizing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import tensorflow as tf
from tensorflow.python.framework.ops import gradient_registry

#: Marked as not differentiable by TensorFlow, and differentiable here.
DIFFERENTIABLE = frozenset({"ResizeBilinearGrad"})

Gradient = Callable[[Any, Any], tuple[Any, ...]]


@contextmanager
def resizing_differentiable() -> Iterator[None]:
    """Within this context the gradients of resizing have a gradient themselves.

    Afterwards TensorFlow's registry of gradients is what it was. There is no public way to it.
    """
    registered = gradient_registry._registry  # noqa: SLF001
    with _lock:
        before = {name: registered[name] for name in _GRADIENTS}
        registered.update(
            {name: {**before[name], "type": gradient} for name, gradient in _GRADIENTS.items()}
        )
        try:
            yield
        finally:
            registered.update(before)


def _bilinear(op: Any, cotangent: Any) -> tuple[Any, ...]:
    return _sampled(op, cotangent, tf.raw_ops.ResizeBilinear, tf.raw_ops.ResizeBilinearGrad)


def _bicubic(op: Any, cotangent: Any) -> tuple[Any, ...]:
    return _sampled(op, cotangent, tf.raw_ops.ResizeBicubic, tf.raw_ops.ResizeBicubicGrad)


def _sampled(
    op: Any, cotangent: Any, resize: Callable[..., Any], transposed: Callable[..., Any]
) -> tuple[Any, ...]:
    # What the gradient has no use for, the size here, is not kept.
    image, size = op.inputs[0], tf.shape(cotangent)[1:3]
    how = {name: op.get_attr(name) for name in ("align_corners", "half_pixel_centers")}

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def pulled(grads: Any) -> tuple[Any, Callable[[Any], Any]]:
        found = transposed(grads=grads, original_image=image, **how)
        return found, lambda tangent: resize(images=tangent, size=size, **how)

    return pulled(cotangent), None


def _scaled_and_translated(op: Any, cotangent: Any) -> tuple[Any, ...]:
    image, size = op.inputs[0], tf.shape(cotangent)[1:3]
    how = {
        "scale": op.inputs[2],
        "translation": op.inputs[3],
        **{name: op.get_attr(name) for name in ("kernel_type", "antialias")},
    }

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def pulled(grads: Any) -> tuple[Any, Callable[[Any], Any]]:
        found = tf.raw_ops.ScaleAndTranslateGrad(grads=grads, original_image=image, **how)
        return found, lambda tangent: tf.raw_ops.ScaleAndTranslate(images=tangent, size=size, **how)

    # As in TensorFlow, none for the scale and the translation.
    return pulled(cotangent), None, None, None


_GRADIENTS: Mapping[str, Gradient] = {
    "ResizeBilinear": _bilinear,
    "ResizeBicubic": _bicubic,
    "ScaleAndTranslate": _scaled_and_translated,
}
# The registry is the process': probes in several threads take turns.
_lock = threading.RLock()
