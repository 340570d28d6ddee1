"""The pipeline: read → forecast → probe → judge → plan. Pure: same input, same result."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from auditor.errors import ProbeFailed, UnsafeModel, UsageError
from auditor.finding import Severity, Skipped
from auditor.formats import DEFAULT_LIMITS, Limits, ModelFile, read_model
from auditor.formats.digest import Digest
from auditor.graph.forecast import forecast
from auditor.graph.layer_graph import LayerGraph
from auditor.graph.target_fit import misfits
from auditor.judgement import Selection, judge, verdict
from auditor.measurement import DataFacts, ProbeResult, few_normalized
from auditor.plan.make import make_plan
from auditor.probe.availability import (
    UPGRADE_KERAS,
    check_backend,
    choose_backend,
    install_hint,
    unpatched_keras,
)
from auditor.probe.data_file import check_plain
from auditor.probe.data_survey import survey
from auditor.probe.settings import ProbeSettings
from auditor.registry import rules
from auditor.result import AuditResult, ModelInfo, RefusedModel
from auditor.risk import Risk, assess
from auditor.rule import Facts
from auditor.training_options import check_names, with_training_options

#: Rules about code that loading runs: what `--unsafe` allows, and nothing else.
RUNS_CODE = frozenset({"GEB901", "GEB902", "GEB907"})
#: What a file's name says it is, where the file itself was not read.
FORMATS = {".h5": "keras-h5", ".hdf5": "keras-h5", ".onnx": "onnx"}
NOT_OPENED = "the file is unsafe to open and was not read any further"
#: Told which phase has begun, in a few words.
Progress = Callable[[str], None]
#: Measures a model: (graph, progress) → result. Raises `ProbeFailed`.
Prober = Callable[[LayerGraph, Progress], ProbeResult]


@dataclass(frozen=True, kw_only=True)
class AuditOptions:
    """What an audit is asked to do.

    `probe` is True (demanded: failing to probe is an error), False (none), or None (where a
    backend is installed and the file allows it). `backend` None takes KERAS_BACKEND, else the
    first that is installed. Raises `UsageError` for a backend that is none.
    """

    probe: bool | None = None
    backend: str | None = None
    probe_settings: ProbeSettings = field(default_factory=ProbeSettings)
    selection: Selection = field(default_factory=Selection)
    limits: Limits = DEFAULT_LIMITS

    def __post_init__(self) -> None:
        if self.probe not in (True, False, None):
            raise UsageError(f"probe must be True, False or None, not {self.probe!r}")
        if self.backend is not None:
            check_backend(self.backend)


def silent(_: str) -> None:
    """A `Progress` that tells nobody."""


def audit(
    model: Any,
    *,
    data: Any = None,
    probe: bool | None = None,
    backend: str | None = None,
    select: str | tuple[str, ...] = ("GEB",),
    ignore: str | tuple[str, ...] = (),
    batch_size: int | None = None,
    batches: int | None = None,
    seed: int = 0,
    loss: str | None = None,
    optimizer: str | None = None,
    learning_rate: float | None = None,
    curvature: int | None = None,
) -> AuditResult:
    """Audit a model.

    Args:
        model: a path, a `keras.Model` or an `onnx.ModelProto`.
        data: `(x, y)` arrays, a dict of arrays by name, or the path of an .npz file; synthetic
            batches without it. Lists of arrays are several inputs or outputs.
        probe: True demands a probe, False does without, None probes where that is possible.
        backend: "tensorflow", "jax" or "torch"; default as the command line chooses it. A live
            Keras model is probed in place, on the backend it runs on, and on no other.
        select: codes or prefixes of the rules to run; a string is one of them.
        ignore: codes or prefixes of rules not to run, likewise.
        batch_size: samples a batch.
        batches: number of batches.
        seed: of everything random.
        loss: stands in for a model saved uncompiled.
        optimizer: likewise.
        learning_rate: likewise.
        curvature: Lanczos steps for the sharpness; 0 for none, None for 8 where they cost little.

    Raises:
        UnreadableModel: the model cannot be read.
        UnsafeModel: the file is hostile and was not opened any further; `findings` say how.
        ProbeFailed: a probe was demanded and could not be run. One that came to an early end with
            something measured is a result: its `probe.incomplete` says what is missing, and why.
        UsageError: an argument is wrong.
    """
    with _data_file(data) as data_path:
        settings = ProbeSettings(
            seed=seed,
            data=data_path,
            given=data is not None and not isinstance(data, (str, Path)),
            loss=loss,
            optimizer=optimizer,
            learning_rate=learning_rate,
            curvature=curvature,
        )
        if batch_size is not None:
            settings = replace(settings, batch_size=batch_size)
        if batches is not None:
            settings = replace(settings, batches=batches)
        options = AuditOptions(
            probe=probe,
            backend=backend,
            probe_settings=settings,
            selection=Selection(select=_codes("select", select), ignore=_codes("ignore", ignore)),
        )
        if isinstance(model, (str, Path)):
            return audit_file(Path(model), options)
        return audit_live(model, options)


def audit_file(path: Path, options: AuditOptions, progress: Progress = silent) -> AuditResult:
    """Audit one model file. Errors as `audit`."""
    _check(options)
    progress("reading")
    with _telling_refusals(path, options):
        file = read_model(path, options.limits)

    def prober(_: LayerGraph, progress: Progress) -> ProbeResult:
        return _in_worker(path, options, progress)

    return _audit(file, str(path), options, prober, progress)


def _in_worker(path: Path, options: AuditOptions, progress: Progress) -> ProbeResult:
    from auditor.probe.worker import probe_file

    backend = choose_backend(options.backend)
    if backend is None:
        raise ProbeFailed(f"no backend is installed; get one with {install_hint()}")
    return probe_file(path, replace(options.probe_settings, backend=backend), progress)


def audit_live(model: Any, options: AuditOptions, progress: Progress = silent) -> AuditResult:
    """Audit a `keras.Model` or an `onnx.ModelProto` in memory. Errors as `audit`."""
    _check(options)
    keras = sys.modules.get("keras")
    if keras is not None and isinstance(model, keras.Model):
        from auditor.formats.keras_live import read_imported_model, read_live_model

        imported = sys.modules.get("auditor.onnx_import.model")
        running = keras.backend.backend()
        if options.probe is not False and options.backend not in (None, running):
            raise UsageError(
                f"backend={options.backend!r}: Keras runs on {running} in this process; set "
                f"KERAS_BACKEND={options.backend} before it is imported, or audit the saved file"
            )
        with _telling_refusals(None, options, kind="keras-live", name=str(model.name)):
            if imported is not None and isinstance(model, imported.OnnxModel):
                file = read_imported_model(model)
            else:
                file = read_live_model(model, options.limits)

        def prober(graph: LayerGraph, progress: Progress) -> ProbeResult:
            from auditor.probe.live import probe_live

            return probe_live(model, graph, options.probe_settings, progress)

        return _audit(file, file.graph.name, options, prober, progress)
    onnx = sys.modules.get("onnx")
    if onnx is not None and isinstance(model, onnx.ModelProto):
        from auditor.formats.onnx_file import IN_MEMORY, read_onnx_proto

        with _telling_refusals(None, options, kind="onnx", name=IN_MEMORY):
            file = read_onnx_proto(model, options.limits)

        def stored_prober(_: LayerGraph, progress: Progress) -> ProbeResult:
            with TemporaryDirectory(prefix="geb-audit-") as folder:
                path = Path(folder) / "model.onnx"
                try:
                    onnx.save(model, path)
                except ValueError as error:  # more than protocol buffers hold
                    raise ProbeFailed(f"the model cannot be stored for it: {error}") from error
                return _in_worker(path, options, progress)

        return _audit(file, IN_MEMORY, options, stored_prober, progress)
    raise UsageError(
        f"cannot audit a {type(model).__module__}.{type(model).__qualname__}: "
        "give a path, a keras.Model or an onnx.ModelProto"
    )


def _check(options: AuditOptions) -> None:
    """Raise `UsageError` for what is wrong whatever the model is, before time goes into it."""
    options.selection.check(rules())
    if options.probe_settings.data is not None:
        check_plain(options.probe_settings.data)


@contextmanager
def _telling_refusals(
    path: Path | None, options: AuditOptions, *, kind: str = "", name: str = ""
) -> Iterator[None]:
    """Let the error for a model that is not opened any further carry the audit of that much.

    Only what was seen until then is judged; every other rule is skipped with that reason, and the
    graph is empty. `path` is None for a model in memory, of which `kind` is the format.
    """
    try:
        yield
    except UnsafeModel as error:
        if path is not None:
            kind, name = FORMATS.get(path.suffix.lower(), "keras"), str(path)
        graph = LayerGraph(
            name=name if path is None else path.stem,
            format=kind,
            writer="",
            calls=(),
            edges=(),
            inputs=(),
            outputs=(),
            notes=(f"{NOT_OPENED}: {error}",),
        )
        raise RefusedModel(error, _refused(graph, name, path, error, options)) from error


def _refused(
    graph: LayerGraph, name: str, path: Path | None, error: UnsafeModel, options: AuditOptions
) -> AuditResult:
    installed = rules()
    seen = {hazard.code for hazard in error.hazards}
    findings, skipped = judge(
        tuple(rule for rule in installed if rule.code in seen),
        Facts(graph=graph, hazards=error.hazards),
        options.selection,
    )
    unjudged = tuple(
        Skipped(code=rule.code, reason=NOT_OPENED)
        for rule in installed
        if rule.code not in seen and options.selection.takes(rule.code)
    )
    return AuditResult(
        version=version("geb-audit"),
        model=ModelInfo(
            path=name,
            format=graph.format,
            sha256=_sha256(path),
            writer="",
            parameters=0,
            trainable_parameters=0,
        ),
        verdict=verdict(findings, probed=False),
        graph=graph,
        findings=findings,
        skipped=tuple(sorted((*skipped, *unjudged), key=lambda item: item.code)),
        probe_skipped=f"probe skipped: {NOT_OPENED}",
        refused=str(error),
    )


def _sha256(path: Path | None) -> str:
    if path is None:
        return ""
    with Digest(path) as digest:
        return digest.hex()


def _audit(
    file: ModelFile, path: str, options: AuditOptions, prober: Prober, progress: Progress
) -> AuditResult:
    installed = rules()
    graph = with_training_options(file.graph, options.probe_settings)
    data = _surveyed(graph, options, progress)
    probe, probe_skipped = _probe(file, path, graph, options, prober, progress, data)
    if probe is None and graph.format != "keras-live":
        check_names(options.probe_settings)
    progress("judging")
    facts = Facts(
        graph=graph,
        forecast=forecast(graph),
        probe=probe,
        probe_skipped=probe_skipped,
        data=data,
        hazards=file.hazards,
    )
    findings, skipped = judge(installed, facts, options.selection)
    risk = assess(graph, probe)
    return AuditResult(
        version=version("geb-audit"),
        model=ModelInfo(
            path=path,
            format=graph.format,
            sha256=file.sha256,
            writer=graph.writer,
            parameters=graph.parameters,
            trainable_parameters=graph.trainable_parameters,
            hdf5=file.hdf5,
        ),
        verdict=verdict(
            findings,
            probed=probe is not None and not few_normalized(probe),
            forecast_growth=facts.forecast.growth_rate if facts.forecast else None,
        ),
        graph=graph,
        findings=findings,
        skipped=skipped,
        forecast=facts.forecast,
        probe=probe,
        probe_skipped=probe_skipped,
        plan=make_plan(graph, findings, facts.forecast, probe),
        risk=risk if isinstance(risk, Risk) else None,
        risk_skipped="" if isinstance(risk, Risk) else risk,
    )


def _surveyed(graph: LayerGraph, options: AuditOptions, progress: Progress) -> DataFacts | None:
    """The facts of the data, where some were given."""
    settings = options.probe_settings
    if settings.data is None:
        return None
    progress("reading the data")
    return survey(settings.data, graph, given=settings.given)


def _probe(
    file: ModelFile,
    path: str,
    graph: LayerGraph,
    options: AuditOptions,
    prober: Prober,
    progress: Progress,
    data: DataFacts | None,
) -> tuple[ProbeResult | None, str]:
    """The probe's result, or None and the reason why there is none."""
    if options.probe is False:
        return None, "probe skipped: not asked for (--no-probe)"
    reason = _no_probe(file, graph, options) or _unusable(graph, data)
    if not reason:
        try:
            return prober(graph, progress), ""
        except ProbeFailed as failure:
            reason = str(failure)
    if options.probe:
        raise ProbeFailed(f"{path}: the probe was demanded and could not run: {reason}")
    return None, f"probe skipped: {reason}"


