"""`TextReporter`: the audit as text for a terminal, a pipe or a log."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from auditor.finding import Severity
from auditor.graph.cost import model_cost
from auditor.measurement import ProbeResult
from auditor.result import AuditResult

from . import printable, prose, quantity, wording
from .cost_view import cost_view, sentence
from .finding_view import FindingView, finding_views, skipped_views
from .plan_view import SettingView, layers_named, plan_view
from .verdict_view import VerdictView, probe_reason, verdict_view

#: Columns of a report that is not printed to a terminal.
WIDTH = 80
#: Characters of a model's path that are shown: more than a path of any system has.
PATH_LIMIT = 4096
#: Wider than this, lines of prose are hard to read.
WIDEST = 110
#: A column of words narrower than this is, too.
NARROWEST = 16

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
            _print_line(console, _headline(result))
            continue
        if index:
            console.print()
        _print(console, _model(result, verbose > 0, width), width)


def _print(console: Console, parts: Iterable[RenderableType], width: int) -> None:
    for part in parts:
        console.print(part, width=width, markup=False, emoji=False, highlight=False)


def _print_line(console: Console, line: Text) -> None:
    """Print a model's line: folded on a terminal, and one line wherever lines are counted."""
    whole = not console.is_terminal
    console.print(line, soft_wrap=whole, markup=False, emoji=False, highlight=False)


def _headline(result: AuditResult) -> Text:
    verdict = verdict_view(result)
    path = printable.name(result.model.path, PATH_LIMIT)
    return Text.assemble(_word(verdict), f" {path}: {verdict.tally}", overflow="fold")


def _word(verdict: VerdictView) -> tuple[str, str]:
    return f" {verdict.key} ", VERDICT_STYLES[verdict.key]


def _model(result: AuditResult, verbose: bool, width: int) -> Iterator[RenderableType]:
    verdict = verdict_view(result)
    path = printable.name(result.model.path, PATH_LIMIT)
    title = Text.assemble(_word(verdict), (f" {path}", "bold"), (f"  {verdict.tally}", "dim"))
    if cell_len(title.plain) > width:
        yield Text.assemble(_word(verdict), (f" {verdict.tally}", "dim"))
        title = Text(f" {path}", "bold", overflow="fold")
    yield title
    yield _indented(_text(verdict.sentence), 1)
    if costs := sentence(cost_view(result.graph, model_cost(result.graph))):
        yield _indented(Text(f"{costs}.", style="dim"), 1)
    if verbose and result.model.hdf5:
        yield _indented(Text(f"Read with HDF5 {result.model.hdf5}.", style="dim"), 1)
    if result.probe is not None:
        yield _indented(Text(_probed(result.probe), style="dim"), 1)
        if result.probe.incomplete:
            yield _indented(_incomplete(result.probe), 1)
    elif result.verdict.value != "unknown" and result.probe_skipped:
        yield _indented(Text(f"Probe skipped: {probe_reason(result)}", style="dim"), 1)
    if verdict.headlines:
        yield Text()
        yield from _headlines(verdict, width)
    if verbose:
        yield from _risk(verdict, result.risk_skipped if result.probe else "")
    yield from _findings(result, verbose, width)
    yield from _plan(result, verbose, width)
    if verbose:
        yield from _assumptions(result)
    yield from _skipped(result, verbose)


def _probed(probe: ProbeResult) -> str:
    """What the model was measured on: figures of synthetic data are not those of real ones."""
    synthetic = probe.data == "synthetic"
    data = {"synthetic": "synthetic data", "given": "the given data"}.get(probe.data)
    data = data or printable.name(probe.data)
    drawn = "" if synthetic or probe.targets == probe.data else " with synthetic targets"
    batches = wording.plural(probe.batches, "batch", "batches")
    samples = wording.plural(probe.batch_size, "sample", "samples")
    return f"Probed on {data}{drawn}: {batches} of {samples}."


def _incomplete(probe: ProbeResult) -> Text:
    return Text.assemble(
        ("Probe incomplete", "bold yellow"), f": {prose.plain(probe.incomplete).rstrip('.')}."
    )


def _headlines(verdict: VerdictView, width: int) -> Iterator[RenderableType]:
    rows = [
        (
            Text(f" {headline.label}"),
            Text(headline.value, style="bold"),
            Text(headline.detail, style="dim"),
        )
        for headline in verdict.headlines
    ]
    yield from _table(rows, ("left", "right", "left"), width)


