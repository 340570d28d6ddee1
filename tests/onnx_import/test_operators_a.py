"""Operators of one tensor or two, reductions, layout and indices: values, versions, derivatives.

Values are held against onnx's own evaluator, and where that does not know an old version against
NumPy; derivatives against central differences in float64.
"""

from __future__ import annotations

import keras
import numpy as np
import onnx
import pytest
from keras import ops
from onnx import helper
from onnx.reference import ReferenceEvaluator

from auditor.onnx_import.operators import load_operators
from auditor.onnx_import.operators.table import TABLE, Node, Unsupported, is_known
from auditor.onnx_import.operators.tensors import available, dtype_of, is_float, tensor
from auditor.probe.backends import load_backend

load_operators()
OPSET = 23
#: Central differences with steps of 1e-6 in float64 have errors of about 1e-9 of the values.
TOLERANCE = 1e-6


def node(kind, opset=OPSET, domain="", outputs=1, **attributes):
    schema = onnx.defs.get_schema(kind, opset, domain)
    values = {
        name: helper.get_attribute_value(attribute.default_value)
        for name, attribute in schema.attributes.items()
        if attribute.default_value.name
    }
    values |= attributes
    decoded = {k: v.decode() if isinstance(v, bytes) else v for k, v in values.items()}
    since = schema.since_version
    return Node(
        name="n", domain=domain, kind=kind, since=since, attributes=decoded, outputs=outputs
    )


def run(one, *inputs):
    """The outputs of a node as NumPy arrays."""
    entry = TABLE.find(one.domain, one.kind, one.since)
    outputs = entry.run(one, *inputs)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    return [np.asarray(ops.convert_to_numpy(o)) if not is_known(o) else o for o in outputs]


def expected(kind, inputs, opset=OPSET, outputs=1, **attributes):
    """The outputs that onnx's own evaluator has."""
    names = [f"x{place}" if value is not None else "" for place, value in enumerate(inputs)]
    made = helper.make_node(kind, names, [f"y{place}" for place in range(outputs)], **attributes)
    dtypes = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), None)
        for name, value in zip(names, inputs, strict=True)
        if name
    ]
    results = [onnx.ValueInfoProto(name=name) for name in made.output]
    graph = helper.make_graph([made], "g", dtypes, results)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    feed = {name: value for name, value in zip(names, inputs, strict=True) if name}
    return ReferenceEvaluator(model).run(None, feed)


def derivatives(one, inputs, places):
    """(reverse-mode, central differences) of a random cotangent's product with the outputs."""
    generator = np.random.default_rng(7)
    backend = load_backend(keras.backend.backend())
    entry = TABLE.find(one.domain, one.kind, one.since)

    def function(primals):
        given = list(inputs)
        for place, value in zip(places, primals, strict=True):
            given[place] = value
        outputs = entry.run(one, *given)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        return tuple(o for o in outputs if not is_known(o) and is_float(dtype_of(o)))

    primals = tuple(tensor(inputs[place]) for place in places)
    shapes = [tuple(o.shape) for o in function(primals)]
    cotangents = [generator.standard_normal(shape) for shape in shapes]
    found = backend.vjp(function, primals, tuple(tensor(c) for c in cotangents))

    def total(values):
        outputs = function(tuple(tensor(value) for value in values))
        pairs = zip(outputs, cotangents, strict=True)
        return sum(float(np.sum(ops.convert_to_numpy(o) * c)) for o, c in pairs)

    differences = []
    for number, place in enumerate(places):
        slope = np.zeros(inputs[place].shape)
        for index in np.ndindex(slope.shape):
            ends = []
            for step in (1e-6, -1e-6):
                values = [np.array(inputs[p]) for p in places]
                values[number][index] += step
                ends.append(total(values))
            slope[index] = (ends[0] - ends[1]) / 2e-6
        differences.append(slope)
    return [np.asarray(ops.convert_to_numpy(f)) for f in found], differences


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def integers(*values):
    return np.asarray(values, np.int64)


