"""Every node of keras.ops, as a call of a functional model: what is read is what Keras has.

Each stands last in its model, where no file records what it gives.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops
from keras.src import ops as ops_package
from keras.src.ops.operation import Operation
from keras_comparison import differences

from auditor.formats.keras_operations import (
    OPAQUE_OPERATIONS,
    OPERATION_ACTIVATIONS,
    OPERATIONS,
)
from auditor.formats.read import read_model
from auditor.graph.operators import Op

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The object being serialized includes a `lambda`"),
]

Expression = Callable[..., Any]

UNARY = """
    abs absolute angle arccos arccosh arcsin arcsinh arctan arctanh argmax argmin argsort cbrt ceil
    celu conj copy corrcoef cos cosh count_nonzero cumprod cumsum deg2rad diff elu erf erfc erfinv
    exp exp2 expm1 floor gelu glu hard_shrink hard_sigmoid hard_silu hard_tanh i0 imag isfinite
    isinf isnan isneginf isposinf isreal leaky_relu log log10 log1p log2 log_sigmoid log_softmax
    logical_not logsumexp max mean median min nan_to_num nanargmax nanargmin nancumprod nancumsum
    nanmax nanmean nanmedian nanmin nanprod nanstd nansum nanvar ndim negative norm ones_like prod
    ptp rad2deg ravel real reciprocal relu relu6 round rsqrt selu sigmoid sign signbit silu sin
    sinc sinh size soft_shrink softmax softplus softsign sort sparse_plus sparse_sigmoid sparsemax
    sqrt square squareplus squeeze std sum tan tanh tanh_shrink transpose trunc var
    zeros_like all any amax amin average empty_like fliplr flipud normalize
    stop_gradient trapezoid conjugate fabs nonzero
"""
BINARY = """
    add arctan2 divide divide_no_nan equal floor_divide fmax fmin fmod greater greater_equal
    heaviside hypot isclose allclose less less_equal logaddexp logaddexp2 logical_and logical_or
    logical_xor maximum minimum mod multiply nextafter not_equal outer inner vdot power subtract
    true_divide append kron
"""
REDUCING = "sum mean max min prod std var logsumexp any all amax amin norm median"
INTEGER_BINARY = """
    bitwise_and bitwise_or bitwise_xor bitwise_left_shift bitwise_right_shift left_shift right_shift
    gcd lcm