def _risk(verdict: VerdictView, skipped: str) -> Iterator[RenderableType]:
    """What the risk rests on, or why there is none."""
    if verdict.risk is not None:
        yield Text()
        yield Text("Risk", style="bold")
        for reason in verdict.risk.reasons:
            yield _indented(Text(reason), 1)
        yield _indented(Text(verdict.risk.calibration, style="dim"), 1)
    elif skipped:
        yield Text()
        yield _indented(Text(f"No risk is told: {skipped}.", style="dim"), 1)


def _findings(result: AuditResult, verbose: bool, width: int) -> Iterator[RenderableType]:
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
            yield from _finding(view, layers, verbose, width)


def _finding(
    view: FindingView, layers: tuple[str, ...], verbose: bool, width: int
) -> Iterator[RenderableType]:
    head = Text.assemble(
        (view.code, SEVERITY_STYLES[view.severity]),
        (f" {view.name}", "bold"),
        (f"  {view.confidence}", "dim"),
    )
    yield _indented(head, 1)
    yield _indented(_text(view.message), 3)
    if layers:
        yield _indented(Text(f"at {layers_named(layers)}", style="cyan", overflow="fold"), 3)
    if verbose and view.evidence:
        yield from _evidence(view, width)
    for index, paragraph in enumerate(view.remedy.paragraphs):
        yield _hanging("→" if index == 0 else " ", paragraph, 3)
    if verbose and view.remedy.code:
        yield _indented(Text(view.remedy.code, style="green"), 5)
    if verbose:
        for reference in view.references:
            yield _indented(Text(reference, style="dim"), 5)


def _evidence(view: FindingView, width: int) -> Iterator[RenderableType]:
    rows = []
    for evidence in view.evidence:
        value = f"{evidence.value} {evidence.unit}".strip()
        how = "; ".join(word for word in (evidence.bound, evidence.method) if word)
        rows.append(
            (Text(f"   {evidence.name}"), Text(value, style="bold"), Text(how, style="dim"))
        )
    yield from _table(rows, ("left", "left", "left"), width)


def _plan(result: AuditResult, verbose: bool, width: int) -> Iterator[RenderableType]:
    plan = plan_view(result, {})
    notes = plan.notes if verbose or result.plan.learning_rate is None else ()
    if plan.settings or notes:
        yield Text()
        yield Text("Plan", style="bold green")
    rows = []
    for setting in plan.settings:
        title, value, interval, current = _setting(setting)
        rows.append((Text(f" {title}"), Text(value, "bold"), Text(interval), Text(current, "dim")))
    yield from _table(rows, ("left", "right", "left", "left"), width)
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


def _table(
    rows: Sequence[tuple[Text, ...]], justify: tuple[Literal["left", "right"], ...], width: int
) -> Iterator[RenderableType]:
    """Columns two apart, the last of which may wrap; where it could not be read, row by row.

    The first column is indented in its text, as rich mismeasures padded tables.
    """
    if not rows:
        return
    widths = [max(cell_len(cell.plain) for cell in column) for column in zip(*rows, strict=True)]
    left = width - sum(column + 2 for column in widths[:-1])
    if left < min(widths[-1], NARROWEST):
        for row in rows:
            yield from _stacked(row)
        return
    grid = Table.grid(padding=(0, 2, 0, 0))
    for index, side in enumerate(justify, start=1):
        grid.add_column(justify=side, no_wrap=index < len(justify), overflow="fold")
    for row in rows:
        grid.add_row(*row)
    yield grid


def _stacked(row: tuple[Text, ...]) -> Iterator[RenderableType]:
    """A row of a table: the first two cells on a line, the others below it."""
    label, value, *others = row
    indent = cell_len(label.plain) - cell_len(label.plain.lstrip())
    yield _indented(Text.assemble(label[indent:], "  ", value, overflow="fold"), indent)
    for cell in filter(None, others):
        yield _indented(cell, indent + 2)


def _indented(part: Text, left: int) -> RenderableType:
    return Padding(part, (0, 0, 0, left), expand=False)


def _text(spans: tuple[prose.Span, ...]) -> Text:
    """Prose with its code spans set off by colour, and by backquotes where there is none."""
    text = Text(overflow="fold")
    for span in spans:
        text.append(f"`{span.text}`" if span.code else span.text, "cyan" if span.code else "")
    return text
