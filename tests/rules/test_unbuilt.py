"""Models saved before they were built: skipped with that reason, and accused of nothing."""

from pathlib import Path

import keras
import pytest
from builders import GraphBuilder
from keras import layers

from auditor import audit
from auditor.finding import Severity
from auditor.graph import Op
from auditor.graph.unbuilt import NOT_BUILT, unbuilt


@pytest.mark.filterwarnings("ignore:You are saving a model that has not yet been built")
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_unbuilt_sequential_is_no_error(suffix: str, tmp_path: Path) -> None:
    model = keras.Sequential([layers.Dense(32, "relu"), layers.Dense(10, "softmax")])
    model.compile("adam", "sparse_categorical_crossentropy")
    path = tmp_path / f"model{suffix}"
    model.save(path)
    result = audit(path, probe=False)
    assert result.at_least(Severity.WARNING) == ()
    assert result.verdict == "unknown"
    reasons = {skipped.code: skipped.reason for skipped in result.skipped}
    assert {reasons[code] for code in ("GEB102", "GEB301", "GEB302", "GEB305")} == {NOT_BUILT}
    assert result.plan.learning_rate is not None
    compile(result.plan.snippet, "plan", "exec")


def test_what_has_no_weights_for_good_is_still_accused(findings) -> None:
    build = GraphBuilder()
    graph = build.graph(build.dropout(build.input((8,)), 0.5), loss="mse")
    (finding,) = findings("GEB102", graph)
    assert finding.severity is Severity.ERROR


def test_operations_and_onnx_nodes_may_have_computed_kernels() -> None:
    for format_, expected in (("keras", 1), ("onnx", 0)):
        build = GraphBuilder(format_=format_)
        graph = build.graph(build.add(Op.CONV, build.input((8, 8, 3)), kind="Conv"))
        assert len(unbuilt(graph)) == expected
