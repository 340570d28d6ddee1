"""Dominators in a layer graph: which calls every way from the model's inputs passes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from auditor.graph.operators import Op

if TYPE_CHECKING:
    from auditor.graph.layer_graph import LayerGraph


class DominatorTree:
    """Immediate dominators of the calls that an input of the model reaches.

    A call dominates another if every way from an input to the other passes it; a call dominates
    itself. The nearest dominator besides itself is the immediate one, and these form a tree
    (Lowry & Medlock 1969). Above the inputs stands a root that is no call, written None: it is
    the immediate dominator of every input, and of what several inputs flow together in. Calls that
    no input reaches (constants, and what is computed from them alone) are not in the tree, and
    what flows out of them does not count as a way.
    """

    def __init__(self, calls: Iterable[tuple[str, bool, Iterable[str]]]) -> None:
        """Build the tree in O(E log V).

        Args:
            calls: (id, whether it is an input, ids of what it takes), in topological order.
        """
        # The immediate dominator of a call is the lowest common ancestor, in the tree so far, of
        # all that feeds it (Cooper, Harvey & Kennedy 2001: on an acyclic graph in topological order
        # one pass does). Climbing one step at a time is quadratic where many long branches merge;
        # the jump pointers of Myers 1983 climb in O(log V).
        self._place: dict[str | None, int] = {None: 0}
        self._call: list[str | None] = [None]
        self._parent, self._jump, self._depth = [0], [0], [0]
        for call_id, is_input, sources in calls:
            above = 0 if is_input else self._common(sources)
            if above is None:
                continue
            jump = self._jump[above]
            # Two jumps of one length in a row join into one of twice the length.
            even = self._depth[above] - self._depth[jump] == (
                self._depth[jump] - self._depth[self._jump[jump]]
            )
            self._place[call_id] = len(self._call)
            self._call.append(call_id)
            self._parent.append(above)
            self._jump.append(self._jump[jump] if even else above)
            self._depth.append(self._depth[above] + 1)

    def __contains__(self, call_id: str) -> bool:
        """Whether an input reaches the call."""
        return call_id in self._place

    def parent(self, call_id: str) -> str | None:
        """The immediate dominator. Raises KeyError for a call that no input reaches."""
        return self._call[self._parent[self._place[call_id]]]

    def depth(self, call_id: str | None) -> int:
        """Dominators of a call, itself too; 0 for the root. Raises KeyError as `parent`."""
        return self._depth[self._place[call_id]]

    def dominates(self, above: str | None, below: str | None) -> bool:
        """Whether every way to `below` passes `above`; False where no input reaches either."""
        if above not in self._place or below not in self._place:
            return False
        place = self._place[above]
        return self._climb(self._place[below], self._depth[place]) == place

    @property
    def parents(self) -> Mapping[str, str | None]:
        """The immediate dominator of every call in the tree, in topological order."""
        return {
            call_id: self._call[self._parent[place]]
            for call_id, place in self._place.items()
            if call_id is not None
        }

    def _common(self, sources: Iterable[str]) -> int | None:
        """The lowest common ancestor of those that are in the tree; None where none is."""
        common: int | None = None
        for source in sources:
            place = self._place.get(source)
            if place is not None:
                common = place if common is None else self._meet(common, place)
        return common

    def _meet(self, one: int, other: int) -> int:
        depth = min(self._depth[one], self._depth[other])
        one, other = self._climb(one, depth), self._climb(other, depth)
        while one != other:
            # Calls of one depth have jumps of one length.
            if self._jump[one] != self._jump[other]:
                one, other = self._jump[one], self._jump[other]
            else:
                one, other = self._parent[one], self._parent[other]
        return one

    def _climb(self, place: int, depth: int) -> int:
        """The ancestor at `depth`, or `place` itself where it stands no deeper."""
        while self._depth[place] > depth:
            jump = self._jump[place]
            place = jump if self._depth[jump] >= depth else self._parent[place]
        return place


def dominator_tree(graph: LayerGraph) -> DominatorTree:
    """The dominator tree of a graph. `LayerGraph.dominators` keeps it."""
    return DominatorTree(
        (call.id, call.op is Op.INPUT, (source.id for source in graph.predecessors(call.id)))
        for call in graph.calls
    )
