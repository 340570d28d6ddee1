"""`JsonReporter`: JSON of schema version 1 (schema/geb-audit-v1.schema.json)."""

from __future__ import annotations

import enum
import json
import math
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

import numpy as np

from auditor.finding import Evidence, Finding, Skipped
from auditor.graph.forecast import Forecast
from auditor.graph.layer_graph import LayerCall
from auditor.measurement import CallMeasurement, Distribution, ProbeResult
from auditor.plan.settings import Plan, Setting
from auditor.result import AuditResult

SCHEMA_VERSION = 1

#: Characters that JSON allows in strings and a terminal or an editor may obey.
STEERING = re.compile(
    "[\x7f-\x9f\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]"
)


class JsonReporter:
    """One JSON document for one result, an array of them for several."""

    name = "json"
    suffixes = (".json",)

    def render(self, results: tuple[AuditResult, ...]) -> str:
        """Indented JSON, keys in the schema's order, ending in a newline; equal in, equal out."""
        documents = [document(result) for result in results]
        whole = documents[0] if len(documents) == 1 else documents
        text = json.dumps(whole, indent=2, ensure_ascii=False, allow_nan=False)
        return STEERING.sub(lambda found: f"\\u{ord(found[0]):04x}", text) + "\n"


def schema() -> dict[str, Any]:
    """The published JSON Schema (draft 2020-12)."""
    path = files(__package__).joinpath("schema/geb-audit-v1.schema.json")
    read: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return read


def document(result: AuditResult) -> dict[str, Any]:
    """One result as JSON values."""
    return {
        "schema_version": SCHEMA_VERSION,
        "tool": {"name": "geb-audit", "version": result.version},
        "model": {
            "path": _value(result.model.path),
            "format": result.model.format,
            "sha256": result.model.sha256,
            "writer": _value(result.model.writer),
            "parameters": result.model.parameters,
            "trainable_parameters": result.model.trainable_parameters,
            "notes": _value(result.graph.notes),
        },
        "verdict": result.verdict.value,
        "risk": None,
        "layers": [_layer(call) for call in result.graph.calls],
        "forecast": None if result.forecast is None else _forecast(result.forecast),
        "probe": None if result.probe is None else _probe(result.probe),
        "probe_skipped": _value(result.probe_skipped) or None,
        "findings": [_finding(finding) for finding in result.findings],
        "skipped": [_skipped(skipped) for skipped in result.skipped],
        "plan": _plan(result.plan),
    }


def _layer(call: LayerCall) -> dict[str, Any]:
    return {
        "id": _value(call.id),
        "name": _value(call.name),
        "kind": _value(call.kind),
        "op": call.op.value,
        "path": _value(call.path),
        "in_shapes": _value(call.in_shapes),
        "out_shapes": _value(call.out_shapes),
        "parameters": call.parameters,
        "trainable": call.trainable,
        "dtype": _value(call.dtype),
        "activation": _value(call.activation),
        "note": _value(call.note),
    }


def _forecast(forecast: Forecast) -> dict[str, Any]:
    return {
        "growth_rate": _value(forecast.growth_rate),
        "layers": {
            _value(call_id): {"gain": _value(call.gain), "variance": _value(call.variance)}
            for call_id, call in forecast.calls.items()
        },
        "covered": _value(forecast.covered),
    }


def _probe(probe: ProbeResult) -> dict[str, Any]:
    return {
        "backend": probe.backend,
        "device": _value(probe.device),
        "dtype": probe.dtype,
        "seed": probe.seed,
        "batch_size": probe.batch_size,
        "batches": probe.batches,
        "data": _value(probe.data),
        "targets": _value(probe.targets),
        "assumptions": _value(probe.assumptions),
        "seconds": _value(probe.seconds),
        "loss": _value(probe.loss),
        "depth": probe.depth,
        "growth_rate": _value(probe.growth_rate),
        "growth_interval": _value(probe.growth_interval),
        "growth_points": probe.growth_points,
        "gradient_norm": _distribution(probe.gradient_norm),
        "gradient_ratio": _value(probe.gradient_ratio),
        "forward_ratio": _value(probe.forward_ratio),
        "gsc": _value(probe.gsc),
        "loss_at_start": _value(probe.loss_at_start),
        "loss_expected": _value(probe.loss_expected),
        "trial_losses": _value(probe.trial_losses),
        "step_slope": _value(probe.step_slope),
        "step_curvature": _value(probe.step_curvature),
        "first_nonfinite_forward": _value(probe.first_nonfinite_forward),
        "first_nonfinite_backward": _value(probe.first_nonfinite_backward),
        "sharpness": None,
        "noise_scale": None,
        "layers": {_value(call_id): _call(call) for call_id, call in probe.calls.items()},
        "skipped": _value(probe.skipped),
    }


