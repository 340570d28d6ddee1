"""Write the model files of one Keras release, and what that release says of them itself.

Run it with the old release, in an environment of its own, once for each folder beside it:

    python -m venv old && old/bin/pip install "keras==3.4.*" "jax<0.5" "numpy<2" h5py
    KERAS_BACKEND=jax old/bin/python make_fixtures.py keras tests/data/keras

The first argument is the package to import: keras, tensorflow.keras or tf_keras. What was used:

    keras-1.0.8, keras-1.2.2        Python 3.6, theano 0.9 with THEANO_FLAGS=cxx=, h5py<3,
                                    numpy<1.17, KERAS_BACKEND=theano
    the same files loaded           keras 2.0.9, Python 3.6, theano 1.0.5
    keras-2.0.9, 2.2.4, 2.3.1       Python 3.7, tensorflow 1.15, protobuf<3.20, h5py<3
    tensorflow-2.0 to 2.15          Python 3.7 to 3.11, as that release asks
    tf_keras-2.21                   Python 3.11, tensorflow 2.21
    keras-3.*                       Python 3.11, jax 0.4.30

The files of Keras 1 are described as Keras 2 loads them, which converts their weights: after they
are written, run Keras 2.0.9 on Theano with `--load keras-1.2.2`.

`--models` picks some of the models, `--h5` says which of them to write as .h5 as well where the
release writes .keras. Every folder gets an expected.json: for each file the layers' weights (name,
shape, sum, and a sum that depends on the order of the values), output shapes and parameter counts,
as the writing release counted them.
"""

import argparse
import importlib
import json
import os
import sys
from pathlib import Path

import numpy as np

ARGUMENTS = argparse.ArgumentParser()
ARGUMENTS.add_argument("package")
ARGUMENTS.add_argument("out")
ARGUMENTS.add_argument("--models", default="")
ARGUMENTS.add_argument("--h5", default="")
ARGUMENTS.add_argument("--load", default="")
ASKED = ARGUMENTS.parse_args()

if os.environ.get("KERAS_BACKEND") == "theano":
    importlib.import_module("theano.ifelse")  # which Keras 2 uses without importing it
keras = importlib.import_module(ASKED.package)
layers, models = keras.layers, keras.models
optimizers, regularizers = keras.optimizers, keras.regularizers
Input = layers.Input


def release():
    """The folder's name and the version as numbers."""
    if ASKED.package == "tensorflow.keras":
        stated = importlib.import_module("tensorflow").__version__
        return "tensorflow-" + stated, stated
    return ASKED.package + "-" + keras.__version__, keras.__version__


FOLDER, STATED = release()
FOLDER = ASKED.load or FOLDER
VERSION = tuple(int(part) for part in STATED.split(".")[:2])
FIRST, THIRD = VERSION < (2, 0), VERSION >= (3, 0)
RATE = "learning_rate" if VERSION >= (2, 3) or ASKED.package != "keras" else "lr"


def rate(value):
    """The learning rate, by the name this release has for it."""
    return {RATE: value}


def sequential(shape, *members, **options):
    """A Sequential that knows its input's shape, as this release states it."""
    model = models.Sequential(**options)
    if THIRD:
        model.add(Input(shape, name="x"))
    for member in members:
        model.add(member)
    return model


def first(shape):
    """What the first layer of a Sequential is told of its input."""
    return {} if THIRD else {"input_shape": shape}


# --- Keras 2 and 3 -------------------------------------------------------------------------------


def mlp():
    model = sequential(
        (4,),
        layers.Dense(
            8, activation="relu", kernel_initializer="he_normal", name="wide", **first((4,))
        ),
        layers.Dropout(0.25, name="drop"),
        layers.Dense(
            6,
            activation="tanh",
            use_bias=False,
            kernel_regularizer=regularizers.l2(0.01),
            name="narrow",
        ),
        layers.Dense(3, activation="softmax", name="head"),
        name="mlp",
    )
    optimizer = optimizers.SGD(momentum=0.9, nesterov=True, clipnorm=1.0, **rate(0.05))
    model.compile(optimizer, "categorical_crossentropy", metrics=["accuracy"])
    return model


