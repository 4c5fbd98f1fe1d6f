"""The ways into crf_sample: compiled, registered, by the module, with wrong arguments."""

import pytest
import torch
from sampler_checks import check_calls, check_compiled
from support import assert_same
from test_crf_sample import SEED, check, given
from torch import Tensor

import pygen
from pygen._noise import DOMAINS
from pygen.functional import crf_sample
from pygen.nn import LinearChainCRF
from pygen.reference import crf as reference

pytestmark = pytest.mark.usefixtures("poisoned")


def test_calls():
    t = given(5, 4, 3, dtype=torch.float32)
    rest = {name: v for name, v in t.items() if name != "emissions"}

    def sample(emissions: Tensor, **options) -> Tensor:
        return crf_sample(emissions, **{n: v.to(emissions.device) for n, v in rest.items()}, **options)

    check_calls(sample, t["emissions"])
    check_calls(lambda e, **options: sample(e, num_samples=3, **options), t["emissions"])
    a = rest["transitions"].clone().requires_grad_()
    assert not crf_sample(t["emissions"], a).requires_grad
    with torch.autocast("cpu", torch.bfloat16):
        mixed = crf_sample(t["emissions"].bfloat16(), a, seed=3)
    assert_same(mixed, crf_sample(t["emissions"].bfloat16().float(), a, seed=3))


@pytest.mark.slow
def test_compiled_and_registered():
    t = given(5, 4, 3, dtype=torch.float32)
    rest = {name: v for name, v in t.items() if name != "emissions"}
    check_compiled(
        lambda e, **options: crf_sample(e, **rest, num_samples=2, temperature=0.5, **options), t["emissions"]
    )
    check_compiled(lambda e, **options: crf_sample(e, rest["transitions"], **options), t["emissions"])
    for dtype in (torch.float32, torch.bfloat16):
        floating = [t[name].to(dtype).requires_grad_() for name in ("emissions", "transitions", "start", "end")]
        args = (*floating, t["lengths"], torch.tensor(3), 2, "auto")
        torch.library.opcheck(torch.ops.pygen.crf_sample.default, args)
    e, a = t["emissions"], rest["transitions"]
    torch.library.opcheck(torch.ops.pygen.crf_sample.default, (e, a, None, None, None, torch.tensor(3), 0, "auto"))


def test_more_tags_than_kernels_take_run_on_the_reference():
    e, a = torch.randn(2, 3, 257), torch.randn(257, 257)
    assert_same(crf_sample(e, a, seed=1), crf_sample(e, a, seed=1, backend="reference"))
    assert "257 tags, its kernels take up to 256" in pygen.explain("crf_sample", e, a).how
    assert not pygen.explain("crf_sample", e[..., 1:], a).how
    with pytest.raises(RuntimeError, match=r"crf_sample: backend 'cpu' cannot run: 257 tags"):
        crf_sample(e, a, backend="cpu")
    t = {"emissions": e[..., 1:].contiguous(), "transitions": a[1:, 1:].contiguous()}
    check(t, crf_sample(**t, num_samples=2, seed=SEED, backend="cpu"))


def test_module_samples():
    t = given(5, 4, 3, dtype=torch.float32)
    module = LinearChainCRF(3)
    module.load_state_dict(
        {"start_transitions": t["start"], "end_transitions": t["end"], "transitions": t["transitions"]}
    )
    for options in ({}, {"temperature": 0.5}):
        expected = crf_sample(**t, num_samples=2, seed=1, **options)
        mask = torch.arange(4) < t["lengths"].unsqueeze(1)
        for span in ({"lengths": t["lengths"]}, {"mask": mask}):
            assert_same(module.sample(t["emissions"], 2, **span, seed=1, **options), expected)
            assert_same(module.sample(t["emissions"], **span, seed=1, **options), expected[0])
    generator, again = (torch.Generator().manual_seed(1) for _ in range(2))
    assert_same(module.sample(t["emissions"], generator=generator), module.sample(t["emissions"], generator=again))


@pytest.mark.parametrize(
    ("other", "kind", "match"),
    [
        ({"emissions": [1.0]}, TypeError, "emissions: expected a torch.Tensor, got list"),
        ({"emissions": torch.zeros(4, 3)}, ValueError, r"emissions: expected \[N, T, K\] .* got \[4, 3\]"),
        ({"transitions": torch.zeros(2, 3)}, ValueError, r"transitions: expected shape \[3, 3\]"),
        ({"start": torch.zeros(2)}, ValueError, r"start: expected shape \[3\]"),
        ({"end": torch.zeros(3).double()}, TypeError, "end: expected torch.float32, the dtype of emissions"),
        ({"lengths": torch.tensor([4, 4]).int()}, TypeError, "lengths: expected torch.int64, got torch.int32"),
        ({"num_samples": -1}, ValueError, r"num_samples: expected 0 .. 2\^29, got -1"),
        ({"num_samples": 2**29 + 1}, ValueError, r"num_samples: expected 0 .. 2\^29"),
        ({"num_samples": 2.0}, TypeError, "num_samples: expected an int or None, got float"),
        ({"num_samples": True}, TypeError, "num_samples: expected an int or None, got bool"),
    ],
)
def test_refusals(other, kind, match):
    t = {"emissions": torch.zeros(2, 4, 3), "transitions": torch.zeros(3, 3)} | other
    state = torch.get_rng_state()
    with pytest.raises(kind, match=f"crf_sample: {match}"):
        crf_sample(**t)
    assert torch.equal(torch.get_rng_state(), state), "a seed was drawn"


def test_the_noise_has_a_domain_of_its_own():
    assert DOMAINS["crf_sample"] == reference.DOMAIN
