"""JSON keeps its contract: the published schema, keys in order, strings for what is no number."""

import copy
import json
import re

import jsonschema
import pytest
from golden_report import check_golden
from report_samples import (
    SAMPLES,
    exploding_stack,
    founding_case,
    nasty_names,
    onnx_unknown,
    resnet,
    sequence_model,
)

from auditor.reports.json_v1 import JsonReporter, schema

VALIDATOR = jsonschema.Draft202012Validator(schema())
#: The contract's keys; an object may have more, where the types do.
KEYS = {
    "model": ("path", "format", "sha256", "writer", "parameters", "trainable_parameters"),
    "layer": (
        "id",
        "name",
        "kind",
        "op",
        "path",
        "in_shapes",
        "out_shapes",
        "parameters",
        "trainable",
        "dtype",
    ),
    "forecast": ("growth_rate", "layers", "covered"),
    "probe": (
        "backend",
        "device",
        "dtype",
        "seed",
        "batch_size",
        "batches",
        "data",
        "seconds",
        "loss",
        "growth_rate",
        "growth_interval",
        "gradient_norm",
        "gradient_ratio",
        "gsc",
        "loss_at_start",
        "sharpness",
        "noise_scale",
        "layers",
        "skipped",
    ),
    "measurement": (
        "gradient_norm",
        "jacobian",
        "jacobian_skipped",
        "to_output_norm",
        "gsc",
        "time",
        "attention",
    ),
    "estimate": ("value", "low", "high", "error", "bound", "method", "products"),
    "finding": (
        "code",
        "name",
        "severity",
        "confidence",
        "layers",
        "message",
        "evidence",
        "remedy",
        "fingerprint",
        "references",
    ),
    "evidence": ("name", "value", "unit", "stderr", "bound", "method"),
    "plan": (
        "learning_rate",
        "optimizer",
        "clip",
        "regularization",
        "schedule",
        "initialization",
        "accumulation",
        "precision",
    ),
    "setting": ("value", "low", "high", "because", "formula"),
}


def in_order(wanted, keys):
    remaining = iter(keys)
    return all(key in remaining for key in wanted)


def test_schema_is_a_schema():
    jsonschema.Draft202012Validator.check_schema(schema())


def test_schema_describes_every_property():
    def properties(node):
        if isinstance(node, dict):
            yield from node.get("properties", {}).items()
            for child in node.values():
                yield from properties(child)
        elif isinstance(node, list):
            for child in node:
                yield from properties(child)

    definitions = schema()["$defs"]
    for name, definition in properties(schema()):
        target = definition.get("$ref", "").rpartition("/")[2]
        assert definition.get("description") or definitions[target]["description"], name


@pytest.mark.parametrize("name", SAMPLES)
def test_every_report_validates(name):
    VALIDATOR.validate(json.loads(JsonReporter().render((SAMPLES[name](),))))


def test_several_results_are_an_array_that_validates():
    several = json.loads(JsonReporter().render(tuple(make() for make in SAMPLES.values())))
    assert len(several) == len(SAMPLES)
    VALIDATOR.validate(several)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda d: d.update(more=1),
        lambda d: d["findings"][0].update(more=1),
        lambda d: d["findings"][0].pop("fingerprint"),
        lambda d: d.update(verdict="fine"),
        lambda d: d["probe"].update(growth_rate="2.26"),
        lambda d: d["layers"][0].update(parameters=-1),
    ],
)
def test_schema_refuses_what_is_not_promised(spoil):
    document = json.loads(JsonReporter().render((exploding_stack(),)))
    spoilt = copy.deepcopy(document)
    spoil(spoilt)
    assert not VALIDATOR.is_valid(spoilt)


def test_keys_stand_in_the_order_of_the_contract():
    document = json.loads(JsonReporter().render((exploding_stack(),)))
    found = {
        "model": document["model"],
        "layer": document["layers"][0],
        "forecast": document["forecast"],
        "probe": document["probe"],
        "measurement": document["probe"]["layers"]["dense"],
        "estimate": document["probe"]["layers"]["dense"]["jacobian"]["spectral_norm"],
        "finding": document["findings"][0],
        "evidence": document["findings"][0]["evidence"][0],
        "plan": document["plan"],
        "setting": document["plan"]["learning_rate"],
    }
    for name, keys in KEYS.items():
        assert in_order(keys, found[name]), name
    assert document["risk"] is None