def cnn():
    image = Input((8, 8, 3), name="image")
    x = layers.Conv2D(4, 3, padding="same", use_bias=False, name="conv1")(image)
    x = layers.BatchNormalization(name="bn1")(x)
    x = layers.Activation("relu", name="relu1")(x)
    still = layers.Conv2D(4, 3, padding="same", name="conv2")
    y = still(x)
    still.trainable = False
    x = layers.Add(name="add")([y, x])
    x = layers.MaxPooling2D(name="pool")(x)
    left = layers.Conv2D(2, (1, 3), strides=2, activation="relu", name="left")(x)
    right = layers.SeparableConv2D(2, 3, strides=2, padding="same", name="right")(x)
    right = layers.Cropping2D(((0, 0), (0, 1)), name="crop")(right)
    x = layers.Concatenate(name="join")([left, right])
    x = layers.GlobalAveragePooling2D(name="gap")(x)
    model = models.Model(image, layers.Dense(3, activation="softmax", name="head")(x), name="cnn")
    model.compile(optimizers.Adam(**rate(0.002)), "sparse_categorical_crossentropy")
    return model


def text():
    tokens = Input((6,), dtype="int32", name="tokens")
    x = layers.Embedding(10, 4, mask_zero=True, name="embed")(tokens)
    x = layers.Bidirectional(layers.LSTM(3, return_sequences=True), name="both")(x)
    x = layers.GRU(4, name="gru")(x)
    model = models.Model(tokens, layers.Dense(1, activation="sigmoid", name="head")(x), name="text")
    model.compile(optimizers.RMSprop(**rate(0.001)), "binary_crossentropy")
    return model


def pair():
    """Nested, shared and frozen layers, two inputs and outputs, a loss for each."""
    inner = Input((4,), name="inner")
    x = layers.Dense(5, activation="relu", name="hidden")(inner)
    x = layers.BatchNormalization(name="norm")(x)
    encoder = models.Model(inner, layers.Dense(4, name="code")(x), name="encoder")
    encoder.get_layer("hidden").trainable = False
    head = sequential(
        (3,),
        layers.Dense(4, activation="relu", name="deep", **first((3,))),
        layers.Dense(2, activation="softmax", name="last"),
        name="head",
    )
    left, right = Input((4,), name="left"), Input((4,), name="right")
    shared = layers.Dense(3, name="shared")
    a, b = encoder(left), encoder(right)
    product = layers.Multiply(name="product")([shared(a), shared(b)])
    score = layers.Dense(1, name="score")(b)
    model = models.Model([left, right], [head(product), score], name="pair")
    model.compile(
        optimizers.SGD(**rate(0.01)),
        {"head": "categorical_crossentropy", "score": "mse"},
        loss_weights={"head": 1.0, "score": 0.5},
    )
    return model


def image():
    """Layers on images whose weights and shapes are each a case of their own."""
    x = given = Input((8, 8, 3), name="image")
    x = layers.ZeroPadding2D(((1, 0), (0, 1)), name="pad")(x)
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, name="depth")(x)
    x = layers.PReLU(shared_axes=[1, 2], name="prelu")(x)
    x = layers.Conv2DTranspose(4, 3, strides=2, padding="same", name="up")(x)
    slope = {"negative_slope": 0.1} if THIRD else {"alpha": 0.1}
    x = layers.LeakyReLU(name="leaky", **slope)(x)
    x = layers.AveragePooling2D(2, name="mean")(x)
    x = layers.UpSampling2D(2, name="larger")(x)
    x = layers.Conv2D(2, 3, dilation_rate=2, activation="relu", name="conv")(x)
    x = layers.Flatten(name="flat")(x)
    model = models.Model(given, layers.Dense(2, name="head")(x), name="image_zoo")
    model.compile("adam", "mse")
    return model


def rows():
    """The same on sequences."""
    x = given = Input((24,), name="x")
    x = layers.Reshape((4, -1), name="rows")(x)
    x = layers.Permute((2, 1), name="turn")(x)
    x = layers.TimeDistributed(layers.Dense(5, activation="elu"), name="each")(x)
    x = layers.SpatialDropout1D(0.1, name="spatial")(x)
    x = layers.Conv1D(4, 3, padding="causal", name="conv1d")(x)
    x = layers.GlobalMaxPooling1D(name="most")(x)
    x = layers.GaussianNoise(0.1, name="noise")(x)
    x = layers.RepeatVector(3, name="again")(x)
    x = layers.SimpleRNN(3, name="simple")(x)
    model = models.Model(given, layers.Dense(2, name="head")(x), name="row_zoo")
    model.compile("adam", "mse")
    return model


def attention():
    tokens = Input((6,), name="tokens")
    x = layers.Embedding(10, 4, name="embed")(tokens)
    y = layers.MultiHeadAttention(2, 2, name="attend")(x, x)
    x = x + y
    x = layers.LayerNormalization(name="norm")(x)
    x = layers.GlobalAveragePooling1D(name="mean")(x)
    model = models.Model(tokens, layers.Dense(2, name="head")(x), name="attention")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    decay = optimizers.schedules.ExponentialDecay(0.01, 100, 0.9)
    model.compile(optimizers.Adam(**rate(decay)), loss)
    return model


