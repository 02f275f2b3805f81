"""Export to ONNX: importing this module registers converters for the estimators of skae.

It has additional dependencies: ``pip install "skae[onnx]"``. After the import, `skl2onnx.to_onnx`
converts the estimators, also inside pipelines and other meta-estimators of scikit-learn.

The graph computes in the type of its input, float32 or float64; as in skl2onnx, integers are
converted to float32. Its outputs are

- ``variable`` of an autoencoder: the codes, as returned by `transform`. The options
  ``reconstruct`` and ``score_samples`` add the results of these methods as outputs of the graph,
  wherever the autoencoder is in a pipeline; ``score_samples`` has shape (n_samples, 1).
- ``label`` and ``probabilities`` of a classifier, with the options of skl2onnx's own classifiers:
  ``zipmap``, ``nocl``, ``output_class_labels`` and ``raw_scores``. The raw scores are those of
  `decision_function`, but with two columns for two classes: the negative logit and the logit.
- ``variable`` of a regressor: the predictions, of shape (n_samples, n_outputs).
- ``label`` and ``scores`` of a detector, of shape (n_samples, 1), as for skl2onnx's own detectors:
  the results of `predict` and `decision_function`. The option ``score_samples`` adds an output of
  this name.
- ``variable`` of an imputer: the imputed samples, as returned by `transform`.

A `final_estimator` is converted by its own converter. It is not supported with multilabel y or the
option ``nocl``.

Examples
--------
>>> import onnxruntime
>>> import skae.onnx
>>> from skl2onnx import to_onnx
>>> from sklearn.datasets import load_digits
>>> from sklearn.linear_model import LogisticRegression
>>> from sklearn.pipeline import make_pipeline
>>> from sklearn.preprocessing import MinMaxScaler
>>> from skae import StackedAutoencoder
>>> X, y = load_digits(return_X_y=True)
>>> sae = StackedAutoencoder((64, 32), max_iter=2, random_state=0)
>>> linear = LogisticRegression(max_iter=1000)
>>> pipe = make_pipeline(MinMaxScaler(), sae, linear).fit(X, y)
>>> options = {
...     id(sae): {"score_samples": True},
...     id(pipe): {"zipmap": False},
... }
>>> graph = to_onnx(pipe, X[:1], options=options)
>>> session = onnxruntime.InferenceSession(graph.SerializeToString())
>>> sorted(output.name for output in session.get_outputs())
['label', 'probabilities', 'score_samples']
>>> (label,) = session.run(["label"], {"X": X})
>>> (label != pipe.predict(X)).sum().item()
0
"""

from copy import copy
from itertools import chain, count
from typing import NamedTuple

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from skae._classifier import StackedAutoencoderClassifier
from skae._denoising import DenoisingAutoencoder
from skae._detector import StackedAutoencoderDetector
from skae._imputer import StackedAutoencoderImputer
from skae._marginalized import MarginalizedAutoencoder
from skae._network import CODE_ACTIVATIONS
from skae._regressor import StackedAutoencoderRegressor
from skae._stacked import StackedAutoencoder

try:
    from onnx.compose import add_prefix_graph
    from onnx.numpy_helper import from_array
    from onnx.parser import parse_graph
    from skl2onnx import get_model_alias, update_registered_converter
    from skl2onnx._parse import _parse_sklearn_classifier
    from skl2onnx.algebra import onnx_ops
    from skl2onnx.common.data_types import (
        BooleanTensorType,
        DoubleTensorType,
        FloatTensorType,
        Int8TensorType,
        Int32TensorType,
        Int64TensorType,
        StringTensorType,
        UInt8TensorType,
        guess_proto_type,
        guess_tensor_type,
    )
    from skl2onnx.common.utils import check_input_and_output_numbers, check_input_and_output_types
    from skl2onnx.common.utils_classifier import get_label_classes
except ImportError as error:
    raise ImportError(
        'skae.onnx needs skl2onnx and onnx. Install them with pip install "skae[onnx]".'
    ) from error

INPUT_TYPES = [
    FloatTensorType,
    DoubleTensorType,
    BooleanTensorType,
    Int8TensorType,
    Int32TensorType,
    Int64TensorType,
    UInt8TensorType,
]
# Optional outputs of an autoencoder, in their order after the codes.
EXTRAS = ("reconstruct", "score_samples")