X = normal(3, 4)
POSITIVE = np.abs(X) + 0.5
INSIDE = np.tanh(X) * 0.9
STACK = normal(2, 3, 4, seed=1)
IMAGE = normal(2, 8, 4, 6, seed=2)
#: (kind, attributes, inputs): float64 tensors are differentiated, all else is known.
CASES = {
    "Add": ("Add", {}, [X, normal(4, seed=3)]),
    "Sub": ("Sub", {}, [X, normal(3, 1, seed=3)]),
    "Mul": ("Mul", {}, [X, normal(4, seed=3)]),
    "Div": ("Div", {}, [X, POSITIVE]),
    "Mod-fmod": ("Mod", {"fmod": 1}, [X * 5, np.sign(normal(3, 4, seed=5)) * 1.3]),
    "Pow": ("Pow", {}, [POSITIVE, normal(4, seed=3)]),
    "Max": ("Max", {}, [X, normal(4, seed=3), normal(1, seed=4)]),
    "Min": ("Min", {}, [X, normal(4, seed=3)]),
    "Sum": ("Sum", {}, [X, normal(4, seed=3), normal(1, seed=4)]),
    "Mean": ("Mean", {}, [X, normal(4, seed=3), normal(1, seed=4)]),
    "Clip": ("Clip", {}, [X, np.asarray(-0.5), np.asarray(0.7)]),
    "Clip-crossed": ("Clip", {}, [X, np.asarray(0.7), np.asarray(-0.5)]),
    "Where": ("Where", {}, [X > 0, X, normal(4, seed=3)]),
    "Sqrt": ("Sqrt", {}, [POSITIVE]),
    "Erf": ("Erf", {}, [X]),
    **{kind: (kind, {}, [INSIDE]) for kind in ("Asin", "Acos", "Atanh")},
    **{kind: (kind, {}, [X]) for kind in ("Exp", "Sin", "Cos", "Tan", "Atan", "Sinh", "Cosh")},
    **{kind: (kind, {}, [X]) for kind in ("Tanh", "Asinh", "Sigmoid", "Softplus", "Softsign")},
    "Acosh": ("Acosh", {}, [POSITIVE + 1]),
    "Celu": ("Celu", {"alpha": 1.7}, [X]),
    "Shrink": ("Shrink", {"lambd": 0.3, "bias": 0.1}, [X]),
    "HardSwish": ("HardSwish", {}, [X * 3]),
    "Mish": ("Mish", {}, [X]),
    "Gelu-tanh": ("Gelu", {"approximate": "tanh"}, [X]),
    "PRelu": ("PRelu", {}, [X, normal(4, seed=3)]),
    "Softmax": ("Softmax", {"axis": 1}, [STACK]),
    "LogSoftmax": ("LogSoftmax", {"axis": 0}, [STACK]),
    "ReduceL2": ("ReduceL2", {"keepdims": 0}, [STACK, integers(0, -1)]),
    "ReduceLogSumExp": ("ReduceLogSumExp", {}, [STACK, integers(1)]),
    "ReduceProd": ("ReduceProd", {}, [STACK, integers(0, 2)]),
    "ReduceMax": ("ReduceMax", {"keepdims": 0}, [STACK, integers(1)]),
    "ReduceMean": ("ReduceMean", {}, [STACK, integers(0, 2)]),
    "ReduceMean-noop": ("ReduceMean", {"noop_with_empty_axes": 1}, [STACK, integers()]),
    "ReduceSumSquare-noop": ("ReduceSumSquare", {"noop_with_empty_axes": 1}, [STACK, integers()]),
    "CumSum-plain": ("CumSum", {}, [STACK, np.asarray(-1)]),
    "CumSum": ("CumSum", {"exclusive": 1, "reverse": 1}, [STACK, np.asarray(1)]),
    "TopK": ("TopK", {"axis": 1, "largest": 0}, [STACK, integers(2)]),
    "Einsum": ("Einsum", {"equation": "...ii, jk -> ...jk"}, [normal(2, 3, 3), X]),
    "MatMul": ("MatMul", {}, [STACK, normal(4, seed=3)]),
    "Gemm": ("Gemm", {"transA": 1, "alpha": 0.5, "beta": 2.0}, [X, normal(3, 2), normal(2)]),
    "Det": ("Det", {}, [normal(2, 3, 3)]),
    "Reshape": ("Reshape", {}, [STACK, integers(0, -1, 2)]),
    "Flatten": ("Flatten", {"axis": -1}, [STACK]),
    "Squeeze": ("Squeeze", {}, [normal(1, 3, 1, 2), integers(-2)]),
    "Unsqueeze": ("Unsqueeze", {}, [X, integers(3, 0)]),
    "Transpose": ("Transpose", {"perm": [2, 0, 1]}, [STACK]),
    "Expand": ("Expand", {}, [normal(3, 1), integers(2, 1, 4)]),
    "Concat": ("Concat", {"axis": -1}, [X, normal(3, 2)]),
    "Slice": (
        "Slice",
        {},
        [STACK, integers(-1, 0), integers(-100, 4), integers(1, 2), integers(-2, 3)],
    ),
    "Pad-reflect": ("Pad", {"mode": "reflect"}, [X, integers(2, 1, 0, 3)]),
    "Pad-edge": ("Pad", {"mode": "edge"}, [X, integers(2, 2), None, integers(-1)]),
    "Pad-wrap": ("Pad", {"mode": "wrap"}, [X, integers(0, 3, 2, 0)]),
    "Pad-constant": ("Pad", {}, [X, integers(0, 3, 2, 0), np.asarray(1.5)]),
    "Tile": ("Tile", {}, [X, integers(2, 3)]),
    "DepthToSpace": ("DepthToSpace", {"blocksize": 2, "mode": "CRD"}, [IMAGE]),
    "SpaceToDepth": ("SpaceToDepth", {"blocksize": 2}, [IMAGE]),
    "Trilu": ("Trilu", {"upper": 0}, [STACK, np.asarray(1)]),
    "ReverseSequence": ("ReverseSequence", {}, [STACK, integers(2, 1, 2)]),
    "Gather": ("Gather", {"axis": 1}, [STACK, np.asarray([[-1, 0], [1, 1]])]),
    "GatherElements": ("GatherElements", {"axis": 1}, [X, np.asarray([[-1, 0], [2, 2], [1, -4]])]),
    "GatherND": ("GatherND", {"batch_dims": 1}, [STACK, np.asarray([[[-1]], [[0]]])]),
    "ScatterElements": (
        "ScatterElements",
        {"axis": 1, "reduction": "mul"},
        [X, np.asarray([[1, -3, 1], [0, 0, 0]]), normal(2, 3, seed=3)],
    ),
    "ScatterElements-max": (
        "ScatterElements",
        {"axis": 0, "reduction": "max"},
        [X, np.asarray([[1, 0], [1, 2]]), normal(2, 2, seed=3)],
    ),
    "ScatterND": ("ScatterND", {"reduction": "add"}, [X, [[0], [2], [0]], normal(3, 4, seed=3)]),
    "ScatterND-min": ("ScatterND", {"reduction": "min"}, [X, [[0], [0]], normal(2, 4, seed=3)]),
    "Compress": ("Compress", {"axis": 1}, [X, np.asarray([True, False, True])]),
    "OneHot": ("OneHot", {"axis": 0}, [integers(1, -1, 9), np.asarray(4), np.asarray([0.5, 2.0])]),
    "SoftmaxCrossEntropyLoss": (
        "SoftmaxCrossEntropyLoss",
        {"ignore_index": 2},
        [STACK, np.asarray([[0, 2, 1, 1], [2, 2, 0, 1]]), np.asarray([0.2, 0.5, 1.0])],
    ),
    "NegativeLogLikelihoodLoss": (
        "NegativeLogLikelihoodLoss",
        {"reduction": "none"},
        [STACK, np.asarray([[0, 2, 1, 1], [2, 2, 0, 1]])],
    ),
    "DFT": ("DFT", {}, [normal(2, 5, 1), None, np.asarray(1)]),
    "DFT-inverse": ("DFT", {"inverse": 1}, [normal(2, 5, 2), np.asarray(7), np.asarray(1)]),
    "DFT-onesided": ("DFT", {"inverse": 1, "onesided": 1}, [normal(2, 4, 2), np.asarray(7)]),
    "STFT": ("STFT", {}, [normal(1, 12, 1), np.asarray(3), np.hanning(4), np.asarray(4)]),
}


