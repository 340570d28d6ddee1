"""The facts of data against NumPy's own figures, block by block and from odd files."""

import subprocess
import sys

import numpy as np
import pytest
from builders import GraphBuilder
from surveyed import surveyed

from auditor.errors import UsageError
from auditor.graph import LayerGraph
from auditor.measurement import ArrayFacts, DataFacts
from auditor.probe import data_survey
from auditor.probe.data_survey import survey

RNG = np.random.default_rng(0)


def graph(*shape: int, units: int = 1, loss: str | None = "mean_squared_error") -> LayerGraph:
    build = GraphBuilder()
    return build.graph(build.dense(build.input(shape or (3,)), units), loss=loss)


def saved(tmp_path, **arrays) -> DataFacts:
    np.savez(tmp_path / "d.npz", **arrays)
    return survey(tmp_path / "d.npz", graph())


def check(facts: ArrayFacts, array: np.ndarray) -> None:
    finite = array[np.isfinite(array)].astype(np.float64)
    assert facts.shape == array.shape
    assert facts.nonfinite == array.size - finite.size
    assert (facts.minimum, facts.maximum) == (finite.min(), finite.max())
    assert facts.mean == pytest.approx(finite.mean())
    assert facts.deviation == pytest.approx(finite.std())
    assert facts.whole == pytest.approx((finite == np.floor(finite)).mean())


def check_bounds(facts: ArrayFacts, array: np.ndarray) -> None:
    assert facts.above_one == pytest.approx((array > 1.001).mean())
    assert facts.below_zero == pytest.approx((array < -0.001).mean())
    assert facts.below_minus_one == pytest.approx((array < -1.001).mean())


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "uint8", "int64"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("block", [7, 2**20])
def test_figures_are_numpys(monkeypatch, dtype, order, block) -> None:
    monkeypatch.setattr(data_survey, "BLOCK_VALUES", block)
    x = np.array(RNG.normal(2, 30, (50, 3)).astype(dtype), order=order)
    data = surveyed(graph(), x, x)
    (facts,) = data.inputs
    check(facts, x)
    check(data.targets[0], x)
    check_bounds(data.targets[0], x)
    assert facts.seen == 50
    assert facts.features.count == 3
    deviations = x.astype(np.float64).std(axis=0)
    assert facts.features.widest == (deviations.argmax(), pytest.approx(deviations.max()))
    assert facts.features.narrowest == (deviations.argmin(), pytest.approx(deviations.min()))


@pytest.mark.parametrize("block", [4, 2**20])
def test_nan_and_infinities_are_counted_and_left_out(monkeypatch, block) -> None:
    monkeypatch.setattr(data_survey, "BLOCK_VALUES", block)
    x = RNG.normal(0, 1, (40, 3))
    x[3, 1], x[17, 0], x[18, 0] = np.nan, np.inf, -np.inf
    x[:, 2] = 7.0
    x[5, 2] = np.nan
    facts = surveyed(graph(), x)
    check(facts.inputs[0], x)
    assert facts.inputs[0].features.constant == 1
    assert facts.nonfinite == ("x: 4 of 120 values",)


def test_nothing_but_nan_has_no_figures() -> None:
    (facts,) = surveyed(graph(), np.full((5, 3), np.nan)).inputs
    assert facts.nonfinite == 15
    assert (facts.minimum, facts.mean, facts.root_mean_square) == (None, None, None)


def test_a_mean_far_from_zero_leaves_the_deviation_exact(monkeypatch) -> None:
    monkeypatch.setattr(data_survey, "BLOCK_VALUES", 30)
    x = 1e9 + RNG.normal(0, 1, (1000, 3))
    (facts,) = surveyed(graph(), x).inputs
    assert facts.deviation == pytest.approx(x.std(), rel=1e-6)


def test_classes_are_counted(monkeypatch) -> None:
    monkeypatch.setattr(data_survey, "BLOCK_VALUES", 8)
    y = np.repeat([0, 2, 5], [10, 20, 3])
    data = surveyed(graph(), np.zeros((33, 3)), y)
    assert data.targets[0].distinct == ((0.0, 10), (2.0, 20), (5.0, 3))
    assert data.targets[0].class_counts == {0.0: 10, 2.0: 20, 5.0: 3}
    rows = np.eye(6, dtype=np.uint8)[y]
    (facts,) = surveyed(graph(units=6), np.zeros((33, 3)), rows).targets
    assert (facts.rows.one_hot, facts.rows.distributions, facts.rows.several) == (1.0, 1.0, 0.0)
    assert facts.rows.counts == (10, 0, 20, 0, 0, 3)


def test_rows_of_several_kinds() -> None:
    y = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0], [0.2, 0.3, 0.5], [np.nan, 1, 0]])
    (facts,) = surveyed(graph(units=3), np.zeros((5, 3)), y).targets
    rows = facts.rows
    assert (rows.one_hot, rows.several, rows.empty, rows.distributions) == (0.2, 0.2, 0.2, 0.4)


