"""What values an input is taken to hold."""

import numpy as np
import pytest
from builders import GraphBuilder

from auditor.errors import ProbeFailed
from auditor.graph.operators import Op
from auditor.probe.domains import domain_of
from auditor.probe.laws import Sparse, Uniform


@pytest.fixture
def draw():
    """Draw values for the one input of a chain of calls."""

    def run(*chain, shape=(8,), dtype="float32"):
        builder = GraphBuilder()
        call = builder.input(shape, dtype)
        for op, options in chain:
            call = builder.add(op, call, **options)
        graph = builder.graph(call)
        sizes = (64, *(size or 8 for size in shape))
        return domain_of(graph, graph.inputs[0]).draw(np.random.default_rng(0), sizes)

    return run


def embedding(rows, **config):
    return Op.EMBEDDING, {"config": {"input_dim": rows, **config}}


def test_token_ids_cover_the_table_and_stay_inside(draw):
    ids = draw(embedding(50), dtype="int32")
    assert ids.min() == 0
    assert ids.max() == 49


def test_token_ids_keep_off_the_padding(draw):
    assert draw(embedding(50, mask_zero=True), dtype="int32").min() == 1
    assert draw(embedding(1, mask_zero=True), dtype="int32").max() == 0


def test_token_ids_are_seen_through_shapes_and_float_inputs(draw):
    chain = [(Op.RESHAPE, {}), (Op.CAST, {}), embedding(7)]
    values = draw(*chain, dtype="float32")
    assert set(np.unique(values)) == set(range(7))


def test_the_smallest_of_several_tables_bounds_the_ids():
    builder = GraphBuilder()
    tokens = builder.input((8,), "int32")
    left = builder.add(Op.EMBEDDING, tokens, config={"input_dim": 100})
    right = builder.add(Op.EMBEDDING, tokens, config={"input_dim": 30})
    graph = builder.graph(builder.add(Op.ADD, left, right))
    values = domain_of(graph, graph.inputs[0]).draw(np.random.default_rng(0), (64, 8))
    assert values.max() == 29


@pytest.mark.parametrize(
    ("scale", "low", "high"), [(1 / 255, 0, 255), (1 / 127.5, 0, 255), (1.0, -5, 5)]
)
def test_bytes_go_into_a_rescaling_that_shrinks_them(draw, scale, low, high):
    rescaling = (Op.SCALE, {"kind": "Rescaling", "config": {"scale": scale, "offset": 0.0}})
    values = draw(rescaling, shape=(8, 8, 3))
    assert low <= values.min() < low + 0.2 * (high - low)
    assert high >= values.max() > high - 0.2 * (high - low)


def test_a_normalization_is_given_what_it_takes_away(draw):
    moments = {"mean": [100.0, -3.0], "variance": [4.0, 0.25], "axis": -1}
    values = draw((Op.SCALE, {"kind": "Normalization", "config": moments}), shape=(16, 2))
    assert values.mean(axis=(0, 1)) == pytest.approx([100.0, -3.0], abs=0.3)
    assert values.std(axis=(0, 1)) == pytest.approx([2.0, 0.5], rel=0.1)


def test_a_normalization_is_undone_along_its_own_axes(draw):
    moments = {"mean": [1.0, 200.0, 3.0], "variance": [1.0, 4.0, 9.0], "axis": [1]}
    normalization = (Op.SCALE, {"kind": "Normalization", "config": moments})
    values = draw(normalization, shape=(3, 40))
    assert values.mean(axis=(0, 2)) == pytest.approx([1.0, 200.0, 3.0], abs=0.3)
    assert values.std(axis=(0, 2)) == pytest.approx([1.0, 2.0, 3.0], rel=0.1)
    # Moments of the samples of a batch are no law for a sample.
    moments["axis"] = [0]
    assert abs(draw(normalization, shape=(3, 40)).mean()) < 0.1


def test_whole_numbers_have_the_moments_of_a_normalization(draw):
    moments = {"mean": [1000.0, 50.0], "variance": [100.0, 25.0], "axis": -1}
    normalization = (Op.SCALE, {"kind": "Normalization", "config": moments})
    values = draw(normalization, shape=(30, 2), dtype="int32")
    assert np.array_equal(values, np.rint(values))
    assert values.mean(axis=(0, 1)) == pytest.approx([1000.0, 50.0], abs=2.0)
    assert values.std(axis=(0, 1)) == pytest.approx([10.0, 5.0], rel=0.1)
    assert draw(normalization, shape=(30, 2), dtype="uint8").max() <= 255


