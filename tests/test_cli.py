"""The command line as a user meets it: exit codes, one clear line for bad input, formats."""

import json
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import jsonschema
import numpy as np
import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]

LFS_POINTER = """version https://git-lfs.github.com/spec/v1
oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393
size 12345
"""


def test_founding_case_static(run_cli: Run, example: Callable[[str], Path], tmp_path: Path) -> None:
    done = run_cli(example("founding_case"), "--no-probe")
    assert done.returncode == 1
    for code in ("GEB101", "GEB102", "GEB106", "GEB402"):
        assert code in done.stdout
    assert "broken" in done.stdout
    assert (tmp_path / "founding_case.geb.html").exists()


def test_fail_on_never_and_no_html(
    run_cli: Run, example: Callable[[str], Path], tmp_path: Path
) -> None:
    done = run_cli(example("founding_case"), "--no-probe", "--fail-on", "never", "--no-html")
    assert done.returncode == 0
    assert list(tmp_path.iterdir()) == []


def test_default_command_and_audit_are_the_same(
    run_cli: Run, example: Callable[[str], Path]
) -> None:
    arguments = (example("healthy_cnn"), "--no-probe", "-o", "json")
    assert run_cli(*arguments).stdout == run_cli("audit", *arguments).stdout


def truncated_zip(path: Path, whole: bytes) -> None:
    path.write_bytes(whole[: len(whole) // 2])


def weights_only(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_group("layers/dense/vars").create_dataset("0", data=np.zeros((2, 2)))


def bad_files(folder: Path, whole: bytes) -> dict[str, str]:
    """Bad files by name, each with words its line must contain."""
    truncated_zip(folder / "truncated.keras", whole)
    (folder / "text.keras").write_text("not a model")
    (folder / "text.onnx").write_text("not a model")
    (folder / "empty.keras").write_bytes(b"")
    (folder / "pointer.keras").write_text(LFS_POINTER)
    weights_only(folder / "model.weights.h5")
    weights_only(folder / "weights.h5")
    with zipfile.ZipFile(folder / "other.keras", "w") as archive:
        archive.writestr("readme.txt", "hello")
    (folder / "no_models").mkdir()
    saved_model = folder / "saved_model"
    saved_model.mkdir()
    (saved_model / "saved_model.pb").write_bytes(b"")
    return {
        "truncated.keras": "truncated.keras",
        "text.keras": "zip",
        "text.onnx": "ONNX",
        "empty.keras": "empty",
        "pointer.keras": "git lfs pull",
        "model.weights.h5": "weights",
        "weights.h5": "weights",
        "other.keras": "config.json",
        "no_models": "no model file",
        "saved_model": "SavedModel",
        "missing.keras": "no such file",
    }


def test_bad_input_gets_one_clear_line(
    run_cli: Run, example: Callable[[str], Path], tmp_path: Path
) -> None:
    cases = bad_files(tmp_path, example("healthy_cnn").read_bytes())
    done = run_cli(*cases, "--no-html")
    assert done.returncode == 3
    lines = done.stderr.splitlines()
    assert len(lines) == len(cases), done.stderr
    for (name, words), line in zip(cases.items(), lines, strict=True):
        assert line.startswith("geb-audit: ")
        assert name in line
        assert words in line
    assert "Traceback" not in done.stdout + done.stderr


def test_unauditable_wins_over_findings_and_costs_no_other_result(
    run_cli: Run, example: Callable[[str], Path]
) -> None:
    done = run_cli("missing.keras", example("founding_case"), "--no-probe", "-o", "json")
    assert done.returncode == 3
    assert json.loads(done.stdout)["verdict"] == "broken"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "name at least one model"),
        (("--no-such-option",), "no-such-option"),
        (("m.keras", "-o", "docx"), "no output format"),
        (("m.keras", "-o", "html="), "file's name is missing"),
        (("m.keras", "-o", "html=nowhere/x.html"), "no folder"),
        (("m.keras", "--select", "XYZ"), "no rule's code"),
        (("m.keras", "--config", "missing.toml"), "missing.toml"),
        (("m.keras", "--fail-on", "fatal"), "fatal"),
        (("explain", "GEB000"), "GEB000"),
    ],
)
def test_wrong_usage_is_exit_2_and_one_line(
    run_cli: Run,
    example: Callable[[str], Path],
    tmp_path: Path,
    arguments: tuple[str, ...],
    words: str,
) -> None:
    (tmp_path / "m.keras").write_bytes(example("founding_case").read_bytes())
    done = run_cli("audit", "--no-probe", *arguments) if not arguments else run_cli(*arguments)
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert words in done.stderr


