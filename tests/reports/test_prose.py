"""Prose taken apart, and text made safe to show."""

from hypothesis import given
from hypothesis import strategies as st

from auditor.reports import printable, prose
from auditor.reports.prose import Span


def test_code_spans_are_told_apart():
    assert prose.spans("Use `he_normal`\n here.") == (
        Span(text="Use "),
        Span(text="he_normal", code=True),
        Span(text=" here."),
    )


def test_powers_of_ten_are_written_out_beside_code_only():
    assert prose.plain("grows 1.7e+09-fold, from 1e-12") == "grows 1.7×10⁹-fold, from 10⁻¹²"
    assert prose.plain("`lr=1e-3` at block1e5 and v2.1e5x") == "lr=1e-3 at block1e5 and v2.1e5x"


def test_remedy_is_prose_and_one_block():
    remedy = prose.remedy("First.\n\nSecond `x`.\n\n```python\na = 1\n\n\tb()\n```")
    assert [len(paragraph) for paragraph in remedy.paragraphs] == [1, 3]
    assert remedy.code == "a = 1\n\n    b()"


def test_a_fence_that_never_ends_stays_prose():
    assert prose.remedy("Look.\n```python\nx").code == ""


@given(st.text(), st.integers(2, 40))
def test_printable_steers_no_display(text, longest):
    shown = printable.name(text, longest)
    assert shown.isprintable()
    assert len(shown) <= longest
    shown.encode("utf-8")


@given(st.text())
def test_a_block_keeps_its_lines_and_no_other_control(text):
    shown = printable.block(text)
    assert "".join(shown.split("\n")).isprintable()
    assert shown.count("\n") == text.count("\n")
