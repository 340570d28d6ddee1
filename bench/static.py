"""What a static audit costs, side by side with loading the model.

    python bench/static.py                     # ResNet50 (.keras, .h5), a 50 MB .onnx
    python bench/static.py --external-gib 4    # and an .onnx with that much external data
    python bench/static.py --rules             # the rules alone, on graphs of a thousand calls

Each figure is of a fresh process: wall seconds (the median of `--repeats`, interleaved, so that
other work on the machine meets all alike) and the largest resident memory of the process and its
children together. The reference is a process that does nothing but `keras.saving.load_model`.

With `--rules` each figure is of CPU seconds in one process (the median of `--repeats`), on graphs
of a thousand calls with weights in memory and without: one pass of statistics over all weights,
the forecast, all static rules, and the three rules that took most.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
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
TESTS = Path(__file__).parents[1] / "tests"
#: The most that all static rules may take on a graph of a thousand calls, in CPU seconds.
RULES_SECONDS = 1.0
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


def rules_alone(name: str, *, values: bool) -> dict[str, float]:
    """CPU seconds of the parts of judging one graph; a rule's by its code."""
    sys.path.insert(0, str(TESTS))
    from deep_graphs import GRAPHS

    from auditor.graph.forecast import forecast
    from auditor.judgement import unmet
    from auditor.registry import rules
    from auditor.rule import Context, Facts

    def timed(part: Callable[[], object]) -> float:
        begun = time.process_time()
        part()
        return time.process_time() - begun

    graph = GRAPHS[name](values=values)
    took = {"statistics": timed(lambda: graph.weight_statistics)}
    begun = time.process_time()
    facts = Facts(graph=graph, forecast=forecast(graph))
    took["forecast"] = time.process_time() - begun
    for rule in rules():
        if not unmet(rule, facts):
            context = Context(rule=rule, facts=facts, severity=rule.severity)
            took[rule.code] = timed(lambda rule=rule, context=context: list(rule.judge(context)))
    return took


def judge_deep_graphs(repeats: int) -> bool:
    """Print what the rules cost on graphs of a thousand calls; whether it is too much."""
    from auditor.graph import activations, attention_laws

    too_much = False
    print(f"{'graph of 1,000 calls':48} {'statistics':>10} {'forecast':>9} {'rules':>6}  most")
    for name in ("dense", "convolution, normalized and residual", "lstm", "transformer"):
        for values in (False, True):
            runs = []
            for _ in range(repeats):
                activations.activation_moments.cache_clear()
                attention_laws.concentration.cache_clear()
                runs.append(rules_alone(name, values=values))
            took = {part: statistics.median(run[part] for run in runs) for part in runs[0]}
            codes = {part: cost for part, cost in took.items() if part.startswith("GEB")}
            total = sum(codes.values())
            most = sorted(codes, key=lambda code: -codes[code])[:3]
            too_much = too_much or total > RULES_SECONDS
            kind = f"{name}, {'weights' if values else 'architecture'}"
            print(
                f"{kind:48} {took['statistics']:10.2f} {took['forecast']:9.2f} {total:6.2f}  "
                + ", ".join(f"{code} {codes[code]:.2f}" for code in most)
            )
    return too_much


def main() -> None:
    """Run all cases in turn, print the table, and fail where a bound does not hold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--external-gib", type=int, default=0)
    parser.add_argument("--rules", action="store_true", help="the rules alone, on deep graphs")
    chosen = parser.parse_args()
    if chosen.rules:
        sys.exit(judge_deep_graphs(chosen.repeats))
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
