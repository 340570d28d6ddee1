"""Random acyclic layer graphs for property tests."""

from __future__ import annotations

from builders import GraphBuilder
from hypothesis import strategies as st

from auditor.graph import LayerGraph, Op

MIDDLES = (
    *(Op.DENSE, Op.ACTIVATION, Op.LAYER_NORM, Op.IDENTITY, Op.DROPOUT, Op.CONSTANT),
    *(Op.ADD, Op.ADD, Op.MULTIPLY, Op.CONCATENATE),
)
MERGES = frozenset({Op.ADD, Op.MULTIPLY, Op.CONCATENATE})


@st.composite
def graphs(draw: st.DrawFn, most: int = 14) -> LayerGraph:
    """One or two inputs, then calls that take any earlier ones; one or two outputs."""
    build = GraphBuilder(values=False)
    ids = [build.input((4,)) for _ in range(draw(st.integers(1, 2)))]
    for _ in range(draw(st.integers(1, most))):
        op = draw(st.sampled_from(MIDDLES))
        near = st.sampled_from(ids[-4:]) | st.sampled_from(ids)
        many = 0 if op is Op.CONSTANT else draw(st.integers(2, 3)) if op in MERGES else 1
        sources = [draw(near) for _ in range(many)]
        if op is Op.DENSE:
            ids.append(build.dense(sources[0], 4))
        else:
            activation = "relu" if op is Op.ACTIVATION else None
            ids.append(build.add(op, *sources, shape=(None, 4), activation=activation))
    outputs = draw(st.lists(st.sampled_from(ids), min_size=1, max_size=2, unique=True))
    return build.graph(*outputs)
