"""Names that mean something when a Keras configuration mentions them."""

from __future__ import annotations

#: Packages whose classes are taken for harmless: Keras and the libraries of the Keras team.
ALLOWED_PACKAGES = ("keras_hub", "keras_nlp", "keras_cv", "keras_rs", "keras_tuner")
#: Where Keras' own functions that belong into a model live. All others have no business in one.
FUNCTION_MODULES = (
    "activations",
    "constraints",
    "initializers",
    "losses",
    "metrics",
    "ops",
    "optimizers",
    "random",
    "regularizers",
)
#: Functions of those modules that look other functions up, and so call what a file names.
RESOLVERS = frozenset({"deserialize", "get", "serialize"})
#: Where Keras keeps what is no part of any model: files, downloads, settings, other models.
NOT_MODELLING = frozenset(
    {
        "api_export",
        "applications",
        "backend",
        "callbacks",
        "config",
        "datasets",
        "distribution",
        "export",
        "preprocessing",
        "saving",
        "testing",
        "tree",
        "utils",
        "visualization",
        "wrappers",
    }
)
#: Layers and other parts of models that Keras keeps there all the same.
MODELLING_ELSEWHERE = frozenset(
    {
        "CustomScaleLayer",
        "FeatureSpace",
        "FlaxLayer",
        "JaxLayer",
        "LayerScale",
        "StochasticDepth",
        "TFSMLayer",
        "TorchModuleWrapper",
    }
)
#: Layers of Keras 2 that are gone, and those it made of bare TensorFlow functions.
LEGACY_LAYERS = frozenset(
    {
        "ClassMethod",
        "DenseFeatures",
        "Highway",
        "InstanceMethod",
        "InstanceProperty",
        "MaxoutDense",
        "Merge",
        "SlicingOpLambda",
        "TFOpLambda",
        "TensorFlowOpLayer",
        "TimeDistributedDense",
    }
)
#: Segments before the part of a Keras module's name that says what is in it.
MODULE_PREFIXES = frozenset(
    {
        "_legacy",
        "_tf_keras",
        "_v1",
        "_v2",
        "api",
        "keras",
        "keras_cv",
        "keras_hub",
        "keras_nlp",
        "keras_rs",
        "keras_tuner",
        "python",
        "src",
        "tensorflow",
        "tf_keras",
    }
)
#: Markers with which Keras writes values that are no objects of a class to look up.
MARKERS = frozenset(
    {
        "__keras_tensor__",
        "__tensor__",
        "__numpy__",
        "__bytes__",
        "__ellipsis__",
        "__slice__",
        "__tuple__",
        "__typespec__",
        "TensorShape",
        "TypeSpec",
        "CompositeTensor",
    }
)
#: What Keras writes as `module: builtins`: a function named for lookup, a class as a value.
BUILTIN_MARKERS = frozenset({"function", "type"})
#: Packages so common that a class named from one is a means, not somebody's layer.
COMMON_PACKAGES = frozenset(
    {
        "absl",
        "aiohttp",
        "boto3",
        "botocore",
        "cffi",
        "click",
        "cloudpickle",
        "cv2",
        "dill",
        "fsspec",
        "gcsfs",
        "gdown",
        "h5py",
        "httpx",
        "huggingface_hub",
        "importlib_metadata",
        "IPython",
        "jax",
        "jinja2",
        "joblib",
        "kagglehub",
        "matplotlib",
        "mlflow",
        "numba",
        "numpy",
        "onnx",
        "packaging",
        "pandas",
        "paramiko",
        "PIL",
        "pip",
        "pkg_resources",
        "psutil",
        "pytest",
        "requests",
        "rich",
        "s3fs",
        "scipy",
        "setuptools",
        "six",
        "sklearn",
        "sqlalchemy",
        "sympy",
        "tensorboard",
        "tensorflow_datasets",
        "tensorflow_hub",
        "torch",
        "transformers",
        "twisted",
        "urllib3",
        "wandb",
        "werkzeug",
        "wheel",
        "yaml",
    }
)
#: Layers that honest models take from those all the same: modules by a pattern, and class names.
LAYERS_ELSEWHERE = (
    (r"tensorflow_hub(\.\w+)*", "KerasLayer"),
    (r"transformers(\.models\.\w+)?(\.modeling_tf_\w+)?", r"TF[A-Z]\w*"),
)
#: Functions of Keras that it writes by their bare names.
# fmt: off
KERAS_FUNCTION_NAMES = frozenset({
    "celu", "elu", "exponential", "gelu", "glu", "hard_shrink", "hard_sigmoid", "hard_silu",
    "hard_swish", "hard_tanh", "leaky_relu", "linear", "log_sigmoid", "log_softmax", "mish",
    "relu", "relu6", "selu", "sigmoid", "silu", "soft_shrink", "softmax", "softplus", "softsign",
    "sparse_plus", "sparse_sigmoid", "sparsemax", "squareplus", "swish", "tanh", "tanh_shrink",
    "threshold", "binary_accuracy", "binary_crossentropy", "binary_focal_crossentropy",
    "categorical_accuracy", "categorical_crossentropy", "categorical_focal_crossentropy",
    "categorical_hinge", "circle", "categorical_generalized_cross_entropy", "cosine_similarity",
    "ctc", "dice", "hinge", "huber", "kl_divergence", "log_cosh", "mean_absolute_error",
    "mean_absolute_percentage_error", "mean_squared_error", "mean_squared_logarithmic_error",
    "poisson", "sparse_categorical_accuracy", "sparse_categorical_crossentropy",
    "sparse_top_k_categorical_accuracy", "squared_hinge", "top_k_categorical_accuracy", "tversky",
    "bce", "BCE", "kld", "KLD", "mae", "MAE", "mape", "MAPE", "mse", "MSE", "msle", "MSLE",
    "constant", "glorot_normal", "glorot_uniform", "he_normal", "he_uniform", "identity",
    "lecun_normal", "lecun_uniform", "normal", "ones", "orthogonal", "random_normal",
    "random_uniform", "truncated_normal", "uniform", "variance_scaling", "zeros", "l1", "l2",
    "l1_l2", "l1l2", "orthogonal_regularizer", "max_norm", "min_max_norm", "non_neg", "unit_norm",
})
# fmt: on
