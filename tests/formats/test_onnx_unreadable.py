"""What is no ONNX model, or a damaged or hostile one: one clear line, and nothing else."""

import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx_models import Maker, cnn, lstm, mlp, transformer_block, value

from auditor.errors import UnreadableModel, UnsafeModel
from auditor.formats.limits import Limits
from auditor.formats.onnx_file import read_onnx, read_onnx_proto


def refusal(data: bytes, folder: Path) -> str:
    path = folder / "model.onnx"
    path.write_bytes(data)
    with pytest.raises(UnreadableModel) as caught:
        read_onnx(path, Limits())
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{path}: ")
    return message


def damage(change: Callable[[onnx.ModelProto], None], limits: Limits | None = None) -> str:
    model = mlp()
    change(model)
    with pytest.raises(UnreadableModel) as caught:
        read_onnx_proto(model, limits or Limits())
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "the file is empty"),
        (b"this is a text file, named .onnx", "a text file"),
        (b'{"graph": {"node": []}}', "a text file"),
        (bytes(range(256)) * 8, "not an ONNX model"),
        (b"\0" * 4096, "not an ONNX model"),
        # What protobuf parses without complaint.
        (b"\x08\x08", "not an ONNX model"),
        (onnx.TensorProto(name="alone", dims=[1]).SerializeToString(), "not an ONNX model"),
        (onnx.ModelProto(ir_version=8).SerializeToString(), "not an ONNX model"),
    ],
)
def test_no_model(data: bytes, words: str, tmp_path: Path) -> None:
    assert words in refusal(data, tmp_path)


def test_random_bytes(tmp_path: Path) -> None:
    source = random.Random(0)
    for _ in range(300):
        assert "not an ONNX model" in refusal(source.randbytes(source.randrange(1, 400)), tmp_path)


def test_truncations(tmp_path: Path) -> None:
    """No prefix of a model raises anything but a refusal; nearly all are refused."""
    data = transformer_block().SerializeToString()
    path = tmp_path / "model.onnx"
    lengths = range(1, len(data), 7)
    refusals = []
    for length in lengths:
        path.write_bytes(data[:length])
        try:
            read_onnx(path, Limits())
        except UnreadableModel as error:
            refusals.append(str(error))
    assert len(refusals) >= len(lengths) - 1  # at the very end only opset_import is left out
    assert not any("\n" in refusal for refusal in refusals)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UnreadableModel, match="cannot be read: No such file"):
        read_onnx(tmp_path / "none.onnx", Limits())


def test_no_graph_and_no_nodes() -> None:
    with pytest.raises(UnreadableModel, match="no graph"):
        read_onnx_proto(onnx.ModelProto(), Limits())
    empty = helper.make_model(helper.make_graph([], "empty", [], []))
    with pytest.raises(UnreadableModel, match="no nodes"):
        read_onnx_proto(empty, Limits())


def test_damage_is_named() -> None:
    def unknown_input(model: onnx.ModelProto) -> None:
        model.graph.node[1].input[1] = "nowhere"

    def two_of_one_name(model: onnx.ModelProto) -> None:
        model.graph.node[2].output[0] = model.graph.node[0].output[0]

    def circle(model: onnx.ModelProto) -> None:
        model.graph.node[0].input[0] = model.graph.node[2].output[0]

    def output(model: onnx.ModelProto) -> None:
        model.graph.output[0].name = "nothing"

    def twin(model: onnx.ModelProto) -> None:
        model.graph.initializer.append(model.graph.initializer[0])

    def inputs(model: onnx.ModelProto) -> None:
        model.graph.input.append(model.graph.input[0])

    def nameless(model: onnx.ModelProto) -> None:
        model.graph.initializer[0].name = ""

    assert "takes 'nowhere', which nothing gives" in damage(unknown_input)
    assert "is defined twice" in damage(two_of_one_name)
    assert "in a circle" in damage(circle)
    assert "the output 'nothing' is given by no node" in damage(output)
    assert "two initializers have the name 'fc1.weight'" in damage(twin)
    assert "two inputs have one name" in damage(inputs)
    assert "no name" in damage(nameless)


def test_a_tensor_that_declares_more_than_it_stores() -> None:
    def change(dims: list[int], data_type: int = TensorProto.FLOAT) -> str:
        def apply(model: onnx.ModelProto) -> None:
            tensor = model.graph.initializer[0]
            tensor.dims[:] = dims
            tensor.data_type = data_type

        return damage(apply)

    assert "declares shape (1000000, 1000000)" in change([10**6, 10**6])
    assert "negative dimension" in change([-1, 4])
    assert "declares shape (4, 8) of float64" in change([4, 8], TensorProto.DOUBLE)
    assert "data type 99" in change([4, 8], 99)


def test_a_large_tensor_in_a_file_is_checked_as_well(tmp_path: Path) -> None:
    maker = Maker()
    model = maker.model(
        [value("x", ["n", 64])], [maker.node("MatMul", "x", maker.weight("w", 64, 64))]
    )
    model.graph.initializer[0].dims[:] = [64, 65]
    message = refusal(model.SerializeToString(), tmp_path)
    assert "declares shape (64, 65) of float32 but stores 16384 bytes" in message


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    data = mlp().SerializeToString().replace(b"/fc1/MatMul", b"/fc\xff/MatMul")
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    graph = read_onnx(path, Limits()).graph
    assert len(graph.calls) == 3


def test_too_many_nodes() -> None:
    assert "more than the 3 allowed" in damage(lambda _: None, Limits(calls=3))


