"""Numbers as people read them: three significant digits, powers of ten, intervals, factors."""

from __future__ import annotations

import math

#: What stands where there is no number.
ABSENT = "–"

#: Between these, a number is written out; outside, with a power of ten.
SMALLEST_FIXED, LARGEST_FIXED = 1e-3, 1e5

SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def number(value: float | None, digits: int = 3) -> str:
    """`value` to `digits` significant digits; an exact shorter number stays short.

    0.2 gives 0.2, 0.20003 gives 0.200, 2263 gives 2,263, 1234567.0 gives 1.23×10⁶.
    """
    if value is None:
        return ABSENT
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and abs(value) < 10**12:
        return _signed(f"{value:,}")
    value = float(value)
    if not math.isfinite(value):
        return _nonfinite(value)
    if value == 0:
        return "0"
    mantissa, exponent = _scientific(value, digits)
    if SMALLEST_FIXED <= abs(value) < LARGEST_FIXED:
        decimals = max(0, digits - 1 - exponent)
        return _signed(_short(f"{value:,.{decimals}f}", value))
    shown = _short(f"{mantissa:.{digits - 1}f}", value / 10.0**exponent)
    bare = {"1": "", "-1": "-"}.get(shown)
    return _signed(f"{shown}×" if bare is None else bare) + power(exponent)


def power(exponent: int) -> str:
    """10 to the `exponent`, in superscripts."""
    return f"10{str(exponent).translate(SUPERSCRIPTS)}"


def factor(value: float | None) -> str:
    """A multiplier: ×3.62."""
    if value is None or math.isnan(value):
        return number(value)
    return f"×{number(value)}"


def compounded(value: float, times: int) -> str:
    """The multiplier that `value` comes to when it is applied so many times, whatever its size."""
    if not math.isfinite(value) or value <= 0:
        return factor(value if value != 0 or times else 1.0)
    exponent = times * math.log10(value)
    # Beyond the range of floats, the power alone is told.
    return factor(10.0**exponent) if abs(exponent) < 300 else f"×{power(round(exponent))}"


def interval(low: float | None, high: float | None) -> str:
    """`low` to `high`; half-open intervals as a bound."""
    if low is None and high is None:
        return ABSENT
    if low is None:
        return f"≤ {number(high)}"
    if high is None:
        return f"≥ {number(low)}"
    if number(low) == number(high):
        return number(low)
    return f"{number(low)} – {number(high)}"


def with_error(value: float, stderr: float | None) -> str:
    """`value` ± `stderr`, both to the second digit of the error."""
    if stderr is None or not math.isfinite(stderr) or not math.isfinite(value):
        return number(value)
    if stderr <= 0:
        return f"{number(value)} ± 0"
    size = max(abs(value), stderr)
    if SMALLEST_FIXED <= size < LARGEST_FIXED:
        exponent, scale, wrap = 0, 1.0, "{}"
    else:
        exponent = _scientific(size, 3)[1]
        scale, wrap = 10.0**exponent, "({})×" + power(exponent)
    decimals = min(6, max(0, 1 - math.floor(math.log10(stderr / scale))))
    shown = f"{_signed(f'{value / scale:,.{decimals}f}')} ± {stderr / scale:,.{decimals}f}"
    return wrap.format(shown) if exponent else shown


def share(value: float | None) -> str:
    """A share between 0 and 1 as per cent; a share that is not quite all or none never says so."""
    if value is None:
        return ABSENT
    if not math.isfinite(value):
        return _nonfinite(value)
    per_cent = 100 * value
    if 0 < per_cent < 0.1:
        return "< 0.1 %"
    if 99.9 < per_cent < 100:
        return "> 99.9 %"
    return f"{_short(f'{per_cent:.1f}', per_cent)} %"


def count(value: int) -> str:
    """A large count in short: 25.6 million."""
    for size, word in ((10**12, "trillion"), (10**9, "billion"), (10**6, "million")):
        if value >= size:
            return f"{number(value / size)} {word}"
    return f"{value:,}"


def short(value: float) -> str:
    """A large count for a narrow column: 116 M; exact up to 999."""
    for exponent, prefix in ((12, "T"), (9, "G"), (6, "M"), (3, "k")):
        # From 999.5 on, three digits round up to the next prefix.
        if value >= 0.9995 * 10**exponent:
            return f"{number(value / 10**exponent)} {prefix}"
    return number(value)


def memory(value: int) -> str:
    """Bytes in binary units: 512 B, 3.06 MiB."""
    for exponent, unit in ((40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")):
        if value >= 2**exponent:
            return f"{number(value / 2**exponent)} {unit}"
    return f"{value} B"


def seconds(value: float) -> str:
    """A duration: 0.41 s, 12 s, 3 min 20 s."""
    if value < 60:
        return f"{value:.2g} s" if value < 10 else f"{value:.0f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest} s"


def _scientific(value: float, digits: int) -> tuple[float, int]:
    """Mantissa and exponent after rounding, so that 9.999 counts as 10.0."""
    mantissa, _, exponent = f"{value:.{digits - 1}e}".partition("e")
    return float(mantissa), int(exponent)


def _short(shown: str, value: float) -> str:
    """Without trailing zeros, where they would only stand for exactness."""
    if "." not in shown:
        return shown
    stripped = shown.rstrip("0").rstrip(".")
    exact = math.isclose(float(stripped.replace(",", "")), value, rel_tol=1e-9)
    return stripped if exact else shown


def _signed(shown: str) -> str:
    return shown.replace("-", "−")


def _nonfinite(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return "∞" if value > 0 else "−∞"