def _no_probe(file: ModelFile, graph: LayerGraph, options: AuditOptions) -> str:
    """Why no probe can be begun; empty when one can."""
    dangerous = sorted(
        (h for h in file.hazards if h.severity is not Severity.INFO),
        key=lambda hazard: (hazard.code in RUNS_CODE, -hazard.severity.rank),
    )
    if dangerous and not (options.probe_settings.unsafe and dangerous[0].code in RUNS_CODE):
        first = dangerous[0]
        if first.code not in RUNS_CODE:
            return f"this file is not safe to load ({first.code} at {first.place})"
        return (
            f"loading this file would run code it carries or names ({first.code} at "
            f"{first.place}); --unsafe allows that, for a file you trust"
        )
    custom = [h for h in file.hazards if h.code == "GEB910"]
    if custom and graph.format != "onnx":
        return (
            f"the model {custom[0].what} (GEB910 at {custom[0].place}); audit it live in Python, "
            "where that is imported"
        )
    if graph.format == "keras-live":
        return ""
    if choose_backend(options.backend) is None:
        return f"no backend is installed; get one with {install_hint()}"
    if options.probe is None and (keras := unpatched_keras()):
        return (
            f"the installed keras {keras} runs code from model files in known ways; upgrade it "
            f"with {UPGRADE_KERAS}, or demand the probe with --probe, for a file you trust"
        )
    return ""


def _unusable(graph: LayerGraph, data: DataFacts | None) -> str:
    """Why Keras would refuse to train on these data; empty where it would not."""
    refused = [misfit for misfit in misfits(graph, data) if misfit.refused] if data else []
    if not refused:
        return ""
    first = refused[0]
    return f"the data do not fit the model: {first.target.name} {first.why}"


def _codes(name: str, value: Any) -> tuple[str, ...]:
    """Codes of rules as a caller in Python gives them."""
    codes = (value,) if isinstance(value, str) else value
    if not isinstance(codes, (tuple, list, set, frozenset)) or not all(
        isinstance(code, str) for code in codes
    ):
        raise UsageError(f"{name} must be codes or prefixes of rules, not {value!r}")
    return tuple(codes)


@contextmanager
def _data_file(data: Any) -> Iterator[Path | None]:
    """`data` as an .npz file, for as long as it is needed."""
    if data is None or isinstance(data, (str, Path)):
        yield None if data is None else Path(data)
        return
    from auditor.probe.given_data import given_data

    with given_data(data) as path:
        yield path
