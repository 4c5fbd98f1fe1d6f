"""Models as files, and the command that draws from them."""

from __future__ import annotations

import copy
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from pygen import cli, models
from pygen._picture import grid, write_png
from pygen._sample import as_pixels
from pygen.models import (
    GAN,
    MADE,
    MAF,
    NADE,
    NICE,
    NSF,
    RBM,
    VAE,
    VQVAE,
    GatedPixelCNN,
    PixelCNN,
    PixelCNNPP,
    PixelRNN,
    RealNVP,
)

MODELS = {
    "plain": lambda: PixelCNN(hidden_channels=4, num_blocks=1),
    "positional": lambda: PixelCNN(3, color_groups=3, hidden_channels=np.int64(6), num_blocks=0, num_levels=300),
    "classes": lambda: GatedPixelCNN(hidden_channels=4, num_blocks=1, num_classes=3),
    "pp": lambda: PixelCNNPP(hidden_channels=4, num_resnets=1, num_scales=2, num_mixtures=2, weight_norm=False),
    "rnn": lambda: PixelRNN(hidden_channels=4, num_blocks=1, kind="row", input_range=[np.float32(0), 1]),
    "pp-normed": lambda: PixelCNNPP(1, hidden_channels=4, num_resnets=1, num_scales=1, num_mixtures=2),
    "made": lambda: MADE(6, [4, 5], num_orders=2),
    "nade": lambda: NADE(6, 4, num_orders=2),
    "rbm": lambda: RBM(6, 4),
    "nice": lambda: NICE(6, [4, 5], num_couplings=2, prior="normal"),
    "nsf": lambda: NSF(6, [4, 5], num_couplings=2, num_bins=3, bound=2),
    "maf": lambda: MAF(6, [4, 5], num_layers=2, bound=None, prior="logistic"),
    "maf-conditional": lambda: MAF(6, [4, 5], num_layers=2, cond_features=3),
    "real-nvp": lambda: RealNVP((1, 4, 4), hidden_channels=3, num_blocks=1, num_levels=8),
    "vae": lambda: VAE((1, 4, 4), 2, hidden=5, beta=0.5),
    "vae-conv": lambda: VAE([1, 6, 4], 2, conv=True),
    "vqvae": lambda: VQVAE((1, 4, 4), num_codes=3, code_dim=2, hidden_channels=2, num_levels=4),
    "gan": lambda: GAN((1, 8, 8), 3, kind="hinge", hidden=(4, 4)),
}
NOT_DRAWN = {"vqvae", "maf-conditional"}  # by the command line: a prior draws for one, and features are not classes
each_model = pytest.mark.parametrize("name", MODELS)


