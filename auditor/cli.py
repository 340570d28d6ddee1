"""The command line: parse, call, exit code. Everything else lives elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import click

from auditor.command_options import PATH, settings_options
from auditor.config import FAIL_ON, Settings, nearest_config, read_config
from auditor.discovery import model_files
from auditor.errors import GebAuditError, ProbeFailed, UsageError, one_line
from auditor.finding import Severity
from auditor.judgement import Selection
from auditor.messages import internal, interrupted, tell
from auditor.outputs import Outputs
from auditor.pipeline import AuditOptions, Progress, audit_file, silent
from auditor.probe.settings import ProbeSettings
from auditor.result import AuditResult, RefusedModel
from auditor.streams import guarded_streams, reason

T = TypeVar("T")

EXIT_CLEAN, EXIT_FINDINGS, EXIT_USAGE, EXIT_UNAUDITED = 0, 1, 2, 3
EXIT_INTERRUPTED = 130


class DefaultToAudit(click.Group):
    """A group whose first word may be left out: `geb-audit model.keras` is `geb-audit audit …`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put "audit" in front of anything that is neither a command nor the group's own option."""
        if not args:
            click.echo(ctx.get_help(), err=True)
            ctx.exit(EXIT_USAGE)
        own = {name for parameter in self.get_params(ctx) for name in parameter.opts}
        if args and args[0] not in self.commands and args[0] not in own:
            args = ["audit", *args]
        return super().parse_args(ctx, args)


@click.group(cls=DefaultToAudit, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("geb-audit"), prog_name="geb-audit")
def cli() -> None:
    """Audit neural network files before the training hours are spent.

    `geb-audit MODEL...` is short for `geb-audit audit MODEL...`.
    """


@cli.command()
@click.argument("models", nargs=-1, metavar="MODEL...", type=PATH)
@settings_options
@click.option(
    "--fail-on",
    type=click.Choice(FAIL_ON),
    help="Least severity of a finding that makes the exit code 1. Default: error.",
)
@click.option(
    "-o",
    "--output",
    multiple=True,
    metavar="FORMAT[=FILE]",
    help="text, json or html; without FILE to standard output. Repeatable. Default: text, and "
    "MODEL.geb.html in the current folder. A model that could not be audited is in no report: it "
    "has its line on standard error.",
)
@click.option("--html/--no-html", default=None, help="Whether to write MODEL.geb.html.")
@click.option("-q", "--quiet", is_flag=True, help="One line a model.")
@click.option("--show-settings", is_flag=True, help="Print the settings in force, and stop.")
def audit(models: tuple[Path, ...], quiet: bool, show_settings: bool, **given: Any) -> int:
    """Audit model files (.keras, .h5, .hdf5, .onnx), or folders of them."""
    call = Invocation.of(given)
    if show_settings:
        click.echo("\n".join(call.settings.lines(call.origin)))
        return EXIT_CLEAN
    if not models:
        raise UsageError("name at least one model file or folder; see `geb-audit --help`")
    outputs = Outputs.of(call.settings, verbose=-1 if quiet else call.verbose, color=call.color)
    audited = call.audit_all(models)
    written = outputs.write(audited.results)
    code = audited.exit_code(call.settings.fail_on)
    return code if written else max(code, EXIT_USAGE)


@cli.command()
@click.argument("model", type=PATH)
@settings_options
@click.option("--format", "form", type=click.Choice(["text", "json", "python"]), default="text")
def plan(model: Path, form: str, **given: Any) -> int:
    """Print only the recommended settings of a model."""
    from auditor.plan.emit import as_json, as_python, as_text

    call = Invocation.of(given)
    audited = call.audit_all((model,))
    for result in audited.results:
        if result.refused:
            continue
        if form == "python":
            click.echo(as_python(result.plan, result.graph))
        else:
            click.echo(as_json(result.plan) if form == "json" else as_text(result.plan))
    return audited.exit_code("never")


@cli.command("rules")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text")
def rules_command(form: str) -> int:
    """List the rules."""
    from auditor.catalogue import rules_json, rules_text

    click.echo(rules_json() if form == "json" else rules_text())
    return EXIT_CLEAN


@cli.command()
@click.argument("code")
def explain(code: str) -> int:
    """Print one rule's page."""
    from auditor.catalogue import rule_page
    from auditor.registry import rule_by_code

    click.echo(rule_page(rule_by_code(code)))
    return EXIT_CLEAN


@cli.command()
def doctor() -> int:
    """Say which backends, versions and extras are here, and what is missing."""
    from auditor.doctor import examine

    click.echo("\n".join(examine()))
    return EXIT_CLEAN


@dataclass(frozen=True, kw_only=True)
class Audited:
    """What became of the models named: results, and how many could not be audited."""

    results: tuple[AuditResult, ...]
    failed: int

    def exit_code(self, fail_on: str) -> int:
        """The exit code of the contract: 3 wins over 1."""
        if self.failed:
            return EXIT_UNAUDITED
        if fail_on != "never" and any(r.at_least(Severity(fail_on)) for r in self.results):
            return EXIT_FINDINGS
        return EXIT_CLEAN


