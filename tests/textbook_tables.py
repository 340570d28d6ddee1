"""Models of tables, ratings and actions as keras.io, papers and courses have them, at a small size.

Each is compiled as its source does it; what a source trains by a loop of its own stays uncompiled.
"""

from collections.abc import Callable

import keras
import numpy as np
from keras import layers, ops, regularizers


def linear_regression() -> keras.Model:
    model = keras.Sequential([keras.Input((8,)), layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.01), "mse")
    return model


def softmax_regression() -> keras.Model:
    model = keras.Sequential([keras.Input((784,)), layers.Dense(10, activation="softmax")])
    model.compile(keras.optimizers.SGD(0.5), "categorical_crossentropy", metrics=["accuracy"])
    return model


def mnist_mlp() -> keras.Model:
    model = keras.Sequential(
        [
            keras.Input((784,)),
            layers.Dense(512, activation="relu"),
            layers.Dropout(0.2),
            layers.Dense(512, activation="relu"),
            layers.Dropout(0.2),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("rmsprop", "categorical_crossentropy", metrics=["accuracy"])
    return model


def hinge_machine() -> keras.Model:
    """A support vector machine: a linear score, squared weights, the hinge."""
    score = layers.Dense(10, kernel_regularizer=regularizers.L2(1e-4))
    model = keras.Sequential([keras.Input((64,)), score])
    model.compile(keras.optimizers.Adam(1e-3), "categorical_hinge", metrics=["accuracy"])
    return model


def housing_regressor() -> keras.Model:
    """Normalization adapted to prices of houses, as the tutorial of regression has it."""
    features = np.random.default_rng(0).gamma(2.0, (3.0, 500.0, 0.1, 40.0), (256, 4))
    normalization = layers.Normalization()
    normalization.adapt(features.astype("float32"))
    model = keras.Sequential(
        [
            keras.Input((4,)),
            normalization,
            layers.Dense(64, activation="relu"),
            layers.Dense(64, activation="relu"),
            layers.Dense(1),
        ]
    )
    model.compile(keras.optimizers.Adam(1e-3), "mae", metrics=["mape"])
    return model


def count_regressor() -> keras.Model:
    """Counts by a log-linear mean: exponential head, Poisson loss."""
    model = keras.Sequential(
        [
            keras.Input((12,)),
            layers.Dense(32, activation="elu"),
            layers.Dense(32, activation="elu"),
            layers.Dense(1, activation="exponential"),
        ]
    )
    model.compile(keras.optimizers.Adam(1e-3), "poisson")
    return model


def price_regressor() -> keras.Model:
    """Prices, positive, judged by their logarithms."""
    model = keras.Sequential(
        [
            keras.Input((20,)),
            layers.Dense(64, activation="relu"),
            layers.Dropout(0.3),
            layers.Dense(64, activation="relu"),
            layers.Dense(1, activation="softplus"),
        ]
    )
    model.compile("adam", "mean_squared_logarithmic_error")
    return model


def robust_targets() -> keras.Model:
    """Three targets at once: L2, a cosine schedule, momentum, clipping, Huber's loss."""
    model = keras.Sequential([keras.Input((16,))])
    for _ in range(3):
        model.add(layers.Dense(64, activation="relu", kernel_regularizer=regularizers.L2(1e-4)))
    model.add(layers.Dense(3))
    rate = keras.optimizers.schedules.CosineDecay(0.01, 10000)
    optimizer = keras.optimizers.SGD(rate, momentum=0.9, clipnorm=1.0)
    model.compile(optimizer, keras.losses.Huber(), metrics=["mae", "r2_score"])
    return model


def fashion_batch_norm() -> keras.Model:
    """Géron 2022: normalization before each activation, no biases beneath it."""
    model = keras.Sequential([keras.Input((28, 28)), layers.Flatten(), layers.BatchNormalization()])
    for units in (300, 100):
        model.add(layers.Dense(units, kernel_initializer="he_normal", use_bias=False))
        model.add(layers.BatchNormalization())
        model.add(layers.Activation("relu"))
    model.add(layers.Dense(10, activation="softmax"))
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def deep_selu() -> keras.Model:
    """Géron 2022: twenty self-normalizing layers, standardized inputs, alpha dropout at the end."""
    model = keras.Sequential([keras.Input((64,))])
    for _ in range(20):
        model.add(layers.Dense(100, activation="selu", kernel_initializer="lecun_normal"))
    model.add(layers.AlphaDropout(0.1))
    model.add(layers.Dense(10, activation="softmax"))
    model.compile(
        keras.optimizers.Nadam(5e-4), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    return model


def highway_network() -> keras.Model:
    """Srivastava et al. 2015: gates that begin by carrying, their biases at -2."""
    inputs = keras.Input((64,))
    x = layers.Dense(50, activation="relu")(inputs)
    for _ in range(8):
        gate = layers.Dense(
            50, activation="sigmoid", bias_initializer=keras.initializers.Constant(-2.0)
        )(x)
        x = gate * layers.Dense(50, activation="relu")(x) + (1.0 - gate) * x
    model = keras.Model(inputs, layers.Dense(10, activation="softmax")(x))
    optimizer = keras.optimizers.SGD(0.05, momentum=0.9)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def fraud_classifier() -> keras.Model:
    """keras.io: imbalanced classes; the rate of 0.01 is the example's."""
    model = keras.Sequential(
        [
            keras.Input((30,)),
            layers.Dense(256, activation="relu"),
            layers.Dense(256, activation="relu"),
            layers.Dropout(0.3),
            layers.Dense(256, activation="relu"),
            layers.Dropout(0.3),
            layers.Dense(1, activation="sigmoid"),
        ]
    )
    metrics = [keras.metrics.Precision(), keras.metrics.Recall()]
    model.compile(keras.optimizers.Adam(1e-2), "binary_crossentropy", metrics=metrics)
    return model


def mixed_features() -> keras.Model:
    """Categories in one-hot form beside normalized numbers."""
    numbers = keras.Input((6,), name="numbers")
    kind = keras.Input((1,), dtype="int32", name="kind")
    region = keras.Input((1,), dtype="int32", name="region")
    normalization = layers.Normalization()
    normalization.adapt(np.random.default_rng(0).normal(5.0, 3.0, (64, 6)).astype("float32"))
    parts = [
        normalization(numbers),
        layers.CategoryEncoding(num_tokens=5, output_mode="one_hot")(kind),
        layers.CategoryEncoding(num_tokens=9, output_mode="one_hot")(region),
    ]
    x = layers.Dense(32, activation="relu")(layers.Concatenate()(parts))
    outputs = layers.Dense(1, activation="sigmoid")(layers.Dropout(0.5)(x))
    model = keras.Model([numbers, kind, region], outputs)
    model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
    return model


def wide_and_deep() -> keras.Model:
    """Cheng et al. 2016, as Géron 2022 has it: numbers go both by a deep path and directly."""
    wide, deep = keras.Input((5,), name="wide"), keras.Input((6,), name="deep")
    x = deep
    for units in (30, 30):
        x = layers.Dense(units, activation="relu")(x)
    model = keras.Model([wide, deep], layers.Dense(1)(layers.Concatenate()([wide, x])))
    model.compile(keras.optimizers.SGD(1e-3), "mse")
    return model


def movie_ratings() -> keras.Model:
    """keras.io: the product of two embeddings and a bias of each, squashed to a rating."""

    def embedded(x: keras.KerasTensor, count: int) -> tuple[keras.KerasTensor, keras.KerasTensor]:
        vector = layers.Embedding(
            count,
            50,
            embeddings_initializer="he_normal",
            embeddings_regularizer=regularizers.L2(1e-6),
        )
        return layers.Flatten()(vector(x)), layers.Flatten()(layers.Embedding(count, 1)(x))

    user = keras.Input((1,), dtype="int32", name="user")
    movie = keras.Input((1,), dtype="int32", name="movie")
    u, user_bias = embedded(user, 600)
    m, movie_bias = embedded(movie, 900)
    total = layers.Add()([layers.Dot(axes=1)([u, m]), user_bias, movie_bias])
    model = keras.Model([user, movie], layers.Activation("sigmoid")(total))
    model.compile(keras.optimizers.Adam(1e-3), keras.losses.BinaryCrossentropy())
    return model


def two_towers() -> keras.Model:
    """Retrieval: a user's and an item's vector, compared by their cosine."""

    def tower(count: int, name: str) -> tuple[keras.KerasTensor, keras.KerasTensor]:
        identity = keras.Input((), dtype="int32", name=name)
        x = layers.Embedding(count, 32)(identity)
        return identity, layers.Dense(32)(layers.Dense(64, activation="relu")(x))

    user, left = tower(500, "user")
    item, right = tower(800, "item")
    model = keras.Model([user, item], layers.Dot(axes=1, normalize=True)([left, right]))
    model.compile(keras.optimizers.Adagrad(0.1), "mse")
    return model


def skip_gram() -> keras.Model:
    """Mikolov et al. 2013: a word against one in its context and four drawn at random."""
    word = keras.Input((1,), dtype="int32", name="word")
    context = keras.Input((5,), dtype="int32", name="context")
    target = layers.Embedding(1000, 64, name="words")(word)
    around = layers.Embedding(1000, 64, name="contexts")(context)
    scores = layers.Flatten()(layers.Dot(axes=2)([around, target]))
    model = keras.Model([word, context], scores)
    model.compile("adam", keras.losses.CategoricalCrossentropy(from_logits=True))
    return model


def tab_transformer() -> keras.Model:
    """Huang et al. 2020: attention among the columns of categories, numbers joined after it."""
    numbers = keras.Input((5,), name="numbers")
    columns = [keras.Input((1,), dtype="int32", name=f"column_{index}") for index in range(4)]
    embedded = [layers.Embedding(10 + 5 * index, 16)(x) for index, x in enumerate(columns)]
    x = layers.Concatenate(axis=1)(embedded)
    x = x + layers.Embedding(4, 16)(ops.arange(4))
    for _ in range(3):
        y = layers.MultiHeadAttention(4, 16, dropout=0.2)(x, x)
        x = layers.LayerNormalization(epsilon=1e-6)(layers.Add()([y, x]))
        y = layers.Dropout(0.2)(layers.Dense(16, activation="gelu")(x))
        x = layers.LayerNormalization(epsilon=1e-6)(layers.Add()([y, x]))
    x = layers.Concatenate()([layers.Flatten()(x), layers.LayerNormalization()(numbers)])
    for units in (64, 32):
        x = layers.Dense(units, activation="selu")(layers.BatchNormalization()(x))
        x = layers.Dropout(0.2)(x)
    model = keras.Model([numbers, *columns], layers.Dense(1, activation="sigmoid")(x))
    model.compile(
        keras.optimizers.AdamW(1e-3, weight_decay=1e-4), keras.losses.BinaryCrossentropy()
    )
    return model


def ticket_router() -> keras.Model:
    """The functional guide: texts of two kinds and tags; a priority and a department, as logits."""
    title = keras.Input((None,), dtype="int32", name="title")
    body = keras.Input((None,), dtype="int32", name="body")
    tags = keras.Input((12,), name="tags")
    read_title = layers.LSTM(64)(layers.Embedding(1000, 32)(title))
    read_body = layers.LSTM(32)(layers.Embedding(1000, 32)(body))
    x = layers.concatenate([read_title, read_body, tags])
    priority = layers.Dense(1, name="priority")(x)
    department = layers.Dense(4, name="department")(x)
    model = keras.Model([title, body, tags], {"priority": priority, "department": department})
    model.compile(
        keras.optimizers.RMSprop(1e-3),
        {
            "priority": keras.losses.BinaryCrossentropy(from_logits=True),
            "department": keras.losses.CategoricalCrossentropy(from_logits=True),
        },
        loss_weights={"priority": 1.0, "department": 0.2},
    )
    return model


def deep_q_network() -> keras.Model:
    """Mnih et al. 2015, on a smaller screen: a value for each action, Huber's loss."""
    model = keras.Sequential(
        [
            keras.Input((84, 84, 4)),
            layers.Rescaling(1 / 255),
            layers.Conv2D(16, 8, strides=4, activation="relu"),
            layers.Conv2D(32, 4, strides=2, activation="relu"),
            layers.Conv2D(32, 3, activation="relu"),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dense(4, activation="linear"),
        ]
    )
    model.compile(keras.optimizers.Adam(2.5e-4, clipnorm=1.0), keras.losses.Huber())
    return model


def actor_critic() -> keras.Model:
    """keras.io: probabilities of actions and a value, trained by a loop of their own."""
    inputs = keras.Input((4,))
    x = layers.Dense(128, activation="relu")(inputs)
    return keras.Model(inputs, [layers.Dense(2, activation="softmax")(x), layers.Dense(1)(x)])


def policy_actor() -> keras.Model:
    """Lillicrap et al. 2015: a squashed action, whose last kernel begins near nothing."""
    inputs = keras.Input((3,))
    x = layers.Dense(256, activation="relu")(inputs)
    x = layers.Dense(256, activation="relu")(x)
    narrow = keras.initializers.RandomUniform(-0.003, 0.003)
    return keras.Model(
        inputs, 2.0 * layers.Dense(1, activation="tanh", kernel_initializer=narrow)(x)
    )


TABLES: dict[str, Callable[[], keras.Model]] = {
    make.__name__: make
    for make in (
        linear_regression,
        softmax_regression,
        mnist_mlp,
        hinge_machine,
        housing_regressor,
        count_regressor,
        price_regressor,
        robust_targets,
        fashion_batch_norm,
        deep_selu,
        highway_network,
        fraud_classifier,
        mixed_features,
        wide_and_deep,
        movie_ratings,
        two_towers,
        skip_gram,
        tab_transformer,
        ticket_router,
        deep_q_network,
        actor_critic,
        policy_actor,
    )
}
