"""The Jacobian of every call at once: its largest singular value and its Frobenius norm."""

from __future__ import annotations

import itertools
import math
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from auditor.measurement import Estimate, JacobianMeasurement
from auditor.probe.blocks import Block, Linearizer
from auditor.probe.closed_form import batch_normalization_norms, frobenius_norm, has_frobenius_norm
from auditor.probe.estimates import exact, ritz_value, sampled
from auditor.probe.estimators.deflation import Deflation
from auditor.probe.estimators.explicit import ExplicitJacobians
from auditor.probe.estimators.golub_kahan import Bidiagonalisation, NotAdjoint, RitzValues
from auditor.probe.estimators.hutchinson import FrobeniusEstimate, frobenius, signs
from auditor.probe.estimators.pattern import PatternNorms
from auditor.probe.recording import RecordedCall
from auditor.probe.structure import (
    Structure,
    is_affine,
    may_couple_samples,
    normalizes_batch,
    runs_by_sample,
    structure_of,
)
from auditor.probe.training_pass import first_line

Array = np.ndarray[Any, Any]
Progress = Callable[[str], None]

#: Samples whose Jacobians are measured, at most.
SAMPLES = 4
#: Sides up to here are written out whole, matrices up to so many entries.
EXPLICIT_SIDE, EXPLICIT_ENTRIES = 128, 2**21
#: Outputs up to which a Jacobian is written out by pulls where it cannot be pushed along.
PULLS = 512
#: Golub–Kahan steps and draws of signs. What a small block costs more goes unnoticed.
STEPS, DRAWS = 8, 4
SMALL_STEPS, SMALL_DRAWS = 16, 64
SMALL_VALUES = 2**15
#: Values in the vectors of blocks that are worked on together, at most; the rest comes after.
SEGMENT_VALUES = 2**26
#: And calls: XLA's time to compile grows faster than their number.
SEGMENT_CALLS = 64

NO_INPUT = "its input holds no floating-point numbers: there is nothing to differentiate for"
NO_OUTPUT = "its output holds no floating-point numbers"
NOT_FINITE = "its Jacobian is not finite here"


@dataclass(kw_only=True)
class Jacobians:
    """Measurements by call id, and why a call has none."""

    found: dict[str, JacobianMeasurement] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)


def measure_jacobians(
    calls: Sequence[RecordedCall], linearizer: Linearizer, *, seed: int, progress: Progress
) -> Jacobians:
    """Measure the Jacobians of the calls of one pass.

    `seed` is that of the random vectors; `progress` is told each step.
    """
    run = _Run(linearizer=linearizer, seed=seed, progress=progress)
    pattern: list[tuple[Block, Structure]] = []
    explicit: list[Block] = []
    others: list[Block] = []
    for block, structure in run.blocks(calls):
        if structure is not Structure.GENERAL:
            pattern.append((block, structure))
        elif _is_explicit(block):
            explicit.append(block)
        else:
            others.append(block)
    for some in _of_most(pattern, SEGMENT_CALLS):
        run.apart(run.pattern, some)
    for some in _of_most(explicit, SEGMENT_CALLS):
        run.apart(partial(run.explicit, pulled=EXPLICIT_SIDE), some)
    for small, steps, draws in ((True, SMALL_STEPS, SMALL_DRAWS), (False, STEPS, DRAWS)):
        work = partial(run.bidiagonalise, steps=steps, draws=draws)
        sized = [block for block in others if (block.values <= SMALL_VALUES) is small]
        # Apart, so that draws of signs are spent on those alone that need them.
        for closed in (True, False):
            kind = [block for block in sized if has_frobenius_norm(block.call) is closed]
            for segment in _segments(kind, kept=0 if closed else steps):
                run.apart(work, segment)
    return run.result


