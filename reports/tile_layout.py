"""Places for the calls of one segment, left to right: columns by depth, lanes by branch.

The longest path keeps the middle lane; every other branch takes the nearest lane that is free
over its columns, in turn below and above; a connection that skips columns runs along its own
branch's lane where that is free, else along a rail above all boxes, one rail for each source.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count

from auditor.graph.layer_graph import LayerGraph

from .segments import Segment

#: Column of the tensor that enters a segment.
ENTRY = 0


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a call stands: columns count from 1, lane 0 is the middle, negative is above."""

    column: int
    lane: int


@dataclass(frozen=True, kw_only=True)
class Wire:
    """A connection of two places.

    `lane` is the lane it runs along between them; `rail`, when not None, is instead the rail it
    takes, counted from 0 upward.
    """

    source: Place
    target: Place
    lane: int = 0
    rail: int | None = None


@dataclass(frozen=True, kw_only=True)
class TileLayout:
    """Places of a segment's calls by id, and the wires between them; `rails` counts the rails."""

    places: dict[str, Place]
    wires: tuple[Wire, ...]
    rails: int

    @property
    def columns(self) -> int:
        """Number of columns."""
        return max((place.column for place in self.places.values()), default=0)

    @property
    def lanes(self) -> tuple[int, int]:
        """Topmost and lowest lane."""
        lanes = [place.lane for place in self.places.values()] or [0]
        return min(0, *lanes), max(0, *lanes)


def lay_out(graph: LayerGraph, segment: Segment) -> TileLayout:
    """The layout of `segment`; a single call stands at column 1, lane 0."""
    inside = {call.id for call in segment.calls}
    sources = {
        call.id: tuple(
            dict.fromkeys(
                source.id
                for source in graph.predecessors(call.id)
                if source.id in inside or source.id == segment.entry
            )
        )
        for call in segment.calls
    }
    targets: dict[str, list[str]] = {}
    for call in segment.calls:
        for source in sources[call.id]:
            targets.setdefault(source, []).append(call.id)
    columns = _columns(segment, sources, targets)
    lanes = _lanes(segment, sources, targets, columns)
    places = {call_id: Place(column=columns[call_id], lane=lanes[call_id]) for call_id in inside}
    places = {call.id: places[call.id] for call in segment.calls}
    wires, rails = _wires(segment, sources, places)
    return TileLayout(places=places, wires=wires, rails=rails)


Neighbours = Mapping[str, Sequence[str]]


def _columns(segment: Segment, sources: Neighbours, targets: Neighbours) -> dict[str, int]:
    """Longest path from the segment's beginning; calls without inputs stand by what takes them."""
    columns: dict[str, int] = {}
    for call in segment.calls:
        before = (columns.get(source, ENTRY) for source in sources[call.id])
        columns[call.id] = 1 + max(before, default=ENTRY)
    for call in reversed(segment.calls):
        if not sources[call.id]:
            taken = (columns[target] for target in targets.get(call.id, ()))
            columns[call.id] = max(1, min(taken, default=2) - 1)
    return columns


@dataclass
class _Tracks:
    """Intervals of columns already taken, by track."""

    taken: dict[int, list[tuple[int, int]]] = field(default_factory=dict)

    def free(self, track: int, first: int, last: int) -> bool:
        return all(last < begin or end < first for begin, end in self.taken.get(track, ()))

    def take(self, track: int, first: int, last: int) -> None:
        self.taken.setdefault(track, []).append((first, last))

    def nearest(self, tracks: Iterator[int], first: int, last: int) -> int:
        track = next(track for track in tracks if self.free(track, first, last))
        self.take(track, first, last)
        return track


def _lanes(
    segment: Segment, sources: Neighbours, targets: Neighbours, columns: dict[str, int]
) -> dict[str, int]:
    lanes: dict[str, int] = {}
    tracks = _Tracks()
    last = segment.calls[-1].id
    tracks.take(0, 1, columns[last])
    walk: str | None = last
    while walk is not None:
        lanes[walk] = 0
        inner = [source for source in sources[walk] if source in columns]
        walk = max(inner, key=columns.__getitem__, default=None)
    for call in segment.calls:
        if call.id in lanes:
            continue
        branch = [call.id]
        lanes[call.id] = 0
        while True:
            following = (t for t in targets.get(branch[-1], ()) if t not in lanes)
            step = next(following, None)
            if step is None:
                break
            lanes[step] = 0
            branch.append(step)
        before = (columns.get(source, ENTRY) for source in sources[call.id])
        after = (columns[target] for target in targets.get(branch[-1], ()))
        first_column = min(columns[call.id], max(before, default=columns[call.id] - 1) + 1)
        last_column = max(columns[branch[-1]], max(after, default=0) - 1)
        lane = tracks.nearest(_outward(), first_column, last_column)
        lanes.update(dict.fromkeys(branch, lane))
    return lanes


def _outward() -> Iterator[int]:
    """Lanes from the middle outward: 1, −1, 2, −2 and so on."""
    for distance in count(1):
        yield distance
        yield -distance


def _wires(
    segment: Segment, sources: Neighbours, places: dict[str, Place]
) -> tuple[tuple[Wire, ...], int]:
    entry = Place(column=ENTRY, lane=0)
    boxes: dict[int, set[int]] = {}
    for place in places.values():
        boxes.setdefault(place.lane, set()).add(place.column)

    def clear(lane: int, first: int, last: int) -> bool:
        taken = boxes.get(lane, set())
        return not any(column in taken for column in range(first, last + 1))

    wires: list[Wire] = []
    skipping: dict[Place, list[Place]] = {}
    for call in segment.calls:
        target = places[call.id]
        for source_id in sources[call.id]:
            source = places.get(source_id, entry)
            between = (source.column + 1, target.column - 1)
            if between[0] > between[1]:
                wires.append(Wire(source=source, target=target, lane=target.lane))
            elif source.lane != 0 and clear(source.lane, *between):
                wires.append(Wire(source=source, target=target, lane=source.lane))
            elif target.lane != 0 and clear(target.lane, *between):
                wires.append(Wire(source=source, target=target, lane=target.lane))
            else:
                skipping.setdefault(source, []).append(target)
    tracks = _Tracks()
    rails = 0
    spans = sorted(
        skipping.items(),
        key=lambda item: (max(t.column for t in item[1]) - item[0].column, item[0].column),
    )
    for source, reached in spans:
        # Ends of neighbouring rails meet in one gap, where they must not lie on top of each other.
        rail = tracks.nearest(count(), source.column, max(t.column for t in reached))
        rails = max(rails, rail + 1)
        wires.extend(Wire(source=source, target=target, rail=rail) for target in reached)
    return tuple(wires), rails
