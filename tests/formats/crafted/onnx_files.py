"""ONNX models whose data leads elsewhere, or that are nested without an end."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from .case import Bait, Case

FLOAT = TensorProto.FLOAT
OPSETS = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]
#: Bytes of the one weight of `pointing`.
NEEDED = 128
OWN = "own"


def pointing(folder: Path, *entries: tuple[str, str]) -> Path:
    """A model whose one kernel has these `external_data` entries."""
    tensor = TensorProto(name="w", data_type=FLOAT, dims=(4, 8))
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in entries:
        tensor.external_data.add(key=key, value=value)
    return _saved(folder, _model([helper.make_node("MatMul", ["x", "w"], ["y"])], [tensor]))


def _model(
    nodes: list[onnx.NodeProto],
    tensors: list[TensorProto] | None = None,
    functions: list[onnx.FunctionProto] | None = None,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "model",
        [helper.make_tensor_value_info("x", FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", FLOAT, None)],
        tensors or [],
    )
    return helper.make_model(graph, opset_imports=OPSETS, functions=functions or [])


def _saved(folder: Path, model: onnx.ModelProto) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def _location(location: str) -> Callable[[Path, Bait], Path]:
    return lambda folder, bait: pointing(
        folder, ("location", location.replace("BAIT", str(bait.pipe)))
    )


def _entries(*entries: tuple[str, str]) -> Callable[[Path, Bait], Path]:
    def build(folder: Path, _: Bait) -> Path:
        (folder / "w.bin").write_bytes(bytes(NEEDED))
        return pointing(folder, ("location", "w.bin"), *entries)

    return build


def _link_to_file(folder: Path, bait: Bait) -> Path:
    (folder / "w.bin").symlink_to(bait.pipe)
    return pointing(folder, ("location", "w.bin"))


def _link_to_folder(folder: Path, bait: Bait) -> Path:
    (folder / "data").symlink_to(bait.pipe.parent)
    return pointing(folder, ("location", f"data/{bait.pipe.name}"))


def _hard_link(folder: Path, bait: Bait) -> Path:
    os.link(bait.secret, folder / "w.bin")
    return pointing(folder, ("location", "w.bin"))


def _pipe_in_the_folder(folder: Path, _: Bait) -> Path:
    os.mkfifo(folder / "w.bin")
    return pointing(folder, ("location", "w.bin"))


def _attribute_tensor(folder: Path, bait: Bait) -> Path:
    """The data of a constant within a node, which is no initializer."""
    tensor = TensorProto(name="w", data_type=FLOAT, dims=(4, 8))
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=str(bait.pipe))
    constant = helper.make_node("Constant", [], ["w"])
    constant.attribute.append(helper.make_attribute("value", tensor))
    return _saved(folder, _model([constant, helper.make_node("MatMul", ["x", "w"], ["y"])]))


def _body_tensor(folder: Path, bait: Bait) -> Path:
    """The data of an initializer of a graph within a node."""
    tensor = TensorProto(name="w", data_type=FLOAT, dims=(4, 8))
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=str(bait.pipe))
    out = [helper.make_tensor_value_info("z", FLOAT, None)]
    body = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["z"])], "b", [], out)
    body.initializer.append(tensor)
    return _saved(folder, _model([_condition(), _branch(body)]))


def _condition() -> onnx.NodeProto:
    flag = helper.make_tensor("c", TensorProto.BOOL, [], [True])
    return helper.make_node("Constant", [], ["c"], value=flag)


def _branch(body: onnx.GraphProto, output: str = "y") -> onnx.NodeProto:
    return helper.make_node("If", ["c"], [output], then_branch=body, else_branch=body)


def _function(name: str, *nodes: onnx.NodeProto) -> onnx.FunctionProto:
    return helper.make_function(OWN, name, ["a"], ["b"], list(nodes), OPSETS)


def _call(name: str, value: str = "a", output: str = "b") -> onnx.NodeProto:
    return helper.make_node(name, [value], [output], domain=OWN)


def _recursive(folder: Path, _: Bait) -> Path:
    return _saved(folder, _model([_call("f", "x", "y")], functions=[_function("f", _call("f"))]))


def _mutually_recursive(folder: Path, _: Bait) -> Path:
    functions = [
        _function("f", _call("g")), _function("g", _call("h")), _function("h", _call("f"))
    ]  # fmt: skip
    return _saved(folder, _model([_call("f", "x", "y")], functions=functions))


def _recursive_by_a_graph(folder: Path, _: Bait) -> Path:
    out = [helper.make_tensor_value_info("z", FLOAT, None)]
    body = helper.make_graph([_call("f", "a", "z")], "body", [], out)
    function = _function("f", _condition(), _branch(body, "b"))
    return _saved(folder, _model([_call("f", "x", "y")], functions=[function]))


def _recursive_and_never_called(folder: Path, _: Bait) -> Path:
    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    return _saved(folder, _model(nodes, functions=[_function("f", _call("f"))]))


def _doubling(folder: Path, _: Bait) -> Path:
    """Functions that call the next twice: 30 of them make a billion nodes."""
    functions = [
        _function(f"f{i}", _call(f"f{i + 1}", "a", "m"), _call(f"f{i + 1}", "m", "b"))
        for i in range(30)
    ]
    functions.append(_function("f30", helper.make_node("Relu", ["a"], ["b"])))
    return _saved(folder, _model([_call("f0", "x", "y")], functions=functions))


def _chained(folder: Path, _: Bait) -> Path:
    """Functions that call the next, two thousand deep."""
    count = 2000
    functions = [_function(f"f{i}", _call(f"f{i + 1}")) for i in range(count)]
    functions.append(_function(f"f{count}", helper.make_node("Relu", ["a"], ["b"])))
    return _saved(folder, _model([_call("f0", "x", "y")], functions=functions))


def _nested(depth: int) -> Callable[[Path, Bait], Path]:
    """Graphs within graphs, written as bytes: protobuf itself refuses to write so many."""

    def build(folder: Path, _: Bait) -> Path:
        out = helper.make_tensor_value_info("z", FLOAT, None)
        relu = helper.make_node("Relu", ["x"], ["z"])
        graph = helper.make_graph([relu], "b", [], [out]).SerializeToString()
        for _ in range(depth):
            attribute = _field(1, b"then_branch") + _field(6, graph) + b"\xa0\x01\x05"
            node = _field(1, b"c") + _field(2, b"z") + _field(4, b"If") + _field(5, attribute)
            graph = _field(1, node) + _field(2, b"b") + _field(12, out.SerializeToString())
        model = _model([_condition()])
        model.graph.ClearField("name")
        inner = _field(5, _field(1, b"then_branch") + _field(6, graph) + b"\xa0\x01\x05")
        node = _field(1, b"c") + _field(2, b"y") + _field(4, b"If") + inner
        whole = model.graph.SerializeToString() + _field(1, node) + _field(2, b"model")
        model.ClearField("graph")
        path = folder / "model.onnx"
        path.write_bytes(model.SerializeToString() + _field(7, whole))
        return path

    return build


def _field(number: int, value: bytes) -> bytes:
    """A field of protobuf's wire format that holds bytes."""
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*found, value))