def function(name: str, *calls: str) -> onnx.FunctionProto:
    """A function of one value that calls others one after another."""
    names = ["x", *(f"h{i}" for i in range(len(calls)))]
    nodes = [
        helper.make_node(call, [before], [after], domain="f" if call.startswith("f") else "")
        for call, before, after in zip(calls, names, names[1:], strict=False)
    ]
    return helper.make_function("f", name, ["x"], [names[-1]], nodes, [helper.make_opsetid("", 17)])


def calling(*functions: onnx.FunctionProto) -> onnx.ModelProto:
    maker = Maker(functions=list(functions), domains=("f",))
    return maker.model([value("x", [2])], [maker.node("f0", "x", domain="f")])


def test_recursive_functions_are_unsafe() -> None:
    for model in (
        calling(function("f0", "f0")),
        calling(function("f0", "Relu", "f1"), function("f1", "f0")),
    ):
        with pytest.raises(UnsafeModel, match="calls itself") as caught:
            read_onnx_proto(model, Limits())
        assert [finding.code for finding in caught.value.findings] == ["GEB909"]


def test_functions_that_double_are_counted_and_not_built() -> None:
    """2⁴⁰ nodes; the leaf is empty in the second, so that only the calls are many."""
    chain = [function(f"f{i}", f"f{i + 1}", f"f{i + 1}") for i in range(25)]
    for leaf in (("Relu",), ()):
        with pytest.raises(UnreadableModel, match=r"nodes with functions expanded, more than"):
            read_onnx_proto(calling(*chain, function("f25", *leaf)), Limits())


def test_functions_nested_too_deep() -> None:
    chain = [function(f"f{i}", f"f{i + 1}") for i in range(60)]
    with pytest.raises(UnreadableModel, match="more than 32 deep"):
        read_onnx_proto(calling(*chain, function("f60", "Relu")), Limits())


def test_hostile_numbers_in_attributes_only_cost_knowledge() -> None:
    """Shapes that cannot be are unknown; nothing of their size is made."""
    huge = 2**62
    maker = Maker()
    shape = maker.tensor("huge", [huge, huge], "int64")
    filled = maker.node("ConstantOfShape", shape)
    h = maker.node("Tile", "x", maker.constant([huge, huge], "int64"))
    h = maker.node("Expand", h, shape)
    h = maker.node("Conv", h, maker.weight("w", 1, 1, 3, 3), strides=[0, 0], pads=[-huge] * 4)
    h = maker.node("Transpose", h, perm=[7, -huge])
    h = maker.node("TopK", h, maker.constant([huge], "int64"), outputs=["v", "i"], axis=huge)
    y = maker.node("Add", h, filled)
    graph = read_onnx_proto(maker.model([value("x", [2, 2])], [y]), Limits()).graph
    assert len(graph.calls) == 7


MUTATE = """
import random, resource, sys
from pathlib import Path
import warnings
warnings.simplefilter("error")
from auditor.errors import UnreadableModel
from auditor.formats.limits import Limits
from auditor.formats.onnx_file import read_onnx

resource.setrlimit(resource.RLIMIT_AS, (4 * 2**30, 4 * 2**30))
path, source = Path(sys.argv[1]), random.Random(int(sys.argv[2]))
originals = [Path(name).read_bytes() for name in sys.argv[3:]]
read = 0
for _ in range(1500):
    data = bytearray(source.choice(originals))
    for _ in range(source.choice([1, 1, 2, 4])):
        place = source.randrange(len(data))
        if source.random() < 0.8:
            data[place] = source.randrange(256)
        else:
            del data[place : place + source.randrange(1, 9)]
    path.write_bytes(data)
    try:
        graph = read_onnx(path, Limits()).graph
        read += 1
        for call in graph.calls:
            for weight in call.weights:
                if weight.read is not None:
                    try:
                        assert weight.read().shape == weight.shape
                    except UnreadableModel:
                        pass
    except UnreadableModel as error:
        assert "\\n" not in str(error), error
print(read)
"""


def test_mutated_files(tmp_path: Path) -> None:
    """1,500 damaged files in a process of bounded memory: read, or refused in one line."""
    originals = []
    for index, model in enumerate((mlp(), cnn(), transformer_block(), lstm())):
        originals.append(tmp_path / f"{index}.onnx")
        onnx.save(model, originals[-1])
    command = [sys.executable, "-c", MUTATE, tmp_path / "mutant.onnx", "7", *originals]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert 100 < int(done.stdout) < 1400  # both ways out were taken


def test_values_read_late_notice_a_changed_file(tmp_path: Path) -> None:
    maker = Maker()
    model = maker.model(
        [value("x", ["n", 64])], [maker.node("MatMul", "x", maker.weight("w", 64, 64))]
    )
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    (weight,) = read_onnx(path, Limits()).graph.calls[1].weights
    assert weight.read is not None
    assert weight.read().shape == (64, 64)
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(UnreadableModel, match="changed while it was audited"):
        weight.read()
    path.unlink()
    with pytest.raises(UnreadableModel, match="cannot be read any more"):
        weight.read()


def test_float_values_need_not_be_raw() -> None:
    maker = Maker()
    maker.tensors.append(helper.make_tensor("w", TensorProto.FLOAT, [2, 2], [1.0, 2.0, 3.0, 4.0]))
    graph = read_onnx_proto(
        maker.model([value("x", ["n", 2])], [maker.node("MatMul", "x", "w")]), Limits()
    ).graph
    read = graph.calls[1].weights[0].read
    assert read is not None
    np.testing.assert_array_equal(read(), [[1, 2], [3, 4]])
