"""What the command line says on standard error: one clear line, with -v what lies behind it."""

from __future__ import annotations

import traceback

import click

from auditor.errors import GebAuditError, one_line


def tell(error: GebAuditError, verbose: int) -> None:
    """One clear line on standard error; with -v what lies behind it."""
    click.echo(f"geb-audit: {one_line(str(error))}", err=True)
    if verbose and error.detail:
        click.echo(_printable_lines(error.detail), err=True)
    if verbose > 1:
        click.echo(_printable_lines("".join(traceback.format_exception(error))), err=True)


def internal(error: Exception, where: str = "") -> GebAuditError:
    """A bug of ours as an error that a user can read, with the traceback as its detail."""
    return GebAuditError(
        f"{where}internal error, please report it: {type(error).__name__}: {error}",
        detail="".join(traceback.format_exception(error)),
    )


def interrupted(error: BaseException) -> bool:
    """Whether a Ctrl-C is behind an error: making a class, as imports do, may wrap it."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, KeyboardInterrupt):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def _printable_lines(text: str) -> str:
    """Text of several lines, none of which steers a terminal: a parser's words may be a file's."""
    return "\n".join(map(one_line, text.split("\n")))
