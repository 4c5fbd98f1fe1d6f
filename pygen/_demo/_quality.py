"""How good generated images are, without any downloaded network: two two-sample tests and a classifier of the real classes.

All images are [N, ...] tensors of one form, all sets real against generated.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pygen._checks import fail

_FAIR_SHARE = 0.2  # a class is covered by this part of its fair share of the images
_SURE = 0.5  # counting those only that the classifier gives at least this probability


class TwoSample(NamedTuple):
    """How many of each set a test recognises: 1/2 where nothing tells them apart, 1 where everything does."""

    on_real: float
    on_fake: float

    @property
    def accuracy(self) -> float:
        return (self.on_real + self.on_fake) / 2


class ClassFigures(NamedTuple):
    """What a classifier of the real classes says of images."""

    coverage: int  # classes with at least a fifth of their fair share of the images, at probability >= 1/2
    confidence: float  # mean of each image's largest probability
    shares: list[float]  # of the images, by most probable class


def nearest_neighbour_test(real: Tensor, fake: Tensor) -> TwoSample:
    """The leave-one-out accuracy of the nearest neighbour in both sets together (Lopez-Paz and Oquab, 2017).

    Euclidean distances; of several nearest each counts its part. On generated images it is low where they repeat real ones;
    on real ones, where generated ones lie between them.
    """
    _check_equal_sizes("nearest_neighbour_test", real, fake)
    n = len(real)
    points = torch.cat((real, fake)).flatten(1).double()
    distances = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
    distances.fill_diagonal_(torch.inf)
    nearest = distances == distances.min(1, keepdim=True).values  # [2n, 2n]
    in_real = nearest[:, :n].sum(1) / nearest.sum(1)
    return TwoSample(in_real[:n].mean().item(), 1 - in_real[n:].mean().item())


def classifier_test(real: Tensor, fake: Tensor, seed: int = 0) -> TwoSample:
    """The accuracy of a classifier trained on half of both sets, on the other half, and the reverse (the same paper's).

    A support vector machine with a Gaussian kernel.
    """
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.svm import SVC

    _check_equal_sizes("classifier_test", real, fake)
    n = len(real)
    points = torch.cat((real, fake)).flatten(1).double().numpy()
    is_fake = torch.arange(2 * n).ge(n).numpy()
    folds = StratifiedKFold(2, shuffle=True, random_state=seed)
    right = cross_val_predict(SVC(), points, is_fake, cv=folds) == is_fake
    return TwoSample(right[:n].mean().item(), right[n:].mean().item())


class Classifier:
    """Of images by class, unsure far from all real ones: logistic regression on Gaussian features of some of them.

    Args:
        x: real images.
        y: their classes 0 .. K - 1, int64 [N].
        seed: chooses the images whose features are taken.
    """

    def __init__(self, x: Tensor, y: Tensor, seed: int = 0) -> None:
        from sklearn.kernel_approximation import Nystroem
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline

        points = x.flatten(1).double()
        # The variance of the kernel: a quarter of the mean squared distance of two images.
        gamma = 1 / points.var(0).sum().item()
        features = Nystroem(gamma=gamma, n_components=min(600, len(points)), random_state=seed)
        self._model = make_pipeline(features, LogisticRegression(C=30.0, max_iter=2000))
        self._model.fit(points.numpy(), y.numpy())

    def probabilities(self, x: Tensor) -> Tensor:
        """float64 [N, K] of images x."""
        return torch.from_numpy(self._model.predict_proba(x.flatten(1).double().numpy()))

    def accuracy(self, x: Tensor, y: Tensor) -> float:
        return (self.probabilities(x).argmax(1) == y).double().mean().item()

    def figures(self, x: Tensor) -> ClassFigures:
        probabilities = self.probabilities(x)
        n, num_classes = probabilities.shape
        confidences, classes = probabilities.max(1)
        sure = classes[confidences >= _SURE].bincount(minlength=num_classes)
        coverage = (sure * num_classes >= _FAIR_SHARE * n).sum().item()
        shares = (classes.bincount(minlength=num_classes) / n).tolist()
        return ClassFigures(int(coverage), confidences.mean().item(), shares)


def _check_equal_sizes(test: str, real: Tensor, fake: Tensor) -> None:
    """With other counts the larger set alone would be recognised more often."""
    if len(real) != len(fake) or len(real) < 2:
        raise fail(test, "fake", f"as many images as real has, {len(real)}, and at least 2", len(fake))
