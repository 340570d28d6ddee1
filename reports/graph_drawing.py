"""The drawing of the layer graph: tiles that flow like words, one for each segment.

A tile is a small picture whose line comes in at the left and leaves at the right, both `drop`
pixels above its lower edge, so that tiles in a row join up and a row may end behind any of them.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

from auditor.graph.layer_graph import LayerCall
from auditor.graph.operators import KERNEL_OPS, Op
from auditor.result import AuditResult

from . import estimate_view, gain, printable, quantity, wording
from .gain import Shades
from .layer_view import shapes
from .segments import Segment, segments
from .tile_layout import ENTRY, Place, TileLayout, Wire, lay_out

#: Calls up to which each gets a labelled box; beyond, a bead.
MOST_BOXES = 1_200
#: Beads up to which every call gets one; beyond, only calls with a kernel, and no more than this.
MOST_BEADS = 6_000
#: Wires drawn in one tile; a denser tangle shows nothing.
MOST_WIRES = 2_000

BOX_HEIGHT, CHIP_HEIGHT = 38.0, 22.0
GAP, LEAD, LANE_GAP, RAIL_GAP, CAPTION = 11.0, 5.0, 10.0, 8.0, 16.0
#: Share of its width that a tile may be shrunk to on a narrow page; further, the box scrolls.
LEAST_SCALE = 0.8
BEAD, BEADS_A_ROW, BEADS_A_TILE = 9.0, 24, 240


@dataclass(frozen=True, kw_only=True)
class Box:
    """A call in the drawing. `label` is empty for a bead; `detail` for a small box."""

    x: float
    y: float
    width: float
    height: float
    label: str
    detail: str
    tooltip: str
    anchor: str
    shades: Shades
    severity: str
    kernel: bool


@dataclass(frozen=True, kw_only=True)
class Tile:
    """A segment's picture. `paths` are SVG path data; `group` names a nested model it begins.

    `span` is the least width, in pixels, that the picture may be shrunk to; `drop`
    how far its lower edge lies below the line that joins tiles.
    """

    width: float
    height: float
    span: int
    drop: int
    caption: str
    caption_y: float
    change: str
    change_shade: str
    boxes: tuple[Box, ...]
    paths: tuple[str, ...]
    group: str
    wires_left_out: int


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """All tiles, in order. `measured` tells whether shades rest on a probe or on the forecast.

    `random` tells whether some gains are those of a random gradient.
    """

    tiles: tuple[Tile, ...]
    beads: bool
    left_out: int
    measured: bool
    forecast: bool
    random: bool


def draw(result: AuditResult, anchors: Mapping[str, str], severities: Mapping[str, str]) -> Drawing:
    """The drawing of `result`'s graph; `anchors` says where the page tells more of a call."""
    artist = _Artist(result, anchors, severities)
    calls = result.graph.calls
    shown = calls
    if len(calls) > MOST_BEADS:
        shown = tuple(call for call in calls if call.op in KERNEL_OPS)[:MOST_BEADS]
    if len(calls) > MOST_BOXES:
        tiles = tuple(artist.beads(shown))
    else:
        tiles = tuple(artist.tiles())
    return Drawing(
        tiles=tiles,
        beads=len(calls) > MOST_BOXES,
        left_out=len(calls) - len(shown),
        measured=result.probe is not None,
        forecast=result.probe is None and bool(gain.gains(result)),
        random=bool(gain.random_gains(result)),
    )


