"""The noise-contrastive losses' part of sanitize.py."""


def exercise_noise_contrastive(launcher) -> None:
    """The row's samples, dense and sparse; rows that begin between 16 bytes; classes that are none."""
    import registry
    import torch
    from rows.noise_contrastive import LOSSES, tensors

    from pygen.ops import _noise_contrastive, _products
    from pygen.ops import _noise_contrastive_autograd as autograd

    _products.masked_linear.has_dense = lambda t: False  # the products of torch, as on a GPU
    op = next(op for op in registry.OPS if op.name == "nce_loss")
    for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
        for sample in op.samples():
            for sparse in (False, True):
                marked, inputs = registry.leaves(op, sample.cast(dtype))
                registry.gradients(op.run(marked, {**sample.options, "sparse": sparse}, "cpu"), inputs)
        for features, count, shared in ((8, 5, False), (128, 130, False), (260, 4, True)):
            t = registry.on_floating(lambda v, dtype=dtype: v.to(dtype), tensors(3, features, 9, count, shared=shared))
            t = {k: torch.cat((v.new_zeros(1), v.flatten()))[1:].view(v.shape) for k, v in t.items()}
            for kind in LOSSES:
                marked, inputs = registry.leaves(op, t)
                registry.gradients(op.run(marked, {"kind": kind}, "cpu"), inputs)
    autograd.check_level_values = lambda *args: None
    _noise_contrastive._within = lambda classes, weight: classes.clamp(0, len(weight) - 1)
    for shared in (False, True):
        t = tensors(4, 6, 5, 3, shared=shared)
        t["target"][1], t["negatives"].view(-1)[-1] = 5, 1 << 40
        marked, inputs = registry.leaves(op, t)
        registry.gradients(op.run(marked, {}, "cpu"), inputs)


def exercise_noise_sample(launcher) -> None:
    """One class and many, draws that fill a block and not, none."""
    import torch

    from pygen.functional import noise_table

    for classes in (1, 3, 1000):
        table = noise_table(torch.arange(1.0, classes + 1))
        for rows, count in ((1, 1), (3, 5), (2, 513), (0, 4)):
            launcher.forward(table, torch.tensor(7), rows, count)
