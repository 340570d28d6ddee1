"""Models of images as keras.io, papers and courses have them, at the smallest size that is theirs.

Each is compiled as its source does it; what a source trains by a loop of its own stays uncompiled.
"""

import math
from collections.abc import Callable

import keras
from keras import layers, ops, regularizers


def mnist_convnet() -> keras.Model:
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    return model


def augmented_flowers() -> keras.Model:
    """The image classification tutorial: augmentation and rescaling within the model, logits."""
    model = keras.Sequential(
        [
            keras.Input((64, 64, 3)),
            layers.RandomFlip("horizontal"),
            layers.RandomRotation(0.1),
            layers.RandomZoom(0.1),
            layers.Rescaling(1 / 255),
        ]
    )
    for filters in (16, 32, 64):
        model.add(layers.Conv2D(filters, 3, padding="same", activation="relu"))
        model.add(layers.MaxPooling2D())
    model.add(layers.Dropout(0.2))
    model.add(layers.Flatten())
    model.add(layers.Dense(128, activation="relu"))
    model.add(layers.Dense(5, name="outputs"))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"])
    return model


def cifar_resnet_v2() -> keras.Model:
    """He et al. 2016b: pre-activation blocks, 20 layers, the initialization and decay of theirs."""

    def unit(x: keras.KerasTensor, filters: int, strides: int = 1) -> keras.KerasTensor:
        return layers.Conv2D(
            filters,
            3,
            strides=strides,
            padding="same",
            kernel_initializer="he_normal",
            kernel_regularizer=regularizers.L2(1e-4),
        )(x)

    def before(x: keras.KerasTensor) -> keras.KerasTensor:
        return layers.ReLU()(layers.BatchNormalization()(x))

    inputs = keras.Input((32, 32, 3))
    x = unit(inputs, 16)
    for filters in (16, 32, 64):
        for block in range(3):
            strides = 2 if block == 0 and filters > 16 else 1
            y = before(x)
            if strides == 2:
                x = layers.Conv2D(filters, 1, strides=2, kernel_initializer="he_normal")(y)
            y = unit(before(unit(y, filters, strides)), filters)
            x = layers.Add()([x, y])
    x = layers.GlobalAveragePooling2D()(before(x))
    outputs = layers.Dense(10, activation="softmax", kernel_initializer="he_normal")(x)
    model = keras.Model(inputs, outputs)
    rate = keras.optimizers.schedules.PiecewiseConstantDecay([32000, 48000], [0.1, 0.01, 0.001])
    model.compile(
        keras.optimizers.SGD(rate, momentum=0.9), "categorical_crossentropy", metrics=["accuracy"]
    )
    return model


def vgg_batch_norm() -> keras.Model:
    """Liu, Deng 2015: VGG for CIFAR-10, with normalization and dropout between convolutions."""
    model = keras.Sequential([keras.Input((32, 32, 3))])
    decay = regularizers.L2(5e-4)
    for filters, count in ((16, 2), (32, 2), (64, 3), (64, 3)):
        for index in range(count):
            model.add(layers.Conv2D(filters, 3, padding="same", kernel_regularizer=decay))
            model.add(layers.Activation("relu"))
            model.add(layers.BatchNormalization())
            if index < count - 1:
                model.add(layers.Dropout(0.4))
        model.add(layers.MaxPooling2D())
    model.add(layers.Dropout(0.5))
    model.add(layers.Flatten())
    model.add(layers.Dense(128, activation="relu", kernel_regularizer=decay))
    model.add(layers.BatchNormalization())
    model.add(layers.Dropout(0.5))
    model.add(layers.Dense(10, activation="softmax"))
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True)
    model.compile(optimizer, "categorical_crossentropy", metrics=["accuracy"])
    return model


