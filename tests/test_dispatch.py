"""How a backend is chosen, and importing on machines that lack something."""

import importlib.metadata
import json
import subprocess
import sys
import sysconfig
import textwrap
from pathlib import Path

import pytest
import torch
from support import TARGETS

import pygen
from pygen import _backends, _dispatch, functional
from pygen.functional import gaussian_kl, reparameterize_kl

X = torch.zeros(3, 4)


def python(script: str, **environment: str) -> str:
    """What a fresh interpreter prints, started outside the checkout."""
    variables = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", **environment}
    command = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, cwd="/", env=variables)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_backends_names_each_and_says_why_not():
    found = pygen.backends()
    assert set(found) == {"reference", "cpu", "triton", "cuda"}
    assert found["reference"] is None
    for reason in found.values():
        assert reason is None or len(reason) > 10
    found["cpu"] = "changed by a user"
    assert pygen.backends()["cpu"] != "changed by a user"


def test_the_order_of_choice_is_argument_then_context_then_table():
    default = pygen.explain("gaussian_kl", X).backend
    assert default == "cpu"
    assert pygen.explain("gaussian_kl", X, backend="reference").backend == "reference"
    assert pygen.explain(pygen.functional.gaussian_kl, X).backend == default, "by the function too"
    with pygen.use_backend("reference"):
        assert pygen.explain("gaussian_kl", X).backend == "reference"
        assert pygen.explain("gaussian_kl", X, backend="cpu").backend == "cpu"
        with pygen.use_backend("cpu"):
            assert pygen.explain("gaussian_kl", X).backend == "cpu"
        assert pygen.explain("gaussian_kl", X).backend == "reference"
    assert pygen.explain("gaussian_kl", X).backend == default


@pytest.mark.parametrize("op", ("masked_conv2d", "gated_masked_conv2d", "masked_linear", "gaussian_kl"))
def test_without_a_choice_cpu_tensors_take_our_kernels_and_others_torchs(op):
    assert _dispatch.resolve(op, _dispatch.AUTO, "cpu") == "cpu"
    assert _dispatch.resolve(op, _dispatch.AUTO, "meta") == ("reference" if op == "gaussian_kl" else "composite")


def test_explain_gives_a_reason_for_every_other_backend():
    choice = pygen.explain("reparameterize_kl", X, X)
    assert choice.rejected.keys() == set(_dispatch.NAMES) - {choice.backend}
    assert all(choice.rejected.values())
    assert choice.rejected["cuda"] == "it runs on CUDA tensors, these are on cpu"
    text = str(choice)
    assert text.startswith("cpu: ") and all(f"not {name}: " in text for name in choice.rejected)
    with pytest.raises(ValueError, match=r"op: expected one of .*gaussian_kl.*, got 'softmax'"):
        pygen.explain("softmax", X)
    with pytest.raises(TypeError, match="mask_typ"):
        pygen.explain("masked_conv2d", X, X, mask_typ="A")


def test_explain_takes_the_arguments_of_the_call():
    """By keyword too, and lists of logits: the tensors decide, wherever they stand."""
    w = torch.zeros(1, 1, 3, 3)
    assert pygen.explain("masked_conv2d", w, weight=w, mask_type="A", backend="reference").backend == "reference"
    assert pygen.explain("discriminator_loss", real=[X], fake=X).backend != "triton"
    meta = X.to("meta")
    assert "meta" in pygen.explain("discriminator_loss", real=[meta], fake=meta).rejected["cpu"]


def test_every_public_function_is_listed_and_explained():
    public = {name for name, value in vars(functional).items() if callable(value) and not name.startswith("_")}
    assert public == set(functional.__all__)
    for name in public - {"GanStats"}:
        assert pygen.explain(name, X, backend="reference").backend == "reference"


@pytest.mark.parametrize(
    "triton, numpy, works", [("3.6.0", "2.3.9", True), ("3.6.0", "2.4.0", False), ("3.7.0", "2.10.0", True)]
)
def test_old_interpreter_says_which_numpy_it_needs(monkeypatch, triton, numpy, works):
    monkeypatch.setattr(importlib.metadata, "version", {"triton": triton, "numpy": numpy}.__getitem__)
    reason = _backends._interpreter()
    assert (
        reason is None
        if works
        else reason == f"the interpreter of Triton 3.6.0 needs a NumPy before 2.4, this is {numpy}"
    )


def test_triton_is_never_the_default_on_cpu_tensors():
    assert pygen.explain("gaussian_kl", X).backend != "triton"
    if any(t.backend == "triton" and t.device == "cpu" for t in TARGETS):
        assert pygen.explain("gaussian_kl", X, backend="triton").backend == "triton"


def test_use_backend_refuses_and_restores():
    with (
        pytest.raises(ValueError, match=r"use_backend: backend: expected one of reference, .* got 'gpu'"),
        pygen.use_backend("gpu"),
    ):
        raise AssertionError("entered")
    before = pygen.explain("gaussian_kl", X).backend
    with pytest.raises(KeyError), pygen.use_backend("reference"):
        raise KeyError
    assert pygen.explain("gaussian_kl", X).backend == before


def spied(monkeypatch, backend):
    """Counts the calls of a launcher's forward and backward, the short ones too."""
    launcher = _backends.load_launcher("reparameterize_kl", backend)
    calls = []
    for name in ("forward", "backward", "forward_plain", "backward_plain"):
        run, way = getattr(launcher, name, None), name.removesuffix("_plain")
        if run is not None:
            monkeypatch.setattr(launcher, name, lambda *a, _run=run, _way=way, **k: calls.append(_way) or _run(*a, **k))
    return calls


