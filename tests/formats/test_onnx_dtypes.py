"""Tensors of every data type, stored in every way: the values are those onnx gives."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_models import Maker, value

from auditor.errors import UnreadableModel, UnsafeModel
from auditor.formats.limits import Limits
from auditor.formats.onnx_file import read_onnx, read_onnx_proto
from auditor.formats.onnx_tensors import DATA_TYPES, STRING, dtype_name, to_array
from auditor.graph.layer_graph import LayerGraph
from auditor.graph.statistics import weight_statistics
from auditor.graph.weight import Weight

NUMBERS = [number for number in onnx.TensorProto.DataType.values() if number not in (0, STRING)]
COUNT = 2048  # so many that none is kept in memory, whatever its size


def test_every_data_type_of_onnx_is_known() -> None:
    assert set(onnx.TensorProto.DataType.values()) - {0} <= set(DATA_TYPES)
    for number in NUMBERS:
        bits = DATA_TYPES[number][1]
        dtype = helper.tensor_dtype_to_np_dtype(number)
        assert dtype.name == dtype_name(number)
        assert bits == dtype.itemsize * 8 or (bits < 8 and dtype.itemsize == 1)


def stored(number: int, *, raw: bool) -> TensorProto:
    """64 × 32 small values of a type."""
    values = (np.arange(COUNT) % 2).astype(np.float32)
    if dtype_name(number) == "float8_e8m0fnu":  # powers of two alone: it has no zero
        values += 1
    dtype = helper.tensor_dtype_to_np_dtype(number)
    if raw:
        return numpy_helper.from_array(values.astype(dtype).reshape(64, 32), "w")
    return helper.make_tensor("w", number, [64, 32], values.astype(dtype))


def model_of(tensor: TensorProto) -> onnx.ModelProto:
    maker = Maker(opset=21, tensors=[tensor])
    return maker.model([value("x", ["n", 64])], [maker.node("MatMul", "x", "w", name="fc")])


def weight_of(graph: LayerGraph) -> Weight:
    (weight,) = graph.by_id["fc"].weights
    return weight


@pytest.mark.parametrize("number", NUMBERS, ids=dtype_name)
@pytest.mark.parametrize("way", ["raw", "typed", "external", "memory"])
def test_values_are_those_of_onnx(number: int, way: str, tmp_path: Path) -> None:
    try:
        tensor = stored(number, raw=way != "typed")
    except (KeyError, TypeError, ValueError):
        pytest.skip(f"this release of onnx writes no {dtype_name(number)} {way}")
    wanted = numpy_helper.to_array(tensor)
    if way == "memory":
        graph = read_onnx_proto(model_of(tensor), Limits()).graph
    else:
        model = model_of(tensor)
        if way == "external":
            onnx.external_data_helper.set_external_data(model.graph.initializer[0], "w.bin")
        onnx.save(model, tmp_path / "m.onnx")
        graph = read_onnx(tmp_path / "m.onnx", Limits()).graph
    weight = weight_of(graph)
    assert (weight.dtype, weight.shape) == (dtype_name(number), (64, 32))
    assert weight.trainable == ("float" in weight.dtype)
    assert weight.read is not None
    values = weight.read()
    assert values.dtype == wanted.dtype
    assert values.tobytes() == wanted.tobytes()
    seen = weight_statistics(weight)
    if not weight.dtype.startswith(("complex", "bool")):
        assert seen is not None
        wide = wanted.astype(np.float64)
        assert seen.mean == pytest.approx(wide.mean())
        assert seen.variance == pytest.approx(wide.var())


def test_strings() -> None:
    names = helper.make_tensor("names", STRING, [3], [b"a", b"b", "ü".encode()])
    maker = Maker(tensors=[names])
    y = maker.node("Gather", "names", "x", name="look")
    graph = read_onnx_proto(
        maker.model([value("x", ["n"], TensorProto.INT64)], [y]), Limits()
    ).graph
    assert graph.by_id["look"].weights == ()
    np.testing.assert_array_equal(to_array(names), numpy_helper.to_array(names))


def test_small_numbers_of_every_type_are_known() -> None:
    """A bound of a Clip in bfloat16 is the bound of a ReLU6 as well."""
    for number in (TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE):
        maker = Maker(opset=21)
        for name, bound in (("low", 0.0), ("high", 6.0)):
            maker.tensors.append(helper.make_tensor(name, number, [], [bound]))
        y = maker.node("Clip", "x", "low", "high", name="clip")
        graph = read_onnx_proto(maker.model([value("x", ["n"], number)], [y]), Limits()).graph
        assert graph.by_id["clip"].activation == "relu6"


def sparse(values: list[float], indices: object, dims: list[int]) -> onnx.SparseTensorProto:
    return helper.make_sparse_tensor(
        numpy_helper.from_array(np.array(values, np.float32), "w"),
        numpy_helper.from_array(np.array(indices, np.int64)),
        dims,
    )


def with_sparse(tensor: onnx.SparseTensorProto) -> onnx.ModelProto:
    maker = Maker()
    model = maker.model([value("x", ["n", 3])], [maker.node("MatMul", "x", "w", name="fc")])
    model.graph.sparse_initializer.append(tensor)
    return model


@pytest.mark.parametrize("indices", [[1, 4, 5], [[0, 1], [2, 0], [2, 1]]])
def test_a_sparse_kernel_is_made_dense(indices: object) -> None:
    graph = read_onnx_proto(with_sparse(sparse([1, 2, 3], indices, [3, 2])), Limits()).graph
    weight = weight_of(graph)
    assert weight.read is not None
    np.testing.assert_array_equal(weight.read(), [[0, 1], [0, 0], [2, 3]])
    assert (weight.role, weight.fan_in, weight.trainable) == ("kernel", 3, True)
    assert graph.notes == ()


def test_a_large_sparse_kernel_in_a_file(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    dense = np.where(random.random((300, 200)) < 0.1, random.normal(size=(300, 200)), 0)
    dense = dense.astype(np.float32)
    (places,) = dense.reshape(-1).nonzero()
    model = with_sparse(sparse(dense.reshape(-1)[places].tolist(), places, [300, 200]))
    onnx.save(model, tmp_path / "m.onnx")
    weight = weight_of(read_onnx(tmp_path / "m.onnx", Limits()).graph)
    assert weight.read is not None
    np.testing.assert_array_equal(weight.read(), dense)


def test_a_sparse_tensor_that_would_be_vast_is_not_made_dense() -> None:
    graph = read_onnx_proto(with_sparse(sparse([1.0], [7], [10**6, 10**6])), Limits()).graph
    assert weight_of(graph).read is None
    assert "1 of 1000000000000 values, too few to be made dense" in graph.notes[0]


@pytest.mark.parametrize("indices", [[1, 4, 6], [-1, 0, 1], [[0, 1], [2, 0], [3, 1]]])
def test_sparse_indices_outside_are_unreadable(indices: object) -> None:
    graph = read_onnx_proto(with_sparse(sparse([1, 2, 3], indices, [3, 2])), Limits()).graph
    read = weight_of(graph).read
    assert read is not None
    with pytest.raises(UnreadableModel, match="indices do not fit"):
        read()


def test_a_sparse_tensor_with_more_indices_than_values_is_damaged() -> None:
    with pytest.raises(UnreadableModel, match="indices of shape"):
        read_onnx_proto(with_sparse(sparse([1, 2], [0, 1, 2], [3, 2])), Limits())


def blocked(block: int) -> tuple[onnx.ModelProto, Any]:
    """A kernel of int8 with one scale and zero point for each `block` rows."""
    random = np.random.default_rng(0)
    stored = random.integers(-128, 128, (6, 5)).astype(np.int8)
    scale = random.random((-(-6 // block), 5)).astype(np.float32)
    zero = random.integers(-5, 5, scale.shape).astype(np.int8)
    maker = Maker(opset=21)
    names = [maker.tensor(n, t) for n, t in (("q", stored), ("s", scale), ("z", zero))]
    w = maker.node("DequantizeLinear", *names, axis=0, block_size=block)
    offset, factor = (np.repeat(t, block, 0)[:6].astype(np.float32) for t in (zero, scale))
    wide = (stored - offset) * factor
    y = maker.node("MatMul", "x", w, name="fc")
    return maker.model([value("x", ["n", 6])], [y]), wide


@pytest.mark.parametrize("block", [2, 3, 4])
def test_kernels_quantized_in_blocks(block: int) -> None:
    model, wanted = blocked(block)
    weight = weight_of(read_onnx_proto(model, Limits()).graph)
    assert weight.read is not None
    assert not weight.trainable
    np.testing.assert_allclose(weight.read(), wanted, rtol=1e-6)


def test_one_stretch_shown_many_times_is_a_bomb(tmp_path: Path) -> None:
    """A thousand kernels on the same bytes of a data file: read all, they would take hours."""
    (tmp_path / "w.bin").write_bytes(bytes(4 * 1024 * 1024))
    maker = Maker()
    x = "x"
    for index in range(300):
        tensor = TensorProto(name=f"w{index}", data_type=TensorProto.FLOAT, dims=[1024, 1024])
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="w.bin")
        maker.tensors.append(tensor)
        x = maker.node("Transpose", x, name=f"t{index}")
        x = maker.node("MatMul", x, maker.node("Reshape", f"w{index}", maker.constant(
            [1024, 1024, *[1] * (index % 60)], "int64")))  # fmt: skip
    model = maker.model([value("x", [1024, 1024])], [x])
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(UnsafeModel, match="its weights show") as caught:
        read_onnx(tmp_path / "m.onnx", Limits(json_bytes=2**20, expansion=10))
    assert [hazard.code for hazard in caught.value.hazards] == ["GEB905"]