def dense_blocks() -> keras.Model:
    """Huang et al. 2017: DenseNet-BC."""

    def step(x: keras.KerasTensor, filters: int, size: int) -> keras.KerasTensor:
        x = layers.Activation("relu")(layers.BatchNormalization()(x))
        return layers.Conv2D(
            filters, size, padding="same", use_bias=False, kernel_initializer="he_normal"
        )(x)

    inputs = keras.Input((32, 32, 3))
    x = layers.Conv2D(24, 3, padding="same", use_bias=False)(inputs)
    for block in range(3):
        for _ in range(3):
            x = layers.Concatenate()([x, step(step(x, 48, 1), 12, 3)])
        if block < 2:
            x = layers.AveragePooling2D(2)(step(x, x.shape[-1] // 2, 1))
    x = layers.Activation("relu")(layers.BatchNormalization()(x))
    x = layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, layers.Dense(10, activation="softmax")(x))
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True, weight_decay=1e-4)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def squeezed() -> keras.Model:
    """Iandola et al. 2016: fire modules; the classifier is a convolution, rectified and pooled."""

    def fire(x: keras.KerasTensor, squeeze: int, expand: int) -> keras.KerasTensor:
        x = layers.Conv2D(squeeze, 1, activation="relu")(x)
        return layers.Concatenate()(
            [layers.Conv2D(expand, size, padding="same", activation="relu")(x) for size in (1, 3)]
        )

    inputs = keras.Input((64, 64, 3))
    x = layers.Conv2D(32, 3, strides=2, activation="relu")(inputs)
    x = layers.MaxPooling2D(3, 2)(x)
    x = fire(fire(x, 8, 32), 8, 32)
    x = layers.MaxPooling2D(3, 2)(x)
    x = fire(fire(x, 16, 64), 16, 64)
    x = layers.Dropout(0.5)(x)
    x = layers.Conv2D(10, 1, kernel_initializer=keras.initializers.RandomNormal(stddev=0.01))(x)
    x = layers.GlobalAveragePooling2D()(layers.Activation("relu")(x))
    model = keras.Model(inputs, layers.Activation("softmax")(x))
    optimizer = keras.optimizers.SGD(0.01, momentum=0.9, weight_decay=2e-4)
    model.compile(optimizer, "categorical_crossentropy", metrics=["accuracy"])
    return model


def depthwise_separable() -> keras.Model:
    model = keras.Sequential([keras.Input((32, 32, 3))])
    model.add(layers.Conv2D(16, 3, strides=2, padding="same", use_bias=False))
    for filters, strides in ((32, 1), (64, 2), (64, 1), (128, 2)):
        model.add(layers.BatchNormalization())
        model.add(layers.ReLU(max_value=6))
        model.add(layers.DepthwiseConv2D(3, strides=strides, padding="same", use_bias=False))
        model.add(layers.BatchNormalization())
        model.add(layers.ReLU(max_value=6))
        model.add(layers.Conv2D(filters, 1, use_bias=False))
    model.add(layers.BatchNormalization())
    model.add(layers.ReLU(max_value=6))
    model.add(layers.GlobalAveragePooling2D())
    model.add(layers.Dropout(1e-3))
    model.add(layers.Dense(100, activation="softmax"))
    optimizer = keras.optimizers.RMSprop(0.045, momentum=0.9, epsilon=1.0)
    loss = keras.losses.CategoricalCrossentropy(label_smoothing=0.1)
    model.compile(optimizer, loss, metrics=["accuracy", "top_k_categorical_accuracy"])
    return model


def inception_with_auxiliary_head() -> keras.Model:
    """Szegedy et al. 2015: branches side by side, a second classifier halfway, weighed 0.3."""

    def mixed(x: keras.KerasTensor, filters: int) -> keras.KerasTensor:
        def conv(y: keras.KerasTensor, size: int) -> keras.KerasTensor:
            return layers.Conv2D(filters, size, padding="same", activation="relu")(y)

        pooled = layers.MaxPooling2D(3, strides=1, padding="same")(x)
        branches = [conv(x, 1), conv(conv(x, 1), 3), conv(conv(x, 1), 5), conv(pooled, 1)]
        return layers.Concatenate()(branches)

    inputs = keras.Input((48, 48, 3))
    x = layers.Conv2D(32, 7, strides=2, padding="same", activation="relu")(inputs)
    x = layers.MaxPooling2D(3, 2, padding="same")(x)
    x = mixed(mixed(x, 16), 24)
    side = layers.AveragePooling2D(5, 3)(x)
    side = layers.Conv2D(32, 1, activation="relu")(side)
    side = layers.Dense(128, activation="relu")(layers.Flatten()(side))
    side = layers.Dense(10, activation="softmax", name="auxiliary")(layers.Dropout(0.7)(side))
    x = layers.GlobalAveragePooling2D()(mixed(layers.MaxPooling2D(3, 2, padding="same")(x), 32))
    main = layers.Dense(10, activation="softmax", name="main")(layers.Dropout(0.4)(x))
    model = keras.Model(inputs, [main, side])
    model.compile(
        keras.optimizers.SGD(0.01, momentum=0.9),
        ["categorical_crossentropy", "categorical_crossentropy"],
        loss_weights=[1.0, 0.3],
    )
    return model


