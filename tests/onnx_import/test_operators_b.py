"""Convolutions, poolings, normalizations, recurrence, attention, sampling and quantisation.

Values are held against identities that hold exactly (an adjoint, an inverse, a special case), or
against NumPy written out; derivatives against central differences in float64.
"""

from __future__ import annotations

import itertools

import keras
import numpy as np
import onnx
import pytest
from keras import ops
from onnx import helper

from auditor.onnx_import.operators import load_operators
from auditor.onnx_import.operators.resize import Axis, coordinates, nearest_places, weights
from auditor.onnx_import.operators.table import TABLE, Node, Unsupported
from auditor.probe.backends import load_backend

load_operators()
MICROSOFT = "com.microsoft"
#: float32 sums of some dozen products of numbers around 1, and their derivatives by differences.
CLOSE = {"rtol": 1e-4, "atol": 1e-5}
DERIVATIVE = {"rtol": 1e-3, "atol": 1e-5}


def node(kind, opset=22, domain="", outputs=1, **attributes):
    values = {}
    since = 1
    if not domain:
        schema = onnx.defs.get_schema(kind, opset, domain)
        since = schema.since_version
        values = {
            name: helper.get_attribute_value(attribute.default_value)
            for name, attribute in schema.attributes.items()
            if attribute.default_value.name
        }
    values |= attributes
    decoded = {name: _decoded(value) for name, value in values.items()}
    return Node(
        name="n", domain=domain, kind=kind, since=since, attributes=decoded, outputs=outputs
    )


def _decoded(value):
    if isinstance(value, list):
        return [_decoded(element) for element in value]
    return value.decode() if isinstance(value, bytes) else value


def run(one, *inputs, known=()):
    """The outputs as NumPy arrays; inputs whose place is in `known` are not made tensors."""
    entry = TABLE.find(one.domain, one.kind, one.since)
    given = [
        value if value is None or place in known else ops.convert_to_tensor(value)
        for place, value in enumerate(inputs)
    ]
    outputs = entry.run(one, *given)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    return [None if o is None else np.asarray(ops.convert_to_numpy(o)) for o in outputs]


def derivative(one, x, *rest):
    """(reverse mode, central differences) with respect to x, of a random sum of the output."""
    entry = TABLE.find(one.domain, one.kind, one.since)
    backend = load_backend(keras.backend.backend())
    x = x.astype(np.float64)

    def function(primals):
        y = entry.run(one, primals[0], *rest)
        return (y[0] if isinstance(y, tuple) else y,)

    y = np.asarray(ops.convert_to_numpy(function((ops.convert_to_tensor(x),))[0]))
    u = np.random.default_rng(5).standard_normal(y.shape)
    pulled = backend.vjp(function, (ops.convert_to_tensor(x),), (ops.convert_to_tensor(u),))[0]
    differences = np.zeros_like(x)
    step = 1e-6
    for place in np.ndindex(x.shape):
        ends = []
        for sign in (1, -1):
            moved = x.copy()
            moved[place] += sign * step
            at = function((ops.convert_to_tensor(moved),))[0]
            ends.append(float((np.asarray(ops.convert_to_numpy(at)) * u).sum()))
        differences[place] = (ends[0] - ends[1]) / (2 * step)
    return np.asarray(ops.convert_to_numpy(pulled)), differences


def numbers(*shape, seed=0, dtype="float32"):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


CONVOLUTIONS = [
    ((9,), (3,), 1, (2,), (1,), (1, 0)),
    ((8, 7), (3, 2), 1, (1, 1), (1, 1), (0, 2, 1, 0)),
    ((8, 7), (3, 3), 1, (2, 2), (2, 2), (2, 2, 2, 2)),
    ((8, 7), (3, 3), 4, (2, 1), (1, 1), (1, 1, 1, 1)),
    ((8, 7), (3, 3), 2, (2, 1), (1, 2), (1, 1, 1, 1)),
    ((5, 6, 4), (2, 3, 2), 2, (1, 2, 1), (2, 1, 1), (1, 0, 1, 1, 1, 0)),
]


