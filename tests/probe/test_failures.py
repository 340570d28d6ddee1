"""Whatever becomes of the worker: a reason, the exit code of the contract, and never a hang."""

import functools
import json
import subprocess
import sys
import time
import zipfile
from io import StringIO
from pathlib import Path

import keras
import numpy as np
import psutil
import pytest
from keras import layers
from rich.console import Console

from auditor import cli
from auditor.errors import ProbeFailed
from auditor.formats.keras_live import read_live_model
from auditor.formats.limits import DEFAULT_LIMITS
from auditor.measurement import (
    CallMeasurement,
    Estimate,
    JacobianMeasurement,
    ProbeResult,
    Sharpness,
)
from auditor.probe import worker
from auditor.probe.codec import Report, encode
from auditor.probe.live import probe_live
from auditor.probe.out_of_memory import ran_out_of_memory
from auditor.probe.settings import ProbeSettings
from auditor.probe.worker import probe_file
from auditor.terminal_progress import terminal_progress

# Keras 3.15 has no `copy` argument in its conversion to NumPy, and saving uses that.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:You are saving a model that has not yet been built"),
]

ONE = Estimate(value=1.0, low=1.0, high=1.0, error=0.0, method="closed form")
JACOBIAN = JacobianMeasurement(
    spectral_norm=ONE, frobenius_norm=ONE, inputs=4, outputs=4, samples=2
)
#: What a worker has said when it meets its end: of three calls two are done.
MEASURED = ProbeResult(
    backend="tensorflow",
    device="CPU",
    dtype="float32",
    seed=0,
    batch_size=2,
    batches=3,
    data="synthetic",
    targets="",
    loss="mse",
    seconds=1.0,
    loss_at_start=1.0,
    calls={
        "a": CallMeasurement(rms=1.0, jacobian=JACOBIAN),
        "b": CallMeasurement(rms=2.0, jacobian_skipped="no derivative"),
        "c": CallMeasurement(rms=3.0),
    },
)
PHASE = "Jacobians: c (3 of 3)"


def says(*reports: Report) -> str:
    """The start of a worker's source: it takes its request, and says this."""
    lines = "".join(f"{encode(report)}\n" for report in reports)
    return (
        "import os, signal, subprocess, sys, time\n"
        f"sys.stdin.readline(), sys.stdout.write({lines!r}), sys.stdout.flush()\n"
    )


HALF_WAY = says(
    Report(progress="batch 1 of 3"),
    Report(partial=MEASURED),
    Report(progress=PHASE),
)
#: A worker that is the real one in all but the probe: `probe` here takes its place.
REAL = (
    "import os, subprocess, sys, threading, time\n"
    "from auditor.probe import worker_main\n"
    "def probe(request, *, progress, partial):\n    {body}\n"
    "worker_main.probe = probe\nworker_main.main()\n"
)


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    """A name; no stand-in opens it."""
    return tmp_path / "model.keras"


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.parametrize(
    ("ending", "why", "brief"),
    [
        ("time.sleep(60)", "time limit of 3 s reached in: {phase}; raise --timeout", "time limit"),
        (
            "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nwhile True: pass",
            "time limit of 3 s reached in: {phase}; raise --timeout",
            "time limit",
        ),
        (
            "kept = bytearray(400 * 2**20)\ntime.sleep(60)",
            "memory limit of 200 MiB exceeded in: {phase}; raise --max-memory",
            "memory limit",
        ),
        (
            "os.kill(os.getpid(), signal.SIGSEGV)",
            "the probe's process was ended by SIGSEGV in: {phase}; not",
            "crash",
        ),
        (
            "os.kill(os.getpid(), signal.SIGKILL)",
            "ended by SIGKILL (the system may have run out of memory) in: {phase}; not",
            "crash",
        ),
        ("os._exit(0)", "ended without a result (exit status 0) in: {phase}; not", "crash"),
        # Died while it wrote the next, larger one: the one before is whole.
        (
            """sys.stdout.write('{"partial": {"backend'); sys.stdout.flush(); os._exit(7)""",
            "ended without a result (exit status 7) in: {phase}; not",
            "crash",
        ),
        (
            """os.write(1, b'{"partial": {}}\\n{"progress": "x"}\\n'); os._exit(7)""",
            None,
            None,
        ),
        (
            "print('garbage', flush=True); time.sleep(60)",
            "in {phase}: the probe's process wrote what is no report; not",
            "crash",
        ),
        ("os.close(1); time.sleep(60)", "has closed its output in: {phase}", "crash"),
        (
            """print('{"failed": "the model raised X", "brief": "error"}', flush=True)""",
            "in {phase}: the model raised X; not",
            "error",
        ),
    ],
)
def test_what_was_measured_survives(model_file, stand_in, ending, why, brief, monkeypatch):
    monkeypatch.setattr(worker, "ENDING_S", 0.5)
    settings = ProbeSettings(timeout_s=3.0, max_memory_mib=200)
    probed = functools.partial(
        probe_file, model_file, settings, lambda _: None, module=stand_in(HALF_WAY + ending)
    )
    if why is None:  # the last partial is broken: nothing that could be trusted is left
        with pytest.raises(ProbeFailed, match=r"exit status 7\) in: x"):
            probed()
        return
    result = probed()
    assert why.format(phase=PHASE) in result.incomplete
    assert "not measured: the Jacobians of 1 of 3 calls and the loss' curvature" in (
        result.incomplete
    )
    assert "\n" not in result.incomplete
    assert [call.jacobian_skipped for call in result.calls.values()] == [
        None,
        "no derivative",
        brief,
    ]
    assert result.calls["a"] == MEASURED.calls["a"]
    assert result.sharpness_skipped == brief
    assert result.loss_at_start == 1.0