@pytest.mark.parametrize("case", CASES)
def test_values_are_those_of_onnx(case):
    kind, attributes, inputs = CASES[case]
    inputs = [np.asarray(i) if isinstance(i, list) else i for i in inputs]
    wanted = expected(kind, inputs, **attributes)
    given = [tensor(i) if _differentiated(i) else i for i in inputs]
    for one, other in zip(run(node(kind, **attributes), *given), wanted, strict=False):
        assert one.shape == other.shape
        assert one.dtype.name == available(np.asarray(other).dtype.name)
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("case", CASES)
def test_derivatives_are_those_of_differences(case):
    kind, attributes, inputs = CASES[case]
    if available("float64") != "float64":
        pytest.skip("the backend has no float64 without its 64-bit mode")
    inputs = [np.asarray(i) if isinstance(i, list) else i for i in inputs]
    places = [place for place, value in enumerate(inputs) if _differentiated(value)]
    found, differences = derivatives(node(kind, **attributes), inputs, places)
    for one, other in zip(found, differences, strict=True):
        np.testing.assert_allclose(one, other, rtol=TOLERANCE, atol=TOLERANCE)


def _differentiated(value):
    return isinstance(value, np.ndarray) and value.dtype == np.float64


@pytest.mark.parametrize(
    ("kind", "inputs", "attributes"),
    [
        ("ReduceL2", [np.zeros((2, 3))], {}),
        ("ReduceProd", [np.asarray([0.0, 0.0, 2.0])], {}),
        ("ReduceLogSumExp", [np.asarray([[-np.inf, -np.inf], [0.0, 1.0]]), integers(1)], {}),
        ("CumProd", [np.asarray([2.0, 0.0, 3.0, 0.0]), np.asarray(0)], {}),
        ("Elu", [np.asarray([-1.0, 1000.0])], {}),
        ("Selu", [np.asarray([-1.0, 1000.0])], {}),
        ("Celu", [np.asarray([-1.0, 1000.0])], {"alpha": 0.5}),
        ("Softplus", [np.asarray([-1000.0, 1000.0])], {}),
        ("Mish", [np.asarray([-1000.0, 1000.0])], {}),
        ("Softmax", [np.asarray([[-np.inf, -np.inf], [0.0, -np.inf]])], {}),
        ("Pow", [np.asarray([-2.0, 0.5]), np.asarray([3.0, 2.0])], {}),
        ("Pow", [np.asarray([0.0, 0.0]), np.asarray([1.0, 2.0])], {}),
    ],
)
def test_derivatives_are_finite_where_a_naive_composition_gives_nan(kind, inputs, attributes):
    opset = 26 if kind == "CumProd" else OPSET
    one = node(kind, opset=opset, **attributes)
    places = [place for place, value in enumerate(inputs) if value.dtype == np.float64]
    backend = load_backend(keras.backend.backend())
    entry = TABLE.find(one.domain, one.kind, one.since)

    def function(primals):
        given = list(inputs)
        for place, value in zip(places, primals, strict=True):
            given[place] = value
        # what a graph does with the NaN of a masked row: a select that passes nothing back
        output = entry.run(one, *given)
        return (ops.where(ops.isnan(output), ops.zeros_like(output), output),)

    primals = tuple(tensor(inputs[place]) for place in places)
    cotangents = tuple(ops.ones_like(o) for o in function(primals))
    for gradient in backend.vjp(function, primals, cotangents):
        assert np.isfinite(ops.convert_to_numpy(gradient)).all()


