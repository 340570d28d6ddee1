"""`TextReporter`: the audit as text for a terminal, a pipe or a log."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from typing import Literal

from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from auditor.finding import Severity
from auditor.result import AuditResult

from . import printable, prose, quantity, wording
from .finding_view import FindingView, finding_views, skipped_views
from .plan_view import SettingView, layers_named, plan_view
from .verdict_view import VerdictView, probe_reason, verdict_view

#: Columns of a report that is not printed to a terminal.
WIDTH = 80
#: Wider than this, lines of prose are hard to read.
WIDEST = 110

VERDICT_STYLES = {
    "broken": "bold white on red",
    "exploding": "bold black on dark_orange",
    "vanishing": "bold white on blue",
    "stable": "bold black on green",
    "unknown": "bold black on bright_black",
}
SEVERITY_STYLES = {"error": "bold red", "warning": "bold yellow", "info": "bold cyan"}


class TextReporter:
    """Plain text, 80 columns wide, without colour; `print_text` is for a terminal."""

    name = "text"
    suffixes = (".txt",)

    def render(self, results: tuple[AuditResult, ...]) -> str:
        """The report; no line is longer than 80 columns or ends in a space."""
        stream = io.StringIO()
        console = Console(
            file=stream,
            width=WIDTH,
            color_system=None,
            force_terminal=False,
            force_interactive=False,
            legacy_windows=False,
            _environ={},
        )
        print_text(results, console, verbose=0)
        lines = stream.getvalue().splitlines()
        return "\n".join(line.rstrip() for line in lines).strip("\n") + "\n"

    def print(self, results: tuple[AuditResult, ...], console: Console, *, verbose: int) -> None:
        """Print the report to a terminal, as `print_text` does."""
        print_text(results, console, verbose)


def print_text(results: tuple[AuditResult, ...], console: Console, verbose: int) -> None:
    """Print the report to `console`.

    `verbose` below 0 prints one line a model, 0 the report, above 0 evidence, remedies' code,
    assumptions and the reasons of skipped rules as well. Nothing of a model file is taken as
    markup, and its control characters are shown, not sent.
    """
    width = min(console.width, WIDEST)
    for index, result in enumerate(results):
        if verbose < 0:
            _print(console, [_headline(result)], console.width)
            continue
        if index:
            console.print()
        _print(console, _model(result, verbose > 0, width), width)


def _print(console: Console, parts: Iterable[RenderableType], width: int) -> None:
    for part in parts:
        console.print(part, width=width, markup=False, emoji=False, highlight=False)


def _headline(result: AuditResult) -> Text:
    verdict = verdict_view(result)
    path = printable.name(result.model.path, 400)
    return Text.assemble(_word(verdict), f" {path}: {verdict.tally}", overflow="fold")


def _word(verdict: VerdictView) -> tuple[str, str]:
    return f" {verdict.key} ", VERDICT_STYLES[verdict.key]


def _model(result: AuditResult, verbose: bool, width: int) -> Iterator[RenderableType]:
    verdict = verdict_view(result)
    path = printable.name(result.model.path, 400)
    title = Text.assemble(_word(verdict), (f" {path}", "bold"), (f"  {verdict.tally}", "dim"))
    if cell_len(title.plain) > width:
        yield Text.assemble(_word(verdict), (f" {verdict.tally}", "dim"))
        title = Text(f" {path}", "bold", overflow="fold")
    yield title
    yield _indented(_text(verdict.sentence), 1)
    if result.probe is None and result.verdict.value != "unknown" and result.probe_skipped:
        yield _indented(Text(f"Probe skipped: {probe_reason(result)}", style="dim"), 1)
    if verdict.headlines:
        yield Text()
        yield _headlines(verdict)
    yield from _findings(result, verbose)
    yield from _plan(result, verbose)
    if verbose:
        yield from _assumptions(result)
    yield from _skipped(result, verbose)


def _headlines(verdict: VerdictView) -> RenderableType:
    grid = _grid("left", "right", "left")
    for headline in verdict.headlines:
        grid.add_row(
            Text(f" {headline.label}"),
            Text(headline.value, style="bold"),
            Text(headline.detail, style="dim"),
        )
    return grid


def _findings(result: AuditResult, verbose: bool) -> Iterator[RenderableType]:
    views = finding_views(result, "", {})
    for severity in reversed(Severity):
        some = [
            (view, finding.layers)
            for view, finding in zip(views, result.findings, strict=True)
            if finding.severity is severity
        ]
        if some:
            title = wording.plural(len(some), *wording.PLURALS[severity]).capitalize()
            yield Text()
            yield Text(title, style=SEVERITY_STYLES[severity.value])
        for view, layers in some:
            yield from _finding(view, layers, verbose)


def _finding(view: FindingView, layers: tuple[str, ...], verbose: bool) -> Iterator[RenderableType]:
    yield Text.assemble(
        " ",
        (view.code, SEVERITY_STYLES[view.severity]),
        (f" {view.name}", "bold"),
        (f"  {view.confidence}", "dim"),
    )
    yield _indented(_text(view.message), 3)
    if layers:
        yield _indented(Text(f"at {layers_named(layers)}", style="cyan", overflow="fold"), 3)
    if verbose and view.evidence:
        yield _evidence(view)
    for index, paragraph in enumerate(view.remedy.paragraphs):
        yield _hanging("→" if index == 0 else " ", paragraph, 3)
    if verbose and view.remedy.code:
        yield _indented(Text(view.remedy.code, style="green"), 5)
    if verbose:
        for reference in view.references:
            yield _indented(Text(reference, style="dim"), 5)


def _evidence(view: FindingView) -> RenderableType:
    grid = _grid("left", "left", "left")
    for evidence in view.evidence:
        value = f"{evidence.value} {evidence.unit}".strip()
        how = "; ".join(word for word in (evidence.bound, evidence.method) if word)
        grid.add_row(Text(f"   {evidence.name}"), Text(value, style="bold"), Text(how, style="dim"))
    return grid


def _plan(result: AuditResult, verbose: bool) -> Iterator[RenderableType]:
    plan = plan_view(result, {})
    notes = plan.notes if verbose or result.plan.learning_rate is None else ()
    if plan.settings or notes:
        yield Text()
        yield Text("Plan", style="bold green")
    if plan.settings:
        grid = _grid("left", "right", "left", "left")
        for setting in plan.settings:
            title, value, interval, current = _setting(setting)
            grid.add_row(
                Text(f" {title}"), Text(value, "bold"), Text(interval), Text(current, "dim")
            )
        yield grid
    if verbose:
        for setting in plan.settings:
            yield from _because(setting)
    for note in notes:
        yield _listed(note)
    if verbose and plan.snippet:
        yield Text()
        yield _indented(Text(plan.snippet, style="green"), 1)


def _setting(setting: SettingView) -> tuple[str, str, str, str]:
    interval = "" if setting.interval == quantity.ABSENT else setting.interval
    where = f"at {setting.layers}" if setting.layers else ""
    return setting.title, setting.value, interval, " ".join(filter(None, (setting.current, where)))


def _listed(note: tuple[prose.Span, ...]) -> RenderableType:
    return _hanging("·", note, 1)


def _hanging(mark: str, said: tuple[prose.Span, ...], left: int) -> RenderableType:
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_row(Text(" " * left + mark), _text(said))
    return grid


def _because(setting: SettingView) -> Iterator[RenderableType]:
    yield Text()
    yield _indented(Text.assemble((setting.title, "bold"), f"  {setting.argument}"), 1)
    if setting.details:
        yield _indented(Text(", ".join(setting.details), style="dim"), 3)
    for why in (setting.reason, setting.formula):
        if why:
            yield _indented(_text(why), 3)
    if setting.layers:
        yield _indented(Text(f"at {setting.layers}", style="cyan", overflow="fold"), 3)


def _assumptions(result: AuditResult) -> Iterator[RenderableType]:
    if result.probe is None or not result.probe.assumptions:
        return
    yield Text()
    yield Text("Probe", style="bold")
    for assumption in result.probe.assumptions:
        yield _listed(prose.spans(assumption))


def _skipped(result: AuditResult, verbose: bool) -> Iterator[RenderableType]:
    if not result.skipped:
        return
    yield Text()
    rules = wording.plural(len(result.skipped), "rule", "rules")
    if not verbose:
        yield Text(f"{rules} could not be judged; -v says why.", style="dim")
        return
    yield Text(f"{rules} could not be judged", style="bold")
    for view in skipped_views(result.skipped):
        yield _hanging("·", prose.spans(f"{' '.join(view.codes)}: {view.reason}"), 1)


def _grid(*justify: Literal["left", "right"]) -> Table:
    """Columns two apart; the first is indented in its text, as rich mismeasures padded tables."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    for index, side in enumerate(justify):
        grid.add_column(justify=side, no_wrap=index == 0, overflow="fold")
    return grid


def _indented(part: Text, left: int) -> RenderableType:
    return Padding(part, (0, 0, 0, left), expand=False)


def _text(spans: tuple[prose.Span, ...]) -> Text:
    """Prose with its code spans set off by colour, and by backquotes where there is none."""
    text = Text(overflow="fold")
    for span in spans:
        text.append(f"`{span.text}`" if span.code else span.text, "cyan" if span.code else "")
    return text
