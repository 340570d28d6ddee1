"""Operators whose meaning depends on the operator set, and those that only old files have."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx_models import Maker, value

from auditor.formats.limits import Limits
from auditor.formats.onnx_file import read_onnx_proto
from auditor.graph.layer_graph import LayerCall, LayerGraph
from auditor.graph.operators import Op

IMAGE = (2, 3, 8, 8)


def read(maker: Maker, output: str, shape: tuple[Any, ...] = IMAGE) -> LayerGraph:
    return read_onnx_proto(maker.model([value("x", shape)], [output]), Limits()).graph


def last(maker: Maker, output: str, shape: tuple[Any, ...] = IMAGE) -> LayerCall:
    return read(maker, output, shape).calls[-1]


def test_a_cast_named_in_words() -> None:
    for opset, to in ((1, "DOUBLE"), (5, "DOUBLE"), (6, TensorProto.DOUBLE)):
        maker = Maker(opset=opset)
        h = maker.node("Cos", maker.node("Cast", "x", to=to), name="cos")
        assert read(maker, maker.node("Sin", h)).by_id["cos"].dtype == "float64"


@pytest.mark.parametrize("opset", [1, 6, 7, 9, 10, 11, 13, 18])
def test_an_image_of_twice_the_size(opset: int) -> None:
    maker = Maker(opset=opset)
    scales = [1.0, 1.0, 2.0, 3.0]
    if opset == 1:
        y = maker.node("Upsample", "x", height_scale=2.0, width_scale=3.0, mode="nearest")
    elif opset < 9:
        y = maker.node("Upsample", "x", scales=scales, mode="nearest")
    elif opset == 9:
        y = maker.node("Upsample", "x", maker.constant(scales), mode="nearest")
    elif opset == 10:
        y = maker.node("Resize", "x", maker.constant(scales), mode="nearest")
    else:
        y = maker.node("Resize", "x", "", maker.constant(scales), mode="nearest")
    call = last(maker, y)
    assert call.op is Op.UPSAMPLE
    # The first Upsample had its scales in attributes of other names, until opset 7.
    assert call.out_shape in ((2, 3, 16, 24), (None,) * 4)
    if opset != 6:
        assert call.out_shape == (2, 3, 16, 24)


def test_bounds_of_a_clip() -> None:
    end = float(np.finfo(np.float32).max)
    for low, high, name in ((0.0, 6.0, "relu6"), (0.0, end, "relu"), (-end, end, None)):
        maker = Maker(opset=6)
        assert last(maker, maker.node("Clip", "x", min=low, max=high)).activation == name
        maker = Maker(opset=11)
        bounds = maker.constant(low), maker.constant(high)
        assert last(maker, maker.node("Clip", "x", *bounds)).activation == name


@pytest.mark.parametrize(
    ("opset", "given", "rate"),
    [(1, True, 0.3), (7, True, 0.3), (7, False, 0.5), (12, True, 0.3), (12, False, 0.5)],
)
def test_rate_of_a_dropout(opset: int, given: bool, rate: float) -> None:
    maker = Maker(opset=opset)
    if opset >= 12:
        y = maker.node("Dropout", "x", *([maker.constant(rate)] if given else []))
    else:
        y = maker.node("Dropout", "x", **({"ratio": rate} if given else {}))
    assert last(maker, y).config["rate"] == pytest.approx(rate)


@pytest.mark.parametrize("opset", [11, 13])
def test_axes_as_attribute_and_as_input(opset: int) -> None:
    for kind, shape, axes, wanted in (
        ("Squeeze", (2, 1, 3), [1], (2, 3)),
        ("Unsqueeze", (2, 3), [1], (2, 1, 3)),
        ("ReduceSum", (2, 4, 3), [1], (2, 1, 3)),
    ):
        maker = Maker(opset=opset)
        if opset < 13:
            y = maker.node(kind, "x", axes=axes)
        else:
            y = maker.node(kind, "x", maker.constant(axes, "int64"))
        assert last(maker, y, shape).out_shape == wanted


@pytest.mark.parametrize(("opset", "axis"), [(9, 1), (12, 1), (13, -1)])
def test_default_axis_of_a_softmax(opset: int, axis: int) -> None:
    maker = Maker(opset=opset)
    assert last(maker, maker.node("Softmax", "x")).config["axis"] == axis


@pytest.mark.parametrize("opset", [1, 6, 8, 9, 14, 15])
def test_batch_normalization(opset: int) -> None:
    """Five outputs, then five in training alone, then three: the first is the layer's."""
    maker = Maker(opset=opset)
    names = [maker.tensor(n, np.ones(3), "float32") for n in ("s", "b", "m", "v")]
    outputs = ["y", "mean", "var", "saved_mean", "saved_var"]
    attributes: dict[str, Any] = {"consumed_inputs": [0, 0, 0, 1, 1]} if opset == 1 else {}
    y = maker.node("BatchNormalization", "x", *names,
                   outputs=outputs if opset < 14 else outputs[:3], **attributes)  # fmt: skip
    call = last(maker, y)
    assert call.op is Op.BATCH_NORM
    roles = ["gamma", "beta", "moving_mean", "moving_variance"]
    assert [weight.role for weight in call.weights] == roles
    assert [weight.trainable for weight in call.weights] == [True, True, False, False]
    assert call.out_shape == IMAGE
    assert call.config["epsilon"] == pytest.approx(1e-5)