@each_model
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_checkpoint_gives_the_model_back(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    model = MODELS[name]().to(dtype)
    if hasattr(model, "trained_shape"):
        model.trained_shape = (2, 3)
    path = tmp_path / "model.pt"
    pickled = model if name == "pp-normed" else pickle.loads(pickle.dumps(model))  # torch refuses parametrisations
    for original in (model, copy.deepcopy(model), pickled):
        models.save(original, path)
        again = models.load(path)
        assert type(again) is type(model) and str(again) == str(model)
        mine, theirs = model.state_dict(), again.state_dict()
        assert list(mine) == list(theirs)
        assert all(torch.equal(mine[key], theirs[key]) and mine[key].dtype == theirs[key].dtype for key in mine)
        assert [p.requires_grad for p in again.parameters()] == [p.requires_grad for p in model.parameters()]
        assert all(not isinstance(p, nn.Parameter) or p.is_leaf for p in again.parameters())
    assert os.listdir(tmp_path) == ["model.pt"]
    if hasattr(model, "sample") and name != "gan":
        conditions = {
            "classes": torch.tensor([0, 2]),
            "maf-conditional": torch.tensor([[1.0, 2, 3], [0, 1, 0]], dtype=dtype),
        }
        args = {"cond": conditions[name]} if name in conditions else {}
        assert torch.equal(again.sample(2, seed=1, **args), model.sample(2, seed=1, **args))


def test_checkpoint_holds_todays_defaults(tmp_path: Path) -> None:
    models.save(MADE(6, 4), tmp_path / "made.pt")
    held = torch.load(tmp_path / "made.pt", weights_only=True)
    options = {"num_inputs": 6, "hidden_sizes": 4, "num_levels": 2, "num_orders": 1, "input_range": (-1.0, 1.0)}
    assert held["options"] == options
    assert held["class"] == "MADE" and held["format"] == 1


def test_checkpoint_of_a_version_without_an_option(tmp_path: Path) -> None:
    """It means what that version did."""
    path, model = tmp_path / "old.pt", PixelCNN(hidden_channels=4, num_blocks=1, input_range=(-1, 1))
    models.save(model, path)
    held = torch.load(path, weights_only=True)
    del held["options"]["input_range"]
    torch.save(held, path)
    x = torch.randint(2, (2, 1, 3, 3))
    assert torch.equal(models.load(path).logits(x), model.logits(x))


def test_weights_load_without_the_image_size() -> None:
    """As other code has them; what else is missing is still named."""
    model = PixelCNN(hidden_channels=4, num_blocks=1)
    model.trained_shape = (5, 4)
    weights = {key: torch.zeros_like(value) for key, value in model.state_dict().items() if key != "_extra_state"}
    model.load_state_dict(weights)
    assert model.trained_shape == (5, 4) and not any(p.any() for p in model.parameters())
    nn.Sequential(model).load_state_dict({f"0.{key}": value for key, value in weights.items()})
    del weights["first.bias"]
    with pytest.raises(RuntimeError, match=r'Missing key\(s\) in state_dict: "first.bias"\.'):
        model.load_state_dict(weights)


def test_checkpoint_refuses(tmp_path: Path) -> None:
    class Mine(MADE):
        pass

    for model in (nn.Linear(1, 1), Mine(2, 2)):
        with pytest.raises(
            TypeError, match=r"save: model: expected a GAN or MADE .* of pygen.models, got .*(Linear|Mine)"
        ):
            models.save(model, tmp_path / "no.pt")
    assert not os.listdir(tmp_path)
    path = tmp_path / "made.pt"
    with pytest.raises(FileNotFoundError):
        models.load(path)
    path.write_bytes(b"no checkpoint")
    with pytest.raises(ValueError, match=r"load: path: expected a file written by pygen.models.save, got .*made.pt"):
        models.load(path)
    torch.save(MADE(2, 2).state_dict(), path)
    with pytest.raises(ValueError, match=r"load: path: .* got one that holds \['_extra_state', 'layers.0.bias'"):
        models.load(path)
    torch.save(nn.Linear(1, 1), path)  # a pickle that weights_only refuses to run
    with pytest.raises(ValueError, match="expected a file written by pygen"):
        models.load(path)
    models.save(MADE(2, 2), path)
    held = torch.load(path, weights_only=True)
    for change, message in (
        ({"format": 2, "version": "9.1"}, "expected format 1, got 2, of pygen 9.1"),
        ({"class": "DRAW", "version": "9.1"}, "expected a GAN or .*, got a 'DRAW' of pygen 9.1"),
        ({"class": "save"}, "got a 'save' of pygen"),
    ):
        torch.save({**held, **change}, path)
        with pytest.raises(ValueError, match=message):
            models.load(path)
    with pytest.raises(OSError):
        models.save(MADE(2, 2), tmp_path / "no folder" / "made.pt")


# Pictures


def test_picture_is_a_grid_of_images_that_decodes_to_itself(tmp_path: Path) -> None:
    image_of = pytest.importorskip("PIL.Image")
    for channels in (1, 3):
        images = torch.randint(0, 256, (5, channels, 3, 2), dtype=torch.uint8)
        picture = grid(images, 3, scale=2)
        assert picture.shape == (2 * 7 + 1, 3 * 5 + 1, channels)
        write_png(tmp_path / "new" / "grid.png", picture)
        decoded = torch.from_numpy(np.array(image_of.open(tmp_path / "new" / "grid.png")))
        assert torch.equal(decoded.reshape(picture.shape), picture)
        for i in range(5):
            y, x = 1 + 7 * (i // 3), 1 + 5 * (i % 3)
            for dy, dx in ((0, 0), (1, 1)):
                assert torch.equal(picture[y + dy : y + 6 : 2, x + dx : x + 4 : 2], images[i].permute(1, 2, 0))
        assert (picture[::7] == 128).all() and (picture[:, ::5] == 128).all() and (picture[8:14, 11:15] == 128).all()


def test_samples_become_pixels() -> None:
    levels = torch.tensor([[[0, 2], [4, 1]]])
    assert as_pixels(levels, 5).tolist() == [[[[0, 128], [255, 64]]]]
    assert as_pixels(torch.tensor([[0, 1]]), 2).tolist() == [[[[0, 255]]]]
    assert as_pixels(torch.tensor([-1.0, 0.0, 1.2]).view(1, 3, 1, 1), 2).flatten().tolist() == [0, 128, 255]
    with pytest.raises(ValueError, match=r"1 or 3 channels, got samples of shape \[1, 2, 4, 4\]"):
        as_pixels(torch.zeros(1, 2, 4, 4), 2)


@pytest.mark.parametrize("name", sorted({*MODELS} - NOT_DRAWN))
def test_cli_sample_writes_a_picture(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint, out = tmp_path / "model.pt", tmp_path / "new" / "picture.png"
    models.save(MODELS[name](), checkpoint)
    arguments = ["sample", str(checkpoint), "-n", "5", "--out", str(out), "--seed", "3"]
    if name in ("plain", "positional", "classes", "pp", "pp-normed", "rnn"):
        engine = "naive" if name == "rnn" else "cached"
        arguments += ["--shape", "4x3", "--engine", engine, "--temperature", "0.5"]
    if name == "classes":
        arguments += ["--cond", "0,2"]
    assert cli.main(arguments) == 0
    printed = capsys.readouterr()
    assert str(out) in printed.out and printed.out.startswith("5 images ")
    first = out.read_bytes()
    assert first.startswith(b"\x89PNG")
    assert cli.main(arguments) == 0 and out.read_bytes() == first
    if name == "classes":
        decoded = grid(
            as_pixels(
                models.load(checkpoint).sample(
                    5, (4, 3), cond=torch.tensor([0, 2, 0, 2, 0]), seed=3, temperature=0.5, engine="cached"
                ),
                2,
            ),
            3,
            24,
        )
        write_png(tmp_path / "expected.png", decoded)
        assert (tmp_path / "expected.png").read_bytes() == first


def test_cli_sample_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain, vae, maf = paths = [tmp_path / f"{name}.pt" for name in ("plain", "vae", "maf-conditional")]
    for path in paths:
        models.save(MODELS[path.stem](), path)
    for arguments, message in (
        ([str(tmp_path / "none.pt")], "No such file"),
        ([str(plain)], "PixelCNN: shape: expected (H, W), as the model has not been trained yet"),
        ([str(plain), "--shape", "3x3", "--engine", "cuda"], "engine 'cuda' cannot run"),
        ([str(plain), "--shape", "3x3", "-n", "0"], "-n: expected a number >= 1, got 0"),
        ([str(plain), "--shape", "3x3", "--cond", "1"], "PixelCNN: cond: expected None"),
        ([str(maf)], "MAF: cond: expected features [N, 3], as this model is conditional, got None"),
        ([str(vae), "--temperature", "2"], "--temperature: VAE has no such option, got 2.0"),
    ):
        assert cli.main(["sample", *arguments, "--out", str(tmp_path / "no.png")]) == 2
        assert message in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        cli.main(["sample", str(plain), "--shape", "3by3"])
    assert not (tmp_path / "no.png").exists()
