"""What is refused before any work: odd files, odd values, and a Ctrl-C that comes early."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from auditor import UnreadableModel, UsageError, audit
from auditor.messages import interrupted
from auditor.probe.data_file import read_data

Run = Callable[..., subprocess.CompletedProcess[str]]
posix = pytest.mark.skipif(sys.platform == "win32", reason="pipes and devices of POSIX")


@posix
def test_what_is_no_file_is_told_and_never_opened(run_cli: Run, tmp_path: Path) -> None:
    for name in ("f.keras", "f.h5", "f.onnx", "f"):
        os.mkfifo(tmp_path / name)
    (tmp_path / "link.keras").symlink_to(tmp_path / "f.keras")
    (tmp_path / "loop.keras").symlink_to(tmp_path / "loop.keras")
    bound = socket.socket(socket.AF_UNIX)
    bound.bind(str(tmp_path / "s.keras"))
    cases = {
        "f.keras": "a named pipe",
        "f.h5": "a named pipe",
        "f.onnx": "a named pipe",
        "f": "a named pipe",
        "link.keras": "a named pipe",
        "s.keras": "a socket",
        "/dev/zero": "a device",
        "loop.keras": "Too many levels of symbolic links",
        "x" * 5000 + ".keras": "File name too long",
    }
    done = run_cli(*cases, "--no-probe", "--no-html")
    bound.close()
    assert done.returncode == 3
    lines = done.stderr.splitlines()
    assert len(lines) == len(cases), done.stderr
    for (name, words), line in zip(cases.items(), lines, strict=True):
        assert line.startswith(f"geb-audit: {name}: ")
        assert words in line


@posix
@pytest.mark.parametrize("option", ["--data", "--config"])
def test_a_pipe_is_no_data_and_no_configuration(
    run_cli: Run, example: Callable[[str], Path], tmp_path: Path, option: str
) -> None:
    os.mkfifo(tmp_path / "pipe")
    done = run_cli(example("founding_case"), "--no-probe", "--no-html", option, "pipe")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("geb-audit: pipe: a named pipe")


@posix
def test_python_tells_them_too(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UnreadableModel, match="a named pipe"):
        audit(tmp_path / "pipe")
    with pytest.raises(UsageError, match="a named pipe"):
        read_data(tmp_path / "pipe")
    for name in ("x" * 5000, "nul\0"):
        with pytest.raises(UnreadableModel, match="cannot be read"):
            audit(name)
        with pytest.raises(UsageError, match="cannot be read"):
            read_data(Path(name))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--learning-rate", "nan"), "'--learning-rate'"),
        (("--learning-rate", "inf"), "'--learning-rate'"),
        (("--learning-rate", "-1"), "'--learning-rate'"),
        (("--timeout", "nan"), "'--timeout'"),
        (("--loss", "foo"), "no Keras loss is called 'foo'"),
        (("--optimizer", "foo"), "no Keras optimizer is called 'foo'"),
        (("--loss", ""), "loss must be"),
        (("--select", ""), "no rule is selected"),
        (("--select", ","), "no rule is selected"),
        (("--backend", "mxnet"), "'--backend'"),
        (("--data", "missing.npz"), "missing.npz: no such data file"),
    ],
)
def test_a_value_that_means_nothing_is_wrong_usage(
    run_cli: Run, example: Callable[[str], Path], arguments: tuple[str, ...], words: str
) -> None:
    done = run_cli(example("founding_case"), "--no-probe", "--no-html", *arguments)
    assert done.returncode == 2, done.stdout
    (line,) = done.stderr.splitlines()
    assert words in line


@pytest.mark.parametrize(
    "arguments", [("--loss", "MSE"), ("--loss", "MeanSquaredError"), ("--optimizer", "SGD")]
)
def test_every_name_keras_takes_is_taken(
    run_cli: Run, example: Callable[[str], Path], arguments: tuple[str, ...]
) -> None:
    done = run_cli(example("healthy_cnn"), "--no-probe", "--no-html", "-q", *arguments)
    assert done.returncode in (0, 1), done.stderr


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("[rules.GEB501]\nratio = -5", "option 'ratio' of GEB501 must be a number above 0, not -5"),
        ("[rules.GEB501]\nratio = nan", "not nan"),
        ("[rules.GEB501]\nratio = inf", "not inf"),
        ("[rules.GEB501]\nratio = 'x'", "not 'x'"),
        ("[rules.GEB201]\nrun = 2.5", "a whole number above 0"),
        ("[rules.GEB205]\nshare = 1.5", "of at least 0 and at most 1"),
        ("[rules.GEB501]\nnothing = 1", "GEB501 has no option 'nothing'"),
        ("[rules.GEB999]\nseverity = 'info'", "a rule 'GEB999' that does not exist"),
        ("backend = 'foo'", "backend must be one of"),
        ("learning-rate = nan", "learning-rate must be a positive number"),
        ("timeout = inf", "timeout must be a positive number"),
        ("select = []", "no rule is selected"),
    ],
)
def test_a_configured_value_is_checked_before_any_model_is_read(
    run_cli: Run, tmp_path: Path, table: str, words: str
) -> None:
    (tmp_path / "geb-audit.toml").write_text(f"{table}\n")
    # No file of this name: whatever is told comes before it is looked for.
    done = run_cli("no.keras", "--no-probe", "--no-html")
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert words in line


def test_no_arguments_print_the_help_as_it_is(run_cli: Run) -> None:
    done = run_cli()
    assert done.returncode == 2
    assert done.stdout == ""
    assert "\\n" not in done.stderr
    assert "  audit " in done.stderr


@posix
@pytest.mark.parametrize("delay_s", [0.1, 0.2, 0.3, 0.4, 0.5])
def test_ctrl_c_is_never_a_traceback(
    example: Callable[[str], Path], tmp_path: Path, delay_s: float
) -> None:
    """From our first line on: what the interpreter does before it is its own."""
    program = (
        "import sys; sys.argv[0] = 'geb-audit'; from auditor.__main__ import main; "
        "print('begun', flush=True); sys.exit(main())"
    )
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", program, example("healthy_cnn"), "--no-probe", "--no-html"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    time.sleep(delay_s)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    # By the signal itself when everything is done and the interpreter is on its way out.
    assert process.returncode in (130, 0, -signal.SIGINT), errors
    assert "Traceback" not in errors
    assert errors.split() in ([], ["geb-audit:", "interrupted"])


def test_an_error_made_of_an_interrupt_is_one() -> None:
    try:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as ctrl_c:
            raise RuntimeError("Error calling __set_name__") from ctrl_c
    except RuntimeError as error:
        assert interrupted(error)
    assert not interrupted(RuntimeError())


@posix
def test_an_ignored_ctrl_c_stays_ignored(example: Callable[[str], Path], tmp_path: Path) -> None:
    """As of a shell's background job."""
    program = (
        "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); "
        "os.execv(sys.executable, [sys.executable, '-P', '-m', 'auditor', *sys.argv[1:]])"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, example("healthy_cnn"), "--no-probe", "--no-html"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    time.sleep(0.3)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(timeout=60) == 0
    process.communicate()