def test_more_values_than_are_told_apart(monkeypatch) -> None:
    monkeypatch.setattr(data_survey, "MOST_DISTINCT", 5)
    for y, distinct in ((np.arange(30) % 5, 5), (np.arange(30) % 6, 0)):
        (facts,) = surveyed(graph(), np.zeros((30, 3)), y).targets
        assert len(facts.distinct) == distinct


def test_an_even_spread_of_a_large_array_is_looked_at(monkeypatch) -> None:
    monkeypatch.setattr(data_survey, "BLOCK_VALUES", 30)
    monkeypatch.setattr(data_survey, "MOST_VALUES", 300)
    x = np.repeat(np.arange(100.0), 10)[:, None] * np.ones(3)
    x[999, 2] = np.nan
    (facts,) = surveyed(graph(), x).inputs
    assert facts.sampled
    assert 80 <= facts.seen <= 110
    assert facts.nonfinite == 1, "counted in all of them"
    assert facts.mean == pytest.approx(x[np.isfinite(x)].mean(), rel=0.06), "not its beginning"


def test_columns_that_are_too_large_to_be_read_at_once_are_left(monkeypatch) -> None:
    monkeypatch.setattr(data_survey, "MOST_COLUMN_BYTES", 100)
    (facts,) = surveyed(graph(), np.asfortranarray(RNG.normal(0, 1, (50, 3)))).inputs
    assert facts.seen == 0
    assert facts.minimum is None


def test_text_is_told_and_not_read() -> None:
    (facts,) = surveyed(graph(), np.zeros((3, 3)), np.array(["a", "b", "c"])).targets
    assert facts.textual
    assert facts.minimum is None


def test_compressed_files_and_names_of_inputs(tmp_path) -> None:
    model = graph()
    arrays = {model.inputs[0].name: np.ones((4, 3)), "y": np.zeros(4), "other": np.ones(4)}
    np.savez_compressed(tmp_path / "d.npz", **arrays)
    facts = survey(tmp_path / "d.npz", model)
    assert (facts.title, facts.samples) == ("d.npz", 4)
    assert [array.name for array in facts.arrays] == [model.inputs[0].name, "y"]
    assert facts.unbound == ()


def test_arrays_that_belong_to_nothing_are_said(tmp_path) -> None:
    facts = saved(tmp_path, images=np.ones((4, 3)))
    assert facts.arrays == ()
    assert len(facts.unbound) == 2


def test_several_outputs_of_which_one_has_a_loss() -> None:
    from auditor.graph import LossSettings

    build = GraphBuilder()
    trunk = build.dense(build.input((3,)), 4)
    first, second = build.dense(trunk, 1), build.dense(trunk, 2)
    one = build.graph(first, second, loss=(LossSettings(name="mse", output=second),))
    (facts,) = surveyed(one, np.zeros((4, 3)), np.ones((4, 2))).targets
    assert facts.place == 1
    both = build.graph(first, second, loss="mse")
    facts = surveyed(both, np.zeros((4, 3)), [np.ones(4), np.zeros((4, 2))])
    assert [target.place for target in facts.targets] == [0, 1]


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"x": np.array(3.0)}, "single number"),
        ({"x": np.ones((4, 3)), "y": np.ones(3)}, "differ in their number of samples"),
        ({"x": np.ones((0, 3))}, "holds no samples"),
        ({}, "holds no arrays"),
    ],
)
def test_what_are_no_samples_is_a_usage_error(tmp_path, arrays, words) -> None:
    with pytest.raises(UsageError, match=words):
        saved(tmp_path, **arrays)


def test_damaged_files_are_one_line(tmp_path) -> None:
    path = tmp_path / "d.npz"
    np.savez(path, x=np.ones((1000, 3)))
    whole = path.read_bytes()
    for damaged in (
        b"",
        b"PK\x03\x04",
        whole[: len(whole) // 2],
        whole.replace(b"NUMPY", b"XUMPY"),
    ):
        path.write_bytes(damaged)
        with pytest.raises(UsageError, match=r"d\.npz: "):
            survey(path, graph())
    np.savez(path, x=np.array([{}], object))
    with pytest.raises(UsageError, match="Python objects"):
        survey(path, graph())


def test_an_array_shorter_than_its_header_says(tmp_path) -> None:
    import io
    import zipfile

    stream = io.BytesIO()
    np.save(stream, np.ones((1000, 3)))
    with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
        archive.writestr("x.npy", stream.getvalue()[:-8])
    with pytest.raises(UsageError, match="cannot be read"):
        survey(tmp_path / "d.npz", graph())


def test_no_framework_is_imported() -> None:
    command = (
        "import sys, auditor.probe.data_survey; "
        "sys.exit(bool({'keras', 'tensorflow', 'jax', 'torch'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", command], check=False).returncode == 0