def test_a_cumulative_product_with_zeros_has_its_derivative():
    value = np.asarray([2.0, 0.0, 3.0, 0.5])
    if available("float64") != "float64":
        value = value.astype(np.float32)
    one = node("CumProd", opset=26)
    found, _ = derivatives(one, [value, np.asarray(0)], [0])
    weights = np.random.default_rng(7).standard_normal(4)
    wanted = [weights[0], 2 * weights[1] + 6 * weights[2] + 3 * weights[3], 0, 0]
    np.testing.assert_allclose(found[0], wanted, rtol=1e-5)


def test_at_the_bound_of_a_clip_the_derivative_is_one():
    value = np.asarray([0.0, 6.0, 7.0], np.float32)
    bounds = [np.asarray(0, np.float32), np.asarray(6, np.float32)]
    backend = load_backend(keras.backend.backend())
    entry = TABLE.find("", "Clip", 13)
    (found,) = backend.vjp(
        lambda primals: (entry.run(node("Clip"), *primals, *bounds),),
        (tensor(value),),
        (tensor(np.ones(3, np.float32)),),
    )
    assert np.asarray(ops.convert_to_numpy(found)).tolist() == [1.0, 1.0, 0.0]


def test_before_version_7_broadcasting_is_along_an_axis():
    first, second = normal(2, 3, 4).astype(np.float32), normal(3).astype(np.float32)
    one = node("Mul", opset=6, broadcast=1, axis=1)
    (found,) = run(one, tensor(first), second)
    np.testing.assert_allclose(found, first * second[:, None], rtol=1e-6)
    (found,) = run(node("Mul", opset=6, broadcast=1), tensor(first), first[0])
    np.testing.assert_allclose(found, first * first[0], rtol=1e-6)


