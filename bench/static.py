"""What a static audit costs, side by side with loading the model.

    python bench/static.py                     # ResNet50 (.keras, .h5), a 50 MB .onnx
    python bench/static.py --external-gib 4    # and an .onnx with that much external data

Each figure is of a fresh process: wall seconds (the median of `--repeats`, interleaved, so that
other work on the machine meets all alike) and the largest resident memory of the process and its
children together. The reference is a process that does nothing but `keras.saving.load_model`.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from processes import Case

LOAD = "import sys, keras; keras.saving.load_model(sys.argv[1])"
SAVE = """
import sys, keras
keras.utils.set_random_seed(0)
model = keras.applications.ResNet50(weights=None)
model.compile("adam", "categorical_crossentropy")
for path in sys.argv[1:]:
    model.save(path)
"""
#: The most that a static audit may take: a share of the reference's time, and MiB.
SHARE = 1 / 6
MEMORY_MIB = 300
EXTERNAL_MEMORY_MIB = 500


def audit(path: Path) -> Case:
    """A whole static audit of a file, written as JSON."""
    tool = str(Path(sys.executable).with_name("geb-audit"))
    command = [tool, str(path), "--no-probe", "--no-html", "-o", "json=audit.json", "--isolated"]
    return Case(name=f"geb-audit {path.name} --no-probe -o json", command=command)


def convolutions(path: Path, megabytes: int) -> None:
    """An ONNX CNN of residual blocks, its weights inside."""
    generator = np.random.default_rng(0)
    nodes, weights, last, channels = [], [], "x", 256

    def layer(source: str, name: str, kernel: int, before: int) -> str:
        values = generator.normal(
            0, (2 / (before * kernel**2)) ** 0.5, (channels, before, kernel, kernel)
        )
        weights.append(numpy_helper.from_array(values.astype("f4"), f"{name}.weight"))
        weights.append(numpy_helper.from_array(np.zeros(channels, "f4"), f"{name}.bias"))
        nodes.append(
            helper.make_node(
                "Conv",
                [source, f"{name}.weight", f"{name}.bias"],
                [name],
                pads=[kernel // 2] * 4,
                kernel_shape=[kernel, kernel],
            )
        )
        nodes.append(helper.make_node("Relu", [name], [f"{name}.relu"]))
        return f"{name}.relu"

    last = layer(last, "stem", 3, 3)
    for block in range(round(megabytes * 1e6 / 4 / (2 * 9 * channels**2))):
        inner = layer(layer(last, f"block{block}.a", 3, channels), f"block{block}.b", 3, channels)
        nodes.append(helper.make_node("Add", [last, inner], [f"block{block}.sum"]))
        last = f"block{block}.sum"
    nodes.append(helper.make_node("GlobalAveragePool", [last], ["pooled"]))
    nodes.append(helper.make_node("Flatten", ["pooled"], ["flat"]))
    weights.append(
        numpy_helper.from_array(generator.normal(0, 0.05, (channels, 10)).astype("f4"), "head")
    )
    nodes.append(helper.make_node("MatMul", ["flat", "head"], ["y"]))
    _save(path, nodes, weights, ["n", 3, 64, 64])


def external(path: Path, gibibytes: int) -> None:
    """An ONNX stack of matrices whose values, zeros of a sparse file, stand beside it."""
    size = 8192
    count = gibibytes * 2**30 // (4 * size**2)
    nodes, weights = [], []
    for index in range(count):
        tensor = TensorProto(name=f"w{index}", data_type=TensorProto.FLOAT, dims=[size, size])
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (
            ("location", "weights.bin"),
            ("offset", str(index * 4 * size**2)),
            ("length", str(4 * size**2)),
        ):
            tensor.external_data.add(key=key, value=value)
        weights.append(tensor)
        source = f"h{index}" if index else "x"
        nodes.append(helper.make_node("MatMul", [source, f"w{index}"], [f"m{index}"]))
        nodes.append(
            helper.make_node("Relu", [f"m{index}"], [f"h{index + 1}" if index < count - 1 else "y"])
        )
    with path.with_name("weights.bin").open("wb") as stream:
        stream.truncate(count * 4 * size**2)
    _save(path, nodes, weights, ["n", size])


def _save(
    path: Path,
    nodes: list[onnx.NodeProto],
    weights: list[TensorProto],
    shape: list[str | int | None],
) -> None:
    graph = helper.make_graph(
        nodes,
        "model",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        weights,
    )
    path.write_bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()
    )


def cases(folder: Path, gibibytes: int) -> Iterator[tuple[Case, int]]:
    """Every case with the MiB it may take; the reference first."""
    keras, h5 = folder / "resnet50.keras", folder / "resnet50.h5"
    subprocess.run(
        [sys.executable, "-c", SAVE, str(keras), str(h5)], check=True, capture_output=True
    )
    convolutions(folder / "cnn.onnx", 50)
    loading = [sys.executable, "-c", LOAD, str(keras)]
    yield Case(name="load_model resnet50.keras (TensorFlow)", command=loading), 0
    for path in (keras, h5, folder / "cnn.onnx"):
        yield audit(path), MEMORY_MIB
    if gibibytes:
        (folder / "external").mkdir()
        external(folder / "external" / "matrices.onnx", gibibytes)
        yield audit(folder / "external" / "matrices.onnx"), EXTERNAL_MEMORY_MIB


def main() -> None:
    """Run all cases in turn, print the table, and fail where a bound does not hold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--external-gib", type=int, default=0)
    chosen = parser.parse_args()
    failed = False
    with tempfile.TemporaryDirectory(prefix="geb-bench-") as name:
        folder = Path(name)
        measured = list(cases(folder, chosen.external_gib))
        for _ in range(chosen.repeats):
            for case, _ in measured:
                case.run(folder)
    reference = statistics.median(measured[0][0].seconds)
    print(f"{'process':52} {'seconds':>8} {'range':>13} {'of load':>8} {'peak MiB':>9}")
    for case, most in measured:
        seconds = statistics.median(case.seconds)
        spread = f"{min(case.seconds):.2f}-{max(case.seconds):.2f}"
        share = seconds / reference
        # External data of any size is read at the pace of the disk: its time has no bound here.
        slow = most == MEMORY_MIB and share > SHARE
        wrong = bool(most) and (slow or case.peak_mib > most)
        failed = failed or wrong
        mark = "  over the bound" if wrong else ""
        print(f"{case.name:52} {seconds:8.2f} {spread:>13} {share:8.3f} {case.peak_mib:9.0f}{mark}")
    sys.exit(failed)


if __name__ == "__main__":
    main()