def mixed():
    set_policy = keras.config.set_dtype_policy if THIRD else keras.mixed_precision.set_global_policy
    set_policy("mixed_float16")
    try:
        model = sequential(
            (4,),
            layers.Dense(8, activation="relu", name="wide", **first((4,))),
            layers.Dense(3, activation="softmax", dtype="float32", name="head"),
            name="mixed",
        )
        model.compile("adam", "categorical_crossentropy")
    finally:
        set_policy("float32")
    return model


def custom():
    class Scale(layers.Layer):
        def build(self, shape):
            self.factor = self.add_weight(
                shape=(shape[-1],), initializer="ones", name="factor", trainable=True
            )
            super().build(shape)

        def call(self, x):
            return x * self.factor

        def compute_output_shape(self, shape):
            return shape

    if THIRD or VERSION >= (2, 4):
        register = keras.saving if VERSION >= (2, 12) else keras.utils
        register.register_keras_serializable(package="shop")(Scale)
    model = sequential(
        (4,),
        layers.Dense(8, activation="relu", name="wide", **first((4,))),
        Scale(name="scale"),
        layers.Dense(3, name="head"),
        name="custom",
    )
    model.compile("adam", "mse")
    return model


def code():
    model = sequential(
        (4,),
        layers.Dense(8, activation="relu", name="wide", **first((4,))),
        layers.Lambda(lambda x: x * 2.0, name="twice"),
        layers.Dense(3, name="head"),
        name="code",
    )
    model.compile("adam", "mse")
    return model


# --- Keras 1 -------------------------------------------------------------------------------------


def mlp_1():
    members = [
        layers.Dense(8, activation="relu", init="he_normal", name="wide", input_dim=4),
        layers.Dropout(0.25, name="drop"),
        layers.Dense(
            6, activation="tanh", bias=False, W_regularizer=regularizers.l2(0.01), name="narrow"
        ),
        layers.Dense(3, activation="softmax", name="head"),
    ]
    model = models.Sequential(members, name="mlp")
    optimizer = optimizers.SGD(lr=0.05, momentum=0.9, nesterov=True, clipnorm=1.0)
    model.compile(optimizer, "categorical_crossentropy", metrics=["accuracy"])
    return model


def _cnn_1(ordering):
    from keras.layers import merge

    axis = 1 if ordering == "th" else 3
    here = {"dim_ordering": ordering}
    image = Input((3, 8, 8) if axis == 1 else (8, 8, 3), name="image")
    x = layers.Convolution2D(4, 3, 3, border_mode="same", bias=False, name="conv1", **here)(image)
    x = layers.BatchNormalization(epsilon=1e-3, axis=axis, name="bn1")(x)
    x = layers.Activation("relu", name="relu1")(x)
    y = layers.Convolution2D(4, 3, 3, border_mode="same", trainable=False, name="conv2", **here)(x)
    x = merge([y, x], mode="sum", name="add")
    x = layers.MaxPooling2D(name="pool", **here)(x)
    left = layers.Convolution2D(2, 1, 3, subsample=(2, 2), activation="relu", name="left", **here)(
        x
    )
    right = layers.AveragePooling2D((3, 3), (2, 2), border_mode="same", name="right", **here)(x)
    right = layers.Cropping2D(((0, 0), (0, 1)), name="crop", **here)(right)
    x = merge([left, right], mode="concat", concat_axis=axis, name="join")
    x = layers.Flatten(name="flat")(x)
    model = models.Model(image, layers.Dense(3, activation="softmax", name="head")(x), name="cnn")
    model.compile(optimizers.Adam(lr=0.002), "sparse_categorical_crossentropy")
    return model


def cnn_th_1():
    return _cnn_1("th")


def cnn_tf_1():
    return _cnn_1("tf")


def text_1():
    tokens = Input((6,), dtype="int32", name="tokens")
    x = layers.Embedding(10, 4, name="embed")(tokens)
    x = layers.AveragePooling1D(2, name="mean")(x)
    x = layers.Flatten(name="flat")(x)
    model = models.Model(tokens, layers.Dense(1, activation="sigmoid", name="head")(x), name="text")
    model.compile(optimizers.RMSprop(lr=0.001), "binary_crossentropy")
    return model