def probe_of(result):
    return json.loads(JsonReporter().render((result,)))["probe"]


def test_what_was_measured_of_a_call_is_told_in_full():
    measured = sequence_model().probe.calls
    layers = probe_of(sequence_model())["layers"]
    jacobian = layers["lstm"]["jacobian"]
    assert jacobian["backward_gain"] == pytest.approx(0.21)
    assert jacobian["isometry"] == measured["lstm"].jacobian.isometry
    assert jacobian["spectral_norm"] == {
        "value": 1.23,
        "low": 1.23 * 0.95,
        "high": 1.23 * 1.05,
        "error": 0.013 * 1.23,
        "bound": "lower",
        "method": "Golub–Kahan, 8 steps",
        "products": 16,
    }
    assert layers["lstm"]["time"]["growth"]["value"] == 0.93
    assert (layers["lstm"]["time"]["steps"], layers["lstm"]["time"]["length"]) == (128, 400)
    assert layers["lstm"]["saturation"]["p50"] == 0.31
    assert layers["mixing"]["attention"]["entropy"]["p50"] == 0.97
    assert layers["mixing"]["jacobian"] is None
    assert layers["mixing"]["jacobian_skipped"] == "time limit"
    assert layers["pool"]["time"] is layers["pool"]["attention"] is None


def test_what_was_measured_of_a_model_is_told_in_full():
    probe = probe_of(resnet())
    assert probe["incomplete"] is None
    assert probe["sharpness"]["largest"]["value"] == 38.2
    assert probe["sharpness"]["preconditioned"]["bound"] == "lower"
    assert probe["sharpness_skipped"] is None
    assert probe["noise_scale"] == probe["noise_scale_estimate"]["value"] == 120
    assert probe["noise_scale_estimate"]["high"] == "Infinity"
    assert [stage["growth_interval"] for stage in probe["stages"][:2]] == [None, [1.28, 1.43]]
    assert probe["stages"][0]["shape"] == [24, 24, 64]
    assert len(probe["residual_profile"]) == 16
    assert probe["residual_profile"][0]["branch"] is None
    ended = probe_of(sequence_model())
    assert ended["incomplete"].startswith("it reached its time limit")
    assert ended["sharpness"] is None
    assert ended["sharpness_skipped"] == "the time limit of 60 s came first"
    assert "Traceback" not in json.dumps(ended)
    assert (len(probe["trial_further"]), len(probe["trial_long"])) == (2, 3)
    assert probe["rescaled_trial"] == {"decades": 0.7, "kernels": 161, "losses": [2.6, 2.1, 1.5]}
    assert ended["rescaled_trial"] is None
    assert probe_of(exploding_stack())["rate_trials"] == [{"rate": 1e-4, "losses": [14.2, 13.9]}]


def test_numbers_that_are_none_are_strings():
    document = json.loads(
        JsonReporter().render((nasty_names(),)),
        parse_constant=lambda constant: pytest.fail(constant),
    )
    assert document["probe"]["growth_rate"] == "NaN"
    assert document["probe"]["growth_interval"] == ["-Infinity", "Infinity"]
    assert document["plan"]["learning_rate"]["config"]["x"] == "NaN"


def test_names_are_kept_and_send_nothing_to_a_terminal():
    text = JsonReporter().render((nasty_names(),))
    text.encode("utf-8")
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\ufeff]", text)
    names = [layer["name"] for layer in json.loads(text)["layers"]]
    assert "[red]\x1b[2J" in names
    assert "\\ud800lone" in names
    assert "ж中🙂\u200b\ufeff" in names


def test_same_result_same_bytes():
    assert JsonReporter().render((exploding_stack(),)) == JsonReporter().render(
        (exploding_stack(),)
    )


@pytest.mark.parametrize("sample", [founding_case, onnx_unknown])
def test_golden(sample):
    check_golden(f"{sample.__name__}.json", JsonReporter().render((sample(),)))
