"""What a probe runs on, which names it takes, and when it is not begun."""

from collections.abc import Callable
from pathlib import Path

import keras
import pytest
from keras import layers

from auditor import ProbeFailed, UsageError, audit, doctor
from auditor.formats.keras_compile import LEARNING_RATES, loss_settings
from auditor.formats.keras_live import read_live_model
from auditor.formats.limits import DEFAULT_LIMITS
from auditor.pipeline import AuditOptions
from auditor.probe import availability
from auditor.probe.availability import patched, unpatched_keras
from auditor.probe.environment import numbers_environment, process_environment
from auditor.probe.settings import ProbeSettings


@pytest.fixture
def live() -> keras.Model:
    model = keras.Sequential([keras.Input((4,)), layers.Dense(2, activation="softmax")])
    model.compile("sgd", "categorical_crossentropy")
    return model


@pytest.mark.parametrize("probe", [None, False, True])
@pytest.mark.parametrize("backend", ["foo", "TensorFlow", ""])
def test_an_unknown_backend_is_wrong_usage(
    live: keras.Model,
    example: Callable[[str], Path],
    probe: bool | None,
    backend: str,
) -> None:
    for model in (live, example("healthy_cnn")):
        with pytest.raises(UsageError, match="no probe backend is called"):
            audit(model, backend=backend, probe=probe)


@pytest.mark.parametrize(
    ("preferred", "installed", "chosen"),
    [
        ("", ("tensorflow", "jax", "torch"), "tensorflow"),
        ("", ("torch", "jax"), "jax"),
        ("", ("torch",), "torch"),
        ("torch", ("tensorflow", "jax", "torch"), "torch"),
        ("jax", ("tensorflow", "torch"), "tensorflow"),
        ("openvino", ("tensorflow", "jax"), "tensorflow"),
        ("jax", (), None),
    ],
)
def test_the_preferred_backend_is_taken_where_it_is_installed(
    monkeypatch: pytest.MonkeyPatch, preferred: str, installed: tuple[str, ...], chosen: str | None
) -> None:
    there = {"keras", *installed}
    monkeypatch.setattr(availability, "find_spec", lambda name: name if name in there else None)
    monkeypatch.setenv("KERAS_BACKEND", preferred)
    assert availability.choose_backend(None) == chosen
    for name in availability.BACKENDS:
        if name in installed:
            assert availability.choose_backend(name) == name
        else:
            with pytest.raises(UsageError, match=rf"pip install 'geb-audit\[{name}\]'"):
                availability.choose_backend(name)


def test_a_worker_s_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XLA_PYTHON_CLIENT_PREALLOCATE", raising=False)
    monkeypatch.setenv("JAX_PLATFORMS", "cuda,cpu")
    own = process_environment("jax")
    assert own["KERAS_BACKEND"] == "jax"
    assert own["XLA_PYTHON_CLIENT_PREALLOCATE"] == "false"
    assert own["JAX_PLATFORMS"] == "cuda,cpu"
    on_cpu = process_environment("jax", "cpu")
    assert (on_cpu["JAX_PLATFORMS"], on_cpu["CUDA_VISIBLE_DEVICES"]) == ("cpu", "-1")
    monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "true")
    assert process_environment("jax")["XLA_PYTHON_CLIENT_PREALLOCATE"] == "true"


def test_double_precision_is_told_to_jax_alone() -> None:
    wide = keras.Sequential([keras.Input((2,)), layers.Dense(1), layers.Dense(1, dtype="float64")])
    plain = keras.Sequential([keras.Input((2,)), layers.Dense(1)])
    wide, plain = (read_live_model(model, DEFAULT_LIMITS).graph for model in (wide, plain))
    assert numbers_environment("jax", wide) == {"JAX_ENABLE_X64": "1"}
    assert numbers_environment("tensorflow", wide) == {}
    assert numbers_environment("jax", plain) == {}


def test_doctor_tells_the_device_and_what_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "ASK_DEVICE", "import sys; print('noise'); print('CPU')")
    assert doctor.device_of("jax") == "CPU"
    monkeypatch.setattr(doctor, "ASK_DEVICE", "raise ImportError('libcuda.so is missing')")
    assert doctor.device_of("jax") == (
        "none: jax does not start here (ImportError: libcuda.so is missing)"
    )
    monkeypatch.setattr(doctor, "ASK_DEVICE", "import time; time.sleep(60)")
    monkeypatch.setattr(doctor, "STARTING_S", 0.2)
    assert doctor.device_of("jax") == "unknown: jax did not start within 0.2 s"


