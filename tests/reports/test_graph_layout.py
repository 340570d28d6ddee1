"""Segments and tiles: every call has its own place, and no connection runs through a box."""

from hypothesis import given, settings
from hypothesis import strategies as st
from report_samples import Builder, resnet, unet

from auditor.graph.operators import Op
from auditor.reports.segments import segments
from auditor.reports.tile_layout import ENTRY, Place, lay_out


@st.composite
def graphs(draw):
    """Random layer graphs of up to 25 calls, some with several inputs and unused branches."""
    builder = Builder()
    for index in range(draw(st.integers(1, 25))):
        names = [call.id for call in builder.calls]
        some = draw(st.lists(st.sampled_from(names[-6:]), max_size=3)) if names else []
        builder.add(f"c{index}", Op.DENSE if some else Op.INPUT, *some)
    return builder.graph()


def ids(graph):
    return [[call.id for call in segment.calls] for segment in segments(graph)]


def test_a_chain_is_cut_behind_every_call():
    b = Builder()
    x = b.add("in", Op.INPUT)
    for index in range(3):
        x = b.add(f"d{index}", Op.DENSE, x)
    assert ids(b.graph()) == [["in"], ["d0"], ["d1"], ["d2"]]


def test_a_residual_block_stays_whole():
    b = Builder()
    x = b.add("in", Op.INPUT)
    y = b.add("d", Op.DENSE, x)
    b.add("out", Op.ACTIVATION, b.add("add", Op.ADD, x, y))
    cut = list(segments(b.graph()))
    assert [[call.id for call in segment.calls] for segment in cut] == [
        ["in"],
        ["d", "add"],
        ["out"],
    ]
    assert [segment.entry for segment in cut] == [None, "in", "add"]


def test_a_second_input_does_not_hold_all_together():
    b = Builder()
    x, late = b.add("a", Op.INPUT), b.add("b", Op.INPUT)
    x = b.add("d0", Op.DENSE, x)
    x = b.add("d1", Op.DENSE, x)
    b.add("cat", Op.CONCATENATE, x, late)
    assert ids(b.graph()) == [["a"], ["d0"], ["d1"], ["b", "cat"]]


def test_resnet_falls_into_its_blocks():
    sizes = [len(calls) for calls in ids(resnet().graph)]
    assert sizes.count(9) == 12  # identity blocks
    assert sizes.count(11) == 4  # with a projection
    assert max(sizes) == 11


def test_skips_of_a_unet_nest():
    graph = unet().graph
    widest = max(segments(graph), key=lambda segment: len(segment.calls))
    layout = lay_out(graph, widest)
    on_rails = {wire.rail: wire for wire in layout.wires if wire.rail is not None}
    assert sorted(on_rails) == [0, 1, 2, 3]
    spans = [on_rails[rail].target.column - on_rails[rail].source.column for rail in range(4)]
    assert spans == sorted(spans)


@given(graphs())
def test_segments_part_the_calls_and_one_tensor_crosses_a_cut(graph):
    cut = list(segments(graph))
    order = [call.id for segment in cut for call in segment.calls]
    assert sorted(order) == sorted(call.id for call in graph.calls)
    place = {call_id: index for index, call_id in enumerate(order)}
    assert all(place[edge.source] < place[edge.target] for edge in graph.edges)
    for segment in cut:
        inside = {call.id for call in segment.calls}
        entering = {e.source for e in graph.edges if e.target in inside} - inside
        assert entering <= {segment.entry}


@settings(max_examples=200)
@given(graphs())
def test_no_two_calls_share_a_place_and_no_wire_crosses_a_box(graph):
    for segment in segments(graph):
        layout = lay_out(graph, segment)
        boxes = set(layout.places.values())
        assert len(boxes) == len(segment.calls)
        assert layout.places[segment.calls[-1].id].lane == 0
        taken = {}
        for wire in layout.wires:
            assert wire.source.column < wire.target.column
            if wire.rail is None:
                between = range(wire.source.column + 1, wire.target.column)
                assert boxes.isdisjoint(Place(column=c, lane=wire.lane) for c in between)
            else:
                reach = range(wire.source.column, wire.target.column + 1)
                for column in reach:
                    assert taken.setdefault((wire.rail, column), wire.source) == wire.source
        inside = {call.id for call in segment.calls}
        wanted = {
            (layout.places.get(e.source, Place(column=ENTRY, lane=0)), layout.places[e.target])
            for e in graph.edges
            if e.target in inside
        }
        assert {(wire.source, wire.target) for wire in layout.wires} == wanted
