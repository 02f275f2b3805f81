"""Declared parameters: what `estimator` makes from them."""

import inspect
import pickle
import re
from typing import get_type_hints

import numpy as np
import pytest
from common import assert_same_fit, same_fit, uniform
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator

import skae
from skae._compat import Interval
from skae._parameters import (
    AutoencoderParameters,
    TrainingParameters,
    estimator,
    fill_docstring,
    for_each_layer,
    parameter,
    parameter_group,
)

ESTIMATORS = [
    skae.DenoisingAutoencoder,
    skae.StackedAutoencoder,
    skae.StackedAutoencoderClassifier,
    skae.StackedAutoencoderRegressor,
    skae.StackedAutoencoderDetector,
    skae.StackedAutoencoderImputer,
]


@parameter_group
class Shared:
    first: int = parameter(default=1, constraint=[int], doc="int\n        The first.")
    second: str = parameter(default="b", constraint=[str], doc="str\n        The second.")


@estimator
class Example(Shared):
    """An example.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    none
    """

    size: int = parameter(
        default=3, kw_only=False, constraint=[int], doc="int\n        The size.\n        Of it."
    )
    second: str | None = parameter(default=None, constraint=[None], doc="None\n        Another.")


class Inherited(Example):
    def __init__(self, size=5, *, third=0, **others):
        super().__init__(size, **others)
        self.third = third


def test_signature():
    assert str(inspect.signature(Example)) == (
        "(size: int = 3, *, first: int = 1, second: str | None = None) -> None"
    )


def test_init_stores_its_arguments_alone():
    assert vars(Example()) == {"size": 3, "first": 1, "second": None}
    marker = object()
    assert vars(Example(4, second=marker)) == {"size": 4, "first": 1, "second": marker}
    assert vars(Inherited(first=2)) == {"size": 5, "first": 2, "second": None, "third": 0}
    assert not hasattr(Example, "first")


class Checked(Example):
    @property
    def first(self):
        return self._first

    @first.setter
    def first(self, value):
        self._first = 2 * value


def test_init_assigns_as_any_init_does():
    assert vars(Checked(first=3)) == {"size": 3, "_first": 6, "second": None}


def test_annotations():
    assert get_type_hints(Example.__init__) == {"size": int, "first": int, "second": str | None}


@pytest.mark.parametrize(
    "args, kwargs, message",
    [
        ((), {"other": 1}, "unexpected keyword argument 'other'"),
        ((1, 2), {}, "too many positional arguments"),
        ((1,), {"size": 2}, "multiple values for argument 'size'"),
    ],
)
def test_init_refuses_other_arguments(args, kwargs, message):
    with pytest.raises(TypeError, match=rf"Example.__init__\(\): .*{message}"):
        Example(*args, **kwargs)


def test_the_nearest_declaration_counts():
    assert Example._parameter_constraints == {"size": [int], "first": [int], "second": [None]}


def test_docstring():
    assert inspect.cleandoc(Example.__doc__) == inspect.cleandoc(
        """An example.

        Parameters
        ----------
        size : int, default=3
            The size.
            Of it.
        first : int, default=1
            The first.
        second : None, default=None
            Another.

        Attributes
        ----------
        none
        """
    )


def test_docstring_without_its_indentation():
    """Python 3.13 and later remove it when they compile a class."""
    text = "    first : int\n        The first.\n    second : str\n        The second.\n"
    indented = fill_docstring("Text.\n\n    {place}\n    End.\n", "place", text)
    assert indented == f"Text.\n\n{text}    End.\n"
    plain = fill_docstring("Text.\n\n{place}\nEnd.\n", "place", text)
    assert plain == inspect.cleandoc(indented) + "\n"
    assert fill_docstring(plain, "place", text) == plain


def test_one_value_or_one_a_layer():
    shared, each = AutoencoderParameters._declared["loss"], for_each_layer("loss")
    assert each.default == shared.default
    assert each.constraint == [*shared.constraint, "array-like"]
    assert each.doc.partition("\n")[2] == shared.doc.partition("\n")[2]


@pytest.mark.parametrize("cls", ESTIMATORS)
def test_all_parameters_of_an_estimator_are_documented_with_their_defaults(cls):
    section = inspect.cleandoc(cls.__doc__).partition("Parameters\n----------\n")[2]
    section = section.partition("\nAttributes\n")[0]
    documented = re.findall(r"^(\w+) : .*, default=(.*)$", section, re.MULTILINE)
    signature = inspect.signature(cls).parameters.values()
    assert documented == [(one.name, repr(one.default)) for one in signature]
    assert "{" not in re.sub(r"\{'.*?'\}", "", section)  # no place left unfilled


@pytest.mark.parametrize("cls", ESTIMATORS)
def test_all_parameters_but_the_first_are_by_name_and_all_are_annotated(cls):
    first, *others = inspect.signature(cls).parameters.values()
    assert first.kind is first.POSITIONAL_OR_KEYWORD
    assert {one.kind for one in others} == {first.KEYWORD_ONLY}
    assert not any(one.annotation is one.empty for one in (first, *others))


# The range of a parameter that ends at another parameter, which no constraint can say.
OTHER_PARAMETERS = {
    "n_warmup_epochs": "max_iter)",
    "n_active": "n_components]",
    "transform_n_active": "n_components]",
}