def test_the_last_partial_counts_and_a_whole_result_is_never_incomplete(model_file, stand_in):
    calls = {name: CallMeasurement(jacobian=JACOBIAN) for name in "abc"}
    later = ProbeResult(
        **{
            **vars(MEASURED),
            "calls": calls,
            "sharpness": Sharpness(largest=ONE, preconditioned=None),
        }
    )
    module = stand_in(
        says(Report(partial=MEASURED), Report(partial=later), Report(progress="curvature"))
        + "print('the last words', file=sys.stderr, flush=True)\nos._exit(3)"
    )
    result = probe_file(model_file, ProbeSettings(), lambda _: None, module=module)
    assert result.incomplete == (
        "the probe's process ended without a result (exit status 3) in: curvature"
    )
    assert result.incomplete_detail == "the last words"
    assert dict(result.calls) == calls
    assert result.sharpness == later.sharpness


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("raise SystemExit(0)", "the probe failed: SystemExit: 0"),
        ("raise KeyboardInterrupt", "the probe failed: KeyboardInterrupt"),
        ("raise MemoryError", "out of memory: the probe failed: MemoryError; probe smaller"),
        ("os._exit(0)", r"ended without a result \(exit status 0\) before it had begun"),
        ("input()", "the probe failed: EOFError"),
        ("progress('loading'); os.abort()", "was ended by SIGABRT.* in: loading"),
        # Whatever its threads are at, a worker that has said its last is not waited for.
        (
            "threading.Thread(target=time.sleep, args=(60,)).start(); raise ValueError('no')",
            "the probe failed: ValueError: no",
        ),
        # A child that holds every pipe open does not keep us.
        ("os.fork() and os._exit(5) or time.sleep(60)", r"exit status 5\)"),
        ("os.fork() and os._exit(5); os.setsid(); time.sleep(20)", r"exit status 5\)"),
    ],
)
def test_what_code_of_a_model_does_to_its_process(model_file, stand_in, body, message, monkeypatch):
    monkeypatch.setattr(worker, "ENDING_S", 1.0)
    started = time.monotonic()
    with pytest.raises(ProbeFailed, match=message) as caught:
        probe_file(
            model_file, ProbeSettings(), lambda _: None, module=stand_in(REAL.format(body=body))
        )
    assert "\n" not in str(caught.value)
    assert time.monotonic() - started < 15