def gates_1():
    given = Input((6, 4), name="x")
    x = layers.Bidirectional(layers.LSTM(3, return_sequences=True), name="both")(given)
    x = layers.GRU(4, inner_init="glorot_uniform", name="gru")(x)
    model = models.Model(given, layers.Dense(1, activation="sigmoid", name="head")(x), name="gates")
    model.compile("adagrad", "binary_crossentropy")
    return model


def pair_1():
    from keras.layers import merge

    inner = Input((4,), name="inner")
    x = layers.Dense(5, activation="relu", name="hidden", trainable=False)(inner)
    x = layers.BatchNormalization(name="norm")(x)
    encoder = models.Model(inner, layers.Dense(4, name="code")(x), name="encoder")
    members = [
        layers.Dense(4, activation="relu", name="deep", input_dim=3),
        layers.Dense(2, activation="softmax", name="last"),
    ]
    head = models.Sequential(members, name="head")
    left, right = Input((4,), name="left"), Input((4,), name="right")
    shared = layers.Dense(3, name="shared")
    a, b = encoder(left), encoder(right)
    product = merge([shared(a), shared(b)], mode="mul", name="product")
    score = layers.Dense(1, name="score")(b)
    model = models.Model([left, right], [head(product), score], name="pair")
    model.compile(
        optimizers.SGD(lr=0.01),
        {"head": "categorical_crossentropy", "score": "mse"},
        loss_weights={"head": 1.0, "score": 0.5},
    )
    return model


def zoo_1():
    image = Input((8, 8, 3), name="image")
    here = {"dim_ordering": "tf"}
    x = layers.ZeroPadding2D((1, 2), name="pad", **here)(image)
    x = layers.PReLU(shared_axes=[1, 2], name="prelu")(x)
    x = layers.LeakyReLU(0.1, name="leaky")(x)
    x = layers.AveragePooling2D((2, 2), name="mean", **here)(x)
    x = layers.UpSampling2D((2, 2), name="larger", **here)(x)
    x = layers.AtrousConvolution2D(2, 3, 3, atrous_rate=(2, 2), name="conv", **here)(x)
    x = layers.Reshape((6, 16), name="rows")(x)
    x = layers.Permute((2, 1), name="turn")(x)
    x = layers.TimeDistributed(layers.Dense(5, activation="elu"), name="each")(x)
    x = layers.Convolution1D(4, 3, border_mode="same", name="conv1d")(x)
    x = layers.GlobalMaxPooling1D(name="most")(x)
    x = layers.GaussianNoise(0.1, name="noise")(x)
    x = layers.Highway(name="highway")(x)
    x = layers.MaxoutDense(5, nb_feature=2, name="maxout")(x)
    x = layers.RepeatVector(3, name="again")(x)
    x = layers.SimpleRNN(3, name="simple")(x)
    model = models.Model(image, layers.Dense(2, name="head")(x), name="zoo")
    model.compile("adam", "mse")
    return model


def join_1():
    """A Sequential that begins with a Merge of two others."""
    left = models.Sequential([layers.Dense(3, input_dim=4, name="a")], name="left")
    right = models.Sequential([layers.Dense(3, input_dim=4, name="b")], name="right")
    joined = layers.Merge([left, right], mode="concat", name="join")
    model = models.Sequential([joined, layers.Dense(2, name="head")], name="join")
    model.compile("sgd", "mse")
    return model


def code_1():
    from keras.layers import merge

    x = Input((4,), name="x")
    wide = layers.Dense(8, activation="relu", name="wide")(x)
    twice = layers.Lambda(lambda x: x * 2.0, name="twice")(wide)
    both = merge([wide, twice], mode=lambda pair: pair[0] + pair[1], output_shape=(8,), name="both")
    model = models.Model(x, layers.Dense(3, name="head")(both), name="code")
    model.compile("adam", "mse")
    return model


MODELS = {
    "mlp": mlp, "cnn": cnn, "text": text, "pair": pair, "image": image, "rows": rows,
    "attention": attention, "mixed": mixed, "custom": custom, "code": code,
}  # fmt: skip
MODELS_1 = {
    "mlp": mlp_1, "cnn_th": cnn_th_1, "cnn_tf": cnn_tf_1, "text": text_1, "gates": gates_1,
    "pair": pair_1, "zoo": zoo_1, "join": join_1, "code": code_1,
}  # fmt: skip


# --- what the release says itself ----------------------------------------------------------------


