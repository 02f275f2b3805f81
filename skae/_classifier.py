"""StackedAutoencoderClassifier: pretrained on all samples, fine-tuned on the labelled ones."""

from functools import partial
from typing import Any, Self

import numpy as np
from sklearn.metrics import accuracy_score
from sklearn.utils import compute_class_weight, compute_sample_weight

from skae import _training
from skae._base import check_weights, unchanged_on_error
from skae._compat import ClassifierMixin, StrOptions, _fit_context, available_if
from skae._dataset import PseudoLabels, Samples
from skae._fine_tuning import FineTunedStack, final_estimator_has, tags_of
from skae._heads import HEADS, classification_head
from skae._kernel import _sgd
from skae._labels import UNLABELLED, Labels, is_plus_minus_one, read_classes, read_declared
from skae._parameters import BELOW_ONE, NOT_NEGATIVE, estimator, parameter
from skae._propagation import class_shares, propagated
from skae._typing import ArrayLike, MatrixLike, NDArray

# Weights of two terms of the loss for unlabelled samples, in addition to smoothness: the entropy
# of the predictions, and the divergence of their mean from the shares of the classes.
ENTROPY, BALANCE = 1.0, 2.0

# Parameters that use unlabelled samples in fine-tuning.
OF_UNLABELLED = ("smoothness_radius", "propagate_labels")