def convolution_by_hand(x, w, groups, strides, dilations, pads):
    rank = len(strides)
    padding = [(0, 0), (0, 0), *((pads[a], pads[a + rank]) for a in range(rank))]
    x = np.pad(x, padding)
    extents = [(k - 1) * d + 1 for k, d in zip(w.shape[2:], dilations, strict=True)]
    counts = [(n - e) // s + 1 for n, e, s in zip(x.shape[2:], extents, strides, strict=True)]
    y = np.zeros((x.shape[0], w.shape[0], *counts), x.dtype)
    each, outputs = w.shape[1], w.shape[0] // groups
    for place in np.ndindex(*counts):
        window = tuple(
            slice(p * s, p * s + e, d)
            for p, s, e, d in zip(place, strides, extents, dilations, strict=True)
        )
        for m in range(w.shape[0]):
            first = m // outputs * each
            part = x[(slice(None), slice(first, first + each), *window)] * w[m]
            y[(slice(None), m, *place)] = part.reshape(len(x), -1).sum(axis=1)
    return y


@pytest.mark.parametrize(
    ("sizes", "kernel", "groups", "strides", "dilations", "pads"), CONVOLUTIONS
)
def test_convolution(sizes, kernel, groups, strides, dilations, pads):
    x, w = numbers(2, 4, *sizes), numbers(8, 4 // groups, *kernel)
    b = numbers(8)
    one = node("Conv", group=groups, strides=strides, dilations=dilations, pads=pads)
    wanted = convolution_by_hand(x, w, groups, strides, dilations, pads)
    wanted = wanted + b.reshape(1, -1, *(1,) * len(sizes))
    np.testing.assert_allclose(run(one, x, w, b)[0], wanted, **CLOSE)


@pytest.mark.parametrize(
    ("sizes", "kernel", "groups", "strides", "dilations", "pads"), CONVOLUTIONS
)
def test_transposed_convolution_is_the_adjoint(sizes, kernel, groups, strides, dilations, pads):
    x, w = numbers(2, 4, *sizes), numbers(8, 4 // groups, *kernel)
    attributes = {"group": groups, "strides": strides, "dilations": dilations, "pads": pads}
    y = run(node("Conv", **attributes), x, w)[0]
    u = numbers(*y.shape, seed=1)
    extents = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    covered = [
        (n - 1) * s + e - pads[a] - pads[a + len(sizes)]
        for a, (n, s, e) in enumerate(zip(y.shape[2:], strides, extents, strict=True))
    ]
    rest = [size - n for size, n in zip(sizes, covered, strict=True)]
    back = run(node("ConvTranspose", output_padding=rest, **attributes), u, w)[0]
    assert back.shape == x.shape
    np.testing.assert_allclose((back * x).sum(), (u * y).sum(), rtol=1e-4)


@pytest.mark.parametrize("auto", ["SAME_UPPER", "SAME_LOWER"])
def test_same_padding_puts_the_odd_element_where_it_says(auto):
    x, w = numbers(1, 1, 6), numbers(1, 1, 4)
    pads = (1, 2) if auto == "SAME_UPPER" else (2, 1)
    wanted = convolution_by_hand(x, w, 1, (1,), (1,), pads)
    np.testing.assert_allclose(run(node("Conv", auto_pad=auto), x, w)[0], wanted, **CLOSE)


def test_transposed_convolution_to_a_wanted_shape():
    x, w = numbers(1, 2, 3), numbers(2, 1, 3)
    full = run(node("ConvTranspose", strides=(2,)), x, w)[0]
    assert full.shape == (1, 1, 7)
    upper = node("ConvTranspose", strides=(2,), output_shape=(4,), auto_pad="SAME_UPPER")
    np.testing.assert_allclose(run(upper, x, w)[0], full[:, :, 1:5], **CLOSE)
    lower = node("ConvTranspose", strides=(2,), output_shape=(4,))
    np.testing.assert_allclose(run(lower, x, w)[0], full[:, :, 2:6], **CLOSE)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_derivative_of_a_convolution(groups):
    w = numbers(4, 4 // groups, 2, 3, dtype="float64")
    one = node("Conv", group=groups, strides=(2, 1), pads=(1, 0, 0, 1))
    np.testing.assert_allclose(*derivative(one, numbers(1, 4, 4, 3), w), **DERIVATIVE)


POOLINGS = list(
    itertools.product(((2, 3), (1, 1)), ((1, 1), (2, 1)), ((0,) * 4, (1, 0, 1, 1)), (0, 1))
)


def windows_by_hand(x, kernel, strides, dilations, pads, ceil):
    """[(place, elements inside, elements inside or in declared padding)] of one plane."""
    counts = []
    for axis, size in enumerate(x.shape):
        before, after = pads[axis], pads[axis + 2]
        room = size + before + after - (kernel[axis] - 1) * dilations[axis] - 1
        count = (-(-room // strides[axis]) if ceil else room // strides[axis]) + 1
        counts.append(count - (ceil and (count - 1) * strides[axis] >= size + before))
    for place in np.ndindex(*counts):
        inside, declared = [], 0
        for offset in np.ndindex(*kernel):
            at = [
                p * s - b + o * d
                for p, s, b, o, d in zip(place, strides, pads[:2], offset, dilations, strict=True)
            ]
            declared += all(-pads[a] <= at[a] < x.shape[a] + pads[a + 2] for a in range(2))
            if all(0 <= at[a] < x.shape[a] for a in range(2)):
                inside.append(x[tuple(at)])
        yield place, inside, declared


@pytest.mark.parametrize(("strides", "dilations", "pads", "ceil"), POOLINGS)
def test_pooling(strides, dilations, pads, ceil):
    x = numbers(1, 1, 7, 8)
    kernel = (3, 2)
    options = {"kernel_shape": kernel, "strides": strides, "dilations": dilations, "pads": pads}
    largest, indices = run(node("MaxPool", outputs=2, ceil_mode=ceil, **options), x)
    means = run(node("AveragePool", ceil_mode=ceil, **options), x)[0]
    with_pads = run(node("AveragePool", ceil_mode=ceil, count_include_pad=1, **options), x)[0]
    norms = run(node("LpPool", ceil_mode=ceil, p=3, **options), x)[0]
    number = 0
    for place, inside, declared in windows_by_hand(x[0, 0], *options.values(), ceil):
        at = (0, 0, *place)
        assert largest[at] == max(inside) == x.reshape(-1)[indices[at]]
        np.testing.assert_allclose(means[at], np.mean(inside), **CLOSE)
        np.testing.assert_allclose(with_pads[at], np.sum(inside) / declared, **CLOSE)
        np.testing.assert_allclose(norms[at], np.sum(np.abs(inside) ** 3) ** (1 / 3), **CLOSE)
        number += 1
    assert number == largest.size == means.size


def test_pooling_of_integers_and_their_padding():
    x = np.array([[[200, 3, 7]]], np.uint8)
    y = run(node("MaxPool", kernel_shape=(2,), pads=(1, 1)), x)[0]
    assert y.dtype == np.uint8
    assert y.tolist() == [[[200, 200, 7, 7]]]


def test_unpooling_puts_maxima_back():
    x = numbers(2, 3, 4, 6)
    options = {"kernel_shape": (2, 2), "strides": (2, 2)}
    y, indices = run(node("MaxPool", outputs=2, **options), x)
    back = run(node("MaxUnpool", **options), y, indices)[0]
    assert back.shape == x.shape
    np.testing.assert_array_equal(back[back != 0], x[back != 0])
    assert np.count_nonzero(back) == y.size


def test_column_major_indices():
    x = numbers(2, 2, 4, 5)
    options = {"kernel_shape": (2, 2), "storage_order": 1}
    y, indices = run(node("MaxPool", outputs=2, **options), x)
    np.testing.assert_array_equal(x.transpose(0, 1, 3, 2).reshape(-1)[indices], y)


@pytest.mark.parametrize("kind", ["MaxPool", "AveragePool", "LpPool"])
@pytest.mark.parametrize("dilations", [(1, 1), (2, 1)])
def test_derivative_of_a_pooling(kind, dilations):
    one = node(kind, kernel_shape=(2, 3), dilations=dilations, pads=(1, 1, 0, 1), strides=(1, 2))
    np.testing.assert_allclose(*derivative(one, numbers(1, 2, 4, 5)), **DERIVATIVE)


@pytest.mark.parametrize(
    ("one", "x"),
    [
        (node("LpPool", kernel_shape=(2,), p=3), np.zeros((1, 1, 4))),
        (node("GlobalLpPool"), np.zeros((1, 1, 4))),
        (node("LpNormalization", axis=1), np.zeros((2, 3))),
        (node("MeanVarianceNormalization", axes=(2,)), np.ones((1, 2, 3))),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_derivatives_are_finite_where_a_norm_is_zero(one, x):
    entry = TABLE.find(one.domain, one.kind, one.since)
    backend = load_backend(keras.backend.backend())
    x = ops.convert_to_tensor(x.astype(np.float32))
    y = entry.run(one, x)
    pulled = backend.vjp(lambda given: (entry.run(one, given[0]),), (x,), (ops.ones_like(y),))
    assert np.isfinite(ops.convert_to_numpy(pulled[0])).all()


def test_batch_normalization_of_all_versions():
    x, scale, bias, mean = numbers(4, 3, 2, 2), numbers(3), numbers(3, seed=1), numbers(3, seed=2)
    variance = np.abs(numbers(3, seed=3)) + 0.5
    per = lambda v: v.reshape(1, -1, 1, 1)  # noqa: E731

    def wanted(mean, variance):
        return (x - per(mean)) / np.sqrt(per(variance) + 1e-5) * per(scale) + per(bias)

    given = (x, scale, bias, mean, variance)
    for one in (node("BatchNormalization", 15), node("BatchNormalization", 9)):
        np.testing.assert_allclose(run(one, *given)[0], wanted(mean, variance), **CLOSE)
    old = node("BatchNormalization", 6, is_test=1)
    np.testing.assert_allclose(run(old, *given)[0], wanted(mean, variance), **CLOSE)
    own = x.mean(axis=(0, 2, 3)), x.var(axis=(0, 2, 3))
    training = node("BatchNormalization", 15, outputs=3, training_mode=1, momentum=0.7)
    y, running_mean, running_variance = run(training, *given)
    np.testing.assert_allclose(y, wanted(*own), **CLOSE)
    np.testing.assert_allclose(running_mean, 0.7 * mean + 0.3 * own[0], **CLOSE)
    np.testing.assert_allclose(running_variance, 0.7 * variance + 0.3 * own[1], **CLOSE)
    np.testing.assert_allclose(run(node("BatchNormalization", 6), *given)[0], wanted(*own), **CLOSE)


def test_group_normalization_changed_its_scale_in_version_21():
    x, scale, bias = numbers(2, 4, 3), numbers(2), numbers(2, seed=1)
    old = run(node("GroupNormalization", 18, num_groups=2), x, scale, bias)[0]
    new = node("GroupNormalization", 21, num_groups=2)
    wide = run(new, x, np.repeat(scale, 2), np.repeat(bias, 2))[0]
    np.testing.assert_allclose(old, wide, **CLOSE)
    one = run(node("GroupNormalization", 21, num_groups=4), x, np.ones(4, "f"), np.zeros(4, "f"))
    each = run(node("InstanceNormalization"), x, np.ones(4, "f"), np.zeros(4, "f"))
    np.testing.assert_allclose(one[0], each[0], **CLOSE)


RECURRENT = {"RNN": (1, 1), "GRU": (3, 1), "LSTM": (4, 2)}


def recurrent(kind, directions, seed=0):
    gates = RECURRENT[kind][0]
    return (
        numbers(directions, gates * 4, 3, seed=seed),
        numbers(directions, gates * 4, 4, seed=seed + 1),
        numbers(directions, 2 * gates * 4, seed=seed + 2),
    )


@pytest.mark.parametrize("kind", RECURRENT)
def test_recurrence_ends_with_each_sequence(kind):
    x = numbers(5, 2, 3)
    outputs = 1 + RECURRENT[kind][1]
    one = node(kind, outputs=outputs, hidden_size=4, direction="bidirectional")
    parameters = recurrent(kind, 2)
    together = run(one, x, *parameters, np.array([5, 3], np.int32))
    alone = run(one, x[:3, 1:], *parameters)
    np.testing.assert_allclose(together[0][:3, :, 1:], alone[0], **CLOSE)
    assert not together[0][3:, :, 1].any()
    for both, short in zip(together[1:], alone[1:], strict=True):
        np.testing.assert_allclose(both[:, 1:], short, **CLOSE)


@pytest.mark.parametrize("kind", RECURRENT)
def test_directions_and_layout(kind):
    x = numbers(5, 2, 3)
    w, r, b = recurrent(kind, 2)
    both = run(node(kind, hidden_size=4, direction="bidirectional"), x, w, r, b)[0]
    forward = run(node(kind, hidden_size=4), x, w[:1], r[:1], b[:1])[0]
    turned = run(node(kind, hidden_size=4), x[::-1].copy(), w[1:], r[1:], b[1:])[0]
    np.testing.assert_allclose(both[:, :1], forward, **CLOSE)
    np.testing.assert_allclose(both[:, 1:], turned[::-1], **CLOSE)
    batch = node(kind, hidden_size=4, direction="bidirectional", layout=1)
    first = run(batch, x.swapaxes(0, 1).copy(), w, r, b)[0]
    np.testing.assert_allclose(first.transpose(1, 2, 0, 3), both, **CLOSE)


@pytest.mark.parametrize("kind", RECURRENT)
def test_derivative_of_a_recurrence(kind):
    one = node(kind, hidden_size=4, clip=0.9)
    parameters = [value.astype(np.float64) for value in recurrent(kind, 1)]
    np.testing.assert_allclose(*derivative(one, numbers(4, 2, 3), *parameters), **DERIVATIVE)


def test_parameters_go_to_the_activations_that_take_them():
    x = numbers(1, 2, 3)
    w, r, _ = recurrent("GRU", 1)
    names = ["HardSigmoid", "ScaledTanh"]
    one = node(
        "GRU",
        hidden_size=4,
        activations=names,
        activation_alpha=[0.3, 1.5],
        activation_beta=[0.4, 0.7],
    )
    z, _, h = np.split(x[0] @ w[0].T, 3, axis=1)
    gate = np.clip(0.3 * z + 0.4, 0, 1)
    wanted = (1 - gate) * 1.5 * np.tanh(0.7 * h)
    np.testing.assert_allclose(run(one, x, w, r)[0][0, 0], wanted, **CLOSE)
    with pytest.raises(Unsupported, match="activation"):
        run(node("RNN", hidden_size=4, activations=["Swirl"]), x, *recurrent("RNN", 1))


def test_attention_by_hand_with_grouped_heads_and_masks():
    q, k, v = numbers(2, 4, 3, 5), numbers(2, 2, 6, 5), numbers(2, 2, 6, 7)
    mask = np.random.default_rng(3).random((3, 6)) > 0.4
    mask[1] = False
    y = run(node("Attention", 23, is_causal=1), q, k, v, mask)[0]
    wide, values = np.repeat(k, 2, axis=1), np.repeat(v, 2, axis=1)
    scores = q @ wide.swapaxes(2, 3) / np.sqrt(5)
    scores = np.where(mask & np.tri(3, 6, dtype=bool), scores, -np.inf)
    with np.errstate(invalid="ignore"):
        shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
        shares = np.nan_to_num(shares / shares.sum(axis=-1, keepdims=True))
    np.testing.assert_allclose(y, shares @ values, **CLOSE)
    assert not y[:, :, 1].any()


def test_derivative_of_attention_where_a_query_sees_nothing():
    k, v = numbers(1, 2, 3, 4, dtype="float64"), numbers(1, 2, 3, 4, seed=1, dtype="float64")
    mask = np.array([[True, False, True], [False, False, False]])
    one = node("Attention", 23, softcap=2.0)
    pulled, differences = derivative(one, numbers(1, 2, 2, 4), k, v, mask)
    np.testing.assert_allclose(pulled, differences, **DERIVATIVE)
    assert not pulled[0, :, 1].any()


def test_a_cache_is_the_same_as_all_keys_at_once():
    q, k, v = numbers(1, 2, 2, 4), numbers(1, 2, 5, 4), numbers(1, 2, 5, 4, seed=1)
    whole = run(node("Attention", 23), q, k, v)
    split = run(node("Attention", 23), q, k[:, :, 3:], v[:, :, 3:], None, k[:, :, :3], v[:, :, :3])
    np.testing.assert_allclose(split[0], whole[0], **CLOSE)
    np.testing.assert_array_equal(split[1], k)


@pytest.mark.parametrize(
    ("rounding", "wanted"),
    [
        ("floor", [0, 1]),
        ("ceil", [1, 2]),
        ("round_prefer_floor", [0, 1]),
        ("round_prefer_ceil", [1, 2]),
    ],
)
def test_nearest_at_a_half(rounding, wanted):
    assert nearest_places(np.array([0.5, 1.5]), rounding, 4).tolist() == wanted


@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("exclude", [False, True])
def test_weights_of_a_resized_axis_keep_constants(mode, antialias, exclude):
    for output in (3, 7, 16):
        axis = Axis(axis=0, size=7, output=output, scale=output / 7, roi=(0.0, 1.0))
        at = coordinates(axis, "half_pixel", np.float64)
        matrix = weights(at, axis, mode, a=-0.75, antialias=antialias, exclude=exclude)
        np.testing.assert_allclose(matrix.sum(axis=1), 1)
        if output == 7:
            np.testing.assert_allclose(matrix, np.eye(7), atol=1e-12)


def test_resize_by_the_examples_of_version_10():
    x = np.arange(1, 9, dtype=np.float32).reshape(1, 1, 2, 4)
    small = np.array([1, 1, 0.6, 0.6], np.float32)
    nearest = run(node("Resize", 10, mode="nearest"), x, small, known=(1,))[0]
    assert nearest.tolist() == [[[[1, 3]]]]
    linear = run(node("Resize", 10, mode="linear"), x, small, known=(1,))[0]
    np.testing.assert_allclose(linear, [[[[1, 2.6666665]]]], rtol=1e-5)


def test_resize_keeps_the_corners_and_integers():
    x = numbers(1, 1, 4, 5)
    sizes = np.array([1, 1, 7, 9])
    one = node("Resize", 19, mode="linear", coordinate_transformation_mode="align_corners")
    y = run(one, x, None, None, sizes, known=(3,))[0]
    np.testing.assert_allclose(y[:, :, ::6, ::8], x[:, :, ::3, ::4], **CLOSE)
    np.testing.assert_allclose(y[:, :, ::2, ::2], x, **CLOSE)
    whole = np.array([[[[0, 255]]]], np.uint8)
    wide = run(
        node("Resize", 19, mode="linear"), whole, None, None, np.array([1, 1, 1, 4]), known=(3,)
    )[0]
    assert wide.tolist() == [[[[0, 64, 191, 255]]]]
    with pytest.raises(Unsupported, match="input"):
        run(one, x, None, None, sizes)


@pytest.mark.parametrize("corners", [0, 1])
@pytest.mark.parametrize("sizes", [(4, 5), (3, 4, 2)])
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_sampling_at_the_identity(corners, sizes, mode):
    x = numbers(2, 3, *sizes)
    theta = np.stack([np.eye(len(sizes), len(sizes) + 1, dtype=np.float32)] * 2)
    shape = np.array([2, 3, *sizes])
    grid = run(node("AffineGrid", align_corners=corners), theta, shape, known=(1,))[0]
    y = run(node("GridSample", 20, mode=mode, align_corners=corners), x, grid)[0]
    # The grid's coordinates are float32: half a step of 1 from the centre of a pixel.
    np.testing.assert_allclose(y, x, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_derivative_of_sampling_by_its_grid(padding, mode):
    x = numbers(1, 2, 4, 5, dtype="float64")
    one = node("GridSample", 20, mode=mode, padding_mode=padding)
    entry = TABLE.find("", "GridSample", one.since)
    swapped = Node(name="n", domain="tests", kind=f"{mode}-{padding}", since=1, attributes={})
    TABLE.entries[("tests", swapped.kind)] = [
        type(entry)(
            domain="tests",
            kind=swapped.kind,
            since=1,
            run=lambda _, grid: entry.run(one, ops.convert_to_tensor(x), grid),
        )
    ]
    try:
        found = derivative(swapped, 1.3 * numbers(1, 3, 2, 2))
    finally:
        del TABLE.entries[("tests", swapped.kind)]
    np.testing.assert_allclose(*found, **DERIVATIVE)


def test_deformed_by_nothing_is_a_convolution():
    x, w = numbers(2, 4, 6, 5), numbers(6, 2, 3, 2)
    attributes = {"group": 2, "strides": (2, 1), "pads": (1, 0, 1, 1), "dilations": (1, 2)}
    wanted = run(node("Conv", **attributes), x, w)[0]
    still = np.zeros((2, 2 * 6 * 2, *wanted.shape[2:]), np.float32)
    y = run(node("DeformConv", offset_group=2, **attributes), x, w, still)[0]
    np.testing.assert_allclose(y, wanted, **CLOSE)


def test_columns_to_image_is_the_adjoint_of_windows():
    x = numbers(1, 1, 5, 6)
    attributes = {"strides": (2, 1), "pads": (1, 0, 1, 1), "dilations": (1, 2)}
    basis = np.eye(6, dtype=np.float32).reshape(6, 1, 3, 2)
    columns = run(node("Conv", **attributes), x, basis)[0].reshape(1, 6, -1)
    u = numbers(*columns.shape, seed=1)
    shapes = np.array([5, 6]), np.array([3, 2])
    back = run(node("Col2Im", **attributes), u, *shapes, known=(1, 2))[0]
    np.testing.assert_allclose((back * x).sum(), (u * columns).sum(), rtol=1e-4)


def test_regions_of_a_plane_are_its_values_at_their_bins():
    rows, columns = np.mgrid[:12, :12].astype(np.float32)
    x = np.stack([2 * rows + columns, rows])[None]
    boxes = np.array([[2, 1, 8, 7], [1.5, 2.5, 3, 9]], np.float32)
    for ratio in (0, 2):
        one = node("RoiAlign", output_height=3, output_width=2, sampling_ratio=ratio)
        y = run(one, x, boxes, np.zeros(2, np.int64), known=(1,))[0]
        for region, (left, top, right, bottom) in enumerate(boxes - 0.5):
            at_rows = top + (bottom - top) * (np.arange(3) + 0.5) / 3
            at_columns = left + (right - left) * (np.arange(2) + 0.5) / 2
            plane = 2 * at_rows[:, None] + at_columns
            np.testing.assert_allclose(y[region, 0], plane, **CLOSE)


def test_quantised_and_back():
    x = 10 * numbers(4, 6)
    scale = np.full((2, 6), 0.1, np.float32)
    zero = np.zeros((2, 6), np.int16)
    options = {"axis": 0, "block_size": 2}
    whole = run(node("QuantizeLinear", 21, **options), x, scale, zero)[0]
    assert whole.dtype == np.int16
    back = run(node("DequantizeLinear", 21, **options), whole, scale, zero)[0]
    np.testing.assert_allclose(back, x, atol=0.0501)
    with pytest.raises(Unsupported, match="quantisation"):
        run(
            node("QuantizeLinear", 21, output_dtype=int(onnx.TensorProto.FLOAT8E5M2)),
            x,
            np.float32(0.1),
        )


def test_dynamic_quantisation_passes_derivatives_through():
    a, b = numbers(3, 4), np.random.default_rng(0).integers(-90, 90, (4, 5)).astype(np.int8)
    one = node("DynamicQuantizeMatMul", domain=MICROSOFT)
    y = run(one, a, b, np.float32(0.02), known=(1,))[0]
    wanted = a @ (b * 0.02)
    step = (a.max() - a.min()) / 255
    assert 0 < np.abs(y - wanted).max() <= step * np.abs(b * 0.02).sum(axis=0).max()
    entry = TABLE.find(MICROSOFT, one.kind, 1)
    backend = load_backend(keras.backend.backend())
    u = numbers(3, 5, seed=1)
    pulled = backend.vjp(
        lambda given: (entry.run(one, given[0], b, np.float32(0.02)),),
        (ops.convert_to_tensor(a),),
        (ops.convert_to_tensor(u),),
    )[0]
    np.testing.assert_allclose(ops.convert_to_numpy(pulled), u @ (b.T * 0.02), **CLOSE)


def test_fused_operators_are_what_they_fuse():
    a, b = numbers(3, 2, 4), numbers(2, 4, 5)
    one = node("FusedMatMul", domain=MICROSOFT, transBatchA=1, alpha=0.5)
    wanted = 0.5 * a.transpose(1, 0, 2) @ b
    np.testing.assert_allclose(run(one, a, b)[0], wanted, **CLOSE)
    x, w, z = numbers(1, 2, 5), numbers(3, 2, 3), numbers(1, 3, 3)
    fused = node("FusedConv", domain=MICROSOFT, activation="LeakyRelu", activation_params=[0.2])
    plain = run(node("Conv"), x, w)[0] + z
    np.testing.assert_allclose(
        run(fused, x, w, None, z)[0], np.where(plain > 0, plain, 0.2 * plain), **CLOSE
    )
    skip = node("SkipLayerNormalization", domain=MICROSOFT, epsilon=1e-5)
    h, s, g = numbers(2, 3, 8), numbers(2, 3, 8, seed=1), numbers(8)
    normalized = run(node("LayerNormalization"), h + s, g)[0]
    y, _, _, total = run(skip, h, s, g)
    np.testing.assert_allclose(y, normalized, **CLOSE)
    np.testing.assert_allclose(total, h + s, **CLOSE)


def test_packed_attention_is_three_products_and_attention():
    x, w, b = numbers(2, 3, 8), numbers(8, 24), numbers(24)
    fused = node("Attention", domain=MICROSOFT, num_heads=2)
    q, k, v = np.split(x @ w + b, 3, axis=-1)
    plain = node("Attention", 23, q_num_heads=2, kv_num_heads=2)
    np.testing.assert_allclose(run(fused, x, w, b)[0], run(plain, q, k, v)[0], **CLOSE)
    lengths = np.array([2, 3], np.int32)
    masked = run(fused, x, w, b, lengths)[0]
    alone = run(fused, x[:1, :2], w, b)[0]
    np.testing.assert_allclose(masked[:1, :2], alone, **CLOSE)