# A step of conjugate gradients for all samples. Observed features have zeros throughout; no
# divisor is zero, even if nothing is missing. Products with `ones` sum over the features, because
# the arguments of ReduceSum depend on the opset.
STEP = """
step (
    int64 number, bool go_on,
    double[n, d] mask, double[n, d] solution, double[n, d] residual, double[n, d] direction
) => (
    bool more,
    double[n, d] same, double[n, d] new_solution, double[n, d] new_residual, double[n, d] turned
) {
    same = Identity(mask)
    pulls = MatMul(direction, precision)
    pull = Mul(pulls, mask)
    squares = Mul(residual, residual)
    before = MatMul(squares, ones)
    bends = Mul(direction, pull)
    curvature = MatMul(bends, ones)
    divisor = Max(curvature, tiny)
    length = Div(before, divisor)
    way = Mul(direction, length)
    new_solution = Add(solution, way)
    change = Mul(pull, length)
    new_residual = Sub(residual, change)
    new_squares = Mul(new_residual, new_residual)
    after = MatMul(new_squares, ones)
    new_divisor = Max(before, tiny)
    ratio = Div(after, new_divisor)
    kept = Mul(direction, ratio)
    turned = Add(new_residual, kept)
    is_large = Greater(after, tolerance)
    large = Cast <to = 1> (is_large)
    n_large = ReduceSum <keepdims = 0> (large)
    more = Cast <to = 9> (n_large)
}
"""

# Maximum sum of the squared residuals of a sample after the last step, and maximum number of
# steps. Because the covariance has a ridge, 10 to 200 steps are enough.
TOLERANCE, MOST_STEPS = 1e-28, 2000


# -- nodes ------------------------------------------------------------------------------


class _Layer(NamedTuple):
    """A fitted layer: weights of shape (n_out, n_in), biases, and the name of its activation."""

    weights: np.ndarray
    bias: np.ndarray
    activation: str
    n_active: int = 0  # of a top-k code


def _layers(estimator):
    network, params = estimator._network, estimator._params()
    return [
        _Layer(
            network.weights(params, k),
            network.bias(params, k),
            activation,
            int(network.layers[k]["n_active"]),
        )
        for k, activation in enumerate(network.activations)
    ]


class _Graph:
    """Maker of nodes with the opset and the float type of the converted graph."""

    def __init__(self, scope, operator, container, missing_values=np.nan):
        self.scope, self.container = scope, container
        self.X = operator.inputs[0]
        is_double = isinstance(self.X.type, DoubleTensorType)
        self.dtype = np.float64 if is_double else np.float32
        self.tensor = DoubleTensorType() if is_double else FloatTensorType()
        if not isinstance(self.X.type, DoubleTensorType | FloatTensorType):
            self.X = self.cast(self.X, FloatTensorType())
        if np.isnan(missing_values):
            self.missing = self.node("IsNaN", self.X)
        else:
            self.missing = self.node("Equal", self.X, np.array([missing_values], self.dtype))
        self.filled = self.zero_where_missing(self.X)  # the input of the first layer

    def in_double(self):
        """Return a maker of float64 nodes in the same graph."""
        other = copy(self)
        other.dtype, other.tensor = np.float64, DoubleTensorType()
        other.X = self.cast(self.X, other.tensor)
        return other

    def standardized(self, estimator):
        centred = self.node("Sub", self.X, estimator.mean_.astype(self.dtype))
        return self.node("Div", centred, estimator.scale_.astype(self.dtype))

    def mean(self, nodes):
        return self.node("Div", self.node("Sum", *nodes), np.array([len(nodes)], self.dtype))

    def zero_where_missing(self, node):
        return self.node("Where", self.missing, np.zeros(1, dtype=self.dtype), node)

    def total(self, losses):
        """Sum the losses of each sample; missing ones count as the mean of the others."""
        observed = self.cast(self.node("Not", self.missing), self.tensor)
        share = self.node("ReduceMeanApi18", observed, axes=[1])
        return self.node("Div", self.node("ReduceSumApi11", losses, axes=[1]), share)

    def node(self, kind, *inputs, **attributes):
        make = getattr(onnx_ops, f"Onnx{kind}")
        return make(*inputs, op_version=self.container.target_opset, **attributes)

    def cast_to_int(self, node):
        return self.cast(node, Int64TensorType())

    def cast(self, node, tensor):
        return self.node("Cast", node, to=guess_proto_type(tensor))

    def affine(self, X, layer):
        """Make the outputs of a layer before the activation."""
        weights, bias = layer.weights.astype(self.dtype), layer.bias.astype(self.dtype)
        return self.node("Gemm", X, weights, bias, transB=1)

    def forward(self, X, layers):
        for layer in layers:
            X = self.activate(self.affine(X, layer), layer)
        return X

    def activate(self, X, layer):
        if layer.activation == "top_k":
            return self.keep_largest(self.node("Relu", X), layer.n_active)
        return self.node(CODE_ACTIVATIONS[layer.activation].onnx, X)

    def keep_largest(self, X, n_active):
        """Keep the largest units of each sample, of equal ones the first, and set others to 0."""
        largest = self.node("TopK_11", X, np.array([n_active], np.int64), axis=1)
        zeros = self.node("Mul", X, np.zeros(1, self.dtype))
        return self.node("ScatterElements", zeros, largest[1], largest[0], axis=1)

    def assign(self, variable, node):
        """Assign the output of a node to a variable of skl2onnx."""
        self.node("Identity", node, output_names=[variable]).add_to(self.scope, self.container)


