"""The pipeline: read → forecast → probe → judge → plan. Pure: same input, same result."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from auditor.errors import ProbeFailed, UsageError
from auditor.finding import Severity
from auditor.formats import DEFAULT_LIMITS, Limits, ModelFile, read_model
from auditor.graph.compile_settings import CompileSettings, LossSettings, OptimizerSettings
from auditor.graph.forecast import forecast
from auditor.graph.layer_graph import LayerGraph
from auditor.judgement import Selection, judge, verdict
from auditor.measurement import ProbeResult
from auditor.plan.make import make_plan
from auditor.probe.availability import choose_backend, install_hint
from auditor.probe.settings import ProbeSettings
from auditor.registry import rules
from auditor.result import AuditResult, ModelInfo
from auditor.rule import Facts

#: Told which phase has begun, in a few words.
Progress = Callable[[str], None]
#: Measures a model: (graph, progress) → result. Raises `ProbeFailed`.
Prober = Callable[[LayerGraph, Progress], ProbeResult]


@dataclass(frozen=True, kw_only=True)
class AuditOptions:
    """What an audit is asked to do.

    `probe` is True (demanded: failing to probe is an error), False (none), or None (where a
    backend is installed and the file allows it). `backend` None takes KERAS_BACKEND, else the
    first that is installed.
    """

    probe: bool | None = None
    backend: str | None = None
    probe_settings: ProbeSettings = field(default_factory=ProbeSettings)
    selection: Selection = field(default_factory=Selection)
    limits: Limits = DEFAULT_LIMITS


def silent(_: str) -> None:
    """A `Progress` that tells nobody."""


def audit(
    model: Any,
    *,
    data: Any = None,
    probe: bool | None = None,
    backend: str | None = None,
    select: tuple[str, ...] = ("GEB",),
    ignore: tuple[str, ...] = (),
    batch_size: int | None = None,
    batches: int | None = None,
    seed: int = 0,
    loss: str | None = None,
    optimizer: str | None = None,
    learning_rate: float | None = None,
) -> AuditResult:
    """Audit a model.

    Args:
        model: a path, a `keras.Model` or an `onnx.ModelProto`.
        data: `(x, y)` arrays, or a path to an .npz file; synthetic batches without it.
        probe: True demands a probe, False does without, None probes where that is possible.
        backend: "tensorflow"; default as the command line chooses it. A live Keras model is
            probed in place, on the backend it runs on.
        select: codes or prefixes of the rules to run.
        ignore: codes or prefixes of rules not to run.
        batch_size: samples a batch.
        batches: number of batches.
        seed: of everything random.
        loss: stands in for a model saved uncompiled.
        optimizer: likewise.
        learning_rate: likewise.

    Raises:
        UnreadableModel: the model cannot be read.
        ProbeFailed: a probe was demanded and could not be run.
        UsageError: an argument is wrong.
    """
    with _data_file(data) as data_path:
        settings = ProbeSettings(
            seed=seed, data=data_path, loss=loss, optimizer=optimizer, learning_rate=learning_rate
        )
        if batch_size is not None:
            settings = replace(settings, batch_size=batch_size)
        if batches is not None:
            settings = replace(settings, batches=batches)
        options = AuditOptions(
            probe=probe,
            backend=backend,
            probe_settings=settings,
            selection=Selection(select=tuple(select), ignore=tuple(ignore)),
        )
        if isinstance(model, (str, Path)):
            return audit_file(Path(model), options)
        return audit_live(model, options)


def audit_file(path: Path, options: AuditOptions, progress: Progress = silent) -> AuditResult:
    """Audit one model file. Errors as `audit`."""
    progress("reading")
    file = read_model(path, options.limits)

    def prober(_: LayerGraph, progress: Progress) -> ProbeResult:
        from auditor.probe.worker import probe_file

        backend = choose_backend(options.backend)
        if backend is None:
            raise ProbeFailed(f"no backend is installed; get one with {install_hint()}")
        settings = replace(options.probe_settings, backend=backend)
        return probe_file(path, settings, progress)

    return _audit(file, str(path), options, prober, progress)


def audit_live(model: Any, options: AuditOptions, progress: Progress = silent) -> AuditResult:
    """Audit a `keras.Model` or an `onnx.ModelProto` in memory. Errors as `audit`."""
    keras = sys.modules.get("keras")
    if keras is not None and isinstance(model, keras.Model):
        from auditor.formats.keras_live import read_live_model

        file = read_live_model(model, options.limits)

        def prober(graph: LayerGraph, progress: Progress) -> ProbeResult:
            from auditor.probe.live import probe_live

            return probe_live(model, graph, options.probe_settings, progress)

        return _audit(file, file.graph.name, options, prober, progress)
    onnx = sys.modules.get("onnx")
    if onnx is not None and isinstance(model, onnx.ModelProto):
        from auditor.formats.onnx_file import read_onnx_proto

        return _audit(
            read_onnx_proto(model, options.limits), "<ModelProto>", options, None, progress
        )
    raise UsageError(
        f"cannot audit a {type(model).__module__}.{type(model).__qualname__}: "
        "give a path, a keras.Model or an onnx.ModelProto"
    )


def _audit(
    file: ModelFile, path: str, options: AuditOptions, prober: Prober | None, progress: Progress
) -> AuditResult:
    installed = rules()
    options.selection.check(installed)
    graph = _with_training_options(file.graph, options.probe_settings)
    probe, probe_skipped = _probe(file, path, graph, options, prober, progress)
    progress("judging")
    facts = Facts(
        graph=graph,
        forecast=forecast(graph),
        probe=probe,
        probe_skipped=probe_skipped,
        hazards=file.hazards,
    )
    findings, skipped = judge(installed, facts, options.selection)
    return AuditResult(
        version=version("geb-audit"),
        model=ModelInfo(
            path=path,
            format=graph.format,
            sha256=file.sha256,
            writer=graph.writer,
            parameters=graph.parameters,
            trainable_parameters=graph.trainable_parameters,
        ),
        verdict=verdict(
            findings,
            probed=probe is not None,
            forecast_growth=facts.forecast.growth_rate if facts.forecast else None,
        ),
        graph=graph,
        findings=findings,
        skipped=skipped,
        forecast=facts.forecast,
        probe=probe,
        probe_skipped=probe_skipped,
        plan=make_plan(graph, findings, facts.forecast, probe),
    )


def _probe(
    file: ModelFile,
    path: str,
    graph: LayerGraph,
    options: AuditOptions,
    prober: Prober | None,
    progress: Progress,
) -> tuple[ProbeResult | None, str]:
    """The probe's result, or None and the reason why there is none."""
    if options.probe is False:
        return None, "probe skipped: not asked for (--no-probe)"
    reason = _no_probe(file, graph, options, prober)
    if not reason and prober is not None:
        try:
            return prober(graph, progress), ""
        except ProbeFailed as failure:
            reason = str(failure)
    if options.probe:
        raise ProbeFailed(f"{path}: the probe was demanded and could not run: {reason}")
    return None, f"probe skipped: {reason}"


