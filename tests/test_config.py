"""Configuration files: found upward, read strictly, overridden by the command line."""

from dataclasses import replace
from pathlib import Path

import pytest

from auditor.config import Settings, nearest_config, read_config
from auditor.errors import UsageError
from auditor.finding import Severity
from auditor.formats import DEFAULT_LIMITS


def write(folder: Path, name: str, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(text)
    return path


def test_nearest_file_upward_wins(tmp_path: Path) -> None:
    write(tmp_path, "geb-audit.toml", "seed = 1")
    near = write(tmp_path / "a", "pyproject.toml", "[tool.geb-audit]\nseed = 2")
    assert nearest_config(tmp_path / "a") == near


def test_own_file_goes_before_pyproject(tmp_path: Path) -> None:
    write(tmp_path, "pyproject.toml", "[tool.geb-audit]\nseed = 2")
    own = write(tmp_path, "geb-audit.toml", "seed = 1")
    assert nearest_config(tmp_path) == own


def test_pyproject_without_our_table_is_passed_over(tmp_path: Path) -> None:
    far = write(tmp_path, "geb-audit.toml", "seed = 1")
    write(tmp_path / "a", "pyproject.toml", "[tool.other]\nx = 1")
    assert nearest_config(tmp_path / "a") == far


def test_reads_every_kind_of_value(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "geb-audit.toml",
        """
        probe = false
        fail-on = "warning"
        batch-size = 8
        learning-rate = 1
        select = ["GEB1", "GEB5"]
        [rules.GEB402]
        severity = "info"
        maximum-rate = 0.9
        """,
    )
    values, origin = read_config(path)
    settings = Settings(**values)
    assert settings.probe is False
    assert settings.fail_on == "warning"
    assert settings.batch_size == 8
    assert settings.learning_rate == 1.0
    assert settings.select == ("GEB1", "GEB5")
    assert settings.severities == {"GEB402": Severity.INFO}
    assert settings.options == {"GEB402": {"maximum-rate": 0.9}}
    assert set(origin.values()) == {str(path)}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sead = 1", "unknown setting 'sead'"),
        ("seed = '1'", "seed must be a whole number"),
        ("seed = -1", "seed must be a whole number of at least 0"),
        ("seed = true", "seed must be a whole number"),
        ("probe = 1", "probe must be true or false"),
        ("fail-on = 'fatal'", "fail-on must be one of error, warning, info, never"),
        ("select = 'GEB1'", "select must be a list of strings"),
        ("timeout = 0", "timeout must be a positive number"),
        ("timeout = nan", "timeout must be a positive number"),
        ("learning-rate = inf", "learning-rate must be a positive number"),
        ("learning-rate = 1" + "0" * 400, "learning-rate must be a positive number"),
        ("backend = 'foo'", "backend must be one of tensorflow, jax, torch"),
        ("loss = ''", "loss must be a name"),
        ("rules = 3", "`rules` must hold one table a rule"),
        ("rules.GEB402.severity = 'bad'", "severity must be one of info, warning, error"),
        ("rules.GEB402.rate = [1]", "must be a single value"),
        ("seed = ", "not valid TOML"),
        # What lifts a protection is never taken from a file that travels with a repository.
        ("unsafe = true", "unknown setting 'unsafe'"),
    ],
)
def test_bad_file_gives_one_line(tmp_path: Path, text: str, said: str) -> None:
    path = write(tmp_path, "geb-audit.toml", text)
    with pytest.raises(UsageError, match=r"geb-audit\.toml") as caught:
        read_config(path)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_settings_lines_are_valid_toml_and_say_where_from(tmp_path: Path) -> None:
    import tomllib

    lines = Settings(seed=7, severities={"GEB402": Severity.INFO}).lines({"seed": "command line"})
    text = "\n".join(lines)
    assert tomllib.loads(text)["seed"] == 7
    assert tomllib.loads(text)["rules"]["GEB402"]["severity"] == "info"
    assert any("seed = 7" in line and "command line" in line for line in lines)
    assert any("batches = 3" in line and "default" in line for line in lines)


def test_settings_that_are_shown_can_be_read_again(tmp_path: Path) -> None:
    settings = Settings(seed=7, severities={"GEB402": Severity.INFO}, learning_rate=0.5)
    values, _ = read_config(write(tmp_path, "geb-audit.toml", "\n".join(settings.lines({}))))
    assert Settings(**values) == settings


def test_limits_of_the_readers(tmp_path: Path) -> None:
    path = write(tmp_path, "geb-audit.toml", "[limits]\nseconds = 5\njson-depth = 40\n")
    values, origin = read_config(path)
    settings = Settings(**values)
    assert settings.limits == replace(DEFAULT_LIMITS, seconds=5.0, json_depth=40)
    shown = "\n".join(settings.lines(origin))
    assert f"json-depth = 40                          # {path}" in shown
    assert "members = 100000                         # default" in shown


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("limits = 3", "must be a table"),
        ("[limits]\nnonsense = 3", "unknown limit 'nonsense'; there are calls"),
        ("[limits]\nmembers = 0", "members must be a whole number of at least 1"),
        ("[limits]\nseconds = true", "seconds must be a positive number"),
    ],
)
def test_wrong_limits(tmp_path: Path, text: str, line: str) -> None:
    with pytest.raises(UsageError, match=line):
        read_config(write(tmp_path, "geb-audit.toml", text))