@estimator
class StackedAutoencoderClassifier(ClassifierMixin, FineTunedStack):
    """Classifier on a stack of autoencoders: pretrained on all samples, fine-tuned on labels.

    A `StackedAutoencoder` learns its layers from all samples, those without a label (-1, None or
    nan in y) included. An output layer is added, and the whole network is trained on the labelled
    samples [1]_ [2]_. The output is softmax for several classes, one logistic unit for two
    classes, or one logistic unit per label for multilabel y.

    Pretraining can only improve results with few labelled and many unlabelled samples. Unlabelled
    samples help more if they also take part in fine-tuning, see `propagate_labels` and
    `smoothness_radius`.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels; the indices of the labels for multilabel y.
    loss_ : float
        Mean cost of the last epoch of fine-tuning: log loss per sample in nats,
        plus the L2 penalty.
    loss_curve_ : list of float
        `loss_` after each epoch.
    validation_scores_ : list of float
        Accuracy of the held-out samples after each epoch. Only with
        ``early_stopping=True``, as the next two.
    {fine_tuning_attributes}
    {input_attributes}

    See Also
    --------
    StackedAutoencoder : The layers alone, without labels.
    sklearn.neural_network.MLPClassifier : The same network without pretraining.

    Notes
    -----
    Early stopping holds out labelled samples only, stratified by class.

    References
    ----------
    {references}
    .. [5] T. Miyato, S. Maeda, M. Koyama, S. Ishii. Virtual Adversarial Training: A Regularization
       Method for Supervised and Semi-Supervised Learning. IEEE Transactions on Pattern Analysis
       and Machine Intelligence 41, 1979-1993, 2018.
    .. [6] D. Zhou, O. Bousquet, T. Lal, J. Weston, B. Schölkopf. Learning with Local and Global
       Consistency. NIPS 2004.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.model_selection import train_test_split
    >>> from skae import StackedAutoencoderClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> X_train, X_test, y_train, y_test = train_test_split(
    ...     X / 16, y, random_state=0
    ... )
    >>> y_train[100:] = -1  # only 100 samples keep their labels
    >>> clf = StackedAutoencoderClassifier((256, 128), random_state=0)
    >>> accuracy = clf.fit(X_train, y_train).score(X_test, y_test)
    >>> print(f"{accuracy:.1f}")
    0.9
    """

    label_smoothing: float = parameter(
        default=0.0,
        constraint=[BELOW_ONE],
        doc="""float in [0, 1)
        Part of each target that is distributed evenly over the classes.""",
    )
    class_weight: dict[Any, float] | str | None = parameter(
        default=None,
        constraint=[dict, StrOptions({"balanced"}), None],
        doc="""dict, 'balanced' or None
        Weight of the samples of each class in fine-tuning, as in scikit-learn's classifiers.
        'balanced' cannot be used with ``partial_fit``.""",
    )
    smoothness_radius: float = parameter(
        default=0.0,
        constraint=[NOT_NEGATIVE],
        doc="""float in [0, inf)
        Radius of virtual adversarial training [5]_. Fine-tuning then penalises changes of the
        prediction for a sample, labelled or not, when the sample is moved by this Euclidean
        distance, in the units of X, in the direction that changes the prediction most. After the
        first quarter of the epochs, it also favours confident predictions for unlabelled samples,
        with the same class proportions as among the labelled samples (equal proportions, as far as
        the differences can be explained by chance). About a fifth of the square root of the total
        variance of the features is a good value. An epoch then uses all samples, labelled ones
        repeatedly, and takes about three times as long. Not available for multilabel y.""",
    )
    propagate_labels: bool = parameter(
        default=False,
        constraint=["boolean"],
        doc="""bool
        Whether to propagate labels to unlabelled samples on a graph of nearest neighbours [6]_, as
        in `sklearn.semi_supervised.LabelSpreading`. The network is fine-tuned on these
        pseudo-labels, weighted by their confidence; with a `smoothness_radius`, only in the first
        quarter of the epochs, and on the labelled samples after that. Not available for
        multilabel y.""",
    )
    _unlabelled_as = "-1, None or nan"

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        if self.final_estimator is not None:
            final = tags_of(self.final_estimator)  # fit refuses anything but a classifier
            its = None if final is None else final.classifier_tags
            tags.classifier_tags.multi_label = its is not None and its.multi_label
        return tags

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: MatrixLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Pretrain the layers on all samples, and fine-tune them on the labelled ones.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Training samples. Scale the features, e.g. to [0, 1]. Missing values (nan) are
            replaced by zeros.
        y : array-like of shape (n_samples,) or (n_samples, n_labels)
            Class labels, numbers or strings, or a multilabel indicator matrix, which may be
            sparse. Samples with -1, None or nan (in all columns) are unlabelled. Exception: if y
            contains only the numbers -1 and 1, both are classes. Three classes -1, 0 and 1 are not
            supported: samples of -1 count as unlabelled, so encode the classes differently, e.g.
            with `sklearn.preprocessing.LabelEncoder`.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weight of each sample in the cost of its mini-batch. Samples of weight
            zero are ignored.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If X, y, `sample_weight` or a parameter is invalid, or if the loss becomes infinite or
            nan. The estimator is then left unchanged.
        """
        with unchanged_on_error(self):
            if not self.warm_start:
                vars(self).pop("_declared_classes", None)  # by an earlier partial_fit
            return self._fit(X, y, sample_weight)

    @available_if(lambda self: self._can_partial_fit())
    @_fit_context(prefer_skip_nested_validation=False)
    def partial_fit(
        self,
        X: MatrixLike,
        y: ArrayLike,
        classes: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Fine-tune for one epoch over the labelled samples of X.

        The first call pretrains on its X, as ``fit`` does. A later call without labelled samples
        changes nothing. Not available with ``early_stopping=True``,
        ``learning_rate='cosine'``, ``propagate_labels=True`` or a `final_estimator`.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Training samples.
        y : array-like of shape (n_samples,) or (n_samples, n_labels)
            As in ``fit``.
        classes : array-like of shape (n_classes,), default=None
            All classes that y may contain in this and later calls. Required in the first call.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weight of each sample in the cost of its mini-batch.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        if self.class_weight == "balanced":
            raise ValueError(
                "class_weight 'balanced' is not supported for partial_fit, as one batch does not "
                "tell how frequent the classes are. Use compute_class_weight('balanced', "
                "classes=classes, y=y) of sklearn.utils with a large enough sample of all y, and "
                "pass the weights as dict(zip(classes, weights)) in class_weight."
            )
        declared = getattr(self, "_declared_classes", None)
        if classes is not None:
            classes = self._check_declared(read_declared(classes))
        elif declared is None and not hasattr(self, "_state"):
            raise ValueError("classes must be passed on the first call to partial_fit.")
        with unchanged_on_error(self):
            self._declared_classes = classes if classes is not None else declared
            return self._fit(X, y, sample_weight, incremental=True)

    def _check_declared(self, classes):
        known = getattr(self, "classes_", classes)
        if not np.array_equal(known, classes):
            raise ValueError(
                f"`classes={classes}` is not the same as on last call to partial_fit, was: {known}"
            )
        if UNLABELLED in classes.tolist() and not is_plus_minus_one(classes):
            raise ValueError(
                f"classes={classes} names -1, which marks unlabelled samples in y. Encode the "
                "classes differently, e.g. with sklearn.preprocessing.LabelEncoder."
            )
        return classes

    def _can_partial_fit(self):
        if self.propagate_labels:
            raise AttributeError("partial_fit does not support propagate_labels=True")
        return super()._can_partial_fit()

    # -- labels -------------------------------------------------------------------------

    def _read_labels(self, X, y, weights, first, incremental):
        known = getattr(self, "_declared_classes", None) if first else self.classes_
        y, mask = read_classes(self, X, y, known)
        if not mask.any():
            return Labels(mask=mask)
        n_labelled, unlabelled = len(y), ~mask
        if weights is not None:
            unlabelled &= weights > 0
        if first and y.ndim == 2:
            known = None  # labels have indices, whatever was declared
        head = classification_head(y, known, self.label_smoothing)
        self.classes_ = head.classes  # also of samples with weight zero
        if weights is not None:
            y, mask = y[weights[mask] > 0], mask & (weights > 0)
            weights = weights[mask]
        if self.class_weight is not None and mask.any():
            weights = self._class_weighted(y, head, weights)
            counts = weights > 0
            y, weights = y[counts], weights[counts]
            mask[mask] = counts
        if self.early_stopping and y.ndim == 1:
            self._check_strata(head.strata(y))
        return Labels(
            mask=mask,
            n_labelled=n_labelled,
            y=y,
            sample_weight=weights,
            head=head,
            unlabelled=unlabelled,
        )

    def _samples_to_train_on(self, dataset, labels, X, weights):
        wanted = [name for name in OF_UNLABELLED if getattr(self, name)]
        if not wanted:
            return dataset
        given = " and ".join(f"{name}={getattr(self, name)}" for name in wanted)
        if labels.head.label_ndim == 2:
            raise ValueError(
                f"{given} needs one class per sample, but y has several labels a sample."
            )
        if not labels.unlabelled.any():
            return dataset
        if isinstance(X, Samples):
            raise ValueError(
                f"{given} needs the unlabelled samples in this process, but X is a Dask "
                "collection. Leave it out, or pass only the labelled samples."
            )
        return labels.mixture(X, dataset.dtype, weights)

    def _pseudo_labels(self, dataset, labels, options, seed):
        if not self.propagate_labels or dataset.labelled is None:
            return None
        class_weights = None
        if self.class_weight is not None:
            class_weights = np.ones(len(self.classes_))
            balance = compute_sample_weight(self.class_weight, labels.y)
            class_weights[labels.head.strata(labels.y)] = balance
        n_epochs = options.max_iter // _training.OPENING if self.smoothness_radius else np.inf
        return PseudoLabels(
            partial(propagated, dataset, labels.head, class_weights, seed), n_epochs
        )

    def _objective(self, dataset, head, options, seed):
        objective = super()._objective(dataset, head, options, seed)
        if self.smoothness_radius:
            training, _ = _training.split(dataset, options, seed)
            n_classes = len(self.classes_)
            counts = np.bincount(dataset.strata[training], minlength=n_classes)
            objective = _sgd.Objective(
                objective.loss,
                alpha=objective.alpha,
                adversarial_radius=objective.adversarial_radius,
                smoothness_radius=self.smoothness_radius,
                entropy_weight=ENTROPY,
                balance_weight=BALANCE,
                class_shares=class_shares(counts),
            )
        return objective

    def _labelled(self, X, y):
        return read_classes(self, X, y, self.classes_)

    def _check_strata(self, codes):
        counts = np.bincount(codes, minlength=len(self.classes_))
        if np.any(counts == 1):
            rare = self.classes_[np.flatnonzero(counts == 1)].tolist()
            raise ValueError(
                f"early_stopping=True holds out labelled samples of each class, but the classes "
                f"{rare} have only 1 labelled sample. Label more, or set early_stopping=False."
            )

    def _class_weighted(self, y, head, weights):
        """Multiply the sample weights by the class weights."""
        if self.class_weight == "balanced":
            balance = compute_sample_weight("balanced", y)
        elif y.ndim == 2:
            raise ValueError(
                "class_weight must be 'balanced' or None if y has several labels a sample, "
                f"got {self.class_weight!r}."
            )
        else:
            by_class = compute_class_weight(self.class_weight, classes=self.classes_, y=y)
            balance = by_class[head.strata(y)]
        if weights is not None:
            with np.errstate(over="ignore"):
                balance = balance * weights
        if balance.any():
            check_weights(balance, y, name="class_weight")
        return balance

    @property
    def _head(self):
        return HEADS[self._output](self.classes_)

    _metric = staticmethod(accuracy_score)

    # -- predict ------------------------------------------------------------------------

    def predict(self, X: MatrixLike) -> NDArray[Any]:
        """Predict the class, or the labels, of each sample.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples to classify.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_labels)
            Predicted classes, or an indicator matrix for multilabel y.
        """
        return self._predict_by("predict", X)

    def score(self, X: MatrixLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Return the accuracy of the predictions for the labelled samples.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Test samples.
        y : array-like of shape (n_samples,) or (n_samples, n_labels)
            As in ``fit``; unlabelled samples are ignored. For multilabel y, this is the subset
            accuracy.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weight of each sample in the mean.

        Returns
        -------
        score : float
            Proportion of correct predictions, in [0, 1].
        """
        return self._score(X, y, sample_weight)

    @available_if(final_estimator_has("decision_function"))
    def decision_function(self, X: MatrixLike) -> NDArray[Any]:
        """Compute the confidence scores (logits) of each class, or of each label.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples to classify.

        Returns
        -------
        scores : ndarray of shape (n_samples,) or (n_samples, n_classes)
            Logits, for binary y those of the second class; with a `final_estimator`, its scores.
        """
        return self._predict_by("decision_function", X)

    @available_if(final_estimator_has("predict_proba"))
    def predict_proba(self, X: MatrixLike) -> NDArray[Any]:
        """Predict the probability of each class, or of each label.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples to classify.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_classes)
            Probabilities in the order of `classes_`; for multilabel y, that of each label.
        """
        return self._predict_by("predict_proba", X)

    @available_if(final_estimator_has("predict_proba"))
    def predict_log_proba(self, X: MatrixLike) -> NDArray[Any]:
        """Predict the logarithm of the probability of each class, or of each label.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples to classify.

        Returns
        -------
        log_probabilities : ndarray of shape (n_samples, n_classes)
            Logarithms of `predict_proba`, computed without underflow.
        """
        if hasattr(self, "final_estimator_"):  # which may not have this method
            with np.errstate(divide="ignore"):  # the probability may be zero
                return np.log(self._predict_by("predict_proba", X))
        return self._predict_by("predict_log_proba", X)
