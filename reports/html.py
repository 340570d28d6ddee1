"""`HtmlReporter`: one self-contained page that needs neither network nor JavaScript."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from functools import cache
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined

from auditor.result import AuditResult

from .view import ReportView, report_view


class HtmlReporter:
    """The page people look at; everything in it, pictures included, is in the one file."""

    name = "html"
    suffixes = (".html", ".htm")

    def render(self, results: tuple[AuditResult, ...]) -> str:
        """The page. Names come from strangers: autoescape is on, and a policy forbids all else."""
        report = report_view(results)
        style = _asset("report.css") + "\n".join(_tile_rules(report)) + "\n"
        script = _asset("report.js")
        return (
            _environment()
            .get_template("report.html.j2")
            .render(
                report=report,
                style=style,
                script=script,
                policy="; ".join(
                    (
                        "default-src 'none'",
                        f"style-src '{_digest(style)}'",
                        f"script-src '{_digest(script)}'",
                        "base-uri 'none'",
                        "form-action 'none'",
                    )
                ),
            )
        )


def _tile_rules(report: ReportView) -> Iterator[str]:
    """Style that depends on the drawing: the policy admits no style attributes."""
    tiles = [tile for model in report.models for tile in model.drawing.tiles]
    for drop in sorted({tile.drop for tile in tiles}):
        yield f".v{drop} {{ vertical-align: -{drop}px; }}"
    for span in sorted({tile.span for tile in tiles if tile.span}):
        yield f".w{span} {{ min-width: {span}px; }}"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("auditor.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["px"] = lambda value: f"{value:.1f}".removesuffix(".0")
    return environment


@cache
def _asset(name: str) -> str:
    return files(__package__).joinpath("templates", name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    """The source expression by which a policy admits exactly this inline text."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
