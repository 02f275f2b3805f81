"""Some programs of `fuzz.py`, always the same, and whether it would notice."""

import re
import warnings

import fuzz
import fuzz_properties
import numpy as np
import pytest
from fuzz_programs import Call, Program, lines_of, random_program

from skae import DenoisingAutoencoder

pytestmark = pytest.mark.usefixtures("one_thread")

CHUNK, N_CHUNKS = 20, 16


@pytest.mark.parametrize("first", range(0, CHUNK * N_CHUNKS, CHUNK))
def test_random_programs_keep_the_promises(first):
    for seed in range(first, first + CHUNK):
        report = fuzz.run_seed(seed)
        assert not report.failures, "\n".join([f"seed {seed}", *report.text])


def writes_into_X(fit, self, X):
    X[0, 0] += 1
    return fit(self, X)


def leaves_an_attribute(fit, self, X):
    self.left_ = True
    raise ValueError("X is refused.")


def raises_an_index_error(fit, self, X):
    raise IndexError("index 5 is out of bounds")


def raises_by_accident(fit, self, X):
    return fit(self, X[:, 0] @ np.ones(len(X) + 1))


def says_nothing(fit, self, X):
    raise ValueError


def asks_for_another_attribute(fit, self, X):
    return self.left_


def warns(fit, self, X):
    warnings.warn("overflow encountered", RuntimeWarning, stacklevel=1)
    return fit(self, X)


def changes_a_parameter(fit, self, X):
    self.n_components += 1
    return fit(self, X)


SEEDS = iter(range(1000))


def ignores_the_seed(fit, self, X):
    given, self.random_state = self.random_state, next(SEEDS)
    fit(self, X)
    self.random_state = given
    return self


def is_not_finite(fit, self, X):
    fit(self, X).components_[0] = np.nan
    return self


def is_of_another_type(transform, self, X):
    return transform(self, X).astype(np.float16)


def is_of_another_shape(transform, self, X):
    return transform(self, X)[1:]


def is_infinite(transform, self, X):
    return transform(self, X) + np.inf


def depends_on_the_container(transform, self, X):
    return transform(self, X) + X.flags.f_contiguous


def depends_on_it_in_fit(fit, self, X):
    return fit(self, X + X.flags.f_contiguous)


def depends_on_other_samples(transform, self, X):
    return transform(self, X) + len(X)


def counts_its_calls(transform, self, X):
    self.n_calls_ = getattr(self, "n_calls_", 0) + 1
    return transform(self, X)


@pytest.mark.parametrize(
    "method, fault, noticed_by",
    [
        ("fit", writes_into_X, "inputs_are_not_written"),
        ("fit", leaves_an_attribute, "refused_calls_change_nothing"),
        ("fit", raises_an_index_error, "refusals_are_clear"),
        ("fit", says_nothing, "refusals_are_clear"),
        ("fit", asks_for_another_attribute, "refusals_are_clear"),
        ("fit", raises_by_accident, "refusals_are_clear"),
        ("fit", warns, "warnings_do_not_leak"),
        ("fit", changes_a_parameter, "fit_leaves_the_parameters"),
        ("fit", ignores_the_seed, "same_seed_same_bits"),
        ("fit", is_not_finite, "fits_are_finite"),
        ("transform", is_of_another_type, "results_are_as_documented"),
        ("transform", is_of_another_shape, "results_are_as_documented"),
        ("transform", is_infinite, "results_are_finite"),
        ("fit", depends_on_it_in_fit, "containers_do_not_matter_to_fit"),
        ("transform", depends_on_the_container, "containers_do_not_matter"),
        ("transform", depends_on_other_samples, "rows_do_not_matter_to_each_other"),
        ("transform", counts_its_calls, "reading_changes_nothing"),
    ],
)
def test_faults_are_noticed(method, fault, noticed_by, monkeypatch):
    X = {"X": "samples('uniform', 'fortran', 9, 4)"}
    program = Program(
        "DenoisingAutoencoder",
        {"n_components": "3", "random_state": "0"},
        [Call("fit", X), Call("pickle", {}), Call("transform", X)],
    )
    assert not fuzz.run(program).failures
    real = getattr(DenoisingAutoencoder, method)
    monkeypatch.setattr(DenoisingAutoencoder, method, lambda self, X, **_: fault(real, self, X))
    # What the fault is made of counts as a part of the package.
    monkeypatch.setattr(fuzz_properties, "PACKAGES", {*fuzz_properties.PACKAGES, "test_fuzz.py"})
    assert noticed_by in [name for name, _ in fuzz.run(program).failures]


def test_a_failing_program_is_made_smaller(monkeypatch):
    monkeypatch.setattr(fuzz_properties, "KNOWN", [])
    monkeypatch.setattr(
        DenoisingAutoencoder, "score", lambda self, X: [][0] if self.alpha else 0.0
    )
    program = Program(
        "DenoisingAutoencoder",
        {"alpha": "1.0", "n_components": "3", "solver": "'sgd'"},
        [
            Call("get_params", {}),
            Call("fit", {"X": "samples('uniform', 'float64', 9, 4)"}),
            Call("score", {"X": "samples('uniform', 'csr', 9, 4)"}),
        ],
    )
    [first, *others] = lines_of(fuzz.shrink(program))
    assert re.fullmatch(r"est = DenoisingAutoencoder\(alpha=1\.0, n_components=3\)", first)
    assert [line.partition("(")[0] for line in others] == ["est.score"]


def test_programs_of_child_processes_are_told_apart(capsys):
    assert fuzz.run_many(0, 3)
    assert capsys.readouterr().out.startswith("3 programs")


def test_a_program_is_all_text():
    program = random_program(7)
    assert lines_of(program) == lines_of(random_program(7))
