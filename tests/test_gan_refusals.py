"""What pygen.models.GAN refuses, and what it just takes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from gan_twins import (
    SMALL,
    images,
    one_thread,  # noqa: F401 (a fixture)
    small,
    state,
)
from support import assert_same

from pygen.models import GAN

_X = images(4, (1, 4, 4), torch.float32)
NOT_BUILT = {
    "shape-of-two": (ValueError, "image_shape: .*got \\(8, 8\\)", {"image_shape": (8, 8)}),
    "zero-side": (ValueError, "image_shape: .*got 0", {"image_shape": (1, 0, 8)}),
    "float-latents": (TypeError, "latent_dim: .*got 2.5", {"latent_dim": 2.5}),
    "kind": (ValueError, "GAN: kind: .*nonsaturating.*got 'vanilla'", {"kind": "vanilla"}),
    "no-hidden": (ValueError, "hidden: .*got none", {"hidden": ()}),
    "zero-hidden": (ValueError, "hidden: .*got 0", {"hidden": (4, 0)}),
    "too-deep": (
        ValueError,
        "hidden: .*at most 2 widths.*\\(5, 6\\), got 3",
        {"image_shape": (1, 5, 6), "hidden": (4, 4, 4)},
    ),
    "too-small": (ValueError, "hidden: .*at most 1 widths", {"image_shape": (1, 2, 3)}),
    "smoothing": (ValueError, "label_smoothing: .*got 0.5", {"label_smoothing": 0.5}),
    "smoothed-hinge": (ValueError, "label_smoothing: .*'hinge'", {"label_smoothing": 0.1, "kind": "hinge"}),
    "n-dis": (ValueError, "n_dis: .*got 0", {"n_dis": 0}),
    "penalty": (ValueError, "penalty: .*r1, r2, wgan_gp, dragan, got 'gp'", {"penalty": "gp"}),
    "idle-gamma": (ValueError, "gamma: expected None without a penalty, got 10", {"gamma": 10.0}),
    "idle-interval": (ValueError, "penalty_every: expected None.*got 16", {"penalty_every": 16}),
    "negative-gamma": (ValueError, "gamma: .*got -1", {"penalty": "r1", "gamma": -1}),
    "text-gamma": (TypeError, "gamma: .*got '1' \\(str\\)", {"penalty": "r1", "gamma": "1"}),
    "zero-interval": (ValueError, "penalty_every: .*got 0", {"penalty": "r1", "penalty_every": 0}),
    "coupled": (
        ValueError,
        "discriminator_batch_norm: expected False with a penalty.*got True",
        {"penalty": "r1", "discriminator_batch_norm": True},
    ),
    "decay-of-one": (ValueError, "ema_decay: .*got 1", {"ema_decay": 1.0}),
    "bool-decay": (TypeError, "ema_decay: .*got True", {"ema_decay": True}),
    "zero-lr": (ValueError, "lr: .*got 0", {"lr": 0.0}),
    "nan-lr": (ValueError, "lr: .*got nan", {"lr": math.nan}),
    "one-beta": (ValueError, "betas: .*two numbers, got 0.5", {"betas": 0.5}),
    "beta-of-one": (ValueError, "betas: .*got 1.0", {"betas": (0.5, 1.0)}),
}
REFUSED = {
    "uint8": (TypeError, "x: .*\\[-1, 1\\] \\(levels.*got torch.uint8", lambda m: m.step(_X.to(torch.uint8))),
    "list": (TypeError, "x: .*got list", lambda m: m.discriminator_step([0.0])),
    "float64": (
        TypeError,
        "x: .*torch.float32, the dtype of the model, got torch.float64",
        lambda m: m.step(_X.double()),
    ),
    "wrong-size": (ValueError, "x: .*\\[N, 1, 4, 4\\], got \\[4, 1, 4, 3\\]", lambda m: m.step(_X[..., :3])),
    "no-channel": (ValueError, "x: .*got \\[4, 4, 4\\]", lambda m: m.step(_X[:, 0])),
    "no-images": (ValueError, "x: .*at least one image, got \\[0, 1, 4, 4\\]", lambda m: m.step(_X[:0])),
    "one-image": (ValueError, "x: .*at least 2 images for the batch norms.*got 1", lambda m: m.step(_X[:1])),
    "one-latent": (ValueError, "n: .*at least 2 images for the batch norms.*got 1", lambda m: m.generator_step(1)),
    "zero-n": (ValueError, "n: .*got 0", lambda m: m.generator_step(0)),
    "float-n": (TypeError, "n: .*got 2.0", lambda m: m.sample(2.0)),
    "negative-n": (ValueError, "n: .*got -1", lambda m: m.sample(-1)),
    "idle-real": (ValueError, "GAN: real: expected None.*got logits", lambda m: m.generator_step(4, real=_X)),
    "wide-z": (ValueError, "z: .*\\[N, 3\\], got \\[2, 4\\]", lambda m: m(torch.zeros(2, 4))),
    "two-noises": (ValueError, "generator: .*at most one", lambda m: m.step(_X, seed=1, generator=torch.Generator())),
    "text-seed": (TypeError, "seed: .*got str", lambda m: m.sample(2, seed="1")),
    "text-generator": (TypeError, "generator: .*got int", lambda m: m.generator_step(4, generator=3)),
}


@pytest.mark.parametrize("name", NOT_BUILT)
def test_gan_is_not_built(name: str) -> None:
    kind, message, options = NOT_BUILT[name]
    with pytest.raises(kind, match=message):
        GAN(**{"image_shape": (1, 8, 8), "latent_dim": 2, **options})


@pytest.mark.parametrize("name", REFUSED)
def test_gan_refuses(name: str) -> None:
    kind, message, call = REFUSED[name]
    model = small((1, 4, 4), torch.float32)
    before, weights = torch.get_rng_state(), state(model)
    with pytest.raises(kind, match=message):
        call(model)
    assert torch.equal(before, torch.get_rng_state())
    for key, value in model.state_dict().items():
        assert_same(value, weights[key], what=key)
    model.step(_X)


def test_gan_refuses_real_images_that_do_not_fit_the_latents() -> None:
    model = small((1, 4, 4), torch.float32, kind="relativistic")
    for real, message in (
        (None, "real: .*got None"),
        (_X[:3], "real: .*4 images.*got 3"),
        (_X[:0], "real: .*at least one"),
    ):
        with pytest.raises(ValueError, match=message):
            model.generator_step(4, real=real)
    model.generator_step(4, real=_X)
    averaging = small((1, 4, 4), torch.float32, kind="relativistic_average")
    averaging.generator_step(4, real=_X[:3])
    with pytest.raises(ValueError, match=r"real: .*got None"):
        averaging.generator_step(4)


def test_gan_takes_one_image_where_batch_norms_have_enough_pixels() -> None:
    model = small((1, 8, 8), torch.float32)
    model.step(images(1, dtype=torch.float32))
    small((1, 4, 4), torch.float32, generator_batch_norm=False).step(_X[:1])


def test_gan_takes_numpy_ints() -> None:
    model = GAN(tuple(np.array([1, 8, 8])), np.int64(2), hidden=(np.int32(4), 6), n_dis=np.int64(2))
    assert model.latent_dim == 2 and model.n_dis == 2 and model.discriminator[0].out_channels == 4
    assert "kind='nonsaturating'" in repr(model) and SMALL["hidden"] == (4, 6)