def test_before_version_7_a_slope_is_one_a_channel():
    value, slope = normal(2, 3, 4).astype(np.float32), np.asarray([0.1, 0.2, 0.3], np.float32)
    (found,) = run(node("PRelu", opset=6), tensor(value), slope)
    wanted = np.where(value < 0, value * slope[:, None], value)
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


@pytest.mark.parametrize("kind", ["Softmax", "LogSoftmax", "Hardmax"])
def test_before_version_13_a_softmax_is_over_all_dimensions_from_its_axis_on(kind):
    value = normal(2, 3, 4).astype(np.float32)
    (found,) = run(node(kind, opset=11), tensor(value))
    wanted = expected(kind, [value.reshape(2, 12)], axis=-1)[0].reshape(2, 3, 4)
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


@pytest.mark.parametrize(
    ("kind", "opset", "attributes", "extra", "wanted"),
    [
        ("ReduceSum", 11, {"axes": [1], "keepdims": 0}, [], X.sum(1)),
        ("Squeeze", 11, {"axes": [0]}, [], X[0:1][0]),
        ("Unsqueeze", 11, {"axes": [0]}, [], X[None]),
        ("Reshape", 1, {"shape": [4, 3]}, [], X.reshape(4, 3)),
        ("Slice", 1, {"starts": [1], "ends": [-1], "axes": [1]}, [], X[:, 1:-1]),
        (
            "Pad",
            1,
            {"paddings": [0, 1, 0, 0], "value": 2.0},
            [],
            np.pad(X, ((0, 0), (1, 0)), constant_values=2),
        ),
        ("Pad", 2, {"pads": [0, -1, 1, 0]}, [], np.pad(X[:, 1:], ((0, 1), (0, 0)))),
        ("Clip", 6, {"min": -0.5, "max": 0.5}, [], X.clip(-0.5, 0.5)),
        ("Tile", 1, {}, [integers(2), integers(1)], np.tile(X, (1, 2))),
        ("TopK", 1, {"k": 2, "axis": 1}, [], -np.sort(-X, axis=1)[:, :2]),
    ],
)
def test_old_versions_have_attributes_in_place_of_inputs(kind, opset, attributes, extra, wanted):
    value = X[0:1] if kind == "Squeeze" else X
    found = run(node(kind, opset=opset, **attributes), tensor(value.astype(np.float32)), *extra)
    np.testing.assert_allclose(found[0], wanted, rtol=1e-6)