def patches(x: keras.KerasTensor, size: int, width: int) -> keras.KerasTensor:
    """An image's patches, each mapped to a token: `(batch, tokens, width)`."""
    x = layers.Conv2D(width, size, strides=size)(x)
    return layers.Reshape((-1, width))(x)


def vision_transformer() -> keras.Model:
    """keras.io, after Dosovitskiy et al. 2020."""

    def mlp(x: keras.KerasTensor, units: tuple[int, ...], rate: float) -> keras.KerasTensor:
        for width in units:
            x = layers.Dropout(rate)(layers.Dense(width, activation="gelu")(x))
        return x

    inputs = keras.Input((32, 32, 3))
    x = patches(inputs, 8, 64)
    x = x + layers.Embedding(16, 64)(ops.arange(16))
    for _ in range(4):
        y = layers.LayerNormalization(epsilon=1e-6)(x)
        x = layers.Add()([layers.MultiHeadAttention(4, 64, dropout=0.1)(y, y), x])
        y = mlp(layers.LayerNormalization(epsilon=1e-6)(x), (128, 64), 0.1)
        x = layers.Add()([y, x])
    x = layers.Flatten()(layers.LayerNormalization(epsilon=1e-6)(x))
    x = mlp(layers.Dropout(0.5)(x), (256, 128), 0.5)
    model = keras.Model(inputs, layers.Dense(100)(x))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.AdamW(1e-3, weight_decay=1e-4), loss, metrics=["accuracy"])
    return model


def mlp_mixer() -> keras.Model:
    """Tolstikhin et al. 2021."""

    def mlp(x: keras.KerasTensor, hidden: int) -> keras.KerasTensor:
        width = x.shape[-1]
        return layers.Dense(width)(layers.Dense(hidden, activation="gelu")(x))

    inputs = keras.Input((32, 32, 3))
    x = patches(inputs, 4, 64)
    for _ in range(4):
        y = layers.Permute((2, 1))(layers.LayerNormalization()(x))
        x = layers.Add()([x, layers.Permute((2, 1))(mlp(y, 64))])
        x = layers.Add()([x, mlp(layers.LayerNormalization()(x), 128)])
    x = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(x))
    model = keras.Model(inputs, layers.Dense(10, activation="softmax")(x))
    optimizer = keras.optimizers.AdamW(1e-3, weight_decay=1e-4, global_clipnorm=1.0)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def pets_segmentation() -> keras.Model:
    """keras.io: a U-Net of separable convolutions with residuals, a class for each pixel."""

    def normal(x: keras.KerasTensor, layer: type[keras.Layer], filters: int) -> keras.KerasTensor:
        x = layer(filters, 3, padding="same")(layers.Activation("relu")(x))
        return layers.BatchNormalization()(x)

    inputs = keras.Input((64, 64, 3))
    x = layers.Conv2D(16, 3, strides=2, padding="same")(inputs)
    x = previous = layers.Activation("relu")(layers.BatchNormalization()(x))
    for filters in (32, 64):
        for _ in range(2):
            x = normal(x, layers.SeparableConv2D, filters)
        x = layers.MaxPooling2D(3, strides=2, padding="same")(x)
        short = layers.Conv2D(filters, 1, strides=2, padding="same")(previous)
        x = previous = layers.add([x, short])
    for filters in (64, 32, 16):
        for _ in range(2):
            x = normal(x, layers.Conv2DTranspose, filters)
        x = layers.UpSampling2D()(x)
        short = layers.Conv2D(filters, 1, padding="same")(layers.UpSampling2D()(previous))
        x = previous = layers.add([x, short])
    model = keras.Model(inputs, layers.Conv2D(3, 3, activation="softmax", padding="same")(x))
    model.compile(keras.optimizers.Adam(1e-4), "sparse_categorical_crossentropy")
    return model


