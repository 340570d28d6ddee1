"""The worker process: results, bounds, crashes, and what it may not touch."""

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import psutil
import pytest
from keras import layers

from auditor.errors import ProbeFailed, UsageError
from auditor.finding import Bound
from auditor.measurement import (
    AttentionMeasurement,
    CallMeasurement,
    Distribution,
    Estimate,
    JacobianMeasurement,
    ProbeResult,
    Sharpness,
    StageGrowth,
    TimeGrowth,
)
from auditor.probe.codec import (
    ProbeRequest,
    Report,
    decode_report,
    decode_request,
    encode,
    is_partial,
)
from auditor.probe.settings import ProbeSettings
from auditor.probe.worker import WORKER_MODULE, probe_file
from auditor.probe.worker_main import load

# Keras 3.15 has no `copy` argument in its conversion to NumPy, and saving uses that.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Skipping variable loading for optimizer"),
    pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file"),
]


@pytest.fixture
def saved_model(tmp_path):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(8, activation="relu", name="hidden"),
            layers.Dropout(0.5, name="dropout"),
            layers.Dense(3, activation="softmax", name="head"),
        ]
    )
    model.compile("adam", "categorical_crossentropy")
    path = tmp_path / "model.keras"
    model.save(path)
    return path


def test_a_file_is_probed_and_nothing_of_the_folder_is_imported(
    saved_model, tmp_path, monkeypatch, probe
):
    trap = tmp_path / "trap"
    trap.mkdir()
    for name in ("keras", "tensorflow", "json"):
        (trap / f"{name}.py").write_text("raise SystemExit('imported from the current folder')")
    monkeypatch.chdir(trap)
    phases = []
    result = probe_file(saved_model, ProbeSettings(), phases.append)
    assert phases[:2] == ["starting tensorflow", "loading the model"]
    assert set(result.calls) == {"hidden", "dropout", "head"}
    assert sorted(path.name for path in trap.iterdir()) == ["json.py", "keras.py", "tensorflow.py"]
    # The same numbers as in this process: nothing depends on where the probe runs.
    assert result.calls == probe(keras.saving.load_model(saved_model)).calls


def test_what_cannot_be_probed_is_one_line(tmp_path):
    @keras.saving.register_keras_serializable("mine")
    class Mine(layers.Layer):
        def call(self, x):
            return x

    path = tmp_path / "custom.keras"
    keras.Sequential([keras.Input((2,)), Mine(), layers.Dense(1)]).save(path)
    with pytest.raises(ProbeFailed) as caught:
        probe_file(path, ProbeSettings(), lambda _: None)
    assert "custom.keras: needs the custom object" in str(caught.value)
    assert "Mine" in str(caught.value)
    assert "auditor.audit(model)" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "Traceback" in caught.value.detail


def test_what_keras_itself_cannot_load_is_not_called_custom(tmp_path):
    inputs = keras.Input((2,))
    path = tmp_path / "operation.h5"
    keras.Model(inputs, layers.Dense(1)(keras.ops.absolute(inputs))).save(path)
    with pytest.raises(ProbeFailed, match=r"operation Absolute .* save the model as \.keras"):
        load(path, ProbeSettings())


def test_code_in_a_file_is_not_run_unless_asked(tmp_path):
    path = tmp_path / "code.keras"
    keras.Sequential([keras.Input((2,)), layers.Lambda(lambda x: 2 * x), layers.Dense(1)]).save(
        path
    )
    with pytest.raises(ProbeFailed, match="would run code that the file carries; --unsafe"):
        load(path, ProbeSettings())
    model, assumptions = load(path, ProbeSettings(unsafe=True))
    assert len(model.layers) == 2
    assert assumptions == ()


def test_a_custom_loss_in_the_file_is_done_without(tmp_path):
    @keras.saving.register_keras_serializable("mine")
    def odd_loss(y_true, y_pred):
        return keras.ops.mean(y_true - y_pred)

    model = keras.Sequential([keras.Input((2,)), layers.Dense(1)])
    model.compile("sgd", odd_loss)
    path = tmp_path / "odd.keras"
    model.save(path)
    result = probe_file(path, ProbeSettings(), lambda _: None)
    assert result.loss == "mean_squared_error"
    assert any("could not be restored" in words for words in result.assumptions)
    assert len(result.trial_losses) == 5


def test_wrong_data_is_told_before_a_framework_starts(saved_model, tmp_path):
    np.savez(tmp_path / "d.npz")
    phases = []
    settings = ProbeSettings(data=tmp_path / "d.npz")
    with pytest.raises(UsageError, match="holds no arrays"):
        probe_file(saved_model, settings, phases.append)
    assert phases == []


def test_too_long_is_ended(saved_model, stand_in):
    module = stand_in(
        "import sys, time\nprint('busy', file=sys.stderr, flush=True)\ntime.sleep(60)"
    )
    started = time.monotonic()
    with pytest.raises(ProbeFailed, match=r"time limit of 2 s reached .*raise --timeout") as caught:
        probe_file(saved_model, ProbeSettings(timeout_s=2.0), lambda _: None, module=module)
    assert time.monotonic() - started < 20
    assert caught.value.detail == "busy"