# -- autoencoders -----------------------------------------------------------------------


def _extras(scope, autoencoder):
    options = scope.get_options(autoencoder, dict.fromkeys(EXTRAS, False))
    return [name for name in EXTRAS if options[name]]


def _parse_autoencoder(scope, model, inputs, custom_parsers=None):
    """Declare the outputs. Only the codes are inputs of the next step of a pipeline."""
    operator = scope.declare_local_operator(get_model_alias(type(model)), model)
    operator.inputs = inputs
    tensor = type(guess_tensor_type(inputs[0].type))
    operator.outputs.append(scope.declare_local_variable("variable", tensor()))
    for name in _extras(scope, model):
        # If several outputs had the same name, skl2onnx would rename all but the last.
        names = chain([name], (f"{name}_{k}" for k in count(2)))
        unused = next(name for name in names if not scope.has_variable_name(name))
        variable = scope.declare_local_variable(unused, tensor())
        variable.init_status(is_leaf=True)
        operator.outputs.append(variable)
    return [operator.outputs[0]]


def _shape_autoencoder(operator):
    autoencoder = operator.raw_operator
    extras = _extras(operator.scope_inst, autoencoder)
    _check(operator, 1 + len(extras))
    n_columns = {"reconstruct": autoencoder.n_features_in_, "score_samples": 1}
    _set_columns(operator, autoencoder._n_features_out, *(n_columns[name] for name in extras))


def _convert_autoencoder(scope, operator, container):
    autoencoder, graph = operator.raw_operator, _Graph(scope, operator, container)
    codes, logits, reconstructed = _unrolled(
        graph, autoencoder, graph.filled, autoencoder.transform_n_active
    )
    nodes = {"reconstruct": reconstructed}
    if autoencoder._trained_layers[0]._architecture["loss"] == "cross_entropy":
        nodes["score_samples"] = _minus_cross_entropy(graph, logits)
    else:
        error = graph.zero_where_missing(graph.node("Sub", graph.X, reconstructed))
        squared = graph.node("Mul", error, error)
        nodes["score_samples"] = graph.node("Neg", graph.total(squared))
    asked = [nodes[name] for name in _extras(scope, autoencoder)]
    every = getattr(autoencoder, "code", "top") == "all"
    top = graph.node("Concat", *codes, axis=1) if every else codes[-1]
    for variable, node in zip(operator.outputs, [top, *asked]):
        graph.assign(variable, node)


def _unrolled(graph, autoencoder, X, n_active=None):
    """Return the codes of all layers, and the reconstruction before and after its activation.

    `n_active` is the number of active units in the codes that are returned, if it differs from
    training.
    """
    encoders, decoders = zip(*(_layers(layer) for layer in autoencoder._trained_layers))
    codes = []
    for encoder in encoders:
        logits = graph.affine(X, encoder)
        X = graph.activate(logits, encoder)
        wider = None if n_active is None else encoder._replace(n_active=n_active)
        codes.append(X if wider is None else graph.activate(logits, wider))
    *hidden, bottom = reversed(decoders)
    logits = graph.affine(graph.forward(X, hidden), bottom)
    return codes, logits, graph.activate(logits, bottom)


