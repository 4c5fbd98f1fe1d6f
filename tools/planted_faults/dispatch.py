"""Planted faults of the choice of a backend, and of what may take the short way to a kernel."""
# ruff: noqa: E501  (the table quotes lines of ours)

from .fault import Fault

CHOICE = "tests/test_dispatch.py -k 'order_of_choice or without_a_choice'"
LISTENS = "tests/test_gan_loss_common.py -k listens"
TRANSFORMS = "tests/test_conformance_transforms.py -k 'masked_linear and not triton'"

FAULTS = (
    Fault("dispatch: use_backend holds after its block", "pygen/_dispatch.py", "        _requested.reset(token)", "        pass", CHOICE),
    Fault("dispatch: a block counts for more than an argument", "pygen/_dispatch.py", "        return AUTO if torch.compiler.is_compiling() else _requested.get()\n    check_name(op, argument)\n    return argument", "        return AUTO if torch.compiler.is_compiling() else _requested.get()\n    check_name(op, argument)\n    return argument if _requested.get() == AUTO else _requested.get()", CHOICE),
    Fault("dispatch: composite before C++", "pygen/_dispatch.py", "\"cpu\": (\"cpu\", \"composite\", \"reference\")", "\"cpu\": (\"composite\", \"cpu\", \"reference\")", CHOICE),
    Fault("dispatch: what cannot run falls back", "pygen/_dispatch.py", "_first_that_runs(op, device_type) if name == AUTO else _checked", "_first_that_runs(op, device_type) if name == AUTO or why_not(op, name, device_type) else _checked", "tests/test_conformance_errors.py -k not_there"),
    Fault("dispatch: tracing takes the short way", "pygen/_dispatch.py", "        or torch._C._get_tracing_state() is not None\n", "", "tests/test_modules.py -k traced"),
    Fault("dispatch: function modes are not heard", "pygen/_dispatch.py", "        or torch._C._len_torch_function_stack()\n", "", LISTENS),
    Fault("dispatch: dispatch modes are not heard", "pygen/_dispatch.py", "        torch._C._len_torch_dispatch_stack()\n        or torch._C._len_torch_function", "        torch._C._len_torch_function", LISTENS),
    Fault("dispatch: dispatcher's calls do not ask", "pygen/_dispatch.py", "    if not torch.compiler.is_compiling():\n        resolve(op, name, device_type)", "    return", "tests/test_bernoulli_sample.py -k calls"),
    Fault("dispatch: negated views go the short way", "pygen/_dispatch.py", "or (kind in TENSOR_TYPES and argument.is_neg())", "", TRANSFORMS),
    Fault("dispatch: sparse gradients are handed on", "pygen/_dispatch.py", "        grad = grad.to_dense()", "        pass", TRANSFORMS),
    Fault("dispatch: zeros without memory are read", "pygen/_dispatch.py", "grad.is_neg() or grad._is_zerotensor()", "grad.is_neg()", TRANSFORMS),
    Fault("dispatch: negated gradients are read as they lie", "pygen/_dispatch.py", "grad.clone() if grad.is_neg() or grad._is_zerotensor()", "grad.clone() if grad._is_zerotensor()", TRANSFORMS),
    Fault("dispatch: a vmap's entries are asked for their layout", "pygen/reference/_layout.py", " or _is_mapped(t):", ":",
          "tests/test_conformance_transforms.py -k 'transforms_are_right and reparameterize_kl'"),
    Fault("dispatch: batched gradients are no transform", "pygen/_dispatch.py", "        if grad is not None and is_batched(grad):", "        if False:", TRANSFORMS),
    Fault("dispatch: transforms run on any backend", "pygen/_dispatch.py", "    if name not in (AUTO, \"reference\"):\n        raise", "    if name == \"nobody\":\n        raise", TRANSFORMS),
)  # fmt: skip