def test_whatever_the_worker_started_ends_with_it(model_file, stand_in, tmp_path):
    note = tmp_path / "pids"
    sleeper = "[sys.executable, '-c', 'import time; time.sleep(60)']"
    module = stand_in(
        says(Report(partial=MEASURED)) + f"a = subprocess.Popen({sleeper})\n"
        f"b = subprocess.Popen({sleeper}, start_new_session=True)\n"
        f"open({str(note)!r}, 'w').write(f'{{a.pid}} {{b.pid}} {{os.getpid()}}')\n"
        "time.sleep(60)"
    )
    result = probe_file(model_file, ProbeSettings(timeout_s=3.0), lambda _: None, module=module)
    assert result.incomplete.startswith("time limit of 3 s")
    pids = [int(word) for word in note.read_text().split()]
    assert len(pids) == 3
    deadline = time.monotonic() + 5  # a signal takes its time to be seen
    while not all(map(gone, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert all(map(gone, pids))


def test_megabytes_on_every_stream(model_file, stand_in):
    """A result of thousands of calls, and a layer that prints all the time."""
    calls = {f"block_{i}/conv": MEASURED.calls["a"] for i in range(5000)}
    many = ProbeResult(**{**vars(MEASURED), "calls": calls})
    line = encode(Report(result=many))
    assert len(line) > 1_000_000
    body = (
        "print('x' * 2**22); os.write(1, b'y' * 2**22); os.write(2, b'z' * 2**22)\n"
        "    for i in range(5000): progress(f'Jacobians: {i}')\n"
        "    from auditor.probe.codec import decode_report\n"
        f"    result = decode_report(open({str(model_file)!r}).read()).result\n"
        "    partial(result)\n"
        "    return result"
    )
    model_file.write_text(line)
    told = []
    result = probe_file(
        model_file, ProbeSettings(), told.append, module=stand_in(REAL.format(body=body))
    )
    assert result == many
    assert len(told) == 5000


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9000000000000 bytes"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:130] DefaultCPUAllocator: can't allocate memory"
        ),
        type("ResourceExhaustedError", (Exception,), {})("in Conv2D"),
        type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory. Tried to allocate"),
    ],
)
def test_want_of_memory_is_told_by_what_an_error_was_raised_from(error):
    outer = ProbeFailed("the model raised something")
    outer.__cause__ = error
    error.__context__ = outer  # a circle ends
    assert ran_out_of_memory(error)
    assert ran_out_of_memory(outer)
    assert not ran_out_of_memory(ProbeFailed("the model raised ValueError"))


def test_a_pass_that_the_machine_cannot_hold(probe, sequential):
    class Vast(layers.Layer):
        def call(self, x):
            # Beyond what any process can address: refused at once.
            return x + keras.ops.mean(keras.ops.broadcast_to(keras.ops.max(x), (2**30, 2**30)))

    model = sequential(keras.Input((4,)), layers.Dense(4), Vast())
    with pytest.raises(ProbeFailed) as caught:
        probe(model)
    assert ran_out_of_memory(caught.value)
    assert "OOM when allocating tensor with shape[1073741824" in str(caught.value)


@pytest.fixture
def audited(monkeypatch, capsys, tmp_path, stand_in, example):
    """The command line in this process, with a stand-in for the worker: (exit code, out, err)."""

    def run(source: str, *arguments: str) -> tuple[int, str, str]:
        module = stand_in(source)
        monkeypatch.setattr(worker, "probe_file", functools.partial(probe_file, module=module))
        monkeypatch.chdir(tmp_path)
        words = [str(example("healthy_cnn")), "--no-html", "--fail-on", "never", *arguments]
        code = cli.cli.main(words, standalone_mode=False)
        done = capsys.readouterr()
        return code, done.out, done.err

    return run


def test_an_incomplete_probe_is_reported(audited):
    code, out, err = audited(HALF_WAY + "os._exit(7)", "-o", "json")
    assert code == 0
    assert err == ""
    probe = json.loads(out)["probe"]
    assert probe["loss_at_start"] == 1.0
    assert f"(exit status 7) in: {PHASE}; not measured" in probe["incomplete"]