def _call(call: CallMeasurement) -> dict[str, Any]:
    return {
        "mean": _value(call.mean),
        "rms": _value(call.rms),
        "max_abs": _value(call.max_abs),
        "zero_share": _value(call.zero_share),
        "dead_share": _value(call.dead_share),
        "saturated_share": _value(call.saturated_share),
        "gradient_norm": _value(call.gradient_norm),
        "gradient_rms": _value(call.gradient_rms),
        "weight_norm": _value(call.weight_norm),
        "weight_gradient_norm": _value(call.weight_gradient_norm),
        "update_ratio": _value(call.update_ratio),
        "finite_forward": call.finite_forward,
        "finite_backward": call.finite_backward,
    }


def _distribution(distribution: Distribution | None) -> dict[str, Any] | None:
    if distribution is None:
        return None
    return {
        "mean": _value(distribution.mean),
        "p10": _value(distribution.p10),
        "p50": _value(distribution.p50),
        "p90": _value(distribution.p90),
        "max": _value(distribution.max),
        "count": distribution.count,
    }


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "code": finding.code,
        "name": finding.name,
        "severity": finding.severity.value,
        "confidence": finding.confidence.value,
        "layers": _value(finding.layers),
        "message": _value(finding.message),
        "evidence": [_evidence(evidence) for evidence in finding.evidence],
        "remedy": _value(finding.remedy),
        "fingerprint": finding.fingerprint,
        "references": _value(finding.references),
    }


def _evidence(evidence: Evidence) -> dict[str, Any]:
    return {
        "name": _value(evidence.name),
        "value": _value(evidence.value),
        "unit": _value(evidence.unit),
        "stderr": _value(evidence.stderr),
        "bound": evidence.bound.value,
        "method": _value(evidence.method),
        "products": evidence.products,
    }


def _skipped(skipped: Skipped) -> dict[str, Any]:
    return {"code": skipped.code, "reason": _value(skipped.reason)}


def _plan(plan: Plan) -> dict[str, Any]:
    return {
        "learning_rate": _setting(plan.learning_rate),
        "optimizer": _setting(plan.optimizer),
        "clip": _setting(plan.clip),
        "regularization": [_setting(setting) for setting in plan.regularization],
        "schedule": _setting(plan.schedule),
        "initialization": [_setting(setting) for setting in plan.initialization],
        "accumulation": _setting(plan.accumulation),
        "precision": _setting(plan.precision),
        "loss": _setting(plan.loss),
        "notes": _value(plan.notes),
        "snippet": _value(plan.snippet),
    }


def _setting(setting: Setting | None) -> dict[str, Any] | None:
    if setting is None:
        return None
    return {
        "name": _value(setting.name),
        "value": _value(setting.value),
        "low": _value(setting.low),
        "high": _value(setting.high),
        "unit": _value(setting.unit),
        "current": _value(setting.current),
        "because": _value(setting.because),
        "reason": _value(setting.reason),
        "formula": _value(setting.formula),
        "layers": _value(setting.layers),
        "config": _value(setting.config),
    }


def _value(value: Any) -> Any:
    """`value` as JSON knows it: non-finite numbers as strings, lone surrogates as escapes."""
    if isinstance(value, enum.Enum):
        return _value(value.value)
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, np.generic):
        return _value(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else _nonfinite(value)
    if isinstance(value, Mapping):
        return {_value(str(key)): _value(item) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [_value(item) for item in value]
    return _value(str(value))


def _nonfinite(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"