@pytest.mark.parametrize("function", (reparameterize_kl, gaussian_kl))
def test_the_backend_of_forward_serves_backward(monkeypatch, function):
    """Which runs outside the context, and on another thread."""
    reference, cpu = spied(monkeypatch, "reference"), spied(monkeypatch, "cpu")
    for inside, expected, other in (("reference", reference, cpu), ("cpu", cpu, reference)):
        mu = torch.ones(3, 4, requires_grad=True)
        with pygen.use_backend(inside):
            out = function(mu, X)
        kl = out[1] if isinstance(out, tuple) else out
        kl.backward()
        assert expected == ["forward", "backward"] and other == []
        expected.clear()


@pytest.mark.parametrize("function", (reparameterize_kl, gaussian_kl))
def test_the_argument_wins_over_the_context(monkeypatch, function):
    reference, cpu = spied(monkeypatch, "reference"), spied(monkeypatch, "cpu")
    with pygen.use_backend("reference"):
        function(X, X, backend="cpu")
    assert cpu == ["forward"] and reference == []


def test_show_config_is_a_bug_report():
    text = pygen.show_config()
    assert f"pygen {pygen.__version__}" in text and torch.__version__ in text
    for name, reason in pygen.backends().items():
        assert f"{name}: {reason or 'ready'}" in text


def test_instruction_set_is_one_of_this_processor():
    cpu = _backends.compiled("_cpu")
    assert cpu.isa() == cpu.isas()[0]
    with pytest.raises(ValueError, match="expected one of"):
        cpu.set_isa("sse9")
    assert cpu.isa() == cpu.isas()[0]


def test_calls_on_a_cpu_leave_the_driver_alone():
    """Whoever asks for devices starts it, and children that are forked afterwards could not use CUDA."""
    script = """
        import torch
        asked = []
        torch.cuda.is_available = torch._C._cuda_getDeviceCount = lambda: asked.append("devices") or 0
        import pygen
        from pygen.functional import discriminator_loss, masked_linear, reparameterize_kl
        x = torch.ones(3, 4, requires_grad=True)
        discriminator_loss(real=x, fake=x).backward()
        reparameterize_kl(x, x)[1].backward()
        masked_linear(x, torch.ones(2, 4), in_degrees=(0, 1, 2, 3), out_degrees=(1, 2), strict=False).sum().backward()
        pygen.models.NADE(4, 3).sample(2)
        with pygen.use_backend("cpu"):
            pygen.functional.gaussian_kl(x, x)
        print(asked)
    """
    assert python(script).strip() == "[]"


HIDE = """
    import json, sys
    sys.modules.update(dict.fromkeys({hidden!r}))  # importing them fails, and they are not found
    import torch, pygen
    from pygen.functional import reparameterize_kl
    mu = torch.ones(3, 4, requires_grad=True)
    z, kl = reparameterize_kl(mu, torch.zeros(3, 4), seed=1)
    (z.sum() + kl).backward()
    chosen = pygen.explain("reparameterize_kl", mu).backend
    text = pygen.show_config()
    print(json.dumps([pygen.backends(), chosen, kl.item(), text]))
"""


@pytest.mark.parametrize(
    ("hidden", "missing", "chosen"),
    [
        pytest.param(("pygen._cpu",), "cpu", "reference", id="no compiled module", marks=pytest.mark.slow),
        pytest.param(("triton",), "triton", "cpu", id="no triton", marks=pytest.mark.slow),
        pytest.param(("triton", "pygen._cpu", "pygen._cuda"), "cpu", "reference", id="neither"),
    ],
)
def test_import_and_run_without(hidden, missing, chosen):
    found, backend, kl, text = json.loads(python(HIDE.format(hidden=hidden)))
    assert backend == chosen and kl == pytest.approx(2.0)
    assert found["reference"] is None and found[missing]
    assert missing in found[missing] or f"_{missing}" in found[missing], "the reason names what is missing"
    assert found[missing] in text


def test_import_makes_no_cuda_context_compiles_nothing_and_reads_no_home():
    """With a home that is not there, and no compiler on PATH."""
    script = """
        import sys, torch, pygen
        assert not torch.cuda.is_initialized()
        assert "triton" not in sys.modules, "Triton is loaded at first use"
        for name in ("sklearn", "matplotlib", "rich", "mlxtend", "scipy"):
            assert name not in sys.modules, name
        print("ok")
    """
    assert python(script, PATH="/nonexistent").strip() == "ok"


@pytest.mark.slow
def test_import_adds_less_than_0_3_seconds_to_torch():
    """The median of seven, each in a fresh process; of processor time, so that a busy machine does not count."""
    script = """
        import time
        import torch
        start = time.process_time()
        import pygen
        print(time.process_time() - start)
    """
    python(script)
    times = sorted(float(python(script)) for _ in range(7))
    assert times[3] < 0.3, times


@pytest.mark.slow
def test_the_first_use_may_come_from_eight_threads_at_once():
    script = """
        import concurrent.futures, torch, pygen
        x = torch.randn(64, 64)
        def call(_):
            return pygen.functional.reparameterize_kl(x, x, seed=1)[0]
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            found = list(pool.map(call, range(8)))
        assert all(torch.equal(t, found[0]) for t in found)
    """
    python(script)


def test_no_top_level_package_called_kernels_is_installed():
    """Another project on PyPI owns that name."""
    site = Path(sysconfig.get_path("purelib"))
    assert not (site / "kernels").exists()
    assert python("import importlib.util; print(importlib.util.find_spec('kernels'))").strip() == "None"
