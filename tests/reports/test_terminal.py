"""Text fits 80 columns, says the same with and without colour, and sends no name's escapes on."""

import dataclasses
import io
import re

import pytest
from golden_report import check_golden
from report_samples import (
    NASTY_NAMES,
    SAMPLES,
    exploding_stack,
    founding_case,
    nasty_names,
    onnx_unknown,
    sequence_model,
)
from rich.cells import cell_len
from rich.console import Console

from auditor.reports.terminal import TextReporter, print_text

ANSI = re.compile(r"\x1b\[[0-9;]*m")


def printed(*results, verbose=0, **console):
    stream = io.StringIO()
    settings = {"width": 80, "_environ": {}} | console
    print_text(results, Console(file=stream, **settings), verbose)
    return stream.getvalue()


@pytest.mark.parametrize("name", SAMPLES)
def test_fits_80_columns_in_plain_characters(name):
    text = TextReporter().render((SAMPLES[name](),))
    for line in text.splitlines():
        assert cell_len(line) <= 80
        assert line == line.rstrip()
        assert line.isprintable()


@pytest.mark.parametrize("verbose", [-1, 0, 1])
def test_colour_adds_nothing_but_colour(verbose):
    coloured = printed(
        nasty_names(),
        exploding_stack(),
        verbose=verbose,
        force_terminal=True,
        color_system="truecolor",
    )
    assert ANSI.search(coloured)
    assert ANSI.sub("", coloured) == printed(nasty_names(), exploding_stack(), verbose=verbose)


def test_no_color_is_honoured():
    text = printed(
        exploding_stack(), force_terminal=True, color_system="truecolor", _environ={"NO_COLOR": "1"}
    )
    assert not re.search(r"\x1b\[[0-9;]*(3[0-7]|4[0-7]|38|48)", text)


@pytest.mark.parametrize("verbose", [-1, 0, 1])
def test_names_are_shown_and_never_obeyed(verbose):
    text = printed(nasty_names(), verbose=verbose)
    assert "".join(text.split("\n")).isprintable()
    assert r"[red]" in text


def test_markup_in_names_is_no_markup():
    text = printed(nasty_names(), verbose=1)
    assert r"[red]\x1b[2J" in text
    assert "[bold]<script>" in text
    assert "[blink]" in text
    assert NASTY_NAMES[0] not in text


def test_quiet_is_one_line_a_model():
    text = printed(founding_case(), exploding_stack(), verbose=-1)
    assert [line.split() for line in text.splitlines()] == [
        ["broken", "examples/founding_case.keras:", "2", "errors,", "1", "warning,", "1", "note"],
        ["exploding", "examples/exploding_mlp.keras:", "2", "errors"],
    ]


def test_verbose_adds_evidence_remedy_code_and_reasons():
    brief, full = printed(exploding_stack()), printed(exploding_stack(), verbose=1)
    for detail in ("3.620 ± 0.012 a layer", "lower bound", "no bounded activation", "import keras"):
        assert detail not in brief
        assert detail in full
    assert "1 rule could not be judged; -v says why." in brief


def test_findings_are_grouped_worst_first():
    text = TextReporter().render((founding_case(),))
    places = [text.index(f"\n{title}") for title in ("2 errors", "1 warning", "1 note")]
    assert places == sorted(places)


@pytest.mark.parametrize("sample", [founding_case, exploding_stack, onnx_unknown])
def test_golden(sample):
    check_golden(f"{sample.__name__}.txt", TextReporter().render((sample(),)))


def test_jacobians_and_time_have_a_line_each():
    text = printed(sequence_model(), width=200)
    assert re.search(r"Local gains +0\.21 +middle 80 % .*largest σ₁ ≥ 1\.23 at lstm", text)
    assert re.search(r"Growth along time +×0\.93 +a step, lstm; 37 % left after 14 of 400", text)
    assert "Probe incomplete: it reached its time limit of 60 s" in text
    assert "Traceback" not in text


def words_of(text):
    return set(re.findall(r"[^\s,;:()]+", text))


@pytest.mark.parametrize("verbose", [0, 1])
@pytest.mark.parametrize("name", ["founding_case", "exploding_stack", "resnet", "onnx_unknown"])
def test_tables_of_a_narrow_terminal_split_no_word(name, verbose):
    result = SAMPLES[name]()
    narrow, wide = (printed(result, verbose=verbose, width=columns) for columns in (40, 110))
    assert all(cell_len(line.rstrip()) <= 40 for line in narrow.splitlines())
    # A call that is wider than 40 columns by itself has to be folded.
    long = {word for word in words_of(wide) if cell_len(word) > 30}
    assert words_of(wide) - words_of(narrow) <= long


def test_a_model_s_line_is_one_line_where_lines_are_counted():
    result = exploding_stack()
    path = "/".join(["folder" * 10] * 10) + "/m.keras"
    named = dataclasses.replace(result, model=dataclasses.replace(result.model, path=path))
    lines = printed(named, named, verbose=-1, width=40).splitlines()
    assert lines == [f" exploding  {path}: 2 errors"] * 2
    folded = printed(named, verbose=-1, width=40, force_terminal=True, color_system=None)
    assert all(cell_len(line) <= 40 for line in folded.splitlines())


@pytest.mark.parametrize(
    ("data", "targets", "words"),
    [
        ("synthetic", "one-hot", "Probed on synthetic data: 3 batches of 16 samples."),
        ("d.npz", "d.npz", "Probed on d.npz: 3 batches of 16 samples."),
        ("d.npz", "one-hot", "Probed on d.npz with synthetic targets: 3 batches of 16 samples."),
        ("given", "given", "Probed on the given data: 3 batches of 16 samples."),
    ],
)
def test_what_was_measured_on_is_said_without_being_asked(data, targets, words):
    result = exploding_stack()
    probe = dataclasses.replace(result.probe, data=data, targets=targets)
    assert words in printed(dataclasses.replace(result, probe=probe))
