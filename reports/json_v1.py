"""`JsonReporter`: JSON of schema version 1 (schema/geb-audit-v1.schema.json)."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from typing import Any

from auditor.finding import Evidence, Finding, Skipped
from auditor.graph.forecast import Forecast
from auditor.graph.layer_graph import LayerCall
from auditor.plan.settings import Plan, Setting
from auditor.result import AuditResult
from auditor.risk import Risk

from .json_probe import probe_document
from .json_value import json_value

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
            "path": json_value(result.model.path),
            "format": result.model.format,
            "sha256": result.model.sha256,
            "writer": json_value(result.model.writer),
            "parameters": result.model.parameters,
            "trainable_parameters": result.model.trainable_parameters,
            "notes": json_value(result.graph.notes),
        },
        "verdict": result.verdict.value,
        "risk": None if result.risk is None else _risk(result.risk),
        "layers": [_layer(call) for call in result.graph.calls],
        "forecast": None if result.forecast is None else _forecast(result.forecast),
        "probe": None if result.probe is None else probe_document(result.probe),
        "probe_skipped": json_value(result.probe_skipped) or None,
        "findings": [_finding(finding) for finding in result.findings],
        "skipped": [_skipped(skipped) for skipped in result.skipped],
        "plan": _plan(result.plan),
    }


def _risk(risk: Risk) -> dict[str, Any]:
    return {
        "probability": json_value(risk.probability),
        "low": json_value(risk.low),
        "high": json_value(risk.high),
        "reasons": list(risk.reasons),
        "calibration": risk.calibration,
    }


def _layer(call: LayerCall) -> dict[str, Any]:
    return {
        "id": json_value(call.id),
        "name": json_value(call.name),
        "kind": json_value(call.kind),
        "op": call.op.value,
        "path": json_value(call.path),
        "in_shapes": json_value(call.in_shapes),
        "out_shapes": json_value(call.out_shapes),
        "parameters": call.parameters,
        "trainable": call.trainable,
        "dtype": json_value(call.dtype),
        "activation": json_value(call.activation),
        "note": json_value(call.note),
    }


def _forecast(forecast: Forecast) -> dict[str, Any]:
    return {
        "growth_rate": json_value(forecast.growth_rate),
        "layers": {
            json_value(call_id): {
                "gain": json_value(call.gain),
                "variance": json_value(call.variance),
            }
            for call_id, call in forecast.calls.items()
        },
        "covered": json_value(forecast.covered),
    }


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "code": finding.code,
        "name": finding.name,
        "severity": finding.severity.value,
        "confidence": finding.confidence.value,
        "layers": json_value(finding.layers),
        "message": json_value(finding.message),
        "evidence": [_evidence(evidence) for evidence in finding.evidence],
        "remedy": json_value(finding.remedy),
        "fingerprint": finding.fingerprint,
        "references": json_value(finding.references),
    }


def _evidence(evidence: Evidence) -> dict[str, Any]:
    return {
        "name": json_value(evidence.name),
        "value": json_value(evidence.value),
        "unit": json_value(evidence.unit),
        "stderr": json_value(evidence.stderr),
        "bound": evidence.bound.value,
        "method": json_value(evidence.method),
        "products": evidence.products,
    }


def _skipped(skipped: Skipped) -> dict[str, Any]:
    return {"code": skipped.code, "reason": json_value(skipped.reason)}


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
        "notes": json_value(plan.notes),
        "snippet": json_value(plan.snippet),
    }


def _setting(setting: Setting | None) -> dict[str, Any] | None:
    if setting is None:
        return None
    return {
        "name": json_value(setting.name),
        "value": json_value(setting.value),
        "low": json_value(setting.low),
        "high": json_value(setting.high),
        "unit": json_value(setting.unit),
        "current": json_value(setting.current),
        "because": json_value(setting.because),
        "reason": json_value(setting.reason),
        "formula": json_value(setting.formula),
        "layers": json_value(setting.layers),
        "config": json_value(setting.config),
    }
