"""Progress on a terminal: one line, whatever is told and however often."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.text import Text

from auditor.errors import one_line

#: Columns the spinner takes with its space, and one that stays free: some terminals wrap at it.
SPINNER = 3


@contextmanager
def terminal_progress(console: Console) -> Iterator[Callable[[str], None]]:
    """Shows what it is told last, cut to the line; the line is gone afterwards.

    It is drawn at the spinner's own pace, so that telling each layer costs next to nothing.
    """
    with console.status("reading") as status:

        def show(phase: str) -> None:
            text = Text(one_line(phase))
            text.truncate(max(console.width - SPINNER, 1), overflow="ellipsis")
            status.update(text)

        yield show
