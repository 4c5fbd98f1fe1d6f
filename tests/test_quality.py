"""The quality figures of generated images, on sets for which their values are known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

pytest.importorskip("sklearn")
pytest.importorskip("rich")
pytest.importorskip("matplotlib")

from pygen._demo._quality import Classifier, classifier_test, nearest_neighbour_test
from pygen.data import ImageData, digits

TESTS = {"nearest-neighbour": nearest_neighbour_test, "classifier": classifier_test}


@pytest.fixture(scope="module")
def data() -> ImageData:
    return digits(binarize=False)


@pytest.fixture(scope="module")
def classifier(data: ImageData) -> Classifier:
    return Classifier(data.train_x, data.train_y)


def shuffled(x: Tensor, n: int) -> Tensor:
    return x[torch.randperm(len(x), generator=torch.Generator().manual_seed(0))[:n]]


def noise(n: int) -> Tensor:
    return torch.randint(0, 17, (n, 1, 8, 8), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


@pytest.mark.parametrize("test", TESTS.values(), ids=TESTS)
def test_quality_two_sample_tests_find_no_difference_between_real_images(test, data: ImageData) -> None:
    result = test(data.test_x, shuffled(data.train_x, 360))
    assert result.accuracy == pytest.approx(0.5, abs=0.06)  # three standard deviations of 720 coin tosses
    assert min(result) > 0.35


@pytest.mark.parametrize("test", TESTS.values(), ids=TESTS)
def test_quality_two_sample_tests_tell_noise_from_real_images(test, data: ImageData) -> None:
    result = test(data.test_x, noise(360))
    assert result.accuracy > 0.98
    assert (
        test(data.test_x, data.test_x[data.test_y == 3][torch.arange(360) % 36]).accuracy > 0.6
    )  # one class, repeated


def test_quality_nearest_neighbours_are_those_of_a_loop_and_share_ties() -> None:
    """Points on a line: real 0, 1, 5; generated 0, 2, 9. Ties at 0 (none), at 1 (0, 0 and 2) and at 2 (none)."""
    real, fake = torch.tensor([[0.0], [1.0], [5.0]]), torch.tensor([[0.0], [2.0], [9.0]])
    result = nearest_neighbour_test(real, fake)
    # 0 -> the generated 0; 1 -> real 0, generated 0 and 2; 5 -> generated 2. 0 -> the real 0; 2 -> real 1; 9 -> real 5.
    assert result.on_real == pytest.approx((0 + 1 / 3 + 0) / 3)
    assert result.on_fake == 0
    same = torch.zeros(4, 2)
    assert nearest_neighbour_test(same, same).accuracy == pytest.approx(3 / 7)  # of 7 others 3 are of one's own set


def test_quality_nearest_neighbour_test_shows_copies_of_real_images(data: ImageData) -> None:
    distinct = data.test_x[:200].unique(dim=0)
    assert nearest_neighbour_test(distinct, distinct.clone()).accuracy == 0


def test_quality_two_sample_tests_refuse_sets_of_different_sizes() -> None:
    for test in TESTS.values():
        with pytest.raises(ValueError, match=r"fake: expected as many images as real has, 5.*got 4"):
            test(torch.rand(5, 3), torch.rand(4, 3))


def test_quality_classifier_knows_real_digits_and_is_unsure_of_others(classifier: Classifier, data: ImageData) -> None:
    assert classifier.accuracy(data.test_x, data.test_y) > 0.97
    real, of_noise = classifier.figures(data.test_x), classifier.figures(noise(360))
    scrambled = data.test_x.flatten(1)[:, torch.randperm(64, generator=torch.Generator().manual_seed(0))]
    assert real.coverage == 10 and real.confidence > 0.93
    assert of_noise.confidence < 0.3 and classifier.figures(scrambled).confidence < 0.3
    assert of_noise.coverage == 0
    assert sum(real.shares) == pytest.approx(1) and min(real.shares) > 0.05


def test_quality_coverage_counts_classes(classifier: Classifier, data: ImageData) -> None:
    ones = classifier.figures(data.test_x[data.test_y == 1])
    assert ones.coverage == 1 and ones.shares[1] > 0.9
    # A class is covered from a fifth of its fair share on: of 500 images 10.
    rest = torch.cat([data.train_x[data.train_y == d] for d in range(9)])
    sure = classifier.probabilities(rest).max(1).values > 0.9
    rest = shuffled(rest[sure], 490)
    nines = data.train_x[data.train_y == 9]
    nines = nines[classifier.probabilities(nines)[:, 9] > 0.9]
    assert classifier.figures(torch.cat((rest, nines[:10]))).coverage == 10
    assert classifier.figures(torch.cat((rest, nines[:9], rest[:1]))).coverage == 9


@pytest.mark.slow
def test_quality_of_the_demos_gan_shows_digits_beside_its_twin(data: ImageData) -> None:
    """A part of the demo's training; tools/gan_digits.py compares both over several seeds."""
    from pygen._demo import gan_digits

    sides = gan_digits.train(data, 1000, 0, torch.device("cpu"), on_step=lambda losses: None)
    judge = gan_digits.Judge(data)
    plain, ours = (judge.of_model(side.model, gan_digits.SAMPLES, 0) for side in sides)
    failed = [check.claim for check in gan_digits.quality_checks(plain, ours) if not check.passed]
    assert not failed, f"{failed}: {plain} {ours}"
    assert ours.nearest_neighbour.accuracy < 0.97 and ours.classifier.accuracy < 0.95