class _Artist:
    def __init__(
        self, result: AuditResult, anchors: Mapping[str, str], severities: Mapping[str, str]
    ) -> None:
        self.result = result
        self.anchors = anchors
        self.severities = severities
        self.shades = gain.shades(result)
        self.random = gain.random_gains(result)
        self.gains = {**gain.gains(result), **self.random}

    def tiles(self) -> Iterator[Tile]:
        cut = list(segments(self.result.graph))
        inner = [_common_group(segment.calls) for segment in cut]
        for index, segment in enumerate(cut):
            # A name for one call alone only repeats it.
            lasts = inner[index + 1 : index + 2] == [inner[index]]
            begins = index == 0 or inner[index - 1] != inner[index]
            yield self._tile(segment, "/".join(inner[index]) if begins and lasts else "")

    def beads(self, calls: tuple[LayerCall, ...]) -> Iterator[Tile]:
        for begin in range(0, len(calls), BEADS_A_TILE):
            some = calls[begin : begin + BEADS_A_TILE]
            rows = -(-len(some) // BEADS_A_ROW)
            boxes = tuple(
                self._box(
                    call,
                    x=index % BEADS_A_ROW * (BEAD + 2),
                    y=CAPTION + index // BEADS_A_ROW * (BEAD + 2),
                    width=BEAD,
                    height=BEAD,
                    label="",
                )
                for index, call in enumerate(some)
            )
            yield Tile(
                span=0,
                drop=0,
                width=BEADS_A_ROW * (BEAD + 2) + 12,
                height=CAPTION + rows * (BEAD + 2) + 6,
                caption=printable.name(some[0].id, 40),
                caption_y=11,
                change="",
                change_shade=gain.UNKNOWN,
                boxes=boxes,
                paths=(),
                group="",
                wires_left_out=0,
            )

    def _tile(self, segment: Segment, group: str) -> Tile:
        layout = lay_out(self.result.graph, segment)
        prefix = _common_prefix(segment.calls)
        labels = {call.id: _label(call, prefix) for call in segment.calls}
        frame = _Frame(layout, segment.calls, labels, captioned=len(segment.calls) > 1)
        boxes = tuple(
            self._box(
                call,
                x=frame.left(call.id),
                y=frame.middle(layout.places[call.id].lane) - _height(call) / 2,
                width=frame.widths[call.id],
                height=_height(call),
                label=labels[call.id],
            )
            for call in segment.calls
        )
        change = None
        if len(segment.calls) > 1 and self.result.probe is not None:
            last = segment.calls[-1].id
            change = gain.measured_change(self.result.probe.calls, segment.entry, last)
        drawn = layout.wires[:MOST_WIRES]
        closing = segment.calls[-1].id == self.result.graph.calls[-1].id
        caption = _caption(segment, prefix)
        return Tile(
            span=10 * round(LEAST_SCALE * frame.width / 10),
            drop=frame.drop,
            width=frame.width,
            height=frame.line + frame.drop,
            caption=printable.elided(caption, max(12, int(frame.width / 6.4) - 9)),
            caption_y=frame.line - frame.rise - 5,
            change="" if change is None else quantity.factor(change),
            change_shade=gain.shade(change, gain.GAIN_STEPS),
            boxes=boxes,
            paths=(*(frame.path(wire) for wire in drawn), *([] if closing else [frame.exit()])),
            group=printable.name(group, 60),
            wires_left_out=len(layout.wires) - len(drawn),
        )

    def _box(
        self, call: LayerCall, *, x: float, y: float, width: float, height: float, label: str
    ) -> Box:
        factor = self.gains.get(call.id)
        kind = printable.name(call.kind, 13)
        detail = kind if factor is None else f"{kind} {quantity.factor(factor)}"
        fits = 5.7 * len(detail) < width - 6
        if not fits and factor is not None:
            detail = quantity.factor(factor)
        return Box(
            x=x,
            y=y,
            width=width,
            height=height,
            label=label,
            detail=detail if height == BOX_HEIGHT else "",
            tooltip=self._tooltip(call),
            anchor=self.anchors.get(call.id, ""),
            shades=self.shades.get(call.id, Shades()),
            severity=self.severities.get(call.id, ""),
            kernel=_is_large(call),
        )

    def _tooltip(self, call: LayerCall) -> str:
        lines = [
            printable.name(call.id),
            f"{printable.name(call.kind, 60)} → {shapes(call.out_shapes)}",
        ]
        factor = self.gains.get(call.id)
        if factor is not None:
            source = "gain" if self.result.probe is not None else "forecast gain"
            of = " of a random gradient" if call.id in self.random else ""
            lines.append(f"{source} {quantity.factor(factor)}{of}")
        measured = self.result.probe.calls.get(call.id) if self.result.probe is not None else None
        if measured is not None:
            if measured.jacobian is not None:
                lines.append(f"σ₁ {estimate_view.value(measured.jacobian.spectral_norm)}")
            lines.append(f"gradient norm {quantity.number(measured.gradient_norm)}")
            lines.append(f"output rms {quantity.number(measured.rms)}")
            if not measured.finite_forward:
                lines.append("NaN or infinity in the output")
            if not measured.finite_backward:
                lines.append("NaN or infinity in the gradient")
        return "\n".join(lines)


class _Frame:
    """Pixels for a layout's columns, lanes and rails."""

    def __init__(
        self,
        layout: TileLayout,
        calls: tuple[LayerCall, ...],
        labels: Mapping[str, str],
        *,
        captioned: bool,
    ) -> None:
        self.layout = layout
        self.widths = {call.id: _width(call, labels[call.id]) for call in calls}
        self._standing = {place: call_id for call_id, place in layout.places.items()}
        columns = dict.fromkeys(range(1, layout.columns + 1), 0.0)
        lanes = dict.fromkeys(range(layout.lanes[0], layout.lanes[1] + 1), CHIP_HEIGHT)
        for call in calls:
            place = layout.places[call.id]
            columns[place.column] = max(columns[place.column], self.widths[call.id])
            lanes[place.lane] = max(lanes[place.lane], _height(call))
        self._columns: dict[int, tuple[float, float]] = {ENTRY: (0.0, 0.0)}
        x = LEAD + (GAP - LEAD if layout.columns > 1 else 0)
        for column, width in columns.items():
            self._columns[column] = (x, x + width)
            x += width + GAP
        self.width = x - GAP + LEAD
        self._middles = {0: 0.0}
        for above, below in pairwise(sorted(lanes)):
            if below > 0:
                step = (lanes[above] + lanes[below]) / 2 + LANE_GAP
                self._middles[below] = self._middles[above] + step
        for below, above in pairwise(sorted(lanes, reverse=True)):
            if above < 0:
                step = (lanes[above] + lanes[below]) / 2 + LANE_GAP
                self._middles[above] = self._middles[below] - step
        top, bottom = min(lanes), max(lanes)
        self._roof = self._middles[top] - lanes[top] / 2 - 2
        self.rise = layout.rails * RAIL_GAP - self._roof
        fall = self._middles[bottom] + lanes[bottom] / 2 + 6
        self.line = self.rise + 7 + (CAPTION if captioned else 0)
        self.drop = math.ceil(fall)

    def left(self, call_id: str) -> float:
        begin, end = self._columns[self.layout.places[call_id].column]
        return (begin + end - self.widths[call_id]) / 2

    def middle(self, lane: int) -> float:
        return self.line + self._middles[lane]

    def path(self, wire: Wire) -> str:
        """From the right edge of the source's box to the left edge of the target's."""
        x0, x1 = self._right(wire.source), self._left(wire.target)
        y0, y1 = self.middle(wire.source.lane), self.middle(wire.target.lane)
        if wire.rail is not None:
            y = self.line + self._roof - RAIL_GAP * (wire.rail + 0.5)
        else:
            y = self.middle(wire.lane)
        start, end = self._columns[wire.source.column][1], self._columns[wire.target.column][0]
        steps = [f"M{x0:.1f} {y0:.1f}"]
        if y0 != y:
            turn = start + GAP
            steps.append(
                f"H{start:.1f}C{turn - 4:.1f} {y0:.1f} {start + 4:.1f} {y:.1f} {turn:.1f} {y:.1f}"
            )
        if y != y1:
            turn = end - GAP
            steps.append(
                f"H{turn:.1f}C{end - 4:.1f} {y:.1f} {turn + 4:.1f} {y1:.1f} {end:.1f} {y1:.1f}"
            )
        return "".join([*steps, f"H{x1:.1f}"])

    def exit(self) -> str:
        """From the last call, which stands in the last column's middle lane, to the tile's edge."""
        call_id = next(reversed(self.layout.places))
        x, y = self._right(self.layout.places[call_id]), self.middle(0)
        return f"M{x:.1f} {y:.1f}H{self.width:.1f}"

    def _right(self, place: Place) -> float:
        call_id = self._standing.get(place)
        return 0.0 if call_id is None else self.left(call_id) + self.widths[call_id]

    def _left(self, place: Place) -> float:
        return self.left(self._standing[place])


def _is_large(call: LayerCall) -> bool:
    return call.op not in wording.SHORT_OPS and call.op is not Op.ACTIVATION


def _height(call: LayerCall) -> float:
    return BOX_HEIGHT if _is_large(call) else CHIP_HEIGHT


def _width(call: LayerCall, label: str) -> float:
    if _is_large(call):
        return min(118.0, max(72.0, 6.3 * len(label) + 14))
    return max(24.0, 5.6 * len(label) + 11)


def _label(call: LayerCall, prefix: str) -> str:
    if not _is_large(call):
        if call.op is Op.ACTIVATION:
            activation = call.activation or "linear"
            return wording.ACTIVATIONS.get(activation, printable.name(activation, 10))
        return wording.SHORT_OPS[call.op]
    *outer, own = [part for part in call.id.removeprefix(prefix).split("/") if part] or [call.name]
    # An exporter names a node for its operator; the scope it stands in says more.
    named = outer[-1] if outer and own.partition("_")[0] == call.kind else own
    return printable.name(named, 16)


def _caption(segment: Segment, prefix: str) -> str:
    """What the segment's calls have in common by name, else from which to which it goes."""
    if len(segment.calls) < 2:
        return ""
    common = printable.printable(prefix.strip("_/.-"))
    ends = (printable.name(segment.calls[end].name, 24) for end in (0, -1))
    return common or " … ".join(ends)


def _common_group(calls: tuple[LayerCall, ...]) -> tuple[str, ...]:
    """Names of the nested models that all of `calls` are in."""
    groups = [call.path[:-1] for call in calls]
    common: list[str] = []
    for names in zip(*groups, strict=False):
        if len(set(names)) > 1:
            break
        common.append(names[0])
    return tuple(common)


def _common_prefix(calls: tuple[LayerCall, ...]) -> str:
    """What the ids begin with, up to the last separator: the large calls', where there are two.

    Small calls are often named by the framework, large ones by the author. Empty for a single call.
    """
    large = [call.id for call in calls if _is_large(call)]
    ids = large if len(large) > 1 else [call.id for call in calls]
    if len(calls) < 2:
        return ""
    shared = os.path.commonprefix(ids)  # noqa: RUF071 - names, not paths
    separators = [found.end() for found in re.finditer(r"[_/.\-]", shared)]
    return shared[: separators[-1]] if separators else ""
