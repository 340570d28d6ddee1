"""The dialect of Keras 1 in words of Keras 2: what the files of releases do not show."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from auditor.finding import Severity
from auditor.formats.keras_1_config import is_keras_1, modern
from auditor.formats.keras_config import graph_from_config
from auditor.formats.model_file import ModelFile
from auditor.formats.read import read_model
from auditor.formats.safety import config_hazards
from auditor.graph.operators import Op

Config = dict[str, Any]


def layer(kind: str, name: str, **config: Any) -> Config:
    return {"class_name": kind, "config": {"name": name, "trainable": True, **config}}


def modern_config(kind: str, **config: Any) -> Mapping[str, Any]:
    changed = modern({"class_name": "Sequential", "config": [layer(kind, "x", **config)]})
    assert isinstance(changed, dict)
    found: Mapping[str, Any] = changed["config"][0]["config"]
    return found


def file(path: Path, config: Config, weights: Mapping[str, Mapping[str, Any]]) -> ModelFile:
    """A whole-model HDF5 file of Keras 1."""
    with h5py.File(path, "w") as stream:
        stream.attrs["keras_version"] = b"1.2.2"
        stream.attrs["model_config"] = json.dumps(config).encode()
        group = stream.create_group("model_weights")
        group.attrs["layer_names"] = np.array([name.encode() for name in weights])
        for name, arrays in weights.items():
            below = group.create_group(name)
            below.attrs["weight_names"] = np.array([key.encode() for key in arrays])
            for key, value in arrays.items():
                below[key] = value
    return read_model(path)


@pytest.mark.parametrize(
    ("config", "writer", "first"),
    [
        ({}, "keras 1.2.2", True),
        ({}, "keras 0.3.3", True),
        ({"W_regularizer": None}, "keras 2.0.0", False),
        ({"layers": [{"config": {"border_mode": "same"}}]}, "keras", True),
        ({"layers": [{"config": {"padding": "same"}}]}, "keras", False),
    ],
)
def test_which_configurations_are_of_the_dialect(config: Config, writer: str, first: bool) -> None:
    assert is_keras_1(config, writer) == first


def test_layers_without_an_ordering_take_that_of_the_others() -> None:
    """Cropping, padding and upsampling were saved without it."""
    config = {
        "class_name": "Sequential",
        "config": [
            layer("ZeroPadding2D", "pad", padding=[1, 1], batch_input_shape=[None, 3, 8, 8]),
            layer("Convolution2D", "conv", nb_filter=4, nb_row=3, nb_col=3, dim_ordering="th"),
            layer("UpSampling2D", "up", size=[2, 2]),
        ],
    }
    graph = graph_from_config(config, format="keras-h5", writer="keras 1.2.2")
    assert [call.out_shape for call in graph.calls[1:]] == [
        (None, 3, 10, 10),
        (None, 4, 8, 8),
        (None, 4, 16, 16),
    ]


@pytest.mark.parametrize(
    ("given", "pairs"),
    [
        ([1, 2, 3, 4], [[1, 2], [3, 4]]),
        ({"top_pad": 1, "right_pad": 4}, [[1, 0], [0, 4]]),
        ([1, 2], [1, 2]),
    ],
)
def test_padding_of_images(given: Any, pairs: Any) -> None:
    assert modern_config("ZeroPadding2D", padding=given)["padding"] == pairs


def test_padding_of_rows() -> None:
    assert modern_config("ZeroPadding1D", padding={"right_pad": 2})["padding"] == [0, 2]


def test_regularizers_and_constraints() -> None:
    config = modern_config(
        "Dense",
        W_regularizer={"name": "WeightRegularizer", "l1": 0.0, "l2": 0.01},
        W_constraint={"name": "MaxNorm", "m": 2, "axis": 0},
    )
    l2 = {"class_name": "L1L2", "config": {"l1": 0.0, "l2": 0.01}}
    norm = {"class_name": "MaxNorm", "config": {"max_value": 2, "axis": 0}}
    assert (config["kernel_regularizer"], config["kernel_constraint"]) == (l2, norm)


def test_custom_classes_keep_their_arguments() -> None:
    given = layer("Wavelet", "x", init="mine", p=3)
    changed = modern({"class_name": "Sequential", "config": [given]})
    assert changed == {"class_name": "Sequential", "config": [given]}


def functional(merge: Config) -> Config:
    shape = [None, 4]
    inputs = [layer("InputLayer", name, batch_input_shape=shape) for name in "ab"]
    for entry in inputs:
        entry.update(name=entry["config"]["name"], inbound_nodes=[])
    merged = {**merge, "name": "m", "inbound_nodes": [[["a", 0, 0], ["b", 0, 0]]]}
    config = {
        "name": "model",
        "layers": [*inputs, merged],
        "input_layers": [["a", 0, 0], ["b", 0, 0]],
        "output_layers": [["m", 0, 0]],
    }
    return {"class_name": "Model", "config": config}


@pytest.mark.parametrize(
    ("mode", "op", "shape"),
    [
        ("sum", Op.ADD, (None, 4)),
        ("mul", Op.MULTIPLY, (None, 4)),
        ("ave", Op.AVERAGE, (None, 4)),
        ("max", Op.MAXIMUM, (None, 4)),
        ("concat", Op.CONCATENATE, (None, 8)),
        ("dot", Op.DOT, (None, 1)),
        ("cos", Op.DOT, (None, 1)),
    ],
)
def test_modes_of_merging(mode: str, op: Op, shape: tuple[int | None, ...]) -> None:
    merge = layer("Merge", "m", mode=mode, mode_type="raw", concat_axis=-1, dot_axes=[[1], [1]])
    graph = graph_from_config(functional(merge), format="keras-h5", writer="keras 1.2.2")
    call = graph.by_id["m"]
    assert (call.op, call.out_shape) == (op, shape)
    assert [source.id for source in graph.predecessors("m")] == ["a", "b"]


@pytest.mark.parametrize("key", ["mode", "output_shape"])
def test_a_merge_by_code_is_a_hazard(key: str) -> None:
    carried = {key: "4wEAAAAAAAAA", f"{key}_type": "lambda"}
    merge = layer("Merge", "m", **{"mode": "sum", "mode_type": "raw", **carried})
    found = config_hazards(functional(merge), "model_config")
    assert [(hazard.code, hazard.severity) for hazard in found] == [("GEB901", Severity.ERROR)]
    assert "(m)" in found[0].place
    by_name = layer("Merge", "m", mode="sum", mode_type="raw")
    assert config_hazards(functional(by_name), "model_config") == ()


def test_a_lambda_that_names_its_function_carries_no_code() -> None:
    """Keras 2 notes of a Lambda without an output shape that it is given raw."""
    named = layer("Lambda", "l", function="relu", function_type="function", output_shape=None)
    named["config"]["output_shape_type"] = "raw"
    config = {"class_name": "Sequential", "config": {"layers": [named]}}
    (hazard,) = config_hazards(config, "model_config")
    assert (hazard.code, hazard.severity) == ("GEB901", Severity.WARNING)


def test_a_sequential_of_merged_branches_that_begin_with_merges(tmp_path: Path) -> None:
    def dense(name: str, **config: Any) -> Config:
        return layer("Dense", name, output_dim=2, init="zero", **config)

    def branch(name: str) -> Config:
        return {
            "class_name": "Sequential",
            "config": [dense(name, batch_input_shape=[None, 3])],
        }

    def merged(name: str, *branches: Config) -> Config:
        return layer("Merge", name, mode="sum", mode_type="raw", layers=list(branches))

    inner = {"class_name": "Sequential", "config": [merged("ab", branch("a"), branch("b"))]}
    config = {
        "class_name": "Sequential",
        "config": [merged("abc", inner, branch("c")), dense("head")],
    }
    values = {"W": np.ones((3, 2), "float32"), "b": np.zeros(2, "float32")}
    stored = {name: {f"{name}_{key}": v for key, v in values.items()} for name in "abc"}
    stored["head"] = {"head_W": np.ones((2, 2), "float32"), "head_b": values["b"]}
    graph = file(tmp_path / "m.h5", config, stored).graph
    assert [spec.name for spec in graph.inputs] == ["a_input", "b_input", "c_input"]
    sources = {call.id: [s.id for s in graph.predecessors(call.id)] for call in graph.calls}
    assert sources["ab"] == ["a", "b"]
    assert sources["abc"] == ["ab", "c"]
    assert sources["head"] == ["abc"]
    assert graph.parameters == 3 * 8 + 6


def stored_kernel(
    tmp_path: Path, kind: str, values: np.ndarray[Any, Any], inputs: list[int], **config: Any
) -> np.ndarray[Any, Any]:
    """What is read of a kernel, of a layer that is all of the model."""
    first = layer(kind, "x", bias=False, batch_input_shape=[None, *inputs], **config)
    written = {"x": {"x_W": values}}
    graph = file(tmp_path / "m.h5", {"class_name": "Sequential", "config": [first]}, written).graph
    kernel = graph.by_id["x"].weight("kernel")
    assert kernel is not None, graph.by_id["x"].weights
    assert kernel.read is not None
    read = kernel.read()
    assert read.shape == kernel.shape
    return read


def numbered(*shape: int) -> np.ndarray[Any, Any]:
    return np.arange(np.prod(shape), dtype="float32").reshape(shape)


def test_kernels_on_rows_since_and_before_1_2(tmp_path: Path) -> None:
    config = {"nb_filter": 4, "filter_length": 3}
    values = numbered(3, 1, 5, 4)
    read = stored_kernel(tmp_path, "Convolution1D", values, [8, 5], **config)
    np.testing.assert_array_equal(read, values[:, 0])
    values = numbered(4, 5, 3, 1)
    read = stored_kernel(tmp_path, "Convolution1D", values, [8, 5], **config)
    np.testing.assert_array_equal(read, values[..., 0].transpose(2, 1, 0))


def test_kernels_whose_shape_fits_either_way_follow_the_ordering(tmp_path: Path) -> None:
    values = numbered(3, 3, 3, 3)
    config = {"nb_filter": 3, "nb_row": 3, "nb_col": 3}
    for ordering, inputs, axes in (
        ("th", [3, 8, 8], (2, 3, 1, 0)),
        ("tf", [8, 8, 3], (0, 1, 2, 3)),
    ):
        read = stored_kernel(
            tmp_path, "Convolution2D", values, inputs, dim_ordering=ordering, **config
        )
        np.testing.assert_array_equal(read, values.transpose(axes))


def test_transposed_kernels(tmp_path: Path) -> None:
    config = {"nb_filter": 4, "nb_row": 3, "nb_col": 2, "output_shape": [None, 9, 9, 4]}
    values = numbered(3, 2, 5, 4)
    read = stored_kernel(
        tmp_path, "Deconvolution2D", values, [8, 8, 5], dim_ordering="tf", **config
    )
    np.testing.assert_array_equal(read, values.transpose(0, 1, 3, 2))


def test_gates_keep_their_order(tmp_path: Path) -> None:
    """Stored by gate as i, c, f, o; side by side as i, f, c, o. TensorFlow's names have ends."""
    names = [f"x_{part}_{gate}_1:0" for gate in "icfo" for part in "WUb"]
    shapes = {"W": (4, 2), "U": (2, 2), "b": (2,)}
    tensors = {name: np.full(shapes[name[2]], index, "float32") for index, name in enumerate(names)}
    lstm = layer("LSTM", "x", output_dim=2, batch_input_shape=[None, 5, 4], init="zero")
    config = {"class_name": "Sequential", "config": [lstm]}
    graph = file(tmp_path / "m.h5", config, {"x": tensors}).graph
    weights = graph.by_id["x"].weights
    assert [weight.shape for weight in weights] == [(4, 8), (2, 8), (8,)]
    for offset, weight in enumerate(weights):
        assert weight.read is not None
        row = weight.read().reshape(-1, 8)[0]
        # Gate g begins at 3·g in the file: i 0, c 3, f 6, o 9.
        np.testing.assert_array_equal(row, offset + np.repeat([0, 6, 3, 9], 2))