@dataclass(kw_only=True)
class _Run:
    """One measurement under way."""

    linearizer: Linearizer
    seed: int
    progress: Progress
    result: Jacobians = field(default_factory=Jacobians)

    def apart(self, work: Callable[[Sequence[Any]], None], blocks: Sequence[Any]) -> None:
        """Work on blocks together; where that fails, on halves, down to the one it is due to."""
        if not blocks:
            return
        try:
            work(blocks)
        except Exception as error:  # of a kernel that is missing, or of memory
            if len(blocks) == 1:
                block = blocks[0][0] if isinstance(blocks[0], tuple) else blocks[0]
                self.result.skipped[block.id] = _why_no_derivative(error)
                return
            half = len(blocks) // 2
            self.apart(work, blocks[:half])
            self.apart(work, blocks[half:])

    def blocks(self, calls: Sequence[RecordedCall]) -> list[tuple[Block, Structure]]:
        """The calls as blocks with as many rows as they have independent samples."""
        made: list[tuple[Block, Structure]] = []
        doubtful: list[RecordedCall] = []
        for call in calls:
            if not call.inputs or not sum(math.prod(t.shape) for t in call.inputs):
                self.result.skipped[call.id] = NO_INPUT
            elif not call.outputs or not sum(math.prod(shape) for shape, _ in call.outputs):
                self.result.skipped[call.id] = NO_OUTPUT
            elif normalizes_batch(call) and self._normalization(call):
                continue
            elif not call.per_sample:
                made.append((Block(call, rows=1), structure_of(call)))
            elif structure_of(call) is Structure.DIAGONAL or (
                structure_of(call) is Structure.SELECTION and not may_couple_samples(call)
            ):
                few = _few(call)
                made.append((Block(few, rows=few.batch), structure_of(few)))
            elif call.batch > 1 and may_couple_samples(call):
                doubtful.append(call)
            else:
                few = call.of_samples(1) if is_affine(call) else _few(call)
                made.append((Block(few, rows=few.batch), structure_of(few)))
        couples = self._couples(doubtful)
        for call in doubtful:
            if call.id in self.result.skipped:
                continue
            few = call if couples[call.id] else _few(call)
            rows = 1 if couples[call.id] else few.batch
            made.append((Block(few, rows=rows), structure_of(few)))
        return made

    def pattern(self, blocks: Sequence[tuple[Block, Structure]]) -> None:
        """Blocks whose pattern of non-zero entries is known."""
        self.progress(f"Jacobians: {len(blocks)} calls in closed form")
        estimator = PatternNorms(self.linearizer, blocks)
        norms = estimator.norms()
        self._fail(estimator.failed)
        for block, structure in blocks:
            if block.id in norms:
                spectral, whole = norms[block.id]
                method = f"exact, {structure.value} Jacobian"
                self._keep(
                    block,
                    exact(spectral, method, products=1),
                    exact(whole, method, products=1),
                )

    def explicit(self, blocks: Sequence[Block], *, pulled: int) -> None:
        """Blocks small enough to be written out; by pulls alone up to so many outputs."""
        self.progress(f"Jacobians: {len(blocks)} calls written out")
        estimator = ExplicitJacobians(self.linearizer, blocks, pulled=pulled)
        singular = estimator.singular_values()
        self._fail(estimator.failed)
        for block in blocks:
            if block.id in singular:
                values = singular[block.id]
                method = "exact, singular values of the whole Jacobian"
                products = values.shape[1]
                whole = np.sqrt(np.square(values).sum(axis=1))
                self._keep(
                    block,
                    exact(values[:, 0], method, products=products),
                    exact(whole, method, products=products),
                )

        self._by_pulls(
            [block for block in blocks if block.outputs > max(block.inputs, pulled)],
            estimator.failed,
        )

    def _by_pulls(self, blocks: Sequence[Block], failed: Mapping[str, Exception]) -> None:
        """Of blocks that were to be pushed along, those that have no derivative for it."""
        few = [
            block
            for block in blocks
            if block.id in failed
            and not isinstance(failed[block.id], NotAdjoint)
            and block.outputs <= PULLS
            and _entries(block) <= EXPLICIT_ENTRIES
        ]
        for block in few:
            del self.result.skipped[block.id]
        self.apart(partial(self.explicit, pulled=PULLS), few)

    def bidiagonalise(self, blocks: Sequence[Block], *, steps: int, draws: int) -> None:
        """Blocks by Golub–Kahan steps, and Hutchinson's draws where there is no closed form."""
        estimator = Bidiagonalisation(self.linearizer, blocks)
        start = [block.draw_inputs(self._rng(block, 0).standard_normal) for block in blocks]

        def on_step(step: int, of: int) -> None:
            self.progress(f"Jacobians: {len(blocks)} calls, step {step} of {of}")

        closed = all(has_frobenius_norm(block.call) for block in blocks)
        ritz = estimator.run(start, steps, on_step, keep_left=not closed)
        wholes = [] if closed else self._whole(estimator, blocks, ritz, draws)
        self._fail(estimator.failed)
        for index, (block, found) in enumerate(zip(blocks, ritz, strict=True)):
            if block.id in estimator.failed:
                continue
            if closed:
                norm = np.array([frobenius_norm(block.call)])
                whole = exact(norm, "closed form of its kernel", products=0)
            elif np.any((found.values == 0.0) & (wholes[index].values > 0.0)):
                # All of Jᵀ u and nothing of J v: the recursion had nothing to tell them apart by.
                self._fail({block.id: NotAdjoint()})
                continue
            else:
                whole = sampled(block, wholes[index])
            self._keep(block, ritz_value(block, found), whole)
        self._by_pulls(blocks, estimator.failed)

    def _whole(
        self,
        estimator: Bidiagonalisation,
        blocks: Sequence[Block],
        ritz: Sequence[RitzValues],
        draws: int,
    ) -> list[FrobeniusEstimate]:
        """‖J‖_F of each block: what its left vectors know of it, and draws of the rest."""
        deflation = Deflation(blocks, estimator.left)
        squares: list[list[Array]] = []
        for draw in range(draws):
            self.progress(f"Jacobians: {len(blocks)} calls, draw {draw + 1} of {draws}")
            # Of unit length, as products want them.
            units = [
                tuple(part / np.float32(math.sqrt(block.outputs)) for part in random)
                for block in blocks
                for random in [block.draw_outputs(signs(self._rng(block, 1 + draw)))]
            ]
            norms = estimator.pulled_norms(deflation.rest(units))
            squares.append(
                [block.outputs * np.square(n) for block, n in zip(blocks, norms, strict=True)]
            )
        return [
            frobenius(
                np.where(deflation.taken[index], found.row_squares, 0.0).sum(axis=1),
                [drawn[index] for drawn in squares],
                found.values,
            )
            for index, found in enumerate(ritz)
        ]

    def _normalization(self, call: RecordedCall) -> bool:
        """Normalization by the batch, if it has its closed form here."""
        norms = batch_normalization_norms(call)
        if norms is None:
            return False
        method = "closed form of batch normalization"
        block = Block(call, rows=1)
        spectral, whole = (exact(np.array([norm]), method, products=0) for norm in norms)
        self._keep(block, spectral, whole, couples=True)
        return True

    def _couples(self, calls: Sequence[RecordedCall]) -> dict[str, bool]:
        """Whether a cotangent of some samples reaches the inputs of others.

        Of any two samples, the numbers differ in a bit: cotangents of the samples that have it,
        and of those that have it not, tell for all pairs, which of two it is that depends on
        the other.
        """
        couples: dict[str, bool] = dict.fromkeys((call.id for call in calls), False)

        def work(blocks: Sequence[Block]) -> None:
            estimator = Bidiagonalisation(self.linearizer, blocks)
            bits = max((block.rows - 1).bit_length() for block in blocks)
            for bit, state in itertools.product(range(bits), (0, 1)):
                chosen = [np.arange(block.rows) >> bit & 1 == state for block in blocks]
                drawn = [
                    block.draw_outputs(_of_rows(self._rng(block, 0), rows))
                    for block, rows in zip(blocks, chosen, strict=True)
                ]
                found = estimator.pulled_norms(drawn)
                for block, rows, norms in zip(blocks, chosen, found, strict=True):
                    couples[block.id] |= bool((norms[~rows] != 0.0).any())
            self._fail(estimator.failed)

        self.progress(f"Jacobians: do samples meet in {len(calls)} calls")
        self.apart(work, [Block(call, rows=call.batch) for call in calls])
        return couples

    def _keep(
        self, block: Block, spectral: Estimate, whole: Estimate, *, couples: bool | None = None
    ) -> None:
        if not (math.isfinite(spectral.value) and math.isfinite(whole.value)):
            self.result.skipped[block.id] = NOT_FINITE
            return
        self.result.found[block.id] = JacobianMeasurement(
            spectral_norm=spectral,
            frobenius_norm=whole,
            inputs=block.inputs,
            outputs=block.outputs,
            samples=block.rows,
            couples_samples=block.rows == 1 and block.call.batch > 1
            if couples is None
            else couples,
        )

    def _fail(self, failed: Mapping[str, Exception]) -> None:
        for call_id, error in failed.items():
            self.result.skipped[call_id] = _why_no_derivative(error)

    def _rng(self, block: Block, stream: int) -> np.random.Generator:
        # By the call's name, so that a vector does not depend on what else is measured.
        return np.random.default_rng([self.seed, zlib.crc32(block.id.encode()), stream])