def test_elements_are_gathered_for_fewer_indices_than_the_tensor_has_rows():
    value, indices = X.astype(np.float32), np.asarray([[-1, 0], [2, 2]])
    wanted = np.take_along_axis(value[:2], indices, axis=1)
    for given in (indices, tensor(indices)):
        (found,) = run(node("GatherElements", axis=1), tensor(value), given)
        np.testing.assert_array_equal(found, wanted)


def test_parts_of_a_split_are_equal_but_for_the_last():
    value = tensor(np.arange(7, dtype=np.float32))
    parts = run(node("Split", num_outputs=3, outputs=3), value)
    assert [part.tolist() for part in parts] == [[0, 1, 2], [3, 4, 5], [6]]
    parts = run(node("Split", opset=13, outputs=2), value, integers(3, 4))
    assert [len(part) for part in parts] == [3, 4]


@pytest.mark.parametrize("kind", ["ReduceMax", "ReduceMin", "ReduceSum", "ReduceProd"])
@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_an_empty_set_has_a_value(kind, dtype):
    value = np.zeros((2, 0, 3), dtype)
    (found,) = run(node(kind), tensor(value), integers(1))
    (wanted,) = expected(kind, [value, integers(1)])
    assert found.dtype == wanted.dtype
    np.testing.assert_array_equal(found, wanted)


def test_equals_keep_their_order_in_a_top_k():
    value = np.asarray([[2, 3, 3, 1, 3], [0, 0, 0, 0, 0]], np.float32)
    for largest, wanted in ((1, [[1, 2, 4], [0, 1, 2]]), (0, [[3, 0, 1], [0, 1, 2]])):
        one = node("TopK", largest=largest, outputs=2)
        assert run(one, tensor(value), integers(3))[1].tolist() == wanted


def test_the_last_of_equals_is_an_argument_of_the_maximum_on_request():
    value = tensor(np.asarray([[2, 3, 3], [0, 0, 0]], np.float32))
    last = run(node("ArgMax", axis=1, select_last_index=1, keepdims=0), value)[0]
    assert last.tolist() == [2, 2]
    assert run(node("ArgMin", axis=1), value)[0].tolist() == [[0], [0]]


@pytest.mark.parametrize("reduction", ["add", "mul", "max", "min"])
@pytest.mark.parametrize("as_known", [True, False])
def test_updates_of_one_place_are_all_reduced(reduction, as_known):
    value, updates = normal(4, 2).astype(np.float32), normal(5, 2, seed=1).astype(np.float32)
    indices = integers(1, 3, 1, -3, 1)[:, None]
    given = indices if as_known else tensor(indices)
    (found,) = run(node("ScatterND", reduction=reduction), tensor(value), given, tensor(updates))
    wanted = value.copy()
    combine = {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}[reduction]
    combine.at(wanted, indices[:, 0], updates)
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


@pytest.mark.parametrize("mode", ["linear", "circular"])
def test_a_cache_is_overwritten_from_an_index_on(mode):
    cache, update = normal(2, 3, 5, 2).astype(np.float32), normal(2, 3, 2, 2).astype(np.float32)
    start = integers(1, 4 if mode == "circular" else 3)
    one = node("TensorScatter", opset=24, mode=mode)
    for indices in (start, tensor(start)):
        (found,) = run(one, tensor(cache), tensor(update), indices)
        (wanted,) = expected("TensorScatter", [cache, update, start], opset=24, mode=mode)
        np.testing.assert_array_equal(found, wanted)


def test_quotients_of_integers_are_truncated_and_remainders_have_the_sign_asked_for():
    first, second = np.asarray([7, -7, 7, -7], np.int32), np.asarray([2, 2, -2, -2], np.int32)
    (quotient,) = run(node("Div"), tensor(first), tensor(second))
    assert quotient.tolist() == [3, -3, -3, 3]
    for fmod, wanted in ((0, np.mod(first, second)), (1, np.fmod(first, second))):
        (remainder,) = run(node("Mod", fmod=fmod), tensor(first), tensor(second))
        assert remainder.tolist() == wanted.tolist()