def dilated_segmentation() -> keras.Model:
    """After DeepLab: context at several dilations, logits resized to the image."""

    def conv(x: keras.KerasTensor, size: int, strides: int = 1, rate: int = 1) -> keras.KerasTensor:
        x = layers.Conv2D(
            32,
            size,
            strides=strides,
            padding="same",
            dilation_rate=rate,
            use_bias=False,
            kernel_initializer="he_normal",
        )(x)
        return layers.Activation("relu")(layers.BatchNormalization()(x))

    inputs = keras.Input((64, 64, 3))
    x = conv(conv(conv(inputs, 3, 2), 3), 3, 2)
    pooled = layers.AveragePooling2D((16, 16))(x)
    pooled = layers.UpSampling2D((16, 16), interpolation="bilinear")(conv(pooled, 1))
    x = layers.Concatenate()([pooled, conv(x, 1), conv(x, 3, 1, 2), conv(x, 3, 1, 4)])
    x = layers.UpSampling2D((4, 4), interpolation="bilinear")(layers.Conv2D(21, 1)(conv(x, 1)))
    model = keras.Model(inputs, x)
    rate = keras.optimizers.schedules.PolynomialDecay(0.007, 30000, power=0.9)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=255)
    model.compile(keras.optimizers.SGD(rate, momentum=0.9), loss)
    return model


def box_detector() -> keras.Model:
    """After RetinaNet: shared heads on two scales, the classifier's bias at the prior of 0.01."""

    def head(outputs: int, bias: str | keras.initializers.Initializer, name: str) -> keras.Model:
        normal = keras.initializers.RandomNormal(stddev=0.01)
        model = keras.Sequential([keras.Input((None, None, 32))], name=name)
        for _ in range(2):
            model.add(
                layers.Conv2D(32, 3, padding="same", activation="relu", kernel_initializer=normal)
            )
        model.add(
            layers.Conv2D(
                outputs, 3, padding="same", kernel_initializer=normal, bias_initializer=bias
            )
        )
        return model

    def down(x: keras.KerasTensor, filters: int) -> keras.KerasTensor:
        x = layers.Conv2D(filters, 3, strides=2, padding="same", use_bias=False)(x)
        return layers.ReLU()(layers.BatchNormalization()(x))

    inputs = keras.Input((64, 64, 3))
    fine = down(down(down(inputs, 16), 32), 64)
    coarse = layers.Conv2D(32, 1)(down(fine, 64))
    fine = layers.Add()([layers.Conv2D(32, 1)(fine), layers.UpSampling2D()(coarse)])
    prior = keras.initializers.Constant(-math.log((1 - 0.01) / 0.01))
    classes, boxes = head(9 * 4, prior, "class_head"), head(9 * 4, "zeros", "box_head")
    scores, places = [], []
    for x in (fine, coarse):
        scores.append(layers.Reshape((-1, 4))(classes(x)))
        places.append(layers.Reshape((-1, 4))(boxes(x)))
    score = layers.Activation("sigmoid", name="class")(layers.Concatenate(axis=1)(scores))
    place = layers.Concatenate(axis=1, name="box")(places)
    model = keras.Model(inputs, {"class": score, "box": place})
    model.compile(
        keras.optimizers.SGD(0.01, momentum=0.9, clipnorm=10.0),
        {"class": keras.losses.BinaryFocalCrossentropy(gamma=2.0), "box": keras.losses.Huber()},
    )
    return model


def multi_label_xray() -> keras.Model:
    model = keras.Sequential([keras.Input((64, 64, 1)), layers.Rescaling(1 / 127.5, offset=-1)])
    for filters in (16, 32, 64):
        model.add(layers.SeparableConv2D(filters, 3, activation="relu", padding="same"))
        model.add(layers.SeparableConv2D(filters, 3, activation="relu", padding="same"))
        model.add(layers.BatchNormalization())
        model.add(layers.MaxPooling2D())
    model.add(layers.Flatten())
    model.add(layers.Dense(64, activation="relu"))
    model.add(layers.Dropout(0.5))
    model.add(layers.Dense(14, activation="sigmoid"))
    rate = keras.optimizers.schedules.ExponentialDecay(1e-3, 100000, 0.96, staircase=True)
    metrics = [keras.metrics.BinaryAccuracy(), keras.metrics.AUC(multi_label=True)]
    model.compile(keras.optimizers.Adam(rate), "binary_crossentropy", metrics=metrics)
    return model


IMAGES: dict[str, Callable[[], keras.Model]] = {
    make.__name__: make
    for make in (
        mnist_convnet,
        augmented_flowers,
        cifar_resnet_v2,
        vgg_batch_norm,
        dense_blocks,
        squeezed,
        depthwise_separable,
        inception_with_auxiliary_head,
        vision_transformer,
        mlp_mixer,
        pets_segmentation,
        dilated_segmentation,
        box_detector,
        multi_label_xray,
    )
}