def test_an_incomplete_probe_that_was_demanded_is_exit_3_and_reported(audited):
    code, out, err = audited(HALF_WAY + "os._exit(7)", "-o", "json", "--probe")
    assert code == 3
    assert err.count("\n") == 1
    assert "healthy_cnn.keras: the demanded probe is incomplete: the probe's process ended" in err
    assert "exit status 7" in json.loads(out)["probe"]["incomplete"]


def test_verbose_tells_what_lies_behind_an_incomplete_probe(audited):
    source = HALF_WAY + "print('the\\nlast words', file=sys.stderr)\nos._exit(7)"
    code, _, err = audited(source, "-v")
    assert code == 0
    lines = err.splitlines()
    assert "the probe is incomplete" in lines[0]
    assert lines[1:] == ["the", "last words"]


def test_without_anything_measured_the_reason_is_in_the_report(audited):
    code, out, err = audited(
        says(Report(progress="loading the model")) + "os._exit(7)", "-o", "json"
    )
    assert (code, err) == (0, "")
    assert json.loads(out)["probe"] is None
    assert "exit status 7) in: loading the model" in out


@pytest.mark.slow
def test_files_that_cannot_be_probed_get_their_line(tmp_path, sequential):
    """Nothing of one costs another its audit; what has findings has them by a probe that ran.

    Standard input is closed meanwhile, as it may be beneath a scheduler.
    """

    def save(name: str, *stack: layers.Layer) -> keras.Model:
        model = sequential(*stack)
        model.save(tmp_path / f"{name}.keras")
        return model

    spoilt = save("nan", keras.Input((4,)), layers.Dense(8), layers.Dense(2))
    spoilt.layers[0].kernel.assign(np.full((4, 8), np.nan))
    spoilt.save(tmp_path / "nan.keras")
    # Its length is unknown, and none that is tried has seven values.
    save("never_fits", keras.Input((None,)), layers.Reshape((7,)), layers.Dense(2))
    save("unbuilt", layers.Dense(2))
    save("code", keras.Input((4,)), layers.Lambda(lambda x: 2 * x), layers.Dense(2))
    save("damaged", keras.Input((4,)), layers.Dense(2))
    with zipfile.ZipFile(tmp_path / "damaged.keras") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(tmp_path / "damaged.keras", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content[:-100] if name.endswith(".h5") else content)
    script = Path(sys.executable).with_name("geb-audit")
    names = [f"{name}.keras" for name in ("nan", "never_fits", "unbuilt", "code", "damaged")]
    done = subprocess.run(
        ["/bin/sh", "-c", '"$@" <&-', "sh", script, *names, "--probe", "-o", "json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 3
    told = json.loads(done.stdout)
    assert told["model"]["path"] == "nan.keras"
    assert told["verdict"] == "broken"
    assert told["probe"]["loss_at_start"] == "NaN"
    lines = done.stderr.splitlines()
    expected = {
        "never_fits": "the model took none of those tried",
        "unbuilt": "the model is not built yet",
        "code": "--unsafe allows that",
        "damaged": "truncated or damaged",
    }
    assert len(lines) == len(expected), done.stderr
    for line, (name, words) in zip(lines, expected.items(), strict=True):
        assert line.startswith(f"geb-audit: {name}.keras: ")
        assert words in line
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("deed", "bound", "words"),
    [
        ("sleep", ("--timeout", "8"), "time limit of 8 s reached in: "),
        ("fill", ("--max-memory", "2500"), "memory limit of 2500 MiB exceeded in: loading"),
    ],
)
@pytest.mark.slow
def test_a_file_whose_code_never_ends(
    run_cli, tmp_path, sequential, monkeypatch, deed, bound, words
):
    path = tmp_path / "endless.keras"
    # Harmless in this process, which has to build the model.
    endless = layers.Lambda(
        lambda x: [
            x,
            [
                __import__("time").sleep(0.01) or bytearray(fill)
                for fill in iter(
                    lambda: {"sleep": 1, "fill": 2**26}.get(__import__("os").getenv("DEED")), None
                )
            ],
        ][0]
    )
    sequential(keras.Input((4,)), endless, layers.Dense(2)).save(path)
    monkeypatch.setenv("DEED", deed)
    done = run_cli(path, "--unsafe", "--probe", "--no-html", *bound)
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1
    assert words in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backend", "vast"),
    [
        (
            "jax",
            lambda x: (
                x
                + __import__("jax").numpy.sum(
                    __import__("jax").numpy.sort(
                        x[:1, :1]
                        * __import__("jax").random.normal(
                            __import__("jax").random.key(0), (2**20, 2**20)
                        )
                    )
                )
            ),
        ),
        ("torch", lambda x: x + __import__("torch").ones((2**30, 2**29)).sum()),
    ],
)
def test_other_backends_say_that_memory_is_wanting(run_cli, tmp_path, sequential, backend, vast):
    pytest.importorskip(backend)
    path = tmp_path / "vast.keras"
    # Its code is never run here: it asks for more than any process can address.
    sequential(keras.Input((4,)), layers.Lambda(vast, output_shape=(4,)), layers.Dense(2)).save(
        path
    )
    done = run_cli(path, "--backend", backend, "--unsafe", "--probe", "--timeout", "120")
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1
    assert "out of memory: " in done.stderr


