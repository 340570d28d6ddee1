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
        assert [hazard.code for hazard in caught.value.hazards] == ["GEB909"]


def test_functions_that_double_are_counted_and_not_built() -> None:
    """2⁴⁰ nodes; the leaf is empty in the second, so that only the calls are many."""
    chain = [function(f"f{i}", f"f{i + 1}", f"f{i + 1}") for i in range(25)]
    for leaf in (("Relu",), ()):
        with pytest.raises(UnsafeModel, match=r"its functions: expanded, they are \d+ nodes") as e:
            read_onnx_proto(calling(*chain, function("f25", *leaf)), Limits())
        assert [hazard.code for hazard in e.value.hazards] == ["GEB905"]


def test_functions_nested_too_deep() -> None:
    chain = [function(f"f{i}", f"f{i + 1}") for i in range(60)]
    with pytest.raises(UnsafeModel, match="more than 32 deep") as caught:
        read_onnx_proto(calling(*chain, function("f60", "Relu")), Limits())
    assert [hazard.code for hazard in caught.value.hazards] == ["GEB909"]


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


def test_graphs_nested_too_deep_in_a_file(tmp_path: Path) -> None:
    """Forty levels of a few bytes each: protobuf refuses them, and the user is told why."""
    graph = b"\x12\x04deep"  # its name
    for _ in range(40):
        for tag in (b"\x32", b"\x2a", b"\x0a"):  # attribute.g, node.attribute, graph.node
            graph = tag + _length(graph) + graph
    path = tmp_path / "model.onnx"
    path.write_bytes(b"\x08\x08\x3a" + _length(graph) + graph)
    with pytest.raises(UnsafeModel, match="more than 32 deep") as caught:
        read_onnx(path, Limits())
    assert [hazard.code for hazard in caught.value.hazards] == ["GEB909"]


def _length(message: bytes) -> bytes:
    size = len(message)
    return bytes([size]) if size < 0x80 else bytes([size & 0x7F | 0x80, size >> 7])


def test_recursion_through_a_graph_within_a_node_is_unsafe() -> None:
    """A function whose branch calls it, and one that nobody calls at all."""
    then = helper.make_graph(
        [helper.make_node("f0", ["x"], ["t"], domain="f")], "then", [], [value("t", None)]
    )
    other = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["e"])], "else", [], [value("e", None)]
    )
    nodes = [
        helper.make_node("Constant", [], ["c"], value=helper.make_tensor("", 9, [], [True])),
        helper.make_node("If", ["c"], ["y"], then_branch=then, else_branch=other),
    ]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("f", 1)]
    hidden = helper.make_function("f", "f0", ["x"], ["y"], nodes, opsets)
    alone = calling(function("f0", "Relu"), function("f1", "f1"))
    for model in (calling(hidden), alone):
        with pytest.raises(UnsafeModel, match="calls itself") as caught:
            read_onnx_proto(model, Limits())
        (hazard,) = caught.value.hazards
        assert (hazard.code, hazard.identifier) == ("GEB909", "GHSA-7w46-vvrh-m8q5")


def test_functions_of_many_inputs_called_often_are_counted() -> None:
    """Few nodes, but each call of the function would repeat its ten thousand names."""
    inputs = ["x", *(f"unused_{index}" for index in range(10_000))]
    wide = helper.make_function("f", "f1", inputs, ["y"], [helper.make_node("Relu", ["x"], ["y"])],
                                [helper.make_opsetid("", 17)])  # fmt: skip
    caller = function("f0", *["f1"] * 2000)
    with pytest.raises(UnsafeModel, match="characters of names") as caught:
        read_onnx_proto(calling(caller, wide), Limits())
    assert [hazard.code for hazard in caught.value.hazards] == ["GEB905"]


def test_views_of_views_and_joins_that_double_stay_bounded() -> None:
    """A kernel through a thousand transpositions, and one joined with itself sixty times."""
    maker = Maker()
    kernel = maker.weight("w", 4, 4)
    for _ in range(1001):
        kernel = maker.node("Transpose", kernel)
    double = maker.weight("v", 4, 4)
    for _ in range(60):
        double = maker.node("Concat", double, double, axis=1)
    y = maker.node("Add", maker.node("MatMul", "x", kernel), maker.node("MatMul", "x", double))
    graph = read_onnx_proto(maker.model([value("x", ["n", 4])], [y]), Limits()).graph
    assert all(weight.read is None for call in graph.calls for weight in call.weights)


def test_a_model_of_more_than_2_gib_in_memory() -> None:
    """More than protobuf can write: read all the same, without a copy of its values."""
    status = Path("/proc/meminfo")
    free = status.read_text().split("MemAvailable:")[1].split()[0] if status.exists() else "0"
    if int(free) < 8 * 2**20:
        pytest.skip("needs 8 GiB of free memory")
    done = subprocess.run(
        [sys.executable, "-c", LARGE], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    parameters, digest, grown = done.stdout.split(";")
    assert int(parameters) == 3 * 201_326_592
    assert digest == ""
    assert int(grown) < 1000  # MiB beyond the model itself: one tensor at a time


#: Prints parameters, digest, and the peak of memory that reading added in MiB.
LARGE = """
import resource
import onnx
from onnx import TensorProto, helper
from auditor.formats.limits import Limits
from auditor.formats.onnx_file import read_onnx_proto

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

tensors, nodes = [], []
for index in range(3):
    tensor = TensorProto(name=f"w{index}", data_type=1, dims=[16384, 12288])
    tensor.raw_data = bytes(16384 * 12288 * 4)
    tensors.append(tensor)
    nodes.append(helper.make_node("MatMul", ["x", f"w{index}"], [f"y{index}"]))
x = helper.make_tensor_value_info("x", 1, ["n", 16384])
y = [helper.make_tensor_value_info(f"y{index}", 1, None) for index in range(3)]
model = onnx.ModelProto(ir_version=8, opset_import=[helper.make_opsetid("", 17)])
model.graph.node.extend(nodes)
model.graph.input.append(x)
model.graph.output.extend(y)
while tensors:
    model.graph.initializer.append(tensors.pop(0))
before = peak()
file = read_onnx_proto(model, Limits())
print(file.graph.parameters, file.sha256, peak() - before, sep=";")
"""


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
