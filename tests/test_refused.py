"""A file that is not opened any further, and a probe that is not begun, as Python sees them."""

import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from formats.crafted.keras_configs import LAMBDA, keras_file, layer, sequential

from auditor import UnsafeModel, audit
from auditor.errors import UsageError
from auditor.formats.read import read_model
from auditor.judgement import Selection
from auditor.pipeline import AuditOptions, _no_probe, audit_file
from auditor.probe.settings import ProbeSettings
from auditor.registry import rules
from auditor.result import RefusedModel


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    path = keras_file(tmp_path, sequential())
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("Config.json", "{}")
    return path


def test_the_error_carries_findings_and_a_result(hostile: Path, tmp_path: Path) -> None:
    with pytest.raises(UnsafeModel) as caught:
        audit(hostile)
    error = caught.value
    assert isinstance(error, RefusedModel)
    (finding,) = error.findings
    assert (finding.code, finding.severity) == ("GEB906", "error")
    assert [hazard.code for hazard in error.hazards] == ["GEB906"]
    result = error.result
    assert result.refused == str(error)
    assert result.verdict == "unknown"
    assert result.graph.calls == ()
    assert len(result.model.sha256) == 64
    # Silence never means "fine": every other rule says that it was not judged.
    assert {item.code for item in result.skipped} == {rule.code for rule in rules()} - {"GEB906"}
    page = result.save(tmp_path / "report.html").read_text(encoding="utf-8")
    assert "GEB906" in page


def test_an_ignored_rule_does_not_open_the_file(hostile: Path) -> None:
    with pytest.raises(RefusedModel) as caught:
        audit(hostile, ignore=("GEB906",))
    assert caught.value.findings == ()
    assert caught.value.result.verdict == "unknown"
    with pytest.raises(UsageError):
        audit(hostile, ignore=("XYZ",))


def test_a_selection_of_other_rules_is_obeyed(hostile: Path) -> None:
    options = AuditOptions(selection=Selection(select=("GEB1",)))
    with pytest.raises(RefusedModel) as caught:
        audit_file(hostile, options)
    assert {item.code[:4] for item in caught.value.result.skipped} == {"GEB1"}


def test_a_model_in_memory_is_refused_likewise() -> None:
    import onnx
    from onnx import helper

    call = helper.make_node("f", ["a"], ["b"], domain="own")
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]
    function = helper.make_function("own", "f", ["a"], ["b"], [call], opsets)
    inside = helper.make_tensor_value_info("a", onnx.TensorProto.FLOAT, [1])
    outside = helper.make_tensor_value_info("b", onnx.TensorProto.FLOAT, [1])
    graph = helper.make_graph([call], "g", [inside], [outside])
    model = helper.make_model(graph, functions=[function], opset_imports=opsets)
    with pytest.raises(RefusedModel) as caught:
        audit(model)
    (finding,) = caught.value.findings
    assert finding.code == "GEB909"
    assert caught.value.result.model.sha256 == ""


@pytest.mark.parametrize(
    ("hostile_layer", "lifted"),
    [
        (layer("Lambda", function=LAMBDA), True),
        (layer("system", "os"), True),
        (layer("TorchModuleWrapper"), True),
        (layer("TFSMLayer", filepath="x"), False),
        (layer("StringLookup", vocabulary="words.txt"), False),
        (layer("Dense", units=3, name="../x"), False),
    ],
)
def test_unsafe_allows_code_and_nothing_else(
    hostile_layer: object, lifted: bool, tmp_path: Path
) -> None:
    both = [(hostile_layer, lifted)]
    if lifted:
        # Together with what is not allowed, it is not allowed either.
        both.append(([hostile_layer, layer("Dense", units=3, name="/x")], False))
    for layers, allowed in both:
        some = layers if isinstance(layers, list) else [layers]
        file = read_model(keras_file(tmp_path, sequential(*some)))
        options = AuditOptions()
        unsafe = replace(options, probe_settings=ProbeSettings(unsafe=True))
        assert _no_probe(file, file.graph, options)
        reason = _no_probe(file, file.graph, unsafe)
        assert (reason == "") == allowed
