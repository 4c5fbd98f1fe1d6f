"""Two processes that train one model as one process does: DDP, FSDP2, and their noise. On CPUs, over gloo."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from support import assert_same
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from pygen import models
from pygen.functional import reparameterize_kl

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not dist.is_gloo_available(), reason="torch was built without gloo")]
RANKS, STEPS = 2, 3


class _Loss(nn.Module):
    """The model's loss as forward, which DDP and FSDP2 hook into; noise of the VAE from a seed for each sample."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.model = (
            models.PixelCNN(1, hidden_channels=8, num_blocks=1, num_levels=2, kernel_size=3, first_kernel_size=5)
            if kind == "pixelcnn"
            else models.VAE((1, 4, 4), 3, hidden=(8,))
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model.loss(x)


def _data() -> torch.Tensor:  # [2 RANKS, 1, 4, 4]
    g = torch.Generator().manual_seed(1)
    return torch.randint(2, (2 * RANKS, 1, 4, 4), generator=g)


def _train(wrapped: nn.Module, parts: list[torch.Tensor], seeds: list[int]) -> None:
    """STEPS of SGD on the mean over `parts`, each with the default generator at its seed."""
    optimizer = torch.optim.SGD(wrapped.parameters(), lr=0.1)
    for step in range(STEPS):
        optimizer.zero_grad()
        for part, seed in zip(parts, seeds, strict=True):
            torch.manual_seed(seed + 100 * step)
            (wrapped(part) / len(parts)).backward()
        optimizer.step()


@contextmanager
def _group(rank: int, folder: str) -> Iterator[None]:
    """A rank's part, after which its process ends at once: in the usual end of an interpreter a thread of torch's now and then
    aborts it ("terminate called without an active exception", once in some hundred runs), when all is done and written."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=RANKS)
    dist.barrier()  # a rank that has done its part and ended would cut off one that is still connecting
    try:
        yield
    finally:
        dist.destroy_process_group()
    os._exit(0)


def _worker(rank: int, folder: str, kind: str, how: str) -> None:
    with _group(rank, folder):
        loss = _Loss(kind)
        if how == "ddp":
            wrapped = DistributedDataParallel(loss)
        else:
            from torch.distributed.device_mesh import init_device_mesh
            from torch.distributed.fsdp import fully_shard

            mesh = init_device_mesh("cpu", (RANKS,))
            for child in loss.model.children():
                if any(True for _ in child.parameters()):
                    fully_shard(child, mesh=mesh)
            wrapped = fully_shard(loss, mesh=mesh)
        _train(wrapped, [_data().chunk(RANKS)[rank]], [rank])
        state = loss.state_dict()
        whole = {
            k: v.full_tensor() if hasattr(v, "full_tensor") else v for k, v in state.items() if hasattr(v, "shape")
        }
        if rank == 0:
            torch.save(whole, Path(folder) / "state.pt")


def _noise_worker(rank: int, folder: str) -> None:
    with _group(rank, folder):
        mu = torch.zeros(5, 33)
        torch.manual_seed(7)
        equal, _ = reparameterize_kl(mu, mu)
        torch.manual_seed(rank)
        different, _ = reparameterize_kl(mu, mu)
        torch.save({"equal": equal, "different": different, "torch": torch.randn(3)}, Path(folder) / f"{rank}.pt")


@pytest.mark.parametrize("how", ["ddp", "fsdp2"])
@pytest.mark.parametrize("kind", ["vae", "pixelcnn"])
def test_two_ranks_train_as_one_process(kind, how, tmp_path):
    if how == "fsdp2":
        fsdp = pytest.importorskip("torch.distributed.fsdp")
        if not hasattr(fsdp, "fully_shard"):
            pytest.skip("this torch has no fully_shard")
    mp.spawn(_worker, (str(tmp_path), kind, how), nprocs=RANKS)
    single = _Loss(kind)
    _train(single, list(_data().chunk(RANKS)), list(range(RANKS)))
    found = torch.load(tmp_path / "state.pt", weights_only=True)
    expected = {k: v for k, v in single.state_dict().items() if hasattr(v, "shape")}
    assert found.keys() == expected.keys() and expected
    start = _Loss(kind).state_dict()
    assert any(not torch.equal(start[k], v) for k, v in expected.items()), "nothing was trained"
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")


def test_ranks_have_the_noise_of_their_seeds(tmp_path):
    mp.spawn(_noise_worker, (str(tmp_path),), nprocs=RANKS)
    one, two = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(RANKS))
    assert_same(one["equal"], two["equal"])
    assert not torch.equal(one["torch"], two["torch"])
    assert len(torch.cat((one["different"].flatten(), two["different"].flatten())).unique()) == 2 * 5 * 33