@keras.saving.register_keras_serializable("failures")
class Fatal(keras.optimizers.SGD):
    """In the worker, its first step ends the process."""


FATAL = """
import os
import keras

@keras.saving.register_keras_serializable("failures")
class Fatal(keras.optimizers.SGD):
    def apply(self, *arguments, **named):
        os._exit(9)

from auditor.probe import worker_main
worker_main.main()
"""


def test_what_the_engine_measured_survives_a_crash_in_a_later_phase(
    tmp_path, sequential, stand_in, probe
):
    path = tmp_path / "fatal.keras"
    sequential(
        keras.Input((4,)), layers.Dense(3, name="hidden"), layers.Dense(2), optimizer=Fatal()
    ).save(path)
    phases = []
    result = probe_file(path, ProbeSettings(), phases.append, module=stand_in(FATAL))
    assert "(exit status 9) in: trial steps; not measured: the Jacobians of" in result.incomplete
    assert result.trial_losses == ()
    # In all else as a probe that came to its end.
    whole = probe(keras.saving.load_model(path))
    assert whole.incomplete == ""
    assert result.loss_at_start == whole.loss_at_start
    assert result.calls["hidden"].gradient_norm == whole.calls["hidden"].gradient_norm
    assert result.seconds > 0


def test_a_live_model_keeps_what_was_measured_when_a_later_phase_fails(sequential, monkeypatch):
    def fail(*_):
        raise ValueError("no step to be had")

    monkeypatch.setattr(keras.optimizers.SGD, "update_step", fail)
    model = sequential(keras.Input((4,)), layers.Dense(3, name="hidden"), layers.Dense(2))
    graph = read_live_model(model, DEFAULT_LIMITS).graph
    result = probe_live(model, graph, ProbeSettings(), lambda _: None)
    assert result.incomplete.startswith("in trial steps: the model raised ValueError: no step to")
    assert result.calls["hidden"].jacobian_skipped == "error"
    assert result.calls["hidden"].gradient_norm > 0
    assert "Traceback" in result.incomplete_detail


def test_progress_is_one_line_of_a_terminal():
    drawn = StringIO()
    console = Console(file=drawn, force_terminal=True, width=40, color_system=None)
    started = time.monotonic()
    with terminal_progress(console) as progress:
        for index in range(20_000):
            progress(f"model.keras: Jacobians: a_long_name_[red]\nof_a_layer ({index} of 20000)")
        time.sleep(0.3)
    seconds = time.monotonic() - started
    frames = [frame for frame in drawn.getvalue().split("\x1b[2K") if "Jacobians" in frame]
    assert frames
    assert len(frames) <= 15 * seconds + 2, "not drawn as often as it is told"
    for frame in frames:
        (line,) = [row for row in frame.splitlines() if "Jacobians" in row]
        assert "a_lo" in line
        assert "\n" not in frame.split("\x1b[?25h")[0].strip()
