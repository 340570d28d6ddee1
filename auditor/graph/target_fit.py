"""Targets against the output and the loss they are for: what does not go together, and why."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass

from auditor.graph.compile_settings import LossSettings
from auditor.graph.heads import Head, heads, loss_of
from auditor.graph.layer_graph import LayerGraph
from auditor.measurement import ArrayFacts, DataFacts

BY_NUMBER = "sparse_categorical_crossentropy"
#: Losses that take a row of probabilities a sample.
BY_ROW = frozenset(
    {
        *("categorical_crossentropy", "categorical_focal_crossentropy"),
        *("kl_divergence", "kullback_leibler_divergence"),
    }
)
BINARY = frozenset({"binary_crossentropy", "binary_focal_crossentropy"})
HINGE = frozenset({"hinge", "squared_hinge"})
#: Losses of the distance between output and target.
DISTANCE = frozenset(
    {
        *("mean_squared_error", "mse", "mean_absolute_error", "mae"),
        *("huber", "huber_loss", "log_cosh", "logcosh"),
    }
)
#: Losses that take no negative targets: by a logarithm, or as counts.
NOT_NEGATIVE = frozenset({"mean_squared_logarithmic_error", "msle", "poisson"})
RELATIVE = frozenset({"mean_absolute_percentage_error", "mape"})
#: Lowest and highest value that an activation comes to, None where there is no bound.
RANGES: dict[str, tuple[float | None, float | None]] = {
    **dict.fromkeys(("tanh", "hard_tanh", "softsign"), (-1.0, 1.0)),
    **dict.fromkeys(("sigmoid", "hard_sigmoid", "sparse_sigmoid"), (0.0, 1.0)),
    **dict.fromkeys(("softmax", "sparsemax"), (0.0, 1.0)),
    **dict.fromkeys(("relu", "softplus", "exponential", "sparse_plus"), (0.0, None)),
    **dict.fromkeys(("elu", "celu"), (-1.0, None)),
}
#: Share of rows that are of a kind, rather than a few odd ones among them.
MOSTLY = 0.99


class Unfit(enum.Enum):
    """What about the targets does not fit: their number a sample, their form, or their values."""

    UNITS = "units"
    FORMAT = "format"
    RANGE = "range"


@dataclass(frozen=True, kw_only=True)
class Misfit:
    """Targets that do not go with their output.

    why: what is wrong, a sentence without its full stop. instead: what to write. share: of the
    values concerned, 1 where it is all of them. refused: whether Keras raises instead of training.
    slack: whether the output merely has more units than there are classes. mild: whether it
    learns something of use all the same.
    """

    unfit: Unfit
    head: Head
    target: ArrayFacts
    loss: str
    why: str
    instead: str
    share: float = 1.0
    refused: bool = False
    slack: bool = False
    mild: bool = False


def misfits(graph: LayerGraph, data: DataFacts) -> tuple[Misfit, ...]:
    """What does not go together: one for each output at most, the first thing that is wrong.

    Nothing is said of outputs without a loss, and of losses that are not Keras' own or whose
    targets may be of any form.
    """
    found = []
    all_heads = heads(graph)
    for target in data.targets:
        loss = loss_of(graph, target.place)
        if loss is None or loss.custom:
            continue
        head = all_heads[target.place]
        for misfit in _Judged(head=head, loss=loss, target=target).misfits():
            found.append(misfit)
            break
    return tuple(found)


@dataclass(frozen=True, kw_only=True)
class _Judged:
    """One output with its loss and its targets."""

    head: Head
    loss: LossSettings
    target: ArrayFacts

    def misfits(self) -> Iterator[Misfit]:
        """What is wrong, the root of it first."""
        known = BY_ROW | BINARY | HINGE | DISTANCE | NOT_NEGATIVE | RELATIVE | {BY_NUMBER}
        if self.loss.name not in known:
            return
        if self.target.textual:
            yield self._format(
                "holds text, and a loss takes numbers",
                "Number the classes (scikit-learn's LabelEncoder, or keras.layers.StringLookup).",
                refused=True,
            )
            return
        if self.target.minimum is None or self.head.shape is None:
            return
        if self.loss.name == BY_NUMBER:
            yield from self._numbers()
            return
        yield from self._shape()
        if self.loss.name in BY_ROW:
            yield from self._rows()
        elif self.loss.name in BINARY:
            yield from self._two_classes()
        elif self.loss.name in HINGE:
            yield from self._signs()
        else:
            yield from self._values()

    @property
    def _classes(self) -> int | None:
        """Units of the head, where its classes are along the last axis."""
        return self.head.width if self.loss.config.get("axis", -1) == -1 else None

    def _numbers(self) -> Iterator[Misfit]:
        """Class numbers, as the sparse cross-entropy takes them."""
        target, classes = self.target, self._classes
        if classes is None or classes < 2:
            return
        rank = len(self.head.shape or ())
        if len(target.shape) == rank and target.shape[-1] == classes:
            kind = "one-hot rows" if _one_hot(target) else f"rows of {classes} values"
            yield self._format(
                f"holds {kind}, and {self.loss.name} takes one class number a sample",
                'Train with `loss="categorical_crossentropy"`, or turn the rows into numbers:\n\n'
                f"```python\n{target.name} = {target.name}.argmax(axis=-1)\n```\n",
                refused=True,
            )
            return
        if rank > 2 and target.one_number_each:
            yield self._one_for_many()
        if target.whole < 1.0:
            yield self._format(
                f"holds fractions, and {self.loss.name} takes whole class numbers",
                "Give class numbers from 0 on; for a quantity use one linear unit and "
                "mean_squared_error.",
                refused=True,
            )
            return
        low, high = self._extremes()
        if low < 0:
            yield self._format(
                f"holds class numbers down to {low:g}; they begin at 0",
                "Number the classes from 0 on, or say which number means no label "
                f"(`SparseCategoricalCrossentropy(ignore_class={low:g})`).",
                refused=True,
            )
        elif high == classes and low >= 1:
            yield self._format(
                f"holds class numbers from {low:g} to {high:g}, and {classes} units are numbered "
                f"from 0 to {classes - 1}",
                f"Count from 0.\n\n```python\n{target.name} = {target.name} - 1\n```\n",
                refused=True,
            )
        elif high >= classes:
            yield self._units(
                f"holds class numbers up to {high:g}, and the output has {classes} units, "
                f"for the numbers from 0 to {classes - 1}",
                f"Give the output one unit for each class: {high + 1:g}.",
                refused=True,
            )
        elif high < classes - 1 and not target.sampled and rank == 2:
            yield self._units(
                f"holds class numbers up to {high:g} only, and the output has {classes} units",
                f"If there are no more classes, {high + 1:g} units are enough.",
                slack=True,
            )

    def _extremes(self) -> tuple[float, float]:
        """Lowest and highest class number, the one left out that says there is no label."""
        ignored = self.loss.config.get("ignore_class")
        values = [value for value, _ in self.target.distinct if value != ignored]
        if values:
            return values[0], values[-1]
        return float(self.target.minimum or 0.0), float(self.target.maximum or 0.0)

    def _shape(self) -> Iterator[Misfit]:
        """A sample's numbers against the output's units, as Keras lines them up."""
        target, shape = self.target.shape[1:], tuple(self.head.shape or ())[1:]
        width = self.head.width
        if target and len(target) == len(shape):
            sizes = list(zip(target, shape, strict=True))
            if all(not isinstance(unit, int) or unit == number for number, unit in sizes):
                return
            if len(shape) > 1 and self.target.one_number_each:
                yield self._one_for_many()
                return
            number, unit = sizes[-1]
            if isinstance(unit, int) and number != unit:
                if number == 1 and self.target.whole == 1.0 and self.loss.name in BY_ROW | BINARY:
                    yield self._numbers_for_rows()
                    return
                stretched = 1 in (number, unit) and self.loss.name in DISTANCE
                yield self._units(
                    f"has {_numbers(number)} a sample, and the output has {_units(unit)}"
                    + (": each is compared with all of the other" if stretched else ""),
                    f"Give the output {_units(number)}.",
                    refused=not stretched,
                )
                return
            yield self._units(
                f"has samples of shape {target}, and the output has the shape {_sizes(shape)}",
                "Make the output as large as its targets, or bring the targets to its size.",
                refused=True,
            )
        elif len(target) < len(shape) and len(shape) > 1 and self.target.one_number_each:
            yield self._one_for_many()
        elif not target and width is not None and width > 1:
            if self.target.whole == 1.0 and (
                self.loss.name in BY_ROW | BINARY or self.head.activation == "softmax"
            ):
                yield self._numbers_for_rows()
            else:
                yield self._units(
                    f"has one number a sample, and the output has {_units(width)}",
                    "Give the output one unit.",
                    refused=True,
                )

    def _numbers_for_rows(self) -> Misfit:
        spare = ""
        if self.loss.name in BINARY and (self.target.maximum or 0.0) <= 1:
            spare = " One sigmoid unit takes the numbers of two classes as they are."
        return self._format(
            f"holds one class number a sample, and {self.loss.name} over {self.head.width} units "
            "takes a row of as many values",
            f'Train with `loss="{BY_NUMBER}"`, or turn the numbers into rows '
            f"(`keras.utils.to_categorical({self.target.name}, {self.head.width})`).{spare}",
            refused=True,
        )

    def _one_for_many(self) -> Misfit:
        return self._format(
            f"has one number a sample, and the output has the shape "
            f"{_sizes(tuple(self.head.shape or ())[1:])}: each of its positions is held against "
            "the same number, or training ends with an error",
            "Leave `return_sequences` off in the last recurrent layer, or put a Flatten or a "
            "global pooling before the output.",
        )

    def _rows(self) -> Iterator[Misfit]:
        rows = self.target.rows
        if rows is None:
            return
        if rows.several >= 1 - MOSTLY and rows.several + rows.one_hot + rows.empty >= MOSTLY:
            yield self._format(
                f"marks several classes at once in {rows.several:.0%} of the rows, and "
                f"{self.loss.name} takes one class a row",
                "For several labels a sample use a sigmoid output with binary_crossentropy.",
                share=rows.several,
                mild=True,
            )
            return
        yield from self._outside(0.0, 1.0, f"{self.loss.name} takes probabilities")

    def _two_classes(self) -> Iterator[Misfit]:
        target = self.target
        values = {value for value, _ in target.distinct}
        if values and values <= {-1.0, 0.0, 1.0} and -1.0 in values:
            yield self._format(
                f"marks the classes by −1 and 1, and {self.loss.name} takes 0 and 1",
                f"Write 0 for −1 (`{target.name} = ({target.name} > 0)`), or use a linear output "
                "with the hinge loss.",
            )
        elif values and values <= {1.0, 2.0} and 2.0 in values:
            yield self._format(
                f"marks the classes by 1 and 2, and {self.loss.name} takes 0 and 1",
                f"Count from 0.\n\n```python\n{target.name} = {target.name} - 1\n```\n",
            )
        elif (
            target.whole == 1.0
            and self.head.width == 1
            and (target.minimum or 0.0) >= 0
            and 2 <= (target.maximum or 0.0) < 256
            and 3 <= len(values) <= (target.maximum or 0.0) + 1
            and len(self.head.shape or ()) == 2
        ):
            classes = int(target.maximum or 0) + 1
            yield self._units(
                f"holds class numbers up to {classes - 1}, and the output has one unit, for 0 or 1",
                f"Use {classes} softmax units with {BY_NUMBER}.",
            )
        else:
            yield from self._outside(0.0, 1.0, f"{self.loss.name} takes values from 0 to 1")

    def _signs(self) -> Iterator[Misfit]:
        values = [value for value, _ in self.target.distinct]
        if values and (values[0] < -1 or values[-1] > 1):
            yield self._format(
                f"holds {values[0]:g} to {values[-1]:g}, and {self.loss.name} takes −1 and 1",
                "Mark the two classes by −1 and 1; for more of them use softmax units with "
                f"{BY_NUMBER}.",
            )

    def _values(self) -> Iterator[Misfit]:
        name, target = self.loss.name, self.target
        if name in NOT_NEGATIVE:
            yield from self._outside(0.0, None, f"{name} takes none below 0")
        zeros = dict(target.distinct).get(0.0, 0) / max(target.seen, 1)
        if name in RELATIVE and zeros > 0:
            yield self._range(
                f"holds zeros, by which {name} divides",
                "Use mean_absolute_error, or the logarithm of targets that are above 0.",
                share=0.0,
            )
        low, high = RANGES.get(self.head.activation or "", (None, None))
        if self.head.known:
            gives = f"a {self.head.activation} output gives {_span(low, high)}"
            yield from self._outside(low, high, gives)

    def _outside(self, low: float | None, high: float | None, because: str) -> Iterator[Misfit]:
        """Targets below `low` or above `high`, which are −1, 0 or 1 or None."""
        target = self.target
        below = {-1.0: target.below_minus_one, 0.0: target.below_zero}.get(
            low if low is not None else 2.0, 0.0
        )
        share = below + (target.above_one if high is not None else 0.0)
        if share > 0.0:
            yield self._range(
                f"holds values from {target.minimum:.4g} to {target.maximum:.4g}, and {because}",
                _reachable(self.head.activation, self.loss.name, target),
                share=share,
            )

    def _made(self, unfit: Unfit, why: str, instead: str, **more: object) -> Misfit:
        return Misfit(
            unfit=unfit,
            head=self.head,
            target=self.target,
            loss=self.loss.name,
            why=why,
            instead=instead,
            **more,  # type: ignore[arg-type]
        )

    def _format(self, why: str, instead: str, **more: object) -> Misfit:
        return self._made(Unfit.FORMAT, why, instead, **more)

    def _units(self, why: str, instead: str, **more: object) -> Misfit:
        return self._made(Unfit.UNITS, why, instead, **more)

    def _range(self, why: str, instead: str, **more: object) -> Misfit:
        return self._made(Unfit.RANGE, why, instead, **more)


def _one_hot(target: ArrayFacts) -> bool:
    return target.rows is not None and target.rows.one_hot >= MOSTLY


def _reachable(activation: str | None, loss: str, target: ArrayFacts) -> str:
    """What to write where targets are out of reach."""
    bytes_ = target.minimum is not None and target.minimum >= 0 and (target.maximum or 0) > 200
    if bytes_ and (target.maximum or 0) <= 255 and activation not in ("relu", "softplus"):
        return f"Scale them as the inputs.\n\n```python\n{target.name} = {target.name} / 255\n```\n"
    if loss in DISTANCE:
        return (
            "Leave the output linear, or bring the targets into its range and undo that on the "
            "predictions."
        )
    return "Bring the targets into that range, or use a loss that is made for them."


def _span(low: float | None, high: float | None) -> str:
    if low is not None and high is not None:
        return f"only values from {low:g} to {high:g}"
    return f"none below {low:g}" if low is not None else "any value"


def _numbers(count: int) -> str:
    return "one number" if count == 1 else f"{count} numbers"


def _units(count: int) -> str:
    return "one unit" if count == 1 else f"{count} units"


def _sizes(shape: tuple[int | str | None, ...]) -> str:
    return "(" + ", ".join("any" if size is None else str(size) for size in shape) + ")"