@dataclass(frozen=True, kw_only=True)
class Invocation:
    """One call of a command: the settings in force, where each came from, and how to talk."""

    settings: Settings
    origin: dict[str, str]
    data: Path | None
    unsafe: bool
    verbose: int
    color: str
    progress: bool

    @staticmethod
    def of(given: dict[str, Any]) -> Invocation:
        """Merge command line over configuration file over defaults."""
        values: dict[str, Any] = {}
        origin: dict[str, str] = {}
        file = given["config"]
        if file is None and not given["isolated"]:
            file = nearest_config(Path.cwd())
        if file is not None:
            values, origin = read_config(file)
        for item in fields(Settings):
            value = given.get(item.name)
            if value is None or value == ():
                continue
            values[item.name] = _codes(value) if item.name in _CODE_LISTS else value
            origin[item.name] = "command line"
        return Invocation(
            settings=Settings(**values),
            origin=origin,
            data=given["data"],
            unsafe=given["unsafe"],
            verbose=given["verbose"],
            color=given["color"],
            progress=not given["no_progress"] and sys.stderr.isatty(),
        )

    def options(self) -> AuditOptions:
        """The settings as the pipeline takes them."""
        settings = self.settings
        return AuditOptions(
            probe=settings.probe,
            backend=settings.backend,
            limits=settings.limits,
            probe_settings=ProbeSettings(
                device=settings.device,
                batch_size=settings.batch_size,
                batches=settings.batches,
                seed=settings.seed,
                data=self.data,
                loss=settings.loss,
                optimizer=settings.optimizer,
                learning_rate=settings.learning_rate,
                curvature=settings.curvature,
                unsafe=self.unsafe,
                timeout_s=settings.timeout,
                max_memory_mib=settings.max_memory,
            ),
            selection=Selection(
                select=settings.select,
                extend_select=settings.extend_select,
                ignore=settings.ignore,
                options=settings.options,
                severities=settings.severities,
            ),
        )

    def audit_all(self, models: tuple[Path, ...]) -> Audited:
        """Audit each; a model that cannot be audited gets its line on standard error."""
        options = self.options()
        results: list[AuditResult] = []
        failed = 0
        with self._progress() as progress:
            for named in models:
                files = self._attempt(named, partial(model_files, named))
                failed += files is None
                for file in files or ():
                    audit_one = partial(self._audit, file, options, _naming(progress, file))
                    result = self._attempt(file, audit_one)
                    failed += result is None or bool(result.refused) or self._fell_short(result)
                    if result is not None:
                        results.append(result)
        return Audited(results=tuple(results), failed=failed)

    def _audit(self, file: Path, options: AuditOptions, progress: Progress) -> AuditResult:
        """One model's audit; one that is refused has its line, and its findings are reported."""
        try:
            return audit_file(file, options, progress)
        except RefusedModel as error:
            tell(error, self.verbose)
            return error.result

    def _fell_short(self, result: AuditResult) -> bool:
        """Whether a demanded probe came to an early end: it has its line, and is reported too.

        Whoever demands a probe wants no gate that opens the more often the slower the machine is.
        """
        if result.probe is None or not result.probe.incomplete:
            return False
        demanded = bool(self.settings.probe)
        if demanded or self.verbose:
            which = "demanded probe" if demanded else "probe"
            line = f"{result.model.path}: the {which} is incomplete: {result.probe.incomplete}"
            tell(ProbeFailed(line, detail=result.probe.incomplete_detail), self.verbose)
        return demanded

    def _attempt(self, path: Path, action: Callable[[], T]) -> T | None:
        """What `action` gives; None, and a line on standard error, if the model has to be left."""
        try:
            return action()
        except Exception as error:
            if interrupted(error):
                raise KeyboardInterrupt from error
            if isinstance(error, UsageError):
                raise
            # A bug of ours in one model must not cost the user the others' results.
            known = error if isinstance(error, GebAuditError) else None
            tell(known or internal(error, f"{path}: "), self.verbose)
        return None

    @contextmanager
    def _progress(self) -> Iterator[Progress]:
        if not self.progress:
            yield silent
            return
        from rich.console import Console

        from auditor.terminal_progress import terminal_progress

        with terminal_progress(Console(stderr=True)) as progress:
            yield progress


_CODE_LISTS = ("select", "extend_select", "ignore")


def _codes(values: tuple[str, ...]) -> tuple[str, ...]:
    """Codes given as `--select GEB1 --select GEB2` or `--select GEB1,GEB2`."""
    return tuple(code.strip() for value in values for code in value.split(",") if code.strip())


def _naming(progress: Progress, file: Path) -> Progress:
    return lambda phase: progress(f"{file.name}: {phase}")


def main() -> None:
    """Run the command line of this process, and end it."""
    sys.exit(run())


def run() -> int:
    """Run the command line of this process; the exit code, after everything was said.

    A reader that has closed standard output changes nothing; what could not be written to it for
    another reason is wrong usage, as a report file in a place that takes none is.
    """
    verbose = sum(arg in ("-v", "--verbose") or arg.startswith("-vv") for arg in sys.argv[1:])
    with guarded_streams() as output:
        code = _run(verbose)
        sys.stdout.flush()
        if output.failure is not None:
            tell(UsageError(f"cannot write to standard output: {reason(output.failure)}"), verbose)
            code = max(code, EXIT_USAGE)
    return code


def _run(verbose: int) -> int:
    try:
        code = cli.main(standalone_mode=False)
    except UsageError as error:
        tell(error, verbose)
        return EXIT_USAGE
    except GebAuditError as error:
        tell(error, verbose)
        return EXIT_UNAUDITED
    except click.ClickException as error:
        click.echo(f"geb-audit: {one_line(error.format_message())}", err=True)
        return EXIT_USAGE
    except (click.Abort, KeyboardInterrupt):
        click.echo("geb-audit: interrupted", err=True)
        return EXIT_INTERRUPTED
    except Exception as error:
        if interrupted(error):
            return EXIT_INTERRUPTED
        tell(internal(error), verbose)
        return EXIT_UNAUDITED
    return code if isinstance(code, int) else EXIT_CLEAN