def _minus_cross_entropy(graph, z):
    """Compute the negative cross-entropy from the logit z.

    As in the kernel, x z - max(z, 0) - log(1 + exp(-|z|)) is neither inf nor nan for a saturated
    unit.
    """
    # Not with the node Softplus, which onnxruntime has in single precision only.
    power = graph.node("Exp", graph.node("Neg", graph.node("Abs", z)))
    tail = graph.node("Log", graph.node("Add", power, np.ones(1, dtype=graph.dtype)))
    softplus = graph.node("Add", graph.node("Relu", z), tail)
    terms = graph.node("Sub", graph.node("Mul", graph.X, z), softplus)
    return graph.total(graph.zero_where_missing(terms))


# -- classifier and regressor -----------------------------------------------------------


def _parse_classifier(scope, model, inputs, custom_parsers=None):
    check_is_fitted(model)
    zipmap = scope.get_options(model, {"zipmap": True})["zipmap"]
    if not hasattr(model, "predict_proba"):  # a final SVC may not have one score per class
        zipmap = False
    scope.add_options(id(model), {"zipmap": zipmap})
    return _parse_sklearn_classifier(scope, model, inputs, custom_parsers)


def _shape_classifier(operator):
    classifier = operator.raw_operator
    _check(operator, 2)
    options = operator.scope_inst.get_options(classifier, {"zipmap": False, "nocl": False})
    if hasattr(classifier, "final_estimator_"):
        _check_final(classifier, options)
    label, scores = operator.outputs
    classes = _labels(operator.scope_inst, classifier)
    n_rows = operator.inputs[0].get_first_dimension()
    shape = [n_rows, len(classes) if hasattr(classifier, "predict_proba") else None]
    # ZipMap supports float32 only; the parser has set the option to whether it is used.
    mapped = options["zipmap"] is True
    scores.type = (FloatTensorType if mapped else type(scores.type))(shape)
    tensor = Int64TensorType if classes.dtype == np.int64 else StringTensorType
    label.type = tensor([n_rows] if classifier._head.label_ndim == 1 else shape)


def _check_final(classifier, options):
    if classifier._head.label_ndim > 1:
        raise NotImplementedError(
            "A final_estimator for several labels a sample cannot be exported to ONNX."
        )
    if options["nocl"]:  # some converters accept the option, but ignore it
        raise NotImplementedError("The ONNX option 'nocl' does not go with a final_estimator.")


def _convert_classifier(scope, operator, container):
    classifier, graph = operator.raw_operator, _Graph(scope, operator, container)
    *hidden, top = _layers(classifier)
    codes = graph.forward(graph.filled, hidden)
    raw = container.get_options(classifier, {"raw_scores": False})["raw_scores"]
    if hasattr(classifier, "final_estimator_"):
        _convert_final(graph, operator, codes, raw_scores=raw)
        return
    logits = graph.affine(codes, top)
    head, labels = classifier._head, _labels(scope, classifier)
    label, scores, probabilities = head.onnx(graph, logits, labels)
    graph.assign(operator.outputs[0], label)
    scores = graph.cast(scores if raw else probabilities, operator.outputs[1].type)
    graph.assign(operator.outputs[1], scores)


def _shape_regressor(operator):
    _check(operator, 1)
    _set_columns(operator, operator.raw_operator._architecture["sizes"][-1])


def _convert_regressor(scope, operator, container):
    regressor, graph = operator.raw_operator, _Graph(scope, operator, container)
    *hidden, top = _layers(regressor)
    codes = graph.forward(graph.filled, hidden)
    if hasattr(regressor, "final_estimator_"):
        _convert_final(graph, operator, codes)
    else:
        graph.assign(operator.outputs[0], graph.affine(codes, top))


def _convert_final(graph, operator, codes, *, raw_scores=False):
    """Apply the converter of the final estimator to the codes."""
    scope, final = graph.scope, operator.raw_operator.final_estimator_
    if raw_scores and hasattr(final, "decision_function"):  # else probabilities
        _ask_for_raw_scores(graph, final)
    tensor = DoubleTensorType if graph.dtype == np.float64 else FloatTensorType
    n_codes = operator.raw_operator._n_features_out
    variable = scope.declare_local_variable("codes", tensor([None, n_codes]))
    graph.assign(variable, codes)
    inner = scope.declare_local_operator(get_model_alias(type(final)), final)
    inner.inputs.append(variable)
    for output in operator.outputs:
        variable = scope.declare_local_variable(f"final_{output.raw_name}", type(output.type)())
        inner.outputs.append(variable)
        graph.assign(output, graph.cast(variable, output.type))  # trees return float32 for float64


