"""The signal at residual blocks, and the stages they form."""

import math

import keras
import numpy as np
import pytest
from keras import layers

from auditor.formats.keras_live import read_live_model
from auditor.formats.limits import DEFAULT_LIMITS
from auditor.graph.residual_blocks import blocks
from auditor.probe.propagation import propagation
from auditor.probe.residual_profile import profiled_calls, residual_profile
from auditor.probe.residual_stages import inside_residual_blocks, residual_stages


def dense_block(x, index, width=8, **branch):
    inner = layers.Dense(width, "relu", name=f"inner_{index}", **branch)(x)
    return layers.Add(name=f"sum_{index}")([x, layers.Dense(width, name=f"outer_{index}")(inner)])


def conv_block(x, index, filters, strides=1):
    shortcut = x
    if strides > 1 or x.shape[-1] != filters:
        shortcut = layers.Conv2D(filters, 1, strides, name=f"shortcut_{index}")(x)
    inner = layers.Conv2D(filters, 3, strides, "same", activation="relu", name=f"inner_{index}")(x)
    outer = layers.Conv2D(filters, 3, padding="same", name=f"outer_{index}")(inner)
    return layers.Add(name=f"sum_{index}")([shortcut, outer])


def compiled(inputs, outputs):
    model = keras.Model(inputs, outputs)
    model.compile("sgd", "mse")
    return model


def dense_model(depth=5):
    x = inputs = keras.Input((8,))
    for index in range(depth):
        x = dense_block(x, index)
    return compiled(inputs, layers.Dense(1)(x))


def conv_model(blocks_each=3):
    x = inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, padding="same", name="stem")(x)
    for index in range(2 * blocks_each):
        later = index >= blocks_each
        x = conv_block(x, index, 6 if later else 4, 2 if index == blocks_each else 1)
    return compiled(inputs, layers.Dense(1)(layers.GlobalAveragePooling2D()(x)))


def moments(values):
    rows = np.asarray(values).reshape(-1, values.shape[-1])
    return np.mean(np.mean(rows, axis=0) ** 2), np.mean(np.var(rows, axis=0))


# Single precision, summed in another order.
@pytest.mark.parametrize("build", [dense_model, conv_model])
def test_the_profile_agrees_with_numpy(passes, build):
    model = build()
    run = passes(model, batch_size=8, batches=2)
    names = [layer.name for layer in model.layers if layer.name.startswith("sum_")]
    ends = [name.replace("sum", "outer") for name in names]
    both = keras.Model(model.input, [model.get_layer(name).output for name in names + ends])
    found = [
        [moments(tensor.numpy()) for tensor in both(batch.x[0])] for batch in run.prepared.batches
    ]
    expected = np.median(np.array(found), axis=0)
    profile = residual_profile(run.graph, run.tally)
    assert [point.call for point in profile] == names
    assert [point.branch for point in profile] == ends
    for index, point in enumerate(profile):
        assert point.squared_mean == pytest.approx(expected[index][0], rel=1e-4)
        assert point.variance == pytest.approx(expected[index][1], rel=1e-4)
        branch = expected[len(names) + index][1]
        assert point.branch_variance == pytest.approx(branch, rel=1e-4)


def test_squares_beyond_single_precision_are_finite(passes):
    model = dense_model(2)
    layer = model.get_layer("outer_0")
    layer.set_weights([1e25 * weight for weight in layer.get_weights()])
    run = passes(model, batch_size=8, batches=1)
    first = residual_profile(run.graph, run.tally)[0]
    assert 1e45 < first.variance < 1e55
    assert math.isfinite(first.squared_mean)


def test_of_two_branches_the_longer_one_is_the_blocks(passes):
    x = inputs = keras.Input((4, 8))
    for index in range(2):
        short = layers.Dense(8, name=f"short_{index}")(layers.LayerNormalization()(x))
        inner = layers.Dense(8, "gelu")(layers.LayerNormalization()(x))
        x = layers.Add()([x, short, layers.Dense(8, name=f"long_{index}")(inner)])
    run = passes(compiled(inputs, layers.Dense(1)(x)), batch_size=4, batches=1)
    assert [p.branch for p in residual_profile(run.graph, run.tally)] == ["long_0", "long_1"]


def test_a_plain_stack_has_no_profile(passes, sequential):
    run = passes(sequential(keras.Input((4,)), layers.Dense(4), layers.Dense(1)), batches=1)
    assert residual_profile(run.graph, run.tally) == ()
    assert profiled_calls(run.graph) == frozenset()


def stage_calls(model):
    graph = read_live_model(model, DEFAULT_LIMITS).graph
    shapes = {call.id: call.out_shape for call in graph.calls}
    found = residual_stages(graph, blocks(graph), shapes)
    return [[block.merge.id for block in run] for run in found]


def test_stages_are_runs_of_blocks_of_one_shape():
    assert stage_calls(conv_model()) == [
        ["sum_0", "sum_1", "sum_2"],
        ["sum_3", "sum_4", "sum_5"],
    ]


def test_a_shape_that_comes_back_begins_a_stage_of_its_own():
    x = inputs = keras.Input((8,))
    for index in range(2):
        x = dense_block(x, index)
    x = layers.Dense(4)(x)
    x = dense_block(x, 2, 4)
    x = layers.Dense(8)(x)
    for index in range(3, 5):
        x = dense_block(x, index)
    assert stage_calls(compiled(inputs, layers.Dense(1)(x))) == [
        ["sum_0", "sum_1"],
        ["sum_2"],
        ["sum_3", "sum_4"],
    ]


def test_towers_and_levels_are_kept_apart():
    inputs = keras.Input((8,))
    towers = []
    for tower in range(2):
        x = layers.Dense(8)(inputs)
        for index in range(2):
            x = dense_block(x, f"{tower}{index}")
        towers.append(x)
    x = around = layers.Dense(8)(layers.Concatenate()(towers))
    for index in range(2):
        x = dense_block(x, f"in{index}")
    x = layers.Add(name="around")([around, layers.Dense(8)(x)])
    assert sorted(stage_calls(compiled(inputs, layers.Dense(1)(x)))) == [
        ["around"],
        ["sum_00", "sum_01"],
        ["sum_10", "sum_11"],
        ["sum_in0", "sum_in1"],
    ]


def test_what_lies_inside_residual_blocks():
    graph = read_live_model(dense_model(2), DEFAULT_LIMITS).graph
    assert inside_residual_blocks(blocks(graph)) == {"inner_0", "outer_0", "inner_1", "outer_1"}


def test_a_residual_net_grows_by_blocks_within_each_stage(passes):
    run = passes(conv_model(), batches=2, batch_size=4)
    stages = propagation(run.graph, run.tally).stages
    assert [(stage.residual, stage.shape) for stage in stages] == [
        (True, (8, 8, 4)),
        (True, (4, 4, 6)),
    ]
    assert stages[0].calls == ("sum_0", "sum_1", "sum_2")
    norms = {slots.id: run.tally.gradient_norms(slots) for slots in run.tally.slots.calls}
    logs = [float(np.median(np.log(norms[call]))) for call in stages[0].calls]
    # Through three equally spaced points the least-squares slope is the ends' half difference.
    assert stages[0].rate == pytest.approx(math.exp((logs[0] - logs[2]) / 2), rel=1e-6)
    low, high = stages[0].interval
    assert low < stages[0].rate < high
