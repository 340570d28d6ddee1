"""How a Keras model is compiled, from the configuration saved with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from auditor.formats.keras_initializer import snake_case
from auditor.formats.untrusted import flag, mapping, number, text
from auditor.graph.compile_settings import (
    CompileSettings,
    LossSettings,
    MetricSettings,
    OptimizerSettings,
)

#: Keras' default learning rates, for an optimizer that is saved by name only.
LEARNING_RATES: Mapping[str, float] = {
    "adadelta": 0.001,
    "adafactor": 0.001,
    "adagrad": 0.001,
    "adam": 0.001,
    "adamax": 0.001,
    "adamw": 0.001,
    "ftrl": 0.001,
    "lamb": 0.001,
    "lion": 0.001,
    "muon": 0.001,
    "nadam": 0.001,
    "rmsprop": 0.001,
    "schedulefreeadamw": 0.0025,
    "sgd": 0.01,
}
#: What a schedule calls the rate it begins with.
INITIAL_RATES = ("initial_learning_rate", "learning_rate", "warmup_target")

LOSSES = frozenset(
    {
        "binary_crossentropy",
        "binary_focal_crossentropy",
        "categorical_crossentropy",
        "categorical_focal_crossentropy",
        "categorical_generalized_cross_entropy",
        "categorical_hinge",
        "circle",
        "cosine_similarity",
        "ctc",
        "dice",
        "hinge",
        "huber",
        "kl_divergence",
        "log_cosh",
        "mean_absolute_error",
        "mean_absolute_percentage_error",
        "mean_squared_error",
        "mean_squared_logarithmic_error",
        "poisson",
        "sparse_categorical_crossentropy",
        "squared_hinge",
        "tversky",
    }
)
_LOSS_ALIASES: Mapping[str, str] = {
    "bce": "binary_crossentropy",
    "cosine_proximity": "cosine_similarity",
    "huber_loss": "huber",
    "kl_divergence_loss": "kl_divergence",
    "kld": "kl_divergence",
    "kldivergence": "kl_divergence",
    "kullback_leibler_divergence": "kl_divergence",
    "log_cosh_loss": "log_cosh",
    "logcosh": "log_cosh",
    "mae": "mean_absolute_error",
    "mape": "mean_absolute_percentage_error",
    "mse": "mean_squared_error",
    "msle": "mean_squared_logarithmic_error",
}
_METRIC_ALIASES: Mapping[str, str] = {**_LOSS_ALIASES, "acc": "accuracy", "ce": "crossentropy"}


def compile_settings(config: object) -> CompileSettings | None:
    """The settings in a `compile_config` (Keras 3) or `training_config` (HDF5 files).

    None where the model was not compiled. What is malformed in it is left out: a model can be
    audited without.
    """
    fields = mapping(config)
    optimizer = optimizer_settings(fields.get("optimizer", fields.get("optimizer_config")))
    losses = _weighted(tuple(_losses(fields.get("loss"), None)), fields.get("loss_weights"))
    if optimizer is None and not losses:
        return None
    metrics = (
        *_metrics(fields.get("metrics"), None),
        *_metrics(fields.get("weighted_metrics"), None),
    )
    return CompileSettings(
        optimizer=optimizer,
        losses=losses,
        metrics=tuple(dict.fromkeys(metric.name for metric in metrics)),
        metric_settings=metrics,
        raw=dict(fields),
    )


def at_outputs(
    settings: CompileSettings, names: Sequence[str], keys: Sequence[str] = ()
) -> CompileSettings:
    """The settings with losses and metrics of lists and dictionaries under their outputs' names.

    `keys` are those of the outputs where the model gives a dictionary, in the order of `names`;
    they go before the names, as in Keras.
    """
    if len(set(names)) != len(names):
        return settings
    by_index = {str(index): name for index, name in enumerate(names)}
    by_key = dict(zip(keys, names, strict=True)) if len(keys) == len(names) else {}
    told = {loss.output for loss in settings.losses} | {m.output for m in settings.metric_settings}
    keyed = by_key if told - {None} <= by_key.keys() else {}

    def named(output: str | None) -> str | None:
        if output is None:
            return None
        name = keyed.get(output, output)
        return name if name in names else by_index.get(name, name)

    return replace(
        settings,
        losses=tuple(replace(loss, output=named(loss.output)) for loss in settings.losses),
        metric_settings=tuple(
            replace(metric, output=named(metric.output)) for metric in settings.metric_settings
        ),
    )


def with_loss_scaling(settings: CompileSettings, scaled: bool) -> CompileSettings:
    """The settings where it is known, from elsewhere in the file, whether the loss is scaled."""
    if settings.optimizer is None or settings.optimizer.loss_scaling is not None:
        return settings
    return replace(settings, optimizer=replace(settings.optimizer, loss_scaling=scaled))


def loss_settings(name: str) -> LossSettings:
    """A loss given by its name alone; `custom` says that Keras has none of that name."""
    return _loss(name, {}, None)


def optimizer_settings(value: object) -> OptimizerSettings | None:
    """An optimizer given by name or as an object; None for neither."""
    if isinstance(value, str):
        name = _plain(value).lower().replace("_", "")
        return OptimizerSettings(name=name, learning_rate=LEARNING_RATES.get(name))
    fields = mapping(value)
    config = mapping(fields.get("config"))
    name = _plain(text(fields.get("class_name"))).lower()
    if name == "lossscaleoptimizer":
        inner = optimizer_settings(config.get("inner_optimizer", config.get("optimizer")))
        return None if inner is None else replace(inner, loss_scaling=True)
    if not name:
        return None
    scaling = True if number(config.get("loss_scale_factor")) else None
    rate: object = config.get("learning_rate", config.get("lr"))
    if isinstance(rate, dict):
        schedule = mapping(rate.get("config"))
        initial = next((schedule[key] for key in INITIAL_RATES if key in schedule), None)
        if initial is None and isinstance(schedule.get("values"), list):
            initial = next(iter(schedule["values"]), None)
        return OptimizerSettings(
            name=name,
            learning_rate=_shortest(number(initial)),
            schedule=_plain(text(rate.get("class_name"))) or None,
            schedule_config=dict(schedule),
            config=dict(config),
            loss_scaling=scaling,
        )
    return OptimizerSettings(
        name=name,
        learning_rate=_shortest(number(rate)),
        config=dict(config),
        loss_scaling=scaling,
    )


def _shortest(rate: float | None) -> float | None:
    """The number somebody wrote, of a rate kept in single precision: 0.001, not 0.0010000000475."""
    if rate is None:
        return None
    with np.errstate(over="ignore"):
        single = np.float32(rate)
    return float(str(single)) if float(single) == rate else rate


def _losses(value: object, output: str | None) -> Iterator[LossSettings]:
    if isinstance(value, str):
        yield _loss(value, {}, output)
    elif isinstance(value, dict) and isinstance(value.get("class_name"), str):
        config = value.get("config")
        # A class of one's own may have the name of one of Keras'; where it is registered tells.
        registered = text(value.get("registered_name"))
        own = registered if ">" in registered else ""
        if value["class_name"] == "function":
            yield _loss(own or text(config), {}, output)
        else:
            yield _loss(own or value["class_name"], mapping(config), output)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _losses(item, key if output is None else f"{output}/{key}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _losses(item, str(index) if len(value) > 1 else output)


def _weighted(losses: tuple[LossSettings, ...], weights: object) -> tuple[LossSettings, ...]:
    """The losses with the factors that `loss_weights` gives them: a number, a list or a mapping."""
    listed = weights if isinstance(weights, list) else []
    by_output = {str(index): weight for index, weight in enumerate(listed)} or mapping(weights)
    alike = number(listed[0]) if listed and len(set(map(number, listed))) == 1 else None

    def weighted(loss: LossSettings) -> LossSettings:
        given = by_output.get(loss.output, weights) if loss.output is not None else weights
        weight = number(given) if loss.output is not None or alike is None else alike
        return loss if weight is None else replace(loss, weight=weight)

    return tuple(weighted(loss) for loss in losses)


def _loss(name: str, config: Mapping[str, Any], output: str | None) -> LossSettings:
    plain = _plain(name)
    if plain == "LossFunctionWrapper":
        inner = config.get("fn")
        plain = text(mapping(inner).get("config")) or text(inner) or text(config.get("name"), plain)
    canonical = snake_case(plain)
    canonical = _LOSS_ALIASES.get(canonical, canonical)
    known = canonical in LOSSES and (">" not in name)
    return LossSettings(
        name=canonical if known else name,
        output=output,
        from_logits=flag(config.get("from_logits"), False),
        custom=not known,
        config=dict(config),
    )


def _metrics(value: object, output: str | None) -> Iterator[MetricSettings]:
    """The metrics in any structure of them."""
    if isinstance(value, str):
        yield MetricSettings(name=_metric_name(value), output=output)
    elif isinstance(value, dict) and isinstance(value.get("class_name"), str):
        yield _metric(value, output)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _metrics(item, key if output is None else output)
    elif isinstance(value, list):
        # A list of lists has one for each output.
        nested = len(value) > 1 and any(isinstance(item, list) for item in value)
        for index, item in enumerate(value):
            yield from _metrics(item, str(index) if nested and output is None else output)


def _metric(value: Mapping[str, Any], output: str | None) -> MetricSettings:
    config = value.get("config")
    fields = mapping(config)
    name = value["class_name"]
    if name in ("function", "MeanMetricWrapper"):
        inner = config if isinstance(config, str) else fields.get("name")
        name = inner if isinstance(inner, str) else name
    return MetricSettings(name=_metric_name(name), output=output, config=dict(fields))


def _metric_name(name: str) -> str:
    canonical = snake_case(_plain(name))
    return _METRIC_ALIASES.get(canonical, canonical)


def _plain(name: str) -> str:
    return name.rsplit(">", 1)[-1].rsplit(".", 1)[-1]