def leaves(model, prefix=""):
    """Layers that are no models, by path, each once."""
    # A Sequential of Keras 1 that begins with a merge of others is saved as one list.
    for layer in getattr(model, "flattened_layers", model.layers):
        path = prefix + layer.name
        if isinstance(layer, models.Model):
            yield from leaves(layer, path + "/")
        else:
            yield path, layer


def dims(shape):
    """A shape as a list."""
    return [None if size is None else int(size) for size in shape]


def size(variable):
    """Values in a variable: Theano's know no shape before they are asked for their values."""
    if hasattr(variable, "get_value"):
        return variable.get_value().size
    return np.prod(dims(variable.shape))


def output_shape(layer):
    """The layer's output shape; None where the release does not tell one."""
    try:
        shape = layer.output.shape if THIRD else layer.output_shape
    except (AttributeError, ValueError):
        return None
    if isinstance(shape, list):
        shape = shape[0] if len(shape) == 1 else None
    try:
        return None if shape is None else dims(shape)
    except TypeError:  # a size that Theano would know at run time
        return None


def perturb(model):
    """Values that are all different: zeros and ones would look the same in another's place."""
    draw = np.random.RandomState(1)
    model.set_weights(
        [w + 0.01 * draw.uniform(size=w.shape).astype(w.dtype) for w in model.get_weights()]
    )


def weights_of(layer, trained):
    values = layer.get_weights()
    described = []
    for variable, value in zip(layer.weights, values):  # noqa: B905 - Python 3.6 has no strict
        flat = np.asarray(value, dtype="float64").ravel()
        described.append(
            {
                "name": str(variable.name),
                "shape": list(value.shape),
                "sum": float(flat.sum()),
                "order": float(flat.dot(np.arange(1, flat.size + 1))),
                "trainable": id(variable) in trained,
            }
        )
    return described


def describe(model):
    trained = {id(variable) for variable in model.trainable_weights}
    members = dict(leaves(model))
    return {
        # Not by `count_params`, which left frozen weights out in Keras 1.0.
        "parameters": int(sum(size(variable) for variable in model.weights)),
        "trainable": int(sum(size(variable) for variable in model.trainable_weights)),
        "layers": {path: type(layer).__name__ for path, layer in members.items()},
        "shapes": {path: output_shape(layer) for path, layer in members.items()},
        "weights": {
            path: weights_of(layer, trained) for path, layer in members.items() if layer.weights
        },
    }


def write(index, expected):
    index.write_text(json.dumps(expected, sort_keys=True).replace("}, ", "},\n") + "\n")
    sys.stdout.write(f"{index}\n")


def main():
    folder = Path(ASKED.out) / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    index = folder / "expected.json"
    expected = json.loads(index.read_text()) if index.exists() else {}
    written_by = keras if hasattr(keras, "__version__") else importlib.import_module("keras")
    if not ASKED.load:
        expected["keras_version"] = str(written_by.__version__)
    if ASKED.load:
        written = ASKED.models.split(",") if ASKED.models else sorted(expected["models"])
        for name in written:
            try:
                loaded = models.load_model(str(folder / f"{name}.h5"), compile=False)
            except Exception as error:  # what Keras 2 could not load any more stays as it is
                sys.stderr.write(f"{name}: {error}\n")
                continue
            weights = expected["models"][name]["weights"]
            weights.update({p: w for p, w in describe(loaded)["weights"].items() if p in weights})
        write(index, expected)
        return
    builders = dict(MODELS_1 if FIRST else MODELS)
    if VERSION < (2, 4):
        builders.pop("attention", None)
        builders.pop("mixed", None)
    if VERSION < (1, 2):
        for name in ("pair", "zoo"):  # they take layers and shared norms that came later
            builders.pop(name)
    if ASKED.package == "keras" and VERSION < (2, 1):
        builders.pop("image", None)  # no DepthwiseConv2D yet
    zipped = THIRD or VERSION >= (2, 12)
    also = ASKED.h5.split(",")
    for name in ASKED.models.split(",") if ASKED.models else builders:
        np.random.seed(1)
        if not FIRST:
            getattr(keras.backend, "clear_session", int)()
        model = builders[name]()
        if name == "mlp":  # so that the optimizer has something to save
            model.train_on_batch(np.ones((2, 4)), np.eye(3)[:2])
        perturb(model)
        expected.setdefault("models", {})[name] = describe(model)
        if zipped:
            # 2.12 still writes HDF5 under this name unless it is asked.
            asked = {"save_format": "keras_v3"} if VERSION == (2, 12) else {}
            model.save(str(folder / f"{name}.keras"), **asked)
        if not zipped or name in also:
            model.save(str(folder / f"{name}.h5"))
    write(index, expected)


main()
