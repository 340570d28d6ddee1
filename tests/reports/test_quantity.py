"""Numbers as people read them."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditor.reports import quantity


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        (0, "0"),
        (0.0, "0"),
        (784, "784"),
        (25636712, "25,636,712"),
        (0.2, "0.2"),
        (0.20003, "0.200"),
        (2.2630000001, "2.26"),
        (9.9996, "10.0"),
        (-3.5, "−3.5"),
        (12345.6, "12,346"),
        (1234567.0, "1.23×10⁶"),
        (1e6, "10⁶"),
        (-1e6, "−10⁶"),
        (1e-7, "10⁻⁷"),
        (3.62e-31, "3.62×10⁻³¹"),
        (True, "yes"),
        (math.nan, "NaN"),
        (-math.inf, "−∞"),
    ],
)
def test_number(value, shown):
    assert quantity.number(value) == shown


SUPERSCRIPT = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
POWER = re.compile(r"(-?)(?:([\d.]+)×)?10([⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+)")


@given(st.floats(min_value=1e-300, max_value=1e300), st.sampled_from([1, -1]))
def test_number_is_right_to_three_digits(size, sign):
    value = sign * size
    shown = quantity.number(value).replace("−", "-").replace(",", "")
    if power := POWER.fullmatch(shown):
        mantissa = float(f"{power[1]}{power[2] or 1}")
        read = mantissa * 10.0 ** int(power[3].translate(SUPERSCRIPT))
    else:
        read = float(shown)
    # Three significant digits: half a unit in the third is at most 0.5 %.
    assert math.isclose(read, value, rel_tol=5.1e-3)


@pytest.mark.parametrize(
    ("value", "stderr", "shown"),
    [
        (3.6213, 0.0123, "3.621 ± 0.012"),
        (1.234e6, 2e4, "(1.234 ± 0.020)×10⁶"),
        (3.0, 0.0, "3 ± 0"),
        (3.0, None, "3"),
        (3.0, math.nan, "3"),
        (math.nan, 1.0, "NaN"),
    ],
)
def test_with_error(value, stderr, shown):
    assert quantity.with_error(value, stderr) == shown


def test_shares_that_are_not_quite_all_or_none_never_say_so():
    assert quantity.share(0.0) == "0 %"
    assert quantity.share(1e-5) == "< 0.1 %"
    assert quantity.share(0.25) == "25 %"
    assert quantity.share(0.99999) == "> 99.9 %"
    assert quantity.share(1.0) == "100 %"


def test_intervals():
    assert quantity.interval(0.5, 10.0) == "0.5 – 10"
    assert quantity.interval(None, 10.0) == "≤ 10"
    assert quantity.interval(0.5, None) == "≥ 0.5"
    assert quantity.interval(None, None) == quantity.ABSENT
    assert quantity.interval(1.0, 1.0) == "1"


def test_factors_counts_and_durations():
    assert quantity.factor(2.2648) == "×2.26"
    assert quantity.factor(math.nan) == "NaN"
    assert quantity.count(25_636_712) == "25.6 million"
    assert quantity.count(9_999) == "9,999"
    assert [quantity.seconds(s) for s in (0.412, 12.3, 200)] == ["0.41 s", "12 s", "3 min 20 s"]


def test_short_counts_and_memory():
    shown = {
        0: "0",
        999: "999",
        1000: "1 k",
        115_605_504: "116 M",
        999_600: "1.00 M",
        4e15: "4,000 T",
    }
    assert {value: quantity.short(value) for value in shown} == shown
    sizes = {0: "0 B", 1023: "1023 B", 1024: "1 KiB", 3_211_264: "3.06 MiB", 2**31: "2 GiB"}
    assert {size: quantity.memory(size) for size in sizes} == sizes
