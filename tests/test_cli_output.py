"""Standard output and report files that go away, fill up or stand in the way."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from auditor.errors import UsageError
from auditor.report_file import write_whole

Run = Callable[..., subprocess.CompletedProcess[str]]
posix = pytest.mark.skipif(sys.platform == "win32", reason="pipes and devices of POSIX")
SCRIPT = Path(sys.executable).with_name("geb-audit")


@pytest.fixture
def closed_pipe() -> int:
    """The writing end of a pipe that nobody reads any more."""
    reading, writing = os.pipe()
    os.close(reading)
    return writing


@posix
@pytest.mark.parametrize("outputs", [(), ("-o", "json", "-o", "html=founding_case.geb.html")])
@pytest.mark.parametrize(("name", "code"), [("healthy_cnn", 0), ("founding_case", 1)])
def test_a_reader_that_has_gone_changes_no_verdict_and_no_other_report(
    closed_pipe: int,
    example: Callable[[str], Path],
    tmp_path: Path,
    outputs: tuple[str, ...],
    name: str,
    code: int,
) -> None:
    arguments = [SCRIPT, example(name), "--no-probe", *outputs]
    done = subprocess.run(
        arguments, cwd=tmp_path, stdout=closed_pipe, stderr=subprocess.PIPE, text=True, check=False
    )
    assert done.returncode == code
    assert done.stderr == ""
    assert len(list(tmp_path.glob("*.geb.html"))) == 1


@posix
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_an_error_line_nobody_reads_leaves_the_exit_code(
    closed_pipe: int, tmp_path: Path, stream: str
) -> None:
    pipes: dict[str, int] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    pipes[stream] = closed_pipe
    done = subprocess.run([SCRIPT, "missing.keras"], cwd=tmp_path, check=False, **pipes)  # type: ignore[call-overload]
    assert done.returncode == 3
    assert b"Traceback" not in (done.stderr or b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full")
@pytest.mark.parametrize("arguments", [("m.keras", "--no-probe"), ("rules",), ("--help",)])
def test_a_full_standard_output_is_one_line(
    example: Callable[[str], Path], tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    (tmp_path / "m.keras").write_bytes(example("healthy_cnn").read_bytes())
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [SCRIPT, *arguments],
            cwd=tmp_path,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line == "geb-audit: cannot write to standard output: No space left on device"
    assert (tmp_path / "m.geb.html").exists() == ("m.keras" in arguments)


def test_standard_output_that_was_closed_from_the_start(
    example: Callable[[str], Path], tmp_path: Path
) -> None:
    program = "import os, sys; os.close(1); os.execv(sys.argv[1], sys.argv[1:])"
    arguments = [sys.executable, "-c", program, SCRIPT, example("founding_case"), "--no-probe"]
    done = subprocess.run(arguments, cwd=tmp_path, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "")
    assert (tmp_path / "founding_case.geb.html").exists()


def test_one_report_that_cannot_be_written_costs_none_of_the_others(
    run_cli: Run, example: Callable[[str], Path], tmp_path: Path
) -> None:
    (tmp_path / "taken").mkdir()
    done = run_cli(
        example("healthy_cnn"), "--no-probe", "-o", "html=taken", "-o", "json=a.json", "-o", "text"
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("geb-audit: taken: cannot write the report")
    assert json.loads((tmp_path / "a.json").read_text())["schema_version"] == 1
    assert "healthy_cnn" in done.stdout


PARTIAL = """
import resource, sys
from pathlib import Path
from auditor.errors import UsageError
from auditor.report_file import write_whole
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_whole(Path(sys.argv[1]), "x" * 10_000)
except UsageError as error:
    print(error)
"""


@posix
@pytest.mark.parametrize("before", [None, "the report of yesterday"])
def test_a_report_is_whole_or_not_there(tmp_path: Path, before: str | None) -> None:
    path = tmp_path / "r.html"
    if before is not None:
        path.write_text(before)
    done = subprocess.run(
        [sys.executable, "-P", "-c", PARTIAL, path], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{path}: cannot write the report: File too large\n"
    assert [item.name for item in tmp_path.iterdir()] == ([] if before is None else ["r.html"])
    assert before is None or path.read_text() == before


@posix
def test_a_report_goes_through_links_and_into_what_is_no_file(tmp_path: Path) -> None:
    target, link = tmp_path / "real.html", tmp_path / "link.html"
    target.write_text("old")
    link.symlink_to(target)
    write_whole(link, "new")
    assert link.is_symlink()
    assert target.read_text() == "new"

    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_whole(pipe, "report")
    assert os.read(reading, 100) == b"report"
    assert pipe.is_fifo()
    os.close(reading)

    with pytest.raises(UsageError, match="cannot write the report"):
        write_whole(tmp_path, "report")
    assert {item.name for item in tmp_path.iterdir()} == {"real.html", "link.html", "pipe"}


@pytest.mark.parametrize("columns", ["40", "80"])
def test_quiet_is_a_line_a_model_however_long_its_path(
    run_cli: Run,
    example: Callable[[str], Path],
    tmp_path: Path,
    columns: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    folder = tmp_path / "/".join(["long" * 30] * 5)
    folder.mkdir(parents=True)
    for name in ("a", "b"):
        (folder / f"{name}.keras").write_bytes(example("healthy_cnn").read_bytes())
    done = run_cli(folder, "--no-probe", "-q", "--no-html")
    lines = done.stdout.splitlines()
    assert len(lines) == 2, done.stdout
    for name, line in zip("ab", lines, strict=True):
        assert str(folder / f"{name}.keras") in line


def test_json_is_utf_8_and_text_escapes_what_the_terminal_lacks(
    run_cli: Run,
    example: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "modèle.keras"
    path.write_bytes(example("healthy_cnn").read_bytes())
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    done = subprocess.run(
        [SCRIPT, path.name, "--no-probe", "-o", "json"],
        cwd=tmp_path,
        capture_output=True,
        check=True,
    )
    assert json.loads(done.stdout.decode("utf-8"))["model"]["path"] == "modèle.keras"
    assert "mod\\xe8le.keras" in run_cli(path.name, "--no-probe", "-q", "--no-html").stdout


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_the_library_of_native_code_is_named(
    run_cli: Run, example: Callable[..., Path], tmp_path: Path, suffix: str
) -> None:
    import h5py

    done = run_cli(example("healthy_cnn", suffix), "--no-probe", "-v")
    assert f"Read with HDF5 {h5py.version.hdf5_version}." in done.stdout
    page = (tmp_path / "healthy_cnn.geb.html").read_text(encoding="utf-8")
    assert f"HDF5 {h5py.version.hdf5_version}" in page