"""


def expressions() -> Iterator[tuple[str, Expression]]:
    """Expressions of `Tensors`, each with a name."""
    for name in UNARY.split():
        function = getattr(ops, name, None)
        if function is not None:
            yield name, lambda t, f=function: f(t.x)  # type: ignore[misc]
    for name in BINARY.split():
        function = getattr(ops, name, None)
        if function is not None:
            yield name, lambda t, f=function: f(t.x, t.y)  # type: ignore[misc]
            if name not in ("append", "heaviside", "hypot", "inner", "kron", "vdot"):
                yield f"{name} 2", lambda t, f=function: f(t.x, 2.0)  # type: ignore[misc]
    for name in INTEGER_BINARY.split():
        function = getattr(ops, name)
        yield name, lambda t, f=function: f(t.i, t.i)  # type: ignore[misc]
    for name in REDUCING.split():
        function = getattr(ops, name)
        yield f"{name} axis", lambda t, f=function: f(t.x, axis=1)  # type: ignore[misc]
        yield f"{name} keep", lambda t, f=function: f(t.x, axis=-1, keepdims=True)  # type: ignore[misc]
    yield from {
        "argmax axis": lambda t: ops.argmax(t.x, axis=1),
        "argpartition": lambda t: ops.argpartition(t.x, 2),
        "array_split": lambda t: ops.array_split(t.x, 2, axis=1),
        "associative_scan": lambda t: ops.associative_scan(lambda a, b: a + b, t.x),
        "bincount": lambda t: ops.bincount(t.i, minlength=5),
        "bitwise_invert": lambda t: ops.bitwise_invert(t.i),
        "bitwise_not": lambda t: ops.bitwise_not(t.i),
        "broadcast_to": lambda t: ops.broadcast_to(t.x, (3, 2, 4, 6)),
        "cast": lambda t: ops.cast(t.x, "float16"),
        "cast to int": lambda t: ops.cast(t.x, "int32"),
        "clip": lambda t: ops.clip(t.x, 0, 1),
        "concatenate": lambda t: ops.concatenate([t.x, t.y], axis=1),
        "conv": lambda t: ops.conv(t.c, np.ones((3, 3, 3, 5), "float32"), 2, "same"),
        "conv_transpose": lambda t: ops.conv_transpose(t.c, np.ones((3, 3, 5, 3), "float32"), 2),
        "convert_to_tensor": lambda t: ops.convert_to_tensor(t.x),
        "correlate": lambda t: ops.correlate(t.v, t.v),
        "cross": lambda t: ops.cross(t.x[..., :3], t.y[..., :3]),
        "depth_to_space": lambda t: ops.depth_to_space(t.w, 2),
        "depthwise_conv": lambda t: ops.depthwise_conv(t.c, np.ones((3, 3, 3, 2), "float32")),
        "diag": lambda t: ops.diag(t.v),
        "diagflat": lambda t: ops.diagflat(t.v),
        "diagonal": lambda t: ops.diagonal(t.x, axis1=1, axis2=2),
        "digitize": lambda t: ops.digitize(t.x, np.array([0.0, 1.0])),
        "dot": lambda t: ops.dot(t.x, ops.transpose(t.m[0])[:6, :3]),
        "dot_product_attention": lambda t: ops.dot_product_attention(t.q, t.q, t.q),
        "einsum": lambda t: ops.einsum("bij,bkj->bik", t.x, t.y),
        "expand_dims": lambda t: ops.expand_dims(t.x, 1),
        "expand_dims twice": lambda t: ops.expand_dims(t.x, (0, -1)),
        "extract_sequences": lambda t: ops.extract_sequences(t.x, 3, 2),
        "fft": lambda t: ops.fft((t.x, t.y)),
        "fft2": lambda t: ops.fft2((t.x, t.y)),
        "flip": lambda t: ops.flip(t.x, axis=1),
        "full_like": lambda t: ops.full_like(t.x, 2.0),
        "getitem": lambda t: t.x[:, 1:3, None, ..., -1],
        "getitem first": lambda t: t.x[:, 0],
        "getitem step": lambda t: t.x[:, ::2, ::-1],
        "hstack": lambda t: ops.hstack([t.x, t.y]),
        "vstack": lambda t: ops.vstack([t.x, t.y]),
        "dstack": lambda t: ops.dstack([t.x, t.y]),
        "ifft2": lambda t: ops.ifft2((t.x, t.y)),
        "image resize": lambda t: ops.image.resize(t.c, (4, 5)),
        "image pad": lambda t: ops.image.pad_images(t.c, 1, 2, 3, 4),
        "image crop": lambda t: ops.image.crop_images(t.c, 1, 2, 1, 1),
        "image affine": lambda t: ops.image.affine_transform(t.c, np.ones((2, 8), "float32")),
        "image blur": lambda t: ops.image.gaussian_blur(t.c),
        "image elastic": lambda t: ops.image.elastic_transform(t.c),
        "image gray": lambda t: ops.image.rgb_to_grayscale(t.c),
        "image hsv": lambda t: ops.image.rgb_to_hsv(t.c),
        "image rgb": lambda t: ops.image.hsv_to_rgb(t.c),
        "image patches": lambda t: ops.image.extract_patches(t.c, 4),
        "image perspective": lambda t: ops.image.perspective_transform(
            t.c, np.zeros((2, 4, 2), "float32"), np.ones((2, 4, 2), "float32")
        ),
        "in_top_k": lambda t: ops.in_top_k(t.k, t.n, 2),
        "irfft": lambda t: ops.irfft((t.x, t.y)),
        "isin": lambda t: ops.isin(t.x, [1.0, 2.0]),
        "istft": lambda t: ops.istft(ops.stft(t.s, 16, 8, 16), 16, 8, 16),
        "layer_normalization": lambda t: ops.layer_normalization(t.x, np.ones(6), np.ones(6)),
        "rms_normalization": lambda t: ops.rms_normalization(t.x, np.ones(6)),
        "batch_normalization": lambda t: ops.batch_normalization(
            t.x, np.ones(6, "float32"), np.ones(6, "float32"), -1
        ),
        "linspace": lambda t: ops.linspace(t.x, t.y, 5),
        "logspace": lambda t: ops.logspace(t.x, t.y, 5),
        "geomspace": lambda t: ops.geomspace(t.x, t.y, 5),
        "map": lambda t: ops.map(lambda a: a * 2, t.x),
        "matmul": lambda t: t.x @ ops.transpose(t.y, (0, 2, 1)),
        "matmul constant": lambda t: ops.matmul(t.x, np.ones((6, 5), "float32")),
        "matmul vector": lambda t: ops.matmul(t.x, t.x[0, 0]),
        "max_pool": lambda t: ops.max_pool(t.c, 2),
        "average_pool": lambda t: ops.average_pool(t.c, 3, 2, "same"),
        "threshold": lambda t: ops.threshold(t.x, 1.0, 0.0),
        "meshgrid": lambda t: ops.meshgrid(t.v, t.v),
        "moveaxis": lambda t: ops.moveaxis(t.x, 1, 2),
        "multi_hot": lambda t: ops.multi_hot(t.i, 5),
        "one_hot": lambda t: ops.one_hot(t.i, 5),
        "pad": lambda t: ops.pad(t.x, ((0, 0), (1, 2), (0, 3))),
        "percentile": lambda t: ops.quantile(t.x, 0.5, axis=1),
        "quantile": lambda t: ops.quantile(t.x, [0.1, 0.5], axis=1),
        "rearrange": lambda t: ops.rearrange(t.x, "b i j -> b (j i)"),
        "repeat": lambda t: ops.repeat(t.x, 3, axis=1),
        "reshape": lambda t: ops.reshape(t.x, (2, -1, 3)),
        "rfft": lambda t: ops.rfft(t.x),
        "roll": lambda t: ops.roll(t.x, 1, axis=1),
        "rot90": lambda t: ops.rot90(t.x),
        "saturate_cast": lambda t: ops.saturate_cast(t.x, "uint8"),
        "scatter": lambda t: ops.scatter(t.n[:, None], t.k, (4, 5)),
        "scatter_update": lambda t: ops.scatter_update(
            t.v, np.array([[0], [1]]), np.ones(2, "float32")
        ),
        "searchsorted": lambda t: ops.searchsorted(t.v, t.v),
        "segment_sum": lambda t: ops.segment_sum(t.k, t.n, 3),
        "segment_max": lambda t: ops.segment_max(t.k, t.n, 3),
        "select": lambda t: ops.select([t.x > 0, t.x > 1], [t.x, t.y]),
        "separable_conv": lambda t: ops.separable_conv(
            t.c, np.ones((3, 3, 3, 2), "float32"), np.ones((1, 1, 6, 5), "float32")
        ),
        "slice": lambda t: ops.slice(t.x, (0, 1, 0), (2, 2, 3)),
        "slice_update": lambda t: ops.slice_update(t.x, (0, 1, 0), t.y[:, :2]),
        "space_to_depth": lambda t: ops.space_to_depth(t.w, 2),
        "split": lambda t: ops.split(t.x, 3, axis=-1),
        "split at": lambda t: ops.split(t.x, [1, 4], axis=-1),
        "stack": lambda t: ops.stack([t.x, t.y], axis=1),
        "stft": lambda t: ops.stft(t.s, 16, 8, 16),
        "swapaxes": lambda t: ops.swapaxes(t.x, 1, 2),
        "take": lambda t: ops.take(t.x, [0, 2, 1], axis=1),
        "take_along_axis": lambda t: ops.take_along_axis(t.x, ops.argsort(t.x, axis=1), axis=1),
        "tensordot": lambda t: ops.tensordot(t.x, t.y, axes=[[2], [2]]),
        "tile": lambda t: ops.tile(t.x, (1, 2, 3)),
        "top_k": lambda t: ops.top_k(t.x, 2),
        "trace": lambda t: ops.trace(t.m, axis1=1, axis2=2),
        "transpose": lambda t: ops.transpose(t.x, (1, 0, 2)),
        "tril": lambda t: ops.tril(t.x),
        "triu": lambda t: ops.triu(t.x),
        "unravel_index": lambda t: ops.unravel_index(t.i, (4, 5)),
        "unfold": lambda t: ops.unfold(ops.transpose(t.c, (0, 3, 1, 2)), 2),
        "unstack": lambda t: ops.unstack(t.x, axis=1),
        "vander": lambda t: ops.vander(t.v),
        "vectorized_map": lambda t: ops.vectorized_map(lambda a: a * 2, t.x),
        "view": lambda t: ops.view(t.x, "int32"),
        "where": lambda t: ops.where(t.x > 0, t.x, t.y),
        "where constant": lambda t: ops.where(t.x > 0, t.x, 0.0),
        "hsplit": lambda t: ops.hsplit(t.x, 2),
        "vsplit": lambda t: ops.vsplit(t.x, 2),
        "dsplit": lambda t: ops.dsplit(t.x, 2),
        "moments": lambda t: ops.moments(t.x, axes=[0, 1], keepdims=True),
        "nanquantile": lambda t: ops.nanquantile(t.x, 0.5, axis=1),
        "nanpercentile": lambda t: ops.nanpercentile(t.x, 50, axis=1),
        "percentile itself": lambda t: ops.percentile(t.x, 50, axis=1),
        "binary_crossentropy": lambda t: ops.binary_crossentropy(t.k, t.k),
        "categorical_crossentropy": lambda t: ops.categorical_crossentropy(t.k, t.k),
        "sparse_crossentropy": lambda t: ops.sparse_categorical_crossentropy(t.n, t.k),
        "ctc_loss": lambda t: ops.ctc_loss(t.i, t.x, t.n, t.n),
        "ctc_decode": lambda t: ops.ctc_decode(t.x, t.n),
        "cdist": lambda t: ops.cdist(t.x, t.y),
        "cholesky": lambda t: ops.cholesky(t.m),
        "cholesky_inverse": lambda t: ops.cholesky_inverse(t.m),
        "det": lambda t: ops.det(t.m),
        "eig": lambda t: ops.eig(t.m),
        "eigh": lambda t: ops.eigh(t.m),
        "inv": lambda t: ops.inv(t.m),
        "logdet": lambda t: ops.logdet(t.m),
        "slogdet": lambda t: ops.slogdet(t.m),
        "lstsq": lambda t: ops.lstsq(t.m[0], t.m[1]),
        "lu_factor": lambda t: ops.lu_factor(t.m),
        "matrix_rank": lambda t: ops.matrix_rank(t.m),
        "pinv": lambda t: ops.pinv(t.m),
        "qr": lambda t: ops.qr(t.m),
        "solve": lambda t: ops.solve(t.m, t.m),
        "solve_triangular": lambda t: ops.solve_triangular(t.m, t.m),
        "svd": lambda t: ops.svd(t.m),
        "fold": lambda t: ops.fold(
            ops.unfold(ops.transpose(t.c, (0, 3, 1, 2)), 2, stride=2), (8, 8), 2, stride=2
        ),
        "histogram": lambda t: ops.histogram(t.v, 4),
        "ldexp": lambda t: ops.ldexp(t.x, np.array([1, 2, 3, 4, 5, 6])),
        "scale_and_translate": lambda t: ops.image.scale_and_translate(
            t.c, (2, 4, 4, 3), np.ones(2, "float32"), np.zeros(2, "float32"), (1, 2), "linear"
        ),
        "sobel_edges": lambda t: ops.image.sobel_edges(t.c),
        "ssim": lambda t: ops.image.ssim(t.c, t.c, 1.0),
        "psnr": lambda t: ops.psnr(t.x, t.y, 1.0),
        "polar": lambda t: ops.polar(t.x, t.y),
        "segment_min": lambda t: ops.segment_min(t.k, t.n, 3),
        "segment_prod": lambda t: ops.segment_prod(t.k, t.n, 3),
        "unique": lambda t: ops.unique(t.v),
        "view_as_complex": lambda t: ops.view_as_complex(t.x[..., :2]),
        "view_as_real": lambda t: ops.view_as_real(ops.polar(t.x, t.y)),
        "add array": lambda t: t.x + np.ones((5, 1, 1, 1), "float32"),
        "reversed subtract": lambda t: 1.0 - t.x,
        "reversed power": lambda t: 2.0**t.x,
        "negative": lambda t: -t.x,
        "compare": lambda t: t.x > 0,
        "promoted": lambda t: ops.cast(t.x, "float16") + t.y,
        "sqrt of int": lambda t: ops.sqrt(t.i),
        "mean of int": lambda t: ops.mean(t.i, axis=0),
        "sum of bool": lambda t: ops.sum(t.x > 0),
        "int times float": lambda t: t.i * 0.5,
        "int times int": lambda t: t.i * 2,
    }.items()


class Tensors:
    """The tensors that expressions take, all with a fixed batch of two."""

    def __init__(self) -> None:
        self.x = keras.Input(batch_shape=(2, 4, 6), name="x")
        self.y = keras.Input(batch_shape=(2, 4, 6), name="y")
        self.i = keras.Input(batch_shape=(2, 4), dtype="int32", name="i")
        self.m = keras.Input(batch_shape=(2, 6, 6), name="m")
        self.c = keras.Input(batch_shape=(2, 8, 8, 3), name="c")
        self.w = keras.Input(batch_shape=(2, 4, 4, 8), name="w")
        self.q = keras.Input(batch_shape=(2, 4, 3, 6), name="q")
        self.v = keras.Input(batch_shape=(5,), name="v")
        self.k = keras.Input(batch_shape=(2, 5), name="k")
        self.n = keras.Input(batch_shape=(2,), dtype="int32", name="n")
        self.s = keras.Input(batch_shape=(2, 64), name="s")


def operation_classes() -> set[str]:
    found: set[str] = set()
    for module in pkgutil.iter_modules(ops_package.__path__):
        if not module.name.endswith("_test"):
            members = vars(importlib.import_module(f"keras.src.ops.{module.name}"))
            found |= {
                name
                for name, value in members.items()
                if inspect.isclass(value) and issubclass(value, Operation)
            }
    return found


#: Classes without an expression.
ELSEWHERE = {
    "Abs": "ops.abs makes an Absolute",
    "AdaptiveAveragePool": "Keras 3.15 states a shape of one axis too many for it",
    "AdaptiveMaxPool": "Keras 3.15 states a shape of one axis too many for it",
    "Arange": "takes no tensor",
    "Array": "takes no tensor",
    "Cond": "takes functions, which Keras cannot save",
    "Conj": "ops.conj makes a Conjugate",
    "ForiLoop": "takes functions, which Keras cannot save",
    "Full": "takes no tensor",
    "Function": "is a graph of its own",
    "JVP": "takes functions, which Keras cannot save",
    "MapCoordinates": "Keras 3.15 cannot save its coordinates among the arguments",
    "Operation": "is abstract",
    "Scan": "takes functions, which Keras cannot save",
    "SegmentReduction": "is abstract",
    "Switch": "takes functions, which Keras cannot save",
    "WhileLoop": "takes functions, which Keras cannot save",
}


def model_of_all() -> tuple[keras.Model, set[str]]:
    """A model that has every expression for an output, and the classes of its operations."""
    tensors = Tensors()
    outputs: list[Any] = []
    for _, expression in expressions():
        leaves = keras.tree.flatten(expression(tensors))
        outputs.extend(leaf for leaf in leaves if isinstance(leaf, keras.KerasTensor))
    model = keras.Model(list(vars(tensors).values()), outputs)
    return model, {type(operation).__name__ for operation in model.operations}


def test_every_class_of_keras_ops_has_an_operator() -> None:
    known = {*OPERATIONS, *OPERATION_ACTIVATIONS, *OPAQUE_OPERATIONS}
    assert operation_classes() - {"Operation"} == known


def test_operations_are_read_as_keras_has_them(tmp_path: Path) -> None:
    keras.utils.clear_session()
    model, covered = model_of_all()
    assert operation_classes() - covered == set(ELSEWHERE)
    for suffix in (".keras", ".h5"):
        path = tmp_path / f"operations{suffix}"
        model.save(path)
        graph = read_model(path).graph
        assert differences(model, graph) == []
        assert graph.notes == ()
        opaque = {call.kind: call.note for call in graph.calls if call.op is Op.OPAQUE}
        assert set(opaque) <= set(OPAQUE_OPERATIONS)
        assert all(opaque[kind].endswith(OPAQUE_OPERATIONS[kind]) for kind in opaque)
