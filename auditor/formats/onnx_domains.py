"""Operators of an ONNX model that ONNX does not define: what is needed to run them is elsewhere."""

from __future__ import annotations

from collections.abc import Iterable

from auditor.finding import Severity
from auditor.formats.onnx_model import OnnxNode
from auditor.formats.onnx_operators import BODY, MAIN, ML, OPERATORS, PREVIEW, TRAINING
from auditor.formats.untrusted import summary
from auditor.hazard import Hazard

CODE, CUSTOM = "GEB901", "GEB910"
#: Domains whose operators ONNX defines, in this release or a later one.
STANDARD = frozenset({MAIN, ML, PREVIEW, TRAINING, BODY})
#: Operators of onnxruntime's extensions that call a Python function by its name.
PYTHON = frozenset({"PyOp", "PythonOp", "PythonOpGrad"})
#: Operators of a domain that are named one by one.
NAMED = 5


def domain_hazards(nodes: Iterable[OnnxNode]) -> tuple[Hazard, ...]:
    """One hazard for each domain that no rule knows, and one for each call of Python.

    Args:
        nodes: all nodes of the model, functions expanded and bodies laid out.
    """
    found: list[Hazard] = []
    domains: dict[str, dict[str, OnnxNode]] = {}
    for node in nodes:
        if node.domain in STANDARD:
            continue
        if node.op_type in PYTHON:
            found.append(_python(node))
        elif (node.domain, node.op_type) not in OPERATORS:
            domains.setdefault(node.domain, {}).setdefault(node.op_type, node)
    found.extend(_custom(domain, kinds) for domain, kinds in domains.items())
    return tuple(dict.fromkeys(found))


def _custom(domain: str, kinds: dict[str, OnnxNode]) -> Hazard:
    names = ", ".join(summary(kind) for kind in list(kinds)[:NAMED])
    more = f" and {len(kinds) - NAMED} more" if len(kinds) > NAMED else ""
    first = next(iter(kinds.values()))
    return Hazard(
        code=CUSTOM,
        place=f"node {summary(first.label, 120)}",
        what=f"needs the operators {names}{more} of the domain {summary(domain)!r}, whose code is "
        "not in the file",
        severity=Severity.INFO,
    )


def _python(node: OnnxNode) -> Hazard:
    return Hazard(
        code=CODE,
        place=f"node {summary(node.label, 120)}",
        what=f"the operator {node.op_type} calls a Python function that the file does not show",
        severity=Severity.WARNING,
    )