def test_large_unsigned_numbers_keep_their_order():
    if keras.backend.backend() == "torch" or available("uint64") != "uint64":
        pytest.skip("the backend has no uint64")
    first = np.asarray([2**63 + 5, 3, 2**40], np.uint64)
    second = np.asarray([7, 2**64 - 1, 2**41], np.uint64)
    pair = tensor(first), tensor(second)
    assert run(node("Max"), *pair)[0].tolist() == np.maximum(first, second).tolist()
    assert run(node("Min"), *pair)[0].tolist() == np.minimum(first, second).tolist()
    assert run(node("Less"), *pair)[0].tolist() == (first < second).tolist()
    chosen = run(node("Where"), tensor(first < second), *pair)[0]
    assert chosen.tolist() == np.minimum(first, second).tolist()
    amounts = np.asarray([63, 1, 64], np.uint64)
    shifted = run(node("BitShift", opset=28, direction="RIGHT"), pair[1], tensor(amounts))[0]
    assert shifted.tolist() == [0, 2**63 - 1, 0]


def test_a_float_8_saturates_or_overflows():
    value = np.asarray([1e6, -1e6, np.nan, 3.0], np.float32)
    to = onnx.TensorProto.FLOAT8E4M3FN
    held = TABLE.find("", "Cast", 23).run(node("Cast", to=to), tensor(value))
    back = np.asarray(ops.convert_to_numpy(ops.cast(held, "float32")))
    np.testing.assert_array_equal(back, [448.0, -448.0, np.nan, 3.0])
    held = TABLE.find("", "Cast", 23).run(node("Cast", to=to, saturate=0), tensor(value))
    back = np.asarray(ops.convert_to_numpy(ops.cast(held, "float32")))
    assert np.isnan(back[:3]).all()


def test_a_shape_is_known_and_a_part_of_it_is_asked_for():
    (found,) = run(node("Shape", start=1, end=-1), tensor(normal(2, 3, 4, 5)))
    assert is_known(found)
    assert found.tolist() == [3, 4]


def test_a_dropout_does_nothing_unless_it_trains():
    value = tensor(normal(64, 64).astype(np.float32))
    kept, mask = run(node("Dropout", outputs=2), value, np.asarray(0.5), np.asarray(False))
    np.testing.assert_array_equal(kept, ops.convert_to_numpy(value))
    assert mask.all()
    one = node("Dropout", outputs=2, seed=3)
    kept, mask = run(one, value, np.asarray(0.25), np.asarray(True))
    wanted = np.where(mask, ops.convert_to_numpy(value) / 0.75, 0)
    np.testing.assert_allclose(kept, wanted, rtol=1e-5)
    # 4096 draws: three standard deviations are 0.02
    assert abs(mask.mean() - 0.75) < 0.021
    np.testing.assert_array_equal(run(one, value, np.asarray(0.25), np.asarray(True))[1], mask)


@pytest.mark.parametrize(
    ("kind", "attributes", "inputs", "says"),
    [
        ("Reshape", {}, [X, tensor(integers(4, 3))], "the shape depends"),
        ("Reshape", {}, [X, integers(5, 3)], r"shape \(3, 4\) as \(5, 3\)"),
        ("Squeeze", {}, [X, integers(0)], r"axes \[0\] of shape"),
        ("Split", {"outputs": 2}, [X, integers(1, 1)], "of a dimension of 3"),
        ("Transpose", {}, [X], ""),
        ("ReduceSum", {}, [X, integers(2)], "axis 2 of a tensor of rank 2"),
        ("Cast", {"to": onnx.TensorProto.STRING}, [X], "strings"),
        ("Cast", {"to": onnx.TensorProto.UINT4}, [X], "no tensors of dtype uint4"),
        ("ScatterND", {"reduction": "xor"}, [X, integers(0)[:, None], X[:1]], "'xor'"),
    ],
)
def test_what_cannot_be_done_is_said(kind, attributes, inputs, says):
    given = [tensor(i.astype(np.float32)) if _differentiated(i) else i for i in inputs]
    if not says:
        assert run(node(kind, **attributes), *given)[0].shape == (4, 3)
        return
    with pytest.raises(Unsupported, match=says):
        run(node(kind, **attributes), *given)
