"""Singular values of kernels, against numpy's decomposition."""

import numpy as np
import pytest
from builders import GraphBuilder

from auditor.graph.kernel_spectrum import CORNER, edge, kernel_spectrum
from auditor.graph.weight import Weight


def kernel(values: np.ndarray, axes: tuple[int, ...] = (1,)) -> Weight:
    return GraphBuilder().weight("kernel", values.shape, values.astype(np.float32), axes)


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1, shape)


@pytest.mark.parametrize("shape", [(200, 30), (30, 200), (256, 256), (2, 2)])
def test_small_kernels_are_decomposed_exactly(shape: tuple[int, int]) -> None:
    values = draw(*shape)
    found = kernel_spectrum(kernel(values), above=0.0, rank_share=1.0)
    assert found is not None
    assert found.exact
    assert found.largest == pytest.approx(np.linalg.norm(values, 2), rel=1e-5)
    assert found.rank == min(shape)


def test_large_kernels_get_a_lower_bound() -> None:
    """A flat spectrum is the worst case for subspace iteration; an outlier converges."""
    values = draw(700, 600)
    flat = kernel_spectrum(kernel(values), above=0.0, rank_share=1.0)
    exact = np.linalg.norm(values, 2)
    assert flat is not None
    assert not flat.exact
    assert 0.9 * exact <= flat.largest <= exact * (1 + 1e-5)
    assert flat.rank is None
    values += 20 * np.outer(draw(700), draw(600, seed=1)) / 60
    steep = kernel_spectrum(kernel(values), above=0.0, rank_share=1.0)
    assert steep.largest == pytest.approx(np.linalg.norm(values, 2), rel=1e-5)


@pytest.mark.parametrize("rank", [1, 5, 40])
@pytest.mark.parametrize("size", [100, 600])
def test_rank(size: int, rank: int) -> None:
    values = draw(size, rank) @ draw(rank, size, seed=1)
    found = kernel_spectrum(kernel(values), above=np.inf, rank_share=0.5)
    assert found is not None
    assert found.rank == rank


def test_what_cannot_matter_is_not_decomposed() -> None:
    found = kernel_spectrum(kernel(draw(300, 300)), above=100.0, rank_share=0.1)
    assert found is not None
    assert found.largest is None
    assert found.rank is None
    assert found.dead == 0


def test_convolutions_are_matrices_of_their_units() -> None:
    values = draw(3, 3, 8, 32)
    found = kernel_spectrum(kernel(values, (3,)), above=0.0, rank_share=1.0)
    assert (found.inputs, found.units) == (72, 32)
    assert found.largest == pytest.approx(np.linalg.norm(values.reshape(72, 32), 2), rel=1e-5)
    turned = kernel_spectrum(kernel(np.moveaxis(values, 3, 0), (0,)), above=0.0, rank_share=1.0)
    assert turned.largest == pytest.approx(found.largest, rel=1e-6)


def test_dead_units_are_counted_over_all_inputs() -> None:
    values = draw(5000, 200)
    values[:, 50:90] = 0
    values[1::2, :50] = 0  # weights at inputs that are not looked at
    values[0::3, :50] = 0
    found = kernel_spectrum(kernel(values), above=np.inf, rank_share=0.1)
    assert found.inputs < 5000
    assert found.dead == 40


@pytest.mark.parametrize("scale", [1e-38, 1e-20, 1e20, 3e37])
def test_any_scale(scale: float) -> None:
    values = (draw(60, CORNER) * scale).astype(np.float32)
    found = kernel_spectrum(kernel(values), above=0.0, rank_share=1.0)
    assert found.largest == pytest.approx(np.linalg.norm(values.astype(float), 2), rel=1e-4)
    assert found.rank == CORNER


def test_no_kernel_no_spectrum() -> None:
    assert kernel_spectrum(kernel(draw(8), ()), above=0.0, rank_share=1.0) is None
    assert kernel_spectrum(kernel(draw(8, 1)), above=0.0, rank_share=1.0) is None
    bad = draw(8, 8)
    bad[1, 1] = np.nan
    assert kernel_spectrum(kernel(bad), above=0.0, rank_share=1.0) is None


def test_edge_is_where_draws_end() -> None:
    largest = np.linalg.norm(0.3 * draw(900, 400) + 0.1, 2)
    assert largest == pytest.approx(edge(900, 400, 0.09, 0.1), rel=0.25)
    assert np.linalg.norm(0.3 * draw(900, 400), 2) == pytest.approx(edge(900, 400, 0.09), rel=0.02)