def test_json_validates_against_the_published_schema(
    run_cli: Run, example: Callable[[str], Path]
) -> None:
    from importlib.resources import files

    schema = json.loads(
        (files("auditor.reports") / "schema" / "geb-audit-v1.schema.json").read_text()
    )
    done = run_cli(example("founding_case"), example("healthy_cnn"), "--no-probe", "-o", "json")
    documents = json.loads(done.stdout)
    jsonschema.Draft202012Validator(schema).validate(documents)
    assert [document["verdict"] for document in documents] == ["broken", "unknown"]


def test_several_outputs_at_once(
    run_cli: Run, example: Callable[[str], Path], tmp_path: Path
) -> None:
    done = run_cli(
        example("healthy_cnn"), "--no-probe", "-o", "text", "-o", "json=a.json", "-o", "html=a.html"
    )
    assert done.returncode == 0
    assert json.loads((tmp_path / "a.json").read_text())["schema_version"] == 1
    assert "<!doctype html>" in (tmp_path / "a.html").read_text().lower()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.html", "a.json"]


def test_folder_is_searched(run_cli: Run, example: Callable[[str], Path], tmp_path: Path) -> None:
    nested = tmp_path / "models" / "deep"
    nested.mkdir(parents=True)
    (nested / "a.keras").write_bytes(example("healthy_cnn").read_bytes())
    weights_only(nested / "a.weights.h5")
    done = run_cli("models", "--no-probe", "-q", "--no-html")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1


def test_two_models_of_one_stem_get_two_reports(
    run_cli: Run, example: Callable[[str], Path], tmp_path: Path
) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "m.keras").write_bytes(example("healthy_cnn").read_bytes())
    assert run_cli("a/m.keras", "b/m.keras", "--no-probe").returncode == 0
    assert len(list(tmp_path.glob("*.geb.html"))) == 2


def test_configuration_file_is_obeyed_and_shown(
    run_cli: Run, example: Callable[[str], Path], tmp_path: Path
) -> None:
    (tmp_path / "geb-audit.toml").write_text('probe = false\nhtml = false\nignore = ["GEB"]\n')
    assert run_cli(example("founding_case")).returncode == 0
    assert run_cli(example("founding_case"), "--isolated", "--no-probe").returncode == 1
    shown = run_cli("audit", "--show-settings", "--seed", "4").stdout
    assert "probe = false" in shown
    assert "geb-audit.toml" in shown
    assert "command line" in shown


def test_demanded_probe_that_cannot_run_is_exit_3(run_cli: Run, tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [helper.make_node("ArgMax", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.INT64, [1, 4])],
    )
    onnx.save(helper.make_model(graph), tmp_path / "m.onnx")
    done = run_cli("m.onnx", "--probe", "--no-html")
    assert done.returncode == 3
    assert "the probe was demanded and could not run" in done.stderr
    assert "it holds int64 numbers" in done.stderr


def test_rules_explain_doctor_plan(run_cli: Run, example: Callable[[str], Path]) -> None:
    listed = run_cli("rules")
    assert listed.returncode == 0
    assert "GEB101" in listed.stdout
    assert {rule["code"] for rule in json.loads(run_cli("rules", "--format", "json").stdout)} >= {
        "GEB101",
        "GEB903",
    }
    assert "## Why is this bad" in run_cli("explain", "geb501").stdout
    assert "tensorflow" in run_cli("doctor").stdout
    done = run_cli("plan", example("healthy_cnn"), "--no-probe", "--format", "python")
    assert done.returncode == 0
    compile(done.stdout, "plan", "exec")


def test_version_and_help(run_cli: Run) -> None:
    assert run_cli("--version").stdout.startswith("geb-audit")
    assert "audit" in run_cli("--help").stdout