@pytest.mark.parametrize("cls", ESTIMATORS)
def test_documented_ranges_are_those_of_the_constraints(cls):
    """Such as ``float in [0, 1)`` for an `Interval`."""
    for name, declaration in cls._declared.items():
        kind = declaration.doc.partition("\n")[0]
        for constraint in declaration.constraint:
            if isinstance(constraint, Interval):
                low = "(" if constraint.closed in ("neither", "right") else "["
                high = ")" if constraint.closed in ("neither", "left") else "]"
                right = "inf" if constraint.right is None else constraint.right
                left = f"{low}{constraint.left}, "
                other = OTHER_PARAMETERS.get(name)
                assert f"{left}{right}{high}" in kind or f"{left}{other}" in kind, name


def test_shared_parameters_are_declared_once():
    for cls in ESTIMATORS:
        for name, declaration in TrainingParameters._declared.items():
            its = cls._declared[name]
            assert its.doc.endswith(declaration.doc.partition("\n")[2])
            assert its.constraint[: len(declaration.constraint)] == declaration.constraint


@pytest.mark.parametrize("cls", ESTIMATORS)
def test_clone_and_repr_of_changed_parameters(cls):
    changed = cls(3, random_state=7, beta_1=np.float64(0.5))
    assert clone(changed).get_params() == changed.get_params()
    assert "random_state=7" in repr(changed)


# -- subclasses of the estimators -------------------------------------------------------


X = uniform(40, 6)
Y = (X[:, 0] > 0.5).astype(int)
FEW = {"max_iter": 2, "random_state": 0, "corruption": "gaussian"}
BASES = {  # the size of the network, and what else a small fit takes
    skae.DenoisingAutoencoder: (4, FEW),
    skae.StackedAutoencoder: ((4, 3), FEW),
    skae.StackedAutoencoderClassifier: (
        (4, 3), {"max_iter": 2, "random_state": 0, "pretrain": skae.StackedAutoencoder(**FEW)}),
    skae.StackedAutoencoderRegressor: ((4, 3), {"max_iter": 2, "random_state": 0}),
}  # fmt: skip
FIXED = {
    "solver": "sgd", "batch_size": 7, "early_stopping": True, "alpha": 0.3,
    "learning_rate_init": 0.02, "shuffle": False, "activation": "tanh",
}  # fmt: skip
FIXED_IN = {
    skae.DenoisingAutoencoder: {**FIXED, "tied_weights": True, "sparsity_penalty": 0.0},
    skae.StackedAutoencoder: {
        **FIXED, "tied_weights": True, "loss": ["squared_error"] * 2, "joint": True},
    skae.StackedAutoencoderClassifier: {
        **FIXED, "dropout": 0.2, "class_weight": "balanced", "fine_tune": "top_then_all"},
    skae.StackedAutoencoderRegressor: {**FIXED, "pretrain": False, "max_norm": 0.5},
}  # fmt: skip


def subclass(base, **fixed):
    """A subclass with a parameter of its own, and few others; it fixes what is given."""
    size, few = BASES[base]

    class Own(base):
        def __init__(self, size=size, *, own="", random_state=0):
            super().__init__(size, **{**few, "random_state": random_state, **fixed})
            self.size, self.own = size, own

    return Own


@pytest.mark.parametrize(
    "base, name", [(base, name) for base in BASES for name in (None, *FIXED_IN[base])]
)
def test_a_subclass_may_fix_parameters(base, name):
    """They reach the training as if they had been given."""
    size, few = BASES[base]
    fixed = {} if name is None else {name: FIXED_IN[base][name]}
    own = clone(subclass(base, **fixed)(own="a"))
    assert own.get_params(deep=False) == {"size": size, "own": "a", "random_state": 0}
    expected = base(size, **{**few, **fixed})
    assert_same_fit(own.fit(X, Y), expected.fit(X, Y))
    assert_array_equal(own.transform(X), expected.transform(X))
    if name not in (None, "sparsity_penalty", "loss"):
        assert not same_fit(own, base(size, **few).fit(X, Y))


@pytest.mark.parametrize("base", BASES)
def test_a_subclass_that_fixes_all_of_them(base):
    size, few = BASES[base]
    fixed = {**FIXED_IN[base], "warm_start": True}
    own = subclass(base, **fixed)(random_state=3)
    expected = base(size, **{**few, **fixed, "random_state": 3})
    assert_same_fit(own.fit(X, Y), expected.fit(X, Y))
    assert_same_fit(pickle.loads(pickle.dumps(expected)), own)
    assert_same_fit(own.fit(X, Y), expected.fit(X, Y))


def test_a_subclass_of_the_stack_pretrains():
    """The classifier need not know its parameters, and sets its sizes where it has some."""
    fixed = {"solver": "sgd", "batch_size": 7, "tied_weights": True}
    given = {"warm_start": True, "max_iter": 2, "random_state": 0}
    own = subclass(skae.StackedAutoencoder, **fixed)
    shape = {"hidden_layer_sizes": (5, 2), "activation": "tanh"}
    found, expected = (
        skae.StackedAutoencoderClassifier(pretrain=pretrain, **shape, **given).fit(X, Y)
        for pretrain in (own(), skae.StackedAutoencoder(**FEW, **fixed))
    )
    assert_same_fit(found, expected)
    assert_same_fit(found.fit(X, Y), expected.fit(X, Y))
    for pretrain in (own(own="a"), own().fit(X), FrozenEstimator(own().fit(X))):
        found = skae.StackedAutoencoderClassifier(pretrain=pretrain, **given).fit(X, Y)
        expected = skae.StackedAutoencoder((4, 3), **FEW, **fixed)
        assert_same_fit(found.pretrained_, clone(expected).fit(X))
        assert isinstance(found.pretrained_, own)
        assert_same_fit(
            found, skae.StackedAutoencoderClassifier(pretrain=expected, **given).fit(X, Y)
        )