def _no_probe(
    file: ModelFile, graph: LayerGraph, options: AuditOptions, prober: Prober | None
) -> str:
    """Why no probe can be begun; empty when one can."""
    dangerous = [h for h in file.hazards if h.severity is Severity.ERROR]
    dangerous = dangerous or [h for h in file.hazards if h.severity is Severity.WARNING]
    if dangerous and not options.probe_settings.unsafe:
        first = dangerous[0]
        return (
            f"loading this file would run code it carries or names ({first.code} at "
            f"{first.place}); --unsafe allows that, for a file you trust"
        )
    if graph.format == "onnx" or prober is None:
        return "ONNX models are judged statically in this version; probe the Keras model instead"
    if graph.format != "keras-live" and choose_backend(options.backend) is None:
        return f"no backend is installed; get one with {install_hint()}"
    return ""


def _with_training_options(graph: LayerGraph, settings: ProbeSettings) -> LayerGraph:
    """The graph with `--loss`, `--optimizer`, `--learning-rate` in place of what it lacks."""
    if settings.loss is None and settings.optimizer is None and settings.learning_rate is None:
        return graph
    saved = graph.compile or CompileSettings(origin="option")
    optimizer, losses = saved.optimizer, saved.losses
    if settings.optimizer is not None or optimizer is None:
        optimizer = OptimizerSettings(name=(settings.optimizer or "adam").lower())
    if settings.learning_rate is not None:
        optimizer = replace(
            optimizer, learning_rate=settings.learning_rate, schedule=None, schedule_config={}
        )
    if settings.loss is not None:
        losses = (LossSettings(name=settings.loss),)
    return replace(graph, compile=replace(saved, optimizer=optimizer, losses=losses))


@contextmanager
def _data_file(data: Any) -> Iterator[Path | None]:
    """`data` as an .npz file, for as long as it is needed."""
    if data is None or isinstance(data, (str, Path)):
        yield None if data is None else Path(data)
        return
    import numpy as np

    try:
        x, y = data
    except (TypeError, ValueError):
        raise UsageError("data must be (x, y) arrays or the path of an .npz file") from None
    with tempfile.TemporaryDirectory(prefix="geb-audit-") as folder:
        path = Path(folder) / "data.npz"
        named = (*_named("x", x), *_named("y", y))
        arrays: dict[str, Any] = {name: np.asarray(values) for name, values in named}
        np.savez(path, **arrays)
        yield path


def _named(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Arrays under the names that an .npz file of data uses."""
    if isinstance(value, dict):
        yield from value.items()
    elif isinstance(value, (list, tuple)):
        yield from ((f"{prefix}_{index}", item) for index, item in enumerate(value))
    else:
        yield prefix, value
