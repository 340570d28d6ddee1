"""Where the reports of a command go: standard output, the files named, a page for each model."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import click

from auditor.config import Settings
from auditor.errors import UsageError, one_line
from auditor.messages import tell
from auditor.registry import reporter
from auditor.report_file import write_whole
from auditor.reporter import ConsoleReporter
from auditor.result import AuditResult


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """The reports that were asked for.

    `wanted` holds (format, file or None for standard output); `verbose` is -1 for a line a model;
    `color` is auto, always or never.
    """

    wanted: tuple[tuple[str, Path | None], ...]
    default_html: bool
    verbose: int
    color: str

    @staticmethod
    def of(settings: Settings, *, verbose: int, color: str) -> Outputs:
        """Parse `-o FORMAT[=FILE]`. Raises `UsageError` before any work is done."""
        wanted: list[tuple[str, Path | None]] = []
        for item in settings.output:
            name, equals, file = item.partition("=")
            reporter(name)
            if equals and not file:
                raise UsageError(f"-o {item}: the file's name is missing after the = sign")
            if file and not Path(file).parent.is_dir():
                raise UsageError(f"-o {item}: there is no folder {Path(file).parent}")
            wanted.append((name, Path(file) if file else None))
        return Outputs(
            wanted=tuple(wanted) or (("text", None),),
            default_html=settings.html and not wanted,
            verbose=verbose,
            color=color,
        )

    def write(self, results: tuple[AuditResult, ...]) -> bool:
        """Write every report asked for; whether all were.

        One that cannot be written has its line on standard error, and costs none of the others.
        """
        if not results:
            return True
        written = [self._write(name, file, results) for name, file in self.wanted]
        if self.default_html:
            self._write_pages(results)
        return all(written)

    def _write(self, name: str, file: Path | None, results: tuple[AuditResult, ...]) -> bool:
        if file is None and name == "text":
            self._print_text(results)
        elif file is None:
            if isinstance(sys.stdout, io.TextIOWrapper):
                # What programs read is UTF-8, whatever the terminal's encoding lacks.
                sys.stdout.reconfigure(encoding="utf-8")
            click.echo(reporter(name).render(results))
        else:
            try:
                write_whole(file, reporter(name).render(results))
            except UsageError as error:
                tell(error, self.verbose)
                return False
        return True

    def _write_pages(self, results: tuple[AuditResult, ...]) -> None:
        """The pages written without being asked for: a folder that takes none is no failure."""
        for path, result in _default_names(results):
            try:
                write_whole(path, reporter("html").render((result,)))
            except UsageError as error:
                click.echo(f"no HTML report: {one_line(str(error))}", err=True)
            else:
                if self.verbose >= 0:
                    click.echo(f"Report: {one_line(str(path))}")

    def _print_text(self, results: tuple[AuditResult, ...]) -> None:
        from rich.console import Console

        forced = {"always": True, "never": False}.get(self.color)
        console = Console(force_terminal=forced, no_color=True if forced is False else None)
        text = cast("ConsoleReporter", reporter("text"))
        text.print(results, console, verbose=self.verbose)


def _default_names(results: tuple[AuditResult, ...]) -> Iterator[tuple[Path, AuditResult]]:
    """`model.geb.html` in the current folder; the suffix stays in where two models share a stem."""
    paths = [Path(result.model.path) for result in results]
    stems = [path.stem for path in paths]
    taken: set[str] = set()
    for path, result in zip(paths, results, strict=True):
        name = path.stem if stems.count(path.stem) == 1 else path.name
        number = 2
        unique = name
        while unique in taken:
            unique, number = f"{name}-{number}", number + 1
        taken.add(unique)
        yield Path(f"{unique}.geb.html"), result