def _long(folder: Path, _: Bait) -> Path:
    """More nodes than are read."""
    nodes = [helper.make_node("Relu", ["x"], ["v0"])]
    nodes += [helper.make_node("Relu", [f"v{i}"], [f"v{i + 1}"]) for i in range(250_000)]
    return _saved(folder, _model([*nodes, helper.make_node("Relu", ["v250000"], ["y"])]))


LOCATIONS = {
    "climbing": ("../bait/pipe", "CVE-2024-27318"),
    "climbing from within": ("data/../../bait/pipe", "CVE-2024-27318"),
    "absolute": ("BAIT", "CVE-2022-25882"),
    "of a drive": ("C:\\bait", "CVE-2022-25882"),
    "with a backslash": ("..\\bait\\pipe", "CVE-2022-25882"),
    "of a share": ("//host/share", "CVE-2022-25882"),
    "with a NUL": ("w\0bin", "CVE-2022-25882"),
    "of nothing": ("", "CVE-2022-25882"),
}
#: Entries beside the location → advisory.
ENTRIES: dict[str, tuple[tuple[tuple[str, str], ...], str]] = {
    "a key of Python's": ((("__class__", "x"),), "CVE-2026-34445"),
    "a key that is a method": ((("_replace", "x"),), "CVE-2026-34445"),
    "a key twice": ((("location", "/etc/passwd"),), "CVE-2026-34445"),
    "a negative offset": ((("offset", "-1"),), "CVE-2024-27319"),
    "a negative length": ((("length", "-4"),), "CVE-2024-27319"),
    "an offset that is no number": ((("offset", "1e3"),), "CVE-2024-27319"),
    "an offset of thirty digits": ((("offset", "9" * 30),), "CVE-2024-27319"),
    "a length of other digits": ((("length", "\u0661\u0662"),), "CVE-2024-27319"),
}


def cases() -> dict[str, Case]:
    """All models."""
    found = {
        f"data {name}": Case(
            build=_location(location), code="GEB903", identifier=identifier, place="tensor 'w'"
        )
        for name, (location, identifier) in LOCATIONS.items()
    }
    links = {
        "a link": (_link_to_file, "CVE-2026-27489"),
        "a link, as of another advisory": (_link_to_file, "CVE-2026-34447"),
        "a link on the way": (_link_to_folder, "CVE-2026-27489"),
        "a constant's": (_attribute_tensor, "CVE-2022-25882"),
        "an inner graph's": (_body_tensor, "CVE-2022-25882"),
    }
    for name, (build, identifier) in links.items():
        found[f"data by {name}"] = Case(build=build, code="GEB903", identifier=identifier)
    found["data of two names"] = Case(
        build=_hard_link,
        code="GEB903",
        identifier="CVE-2026-34446",
        severity="warning",
        exit_code=0,
    )
    for name, (entries, identifier) in ENTRIES.items():
        found[f"data with {name}"] = Case(
            build=_entries(*entries), code="GEB906", identifier=identifier, place="tensor 'w'"
        )
    recursion = "GHSA-7w46-vvrh-m8q5"
    for name, build in {
        "that calls itself": _recursive,
        "that calls itself by two others": _mutually_recursive,
        "that calls itself from a graph": _recursive_by_a_graph,
        "that calls itself and is never called": _recursive_and_never_called,
    }.items():
        found[f"a function {name}"] = Case(
            build=build, code="GEB909", identifier=recursion, place="'", exit_code=3
        )
    found["functions 2,000 deep"] = Case(build=_chained, code="GEB909", exit_code=3)
    found["functions of a billion nodes"] = Case(build=_doubling, code="GEB905", exit_code=3)
    found["graphs 33 deep"] = Case(build=_nested(33), code="GEB909", exit_code=3)
    found["graphs 40 deep"] = Case(build=_nested(40), code="GEB909", exit_code=3)
    # Large, and not hostile for that: told with the bound that it hit.
    found["250,000 nodes"] = Case(build=_long, code="", exit_code=3)
    return found