def test_a_live_model_runs_on_its_own_backend_alone(live: keras.Model) -> None:
    with pytest.raises(UsageError, match="Keras runs on tensorflow in this process"):
        audit(live, backend="jax")
    # Nothing is run: there is nothing to contradict.
    assert audit(live, backend="jax", probe=False).probe is None


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("batch_size", 0),
        ("batch_size", 2.5),
        ("batch_size", True),
        ("batches", 0),
        ("seed", -1),
        ("learning_rate", 0),
        ("learning_rate", float("nan")),
        ("learning_rate", float("inf")),
        ("learning_rate", 10**400),
        ("learning_rate", "fast"),
        ("loss", 3),
        ("optimizer", ""),
        ("probe", "yes"),
        ("select", 5),
        ("select", ()),
        ("ignore", [5]),
        ("select", "XYZ"),
    ],
)
def test_an_argument_out_of_its_range_is_wrong_usage(
    example: Callable[[str], Path], argument: str, value: object
) -> None:
    with pytest.raises(UsageError) as caught:
        audit(example("founding_case"), **({"probe": False} | {argument: value}))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("select", ["GEB101", ("GEB101",), ["geb101"]])
def test_a_string_is_one_code(example: Callable[[str], Path], select: str) -> None:
    found = audit(example("founding_case"), probe=False, select=select).findings
    assert {finding.code for finding in found} == {"GEB101"}


def test_numbers_of_numpy_are_numbers() -> None:
    import numpy as np

    settings = ProbeSettings(batch_size=np.int64(8), learning_rate=np.float32(0.5))
    assert (settings.batch_size, settings.learning_rate) == (8, 0.5)
    assert type(settings.batch_size) is int
    assert type(settings.learning_rate) is float


def keras_names(module: object) -> set[str]:
    """Names in a Keras module that `get` takes."""
    found = set()
    for name in dir(module):
        try:
            module.get(name)  # type: ignore[attr-defined]
        except (ValueError, TypeError, KeyError):
            continue
        found.add(name)
    return found


def test_every_loss_and_optimizer_of_keras_is_known_without_it() -> None:
    losses = keras_names(keras.losses)
    assert {"MeanSquaredError", "mean_squared_error", "CTC"} <= losses
    # The abstract classes are none that a model can be compiled with.
    assert {name for name in losses if loss_settings(name).custom} <= {"Loss"}
    optimizers = keras_names(keras.optimizers)
    assert {"SGD", "Adam", "Muon"} <= optimizers
    assert {name for name in optimizers if name.lower() not in LEARNING_RATES} <= {"Optimizer"}


def test_an_unknown_name_is_told_where_nothing_asks_keras(
    example: Callable[[str], Path], live: keras.Model
) -> None:
    for names in ({"loss": "foo"}, {"optimizer": "foo"}):
        with pytest.raises(UsageError, match="'foo'"):
            audit(example("healthy_cnn"), probe=False, **names)
        with pytest.raises(UsageError, match="'foo'"):
            audit(live, probe=True, **names)


@pytest.mark.parametrize(
    ("release", "safe"),
    [
        ("3.15.1", True),
        ("3.16.0", True),
        ("4.0.0", True),
        ("3.12.4", True),
        ("3.12.10", True),
        ("3.15.0", False),
        ("3.13.2", False),
        ("3.12.3", False),
        ("3.11.3", False),
        ("2.15.0", False),
        ("3.16.0.dev1", True),
    ],
)
def test_patched_releases(release: str, safe: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    assert patched(release) == safe
    monkeypatch.setattr(availability, "version", lambda _: release)
    assert unpatched_keras() == (None if safe else release)


class TestAnOlderKeras:
    """A file from outside is not loaded by a Keras with known holes, unless that is asked for."""

    @pytest.fixture(autouse=True)
    def older(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(availability, "version", lambda _: "3.10.0")

    def test_the_probe_of_a_file_is_not_begun(self, example: Callable[[str], Path]) -> None:
        result = audit(example("healthy_cnn"))
        assert result.probe is None
        assert "the installed keras 3.10.0 runs code" in result.probe_skipped
        assert "pip install -U keras" in result.probe_skipped
        assert "--probe" in result.probe_skipped

    def test_a_demanded_probe_is(
        self, example: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        begun = []

        def probe_file(path: Path, *_: object) -> None:
            begun.append(path)
            raise ProbeFailed("far enough")

        monkeypatch.setattr("auditor.probe.worker.probe_file", probe_file)
        with pytest.raises(ProbeFailed, match="far enough"):
            audit(example("healthy_cnn"), probe=True)
        assert begun == [example("healthy_cnn")]

    def test_a_live_model_is_probed(self, live: keras.Model) -> None:
        assert audit(live).probe is not None


def test_options_are_checked_when_they_are_made() -> None:
    with pytest.raises(UsageError):
        AuditOptions(backend="foo")