def test_too_much_memory_is_ended_children_included(saved_model, stand_in, tmp_path):
    note = tmp_path / "pid"
    module = stand_in(
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', "
        "'import time; kept = bytearray(300 * 2**20); time.sleep(60)'])\n"
        f"open({str(note)!r}, 'w').write(str(child.pid))\n"
        "time.sleep(60)\n"
    )
    with pytest.raises(ProbeFailed, match=r"memory limit of 200 MiB exceeded .*--max-memory"):
        probe_file(saved_model, ProbeSettings(max_memory_mib=200), lambda _: None, module=module)
    child = int(note.read_text())
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)", "was ended by SIGSEGV"),
        ("import os\nos._exit(7)", r"without a result \(exit status 7\)"),
    ],
)
def test_a_crash_is_one_line(saved_model, stand_in, source, message):
    with pytest.raises(ProbeFailed, match=message):
        probe_file(saved_model, ProbeSettings(), lambda _: None, module=stand_in(source))


def test_an_interrupt_ends_the_worker(saved_model, stand_in, tmp_path):
    note = tmp_path / "pid"
    module = stand_in(
        "import json, os, time\n"
        f"open({str(note)!r}, 'w').write(str(os.getpid()))\n"
        "print(json.dumps({'progress': 'under way'}), flush=True)\n"
        "time.sleep(60)\n"
    )

    def interrupt(_: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        probe_file(saved_model, ProbeSettings(), interrupt, module=module)
    assert not psutil.pid_exists(int(note.read_text()))


def test_the_worker_ends_with_whoever_asked(saved_model):
    request = ProbeRequest(path=saved_model, settings=ProbeSettings())
    worker = subprocess.Popen(
        [sys.executable, "-P", "-m", WORKER_MODULE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with worker:
        worker.stdin.write(f"{encode(request)}\n")
        worker.stdin.flush()
        assert decode_report(worker.stdout.readline()).progress == "starting tensorflow"
        worker.stdin.close()
        assert worker.wait(timeout=30) == 1


def test_results_survive_the_pipe():
    estimate = Estimate(value=2.0, low=1.0, high=3.0, error=0.1, method="Golub–Kahan", products=16)
    spread = Distribution(mean=1.0, p10=0.0, p50=1.0, p90=2.0, max=2.0, count=3)
    result = ProbeResult(
        backend="tensorflow",
        device="CPU",
        dtype="float32",
        seed=1,
        batch_size=2,
        batches=3,
        data="synthetic",
        targets="",
        loss="mse",
        seconds=0.1,
        assumptions=("ä\n",),
        loss_at_start=float("inf"),
        growth_interval=(0.5, 2.0),
        gradient_norm=Distribution(mean=1.0, p10=1.0, p50=1.0, p90=1.0, max=1.0, count=1),
        trial_losses=(1.0, float("-inf")),
        stages=(StageGrowth(shape=(4, 4), calls=("a", "b"), rate=1.5, interval=None),),
        sharpness=Sharpness(largest=estimate, preconditioned=None),
        noise_scale=estimate,
        incomplete="time limit",
        calls={
            "a/b#2": CallMeasurement(mean=0.1 + 0.2, finite_forward=False),
            "c": CallMeasurement(
                to_output_norm=estimate,
                jacobian=JacobianMeasurement(
                    spectral_norm=estimate,
                    frobenius_norm=replace(estimate, bound=Bound.LOWER),
                    inputs=3,
                    outputs=4,
                    samples=2,
                    couples_samples=True,
                ),
                time=TimeGrowth(growth=estimate, steps=8, length=16),
                attention=AttentionMeasurement(logit_scale=spread, entropy=spread, keys=9),
            ),
        },
        skipped={"c": "why"},
    )
    assert decode_report(encode(Report(result=result))).result == result
    partial = encode(Report(partial=result))
    assert is_partial(partial.encode())
    assert decode_report(partial).partial == result
    assert not is_partial(encode(Report(result=result)).encode())
    assert not is_partial(encode(Report(progress='{"partial": ')).encode())
    broken = replace(result, loss_at_start=float("nan"))
    line = encode(Report(result=broken))
    assert "\n" not in line
    assert np.isnan(decode_report(line).result.loss_at_start)
    request = ProbeRequest(
        path=Path("/m.keras"), settings=ProbeSettings(data=Path("/d.npz"), seed=4)
    )
    assert decode_request(encode(request)) == request
    assert json.loads(encode(request))["path"] == "/m.keras"


def test_a_dead_worker_does_not_take_us_along(saved_model, stand_in):
    # It closes its end before reading the request: writing must not raise SIGPIPE's error.
    module = stand_in("import os\nos.close(0)\nos._exit(0)")
    with pytest.raises(ProbeFailed, match="exit status 0"):
        probe_file(saved_model, ProbeSettings(), lambda _: None, module=module)
    assert signal.getsignal(signal.SIGINT) is not None