@pytest.mark.parametrize(
    ("dtype", "scale", "offset", "low", "high"),
    [
        ("uint8", 1 / 255, 0.0, 0, 255),
        ("int32", 1 / 127.5, -1.0, 0, 255),
        ("int8", 1 / 128, 0.0, -128, 127),
        ("int16", 1 / 32768, 0.0, -32768, 32767),
        ("uint16", 1 / 65535, 0.0, 0, 65535),
        ("uint16", 2 / 65535, -1.0, 0, 65535),
        ("float32", 1 / 32768, 0.0, -32768, 32767),
        ("float32", 1 / 65535, 0.0, 0, 65535),
        ("float16", 1 / 65535, 0.0, 0, 65504),
    ],
)
def test_a_rescaling_is_given_what_fills_its_range(draw, dtype, scale, offset, low, high):
    config = {"scale": scale, "offset": offset}
    values = draw((Op.SCALE, {"kind": "Rescaling", "config": config}), shape=(40, 40), dtype=dtype)
    span = high - low
    assert low <= values.min() < low + 0.01 * span
    assert high - 0.01 * span < values.max() <= high
    if "int" in dtype:
        assert np.array_equal(values, np.rint(values))


def preprocessing(kind, **config):
    return Op.PREPROCESSING, {"kind": kind, "config": config}


@pytest.mark.parametrize("dtype", ["float32", "int32"])
def test_every_bin_of_a_discretization_is_hit(draw, dtype):
    boundaries = [18, 30, 45, 65]
    values = draw(preprocessing("Discretization", bin_boundaries=boundaries), dtype=dtype)
    counts = np.bincount(np.digitize(values.ravel(), boundaries), minlength=5)
    assert (counts > values.size / 10).all()
    assert values.min() >= 5
    assert values.max() <= 86
    single = draw(preprocessing("Discretization", bin_boundaries=[1000.0]))
    assert 0.3 < np.mean(single < 1000.0) < 0.7


@pytest.mark.parametrize("boundaries", [None, [], [3.0, 1.0], ["a"], [0.0, float("nan")], 7])
def test_boundaries_that_are_none_say_nothing(draw, boundaries):
    values = draw(preprocessing("Discretization", bin_boundaries=boundaries))
    assert abs(values.mean()) < 0.2


def test_lookups_and_hashes_of_whole_numbers(draw):
    known = draw(preprocessing("IntegerLookup", vocabulary=[10, 300, -7]), dtype="int64")
    assert set(np.unique(known)) == {10, 300, -7}
    # A name is of a file of them.
    assert set(np.unique(draw(preprocessing("IntegerLookup", vocabulary="v"), dtype="int64"))) == {
        0,
        1,
    }
    assert draw(preprocessing("IntegerLookup", vocabulary=[10, 300]), dtype="int8").max() == 10
    for kind in ("Hashing", "HashedCrossing"):
        assert np.unique(draw(preprocessing(kind, num_bins=6), dtype="int32")).size > 24
    classes = draw(preprocessing("OneHot", num_classes=12), dtype="int32")
    assert set(np.unique(classes)) == set(range(12))


def test_ids_stay_within_a_narrow_dtype(draw):
    ids = draw(embedding(1000), shape=(64,), dtype="int8")
    assert (ids.min(), ids.max()) == (0, 127)


def test_the_weights_of_tokens_are_no_tokens():
    builder = GraphBuilder()
    tokens, weights = builder.input((4,), "int32"), builder.input((4,))
    config = {"num_tokens": 6, "output_mode": "count"}
    graph = builder.graph(
        builder.add(Op.PREPROCESSING, tokens, weights, kind="CategoryEncoding", config=config)
    )
    of_tokens, of_weights = (domain_of(graph, spec) for spec in graph.inputs)
    rng = np.random.default_rng(0)
    assert set(np.unique(of_tokens.draw(rng, (64, 4)))) == set(range(6))
    drawn = of_weights.draw(rng, (64, 4))
    assert 0.0 <= drawn.min() < drawn.max() < 1.0
    assert np.unique(drawn).size == drawn.size


def test_a_sparse_law_leaves_no_row_empty():
    drawn = Sparse(law=Uniform(low=1.0, high=2.0)).draw(np.random.default_rng(0), (400, 50))
    assert (drawn != 0).any(axis=1).all()
    assert 0.09 < np.mean(drawn != 0) < 0.13


def test_text_cannot_be_drawn(draw):
    with pytest.raises(ProbeFailed, match="takes text"):
        draw((Op.PREPROCESSING, {}), shape=(1,), dtype="string")


def test_masks_leave_something_of_every_sample(draw):
    mask = draw((Op.WHERE, {}), dtype="bool")
    assert mask.dtype == bool
    assert mask[:, 0].all()
    assert not mask.all()