def test_a_bias_along_an_axis_named_below_opset_7() -> None:
    """Three channels, and a width of three too: only the attribute tells them apart."""
    for axis, fused in ((1, True), (3, False)):
        maker = Maker(opset=6)
        h = maker.node("Conv", "x", maker.weight("w", 8, 3, 1, 1), name="conv")
        y = maker.node("Add", h, maker.weight("b", 8), broadcast=1, axis=axis)
        graph = read(maker, y)
        (conv,) = (call for call in graph.calls if call.op is Op.CONV)
        assert (conv.weight("bias") is not None) == fused
        assert graph.calls[-1].out_shape == (2, 8, 8, 8)


@pytest.mark.parametrize("layout", [0, 1])
def test_layouts_of_an_lstm(layout: int) -> None:
    maker = Maker(opset=14)
    kernels = maker.weight("W", 1, 16, 3), maker.weight("R", 1, 16, 4)
    y = maker.node("LSTM", "x", *kernels, hidden_size=4, layout=layout)
    call = last(maker, y, ("n", 7, 3) if layout else (7, "n", 3))
    assert call.out_shape == (("n", 7, 1, 4) if layout else (7, 1, "n", 4))
    assert [weight.fan_in for weight in call.weights] == [3, 4]


def test_a_reduction_over_no_axes_may_be_none() -> None:
    maker = Maker(opset=18)
    y = maker.node("ReduceMean", "x", noop_with_empty_axes=1)
    assert last(maker, y).out_shape == IMAGE
    maker = Maker(opset=18)
    assert last(maker, maker.node("ReduceMean", "x")).out_shape == (1, 1, 1, 1)


@pytest.mark.parametrize("name", ["pads", "paddings"])
def test_padding(name: str) -> None:
    maker = Maker(opset=1 if name == "paddings" else 2)
    y = maker.node("Pad", "x", **{name: [0, 0, 1, 1, 0, 0, 1, 1]})
    assert last(maker, y).out_shape == (2, 3, 10, 10)


@pytest.mark.parametrize(
    ("kind", "op"),
    [("ImageScaler", Op.SCALE), ("Crop", Op.CROP), ("Affine", Op.SCALE), ("ATen", Op.OPAQUE)],
)
def test_withdrawn_operators(kind: str, op: Op) -> None:
    maker = Maker(opset=1)
    call = last(maker, maker.node(kind, "x"))
    assert call.op is op
    assert bool(call.note) == (op is Op.OPAQUE)


@pytest.mark.parametrize("version", [1, 2, 3])
def test_early_versions_of_the_format(version: int) -> None:
    """Initializers are inputs too; before version 3 no operator set is imported."""
    maker = Maker(opset=1)
    y = maker.node("Gemm", "x", maker.weight("w", 4, 3), maker.weight("b", 3), broadcast=1)
    model = maker.model([value("x", ["n", 4]), value("w", [4, 3]), value("b", [3])], [y])
    model.ir_version = version
    if version < 3:
        del model.opset_import[:]
    graph = read_onnx_proto(model, Limits()).graph
    assert [spec.name for spec in graph.inputs] == ["x"]
    assert graph.calls[-1].parameters == 15
    assert graph.calls[-1].out_shape == ("n", 3)
    assert "opset 1" in graph.writer


def test_functions_of_one_name_and_two_overloads() -> None:
    opsets = [helper.make_opsetid("", 17)]
    functions = []
    for overload, kind in (("", "Relu"), ("smooth", "Tanh")):
        made = helper.make_function("my", "Act", ["x"], ["y"],
                                    [helper.make_node(kind, ["x"], ["y"])], opsets)  # fmt: skip
        made.overload = overload
        functions.append(made)
    maker = Maker(functions=functions, domains=("my",))
    h = maker.node("Act", "x", domain="my")
    y = maker.node("Act", h, domain="my")
    maker.nodes[-1].overload = "smooth"
    graph = read(maker, y)
    assert [call.activation for call in graph.calls[1:]] == ["relu", "tanh"]


def test_every_version_of_every_operator_is_read() -> None:
    """A node of each, with inputs of unknown shape: nothing is refused, each is what it is."""
    from auditor.formats.onnx_operators import OPERATORS

    for schema in onnx.defs.get_all_schemas_with_history():
        known = OPERATORS[schema.domain, schema.name]
        count = max(schema.min_input, 1) if schema.max_input else 0
        inputs = [f"i{index}" for index in range(count)]
        outputs = [f"o{index}" for index in range(max(schema.min_output, 1))]
        node = helper.make_node(schema.name, inputs, outputs, domain=schema.domain)
        graph = helper.make_graph(
            [node], "g", [value(name, None) for name in inputs], [value(outputs[0], None)]
        )
        opsets = [helper.make_opsetid("", schema.since_version if not schema.domain else 17)]
        if schema.domain:
            opsets.append(helper.make_opsetid(schema.domain, schema.since_version))
        model = helper.make_model(graph, opset_imports=opsets)
        calls = read_onnx_proto(model, Limits()).graph.calls
        named = (schema.domain, schema.name, schema.since_version)
        assert calls[-1].kind == schema.name or calls[-1].op in (Op.INPUT, known.op), named
        assert (calls[-1].op is Op.OPAQUE) == (known.op is Op.OPAQUE), named