def _ask_for_raw_scores(graph, final):
    while isinstance(final, Pipeline):  # its converter accepts options, but ignores them
        final = final.steps[-1][1]
    if not graph.container.has_options(final, "raw_scores"):
        raise NotImplementedError(f"skl2onnx has no option 'raw_scores' for {final!r}.")
    asked = {"raw_scores": True}
    if graph.container.has_options(final, "zipmap"):
        asked["zipmap"] = False  # else its default would apply
    for options in (graph.scope, graph.container):
        options.add_options(id(final), asked)


def _labels(scope, classifier):
    """Return the classes in ONNX types; their indices with the option ``nocl``."""
    classes = np.asarray(get_label_classes(scope, classifier))
    return classes.astype(np.int64 if classes.dtype.kind in "biuf" else np.str_)


# -- detector and imputer ---------------------------------------------------------------


def _gives_scores(scope, detector):
    return scope.get_options(detector, {"score_samples": False})["score_samples"]


def _parse_detector(scope, model, inputs, custom_parsers=None):
    operator = scope.declare_local_operator(get_model_alias(type(model)), model)
    operator.inputs = inputs
    operator.outputs.append(scope.declare_local_variable("label", Int64TensorType()))
    tensor = type(guess_tensor_type(inputs[0].type))
    names = ["scores", "score_samples"] if _gives_scores(scope, model) else ["scores"]
    for name in names:
        operator.outputs.append(scope.declare_local_variable(name, tensor()))
    return operator.outputs


def _shape_detector(operator):
    _check(operator, 2 + _gives_scores(operator.scope_inst, operator.raw_operator))
    _set_columns(operator, 1, 1, 1)


def _convert_detector(scope, operator, container):
    detector, graph = operator.raw_operator, _Graph(scope, operator, container)
    double = graph.in_double()
    Z = graph.cast(double.standardized(detector), graph.tensor)
    target, inputs, squares = double.cast(Z, double.tensor), graph.zero_where_missing(Z), []
    for stack in detector.autoencoders_:
        *_, decoded = _unrolled(graph, stack, inputs)
        error = double.node("Sub", target, double.cast(decoded, double.tensor))
        squares.append(double.node("Mul", error, error))
    errors = double.mean(squares)
    # nan is inf - inf, if a network overflows. Missing values are set to zero below.
    errors = double.node("Where", double.node("IsNaN", errors), np.full(1, np.inf), errors)
    scores = double.node("Neg", double.total(double.zero_where_missing(errors)))
    decision = double.node("Sub", scores, np.array([detector.offset_]))
    inlier = double.node("Equal", decision, double.node("Abs", decision))  # False for nan
    graph.assign(
        operator.outputs[0], graph.node("Where", inlier, *np.array([[1], [-1]], np.int64))
    )
    for variable, node in zip(operator.outputs[1:], [decision, scores]):
        graph.assign(variable, graph.cast(node, graph.tensor))


def _shape_marginalized(operator):
    _check(operator, 1)
    _set_columns(operator, operator.raw_operator._n_features_out)


def _convert_marginalized(scope, operator, container):
    autoencoder, graph = operator.raw_operator, _Graph(scope, operator, container)
    parts = [graph.X]
    for W, bias in zip(autoencoder.coefs_, autoencoder.intercepts_):
        layer = _Layer(W.T, bias, autoencoder.activation)
        parts.append(graph.forward(parts[-1], [layer]))
    shown = graph.node("Concat", *parts, axis=1) if autoencoder.concatenate else parts[-1]
    graph.assign(operator.outputs[0], shown)


def _kept(imputer):
    return np.flatnonzero(imputer._observed | imputer.keep_empty_features)


def _shape_imputer(operator):
    _check(operator, 1)
    imputer = operator.raw_operator
    indicated = [] if imputer.indicator_ is None else imputer.indicator_.features_
    _set_columns(operator, len(_kept(imputer)) + len(indicated))


def _convert_imputer(scope, operator, container):
    imputer = operator.raw_operator
    graph = _Graph(scope, operator, container, imputer.missing_values)
    estimates = _estimates(graph, imputer)
    filled = graph.node("Where", graph.missing, estimates, graph.X)
    if not imputer._observed.all():
        filled = graph.node("Where", imputer._observed, filled, np.zeros(1, graph.dtype))
    columns = [graph.node("Gather", filled, _kept(imputer), axis=1)]
    if imputer.indicator_ is not None:
        missing = graph.cast(graph.missing, graph.tensor)
        columns.append(graph.node("Gather", missing, imputer.indicator_.features_, axis=1))
    graph.assign(operator.outputs[0], graph.node("Concat", *columns, axis=1))