def _few(call: RecordedCall) -> RecordedCall:
    """The call with few samples, or as it is where it does not run with fewer.

    The batch may be fixed in its configuration, its state or a tensor that looks like one of it.
    """
    few = call.of_samples(SAMPLES)
    if few is call or runs_by_sample(call):
        return few
    try:
        made = few.floating_outputs(few.inputs)
    except Exception:  # whatever a layer says of shapes it does not expect
        return call
    shapes = [tuple(tensor.shape) for tensor in made]
    return few if shapes == [shape for shape, _ in few.outputs] else call


def _of_most(items: Sequence[Any], most: int) -> Iterable[Sequence[Any]]:
    return (items[begin : begin + most] for begin in range(0, len(items), most))


def _segments(blocks: Sequence[Block], *, kept: int) -> Iterable[list[Block]]:
    """The blocks in order, in runs that are compiled, and fit into memory, together.

    `kept` is how many vectors of the output's size stay meanwhile.
    """
    segment: list[Block] = []
    values = 0
    for block in blocks:
        more = block.values + kept * block.rows * block.outputs
        if len(segment) == SEGMENT_CALLS or (segment and values + more > SEGMENT_VALUES):
            yield segment
            segment, values = [], 0
        segment.append(block)
        values += more
    if segment:
        yield segment


def _is_explicit(block: Block) -> bool:
    side = min(block.inputs, block.outputs)
    return side <= EXPLICIT_SIDE and _entries(block) <= EXPLICIT_ENTRIES


def _entries(block: Block) -> int:
    return block.rows * block.inputs * block.outputs


def _of_rows(rng: np.random.Generator, rows: Array) -> Callable[[tuple[int, ...]], Array]:
    """Draws in these rows alone, of about unit length; `rows` is a mask."""

    def draw(shape: tuple[int, ...]) -> Array:
        length = math.prod(shape) // len(rows)
        drawn = rng.standard_normal((len(rows), length)) / math.sqrt(max(length, 1))
        return np.where(rows[:, None], drawn, 0.0).reshape(shape)

    return draw


def _why_no_derivative(error: Exception) -> str:
    if isinstance(error, NotAdjoint):
        return str(error)
    return f"no derivative: {type(error).__name__}: {first_line(error)}"
