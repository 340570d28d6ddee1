"""The options that several commands share, and that a configuration file can set as well."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click

from auditor.probe.availability import BACKENDS
from auditor.probe.settings import DEVICES

PATH = click.Path(path_type=Path)


class Positive(click.FloatRange):
    """A positive number that is one: `float` takes "nan" and "inf" too."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The number. Raises `click.BadParameter`."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a positive, finite number.", param, ctx)
        return number


_codes_option = partial(click.option, multiple=True, metavar="CODES")
_SETTINGS_OPTIONS = (
    click.option(
        "--probe/--no-probe",
        default=None,
        help="Measure the model with a short instrumented run, or judge it from its file alone. "
        "Default: probe when a backend is installed.",
    ),
    click.option("--backend", type=click.Choice(BACKENDS), help="What the probe runs on."),
    click.option("--device", type=click.Choice(DEVICES), help="Default: auto."),
    click.option(
        "--data",
        type=PATH,
        metavar="FILE.npz",
        help="Arrays x and y (or x_0, x_1, …, or the names of inputs and outputs) to probe with. "
        "Without it, synthetic batches are drawn to fit each input.",
    ),
    click.option("--batch-size", type=click.IntRange(1), help="Samples a batch."),
    click.option("--batches", type=click.IntRange(1), help="Default: 3."),
    click.option("--seed", type=click.IntRange(0), help="Default: 0."),
    click.option("--loss", metavar="NAME", help="For a model that was saved uncompiled."),
    click.option("--optimizer", metavar="NAME", help="For a model that was saved uncompiled."),
    click.option("--learning-rate", type=Positive(0, min_open=True), metavar="X"),
    click.option(
        "--curvature",
        type=click.IntRange(0),
        metavar="STEPS",
        help="Lanczos steps for the sharpness; 0 for none. Default: 8 where they cost little.",
    ),
    _codes_option("--select", help="Rules to run, by code or prefix: GEB5. Repeatable."),
    _codes_option("--ignore", help="Rules not to run."),
    _codes_option("--extend-select", help="Rules to run besides those selected."),
    click.option(
        "--timeout",
        type=Positive(0, min_open=True),
        metavar="S",
        help="Of the probe, in seconds. Default: 300.",
    ),
    click.option(
        "--max-memory",
        type=click.IntRange(1),
        metavar="MIB",
        help="Of the probe, in MiB. Default: 8192.",
    ),
    click.option("--unsafe", is_flag=True, help="Let code in the model file run in the probe."),
    click.option("--config", type=PATH, metavar="FILE", help="A configuration file to read."),
    click.option("--isolated", is_flag=True, help="Read no configuration file."),
    click.option("-v", "--verbose", count=True, help="Say more; details of errors too."),
    click.option("--color", type=click.Choice(["auto", "always", "never"]), default="auto"),
    click.option("--no-progress", is_flag=True, help="No progress on standard error."),
)


def settings_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that a configuration file can set too, and those that say which file."""
    for option in reversed(_SETTINGS_OPTIONS):
        command = option(command)
    return command