def _estimates(graph, imputer):
    """Estimate all values of the samples; use the mean if an estimate is not finite."""
    double = graph.in_double()
    linear = double.zero_where_missing(double.standardized(imputer))
    if imputer.precision_ is not None:
        linear = _with_conditional_means(double, linear, imputer.precision_)
    inputs = [graph.cast(node, graph.tensor) for node in (linear, graph.missing)]
    inputs = graph.node("Concat", *inputs, axis=1)
    decoded = graph.mean([_unrolled(graph, stack, inputs)[-1] for stack in imputer.autoencoders_])
    decoded = graph.node("Gather", decoded, np.arange(imputer.n_features_in_), axis=1)
    step = double.node("Sub", double.cast(decoded, double.tensor), linear)
    estimates = double.node("Add", linear, double.node("Mul", step, imputer.weights_))
    estimates = double.node("Mul", estimates, imputer.scale_)
    estimates = graph.cast(double.node("Add", estimates, imputer.mean_), graph.tensor)
    infinity = np.full(1, np.inf, dtype=graph.dtype)
    finite = graph.node("Less", graph.node("Abs", estimates), infinity)  # False for nan
    return graph.node("Where", finite, estimates, imputer.mean_.astype(graph.dtype))


def _with_conditional_means(graph, values, precision):
    """Replace the zeros of missing values by their means given the observed values.

    The means of each sample solve a system of equations, and ONNX has no solver. Conjugate
    gradients need only products with one matrix, elimination would need a matrix for each sample.
    """
    mask = graph.cast(graph.missing, graph.tensor)
    pull = graph.node("Mul", graph.node("MatMul", values, precision), mask)
    start = graph.node("Mul", mask, np.zeros(1))
    loop = graph.node(
        "Loop", np.array(MOST_STEPS, np.int64), np.array(True), mask, start, pull, pull,
        body=_step(graph, precision),
        output_names=[graph.scope.get_unique_variable_name("solved") for _ in range(4)],
    )  # fmt: skip
    return graph.node("Sub", values, loop[1])


def _step(graph, precision):
    """Make the body of the loop, with unique names."""
    body = parse_graph(STEP)
    constants = {
        "precision": precision,
        "ones": np.ones((len(precision), 1)),
        "tiny": np.full(1, np.finfo(np.float64).tiny),
        "tolerance": np.full(1, TOLERANCE),
    }
    body.initializer.extend(from_array(array, name) for name, array in constants.items())
    for node in body.node:
        node.name = node.output[0]
    return add_prefix_graph(body, graph.scope.get_unique_variable_name("step") + "_")


# -- shapes ---------------------------------------------------------------------------------


def _check(operator, n_outputs):
    """Raise an error early for an operator that cannot be converted."""
    check_is_fitted(operator.raw_operator)
    check_input_and_output_numbers(
        operator, input_count_range=1, output_count_range=[n_outputs, n_outputs]
    )
    check_input_and_output_types(operator, good_input_types=INPUT_TYPES)


def _set_columns(operator, *n_columns):
    n_rows = operator.inputs[0].get_first_dimension()
    for output, n in zip(operator.outputs, n_columns):
        output.type.shape = [n_rows, n]


def _register():
    extras = {name: [True, False] for name in EXTRAS}
    of_classifiers = {
        "zipmap": [True, False, "columns"],
        "nocl": [True, False],
        "output_class_labels": [False, True],
        "raw_scores": [True, False],
    }
    autoencoder = (_shape_autoencoder, _convert_autoencoder, _parse_autoencoder, extras)
    classifier = (_shape_classifier, _convert_classifier, _parse_classifier, of_classifiers)
    for estimator, (shape, convert, parse, options) in {
        DenoisingAutoencoder: autoencoder,
        StackedAutoencoder: autoencoder,
        StackedAutoencoderClassifier: classifier,
        StackedAutoencoderRegressor: (_shape_regressor, _convert_regressor, None, None),
        StackedAutoencoderDetector: (
            _shape_detector,
            _convert_detector,
            _parse_detector,
            {"score_samples": [True, False]},
        ),
        StackedAutoencoderImputer: (_shape_imputer, _convert_imputer, None, None),
        MarginalizedAutoencoder: (_shape_marginalized, _convert_marginalized, None, None),
    }.items():
        alias = f"Skae{estimator.__name__}"
        update_registered_converter(
            estimator, alias, shape, convert, parser=parse, options=options
        )


_register()
