"""The samplers' part of sanitize.py."""

import os


def exercise_sampling(compiled) -> None:
    """Blocks of one warp and of two, one image and several; weights and rows in shared memory, partly and not at all."""
    import torch
    from pixel_twins import CASES, twins

    from pygen.native import _sampling_cuda as native

    class Limited:
        shared_bytes = 1 << 16

        def __getattr__(self, name):
            return getattr(compiled, name)

        def sampling_limits(self, device):
            return 4, self.shared_bytes

    limited = Limited()
    native.target = lambda t: (limited, 0, 0)
    for name, shared, images, threads in (
        ("gated-rgb", 600, 2, 64),
        ("gated-map", 1 << 16, 1, 32),
        ("plain", 0, 2, 32),
        ("rnn-rgb", 600, 2, 64),
    ):
        limited.shared_bytes = shared
        _, model = twins(name)  # in float64: else the cluster's kernel draws
        case, (n, height, width) = CASES[name], (3, 2, 3)
        levels = case.images(n, height, width)
        cond = case.conditions(n, height, width)
        program = model._program(cond)
        u = torch.rand(n, height, width, levels.shape[1])
        known = levels.clone()
        native.draw(program, levels, u, known, known > 0, 0.7, threads=threads, images_per_block=images)


def draw_in_clusters(draw, cases) -> None:
    """Of each case a model, its dtype, (n, H, W), blocks a cluster, its images, threads a block, whether by messages."""
    import torch
    from pixel_twins import CASES, twins

    from pygen.native import _sampling_cuda as native

    os.environ["PYGEN_HOST_CAPABILITY"] = "9"
    os.environ["PYGEN_HOST_SHUFFLES"] = "order"  # sums are written over when messages made of them have come
    for name, dtype, (n, height, width), size, images, threads, messages in cases:
        dtype = getattr(torch, dtype)
        _, model = twins(name, dtype)
        case = CASES[name]
        levels, cond = case.images(n, height, width), case.conditions(n, height, width)
        program = model._program(cond if cond is None else cond.to(dtype))
        u, known = torch.rand(n, height, width, levels.shape[1]), levels.clone()
        mask = known > 0
        draws = native.draws(program, levels, u, known, mask, 0.7)
        draw(program, levels, draws, size=size, images=images, threads=threads, messages=messages)
    del os.environ["PYGEN_HOST_CAPABILITY"], os.environ["PYGEN_HOST_SHUFFLES"]


def exercise_sampling_cluster(draw) -> None:
    """Clusters of one block and of several, by messages and by the barrier, the last one smaller; blocks without tiles and
    without images; weights that lie in shared memory and elsewhere; colour groups, a map, a row beyond what a block has."""
    draw_in_clusters(
        draw,
        (
            ("gated-rgb", "bfloat16", (5, 2, 2), 2, 3, 32, True),
            ("gated-map", "float32", (3, 2, 2), 4, 3, 32, True),
            ("gated", "float16", (2, 2, 3), 2, 2, 64, False),
            ("plain", "float32", (3, 2, 40), 1, 2, 64, True),
        ),
    )


def exercise_sampling_scales(draw) -> None:
    """As of clusters; odd rows and columns, whose steps are not the even ones', and three resolutions."""
    draw_in_clusters(
        draw,
        (
            ("pp-rgb", "bfloat16", (3, 3, 2), 2, 2, 32, True),
            ("pp-map", "float32", (3, 2, 3), 4, 3, 32, True),
            ("pp", "float16", (2, 2, 3), 2, 2, 64, False),
            ("pp", "float32", (9, 2, 2), 1, 9, 64, True),
        ),
    )


def exercise_sampling_dense(launcher) -> None:
    """Blocks whose warps all draw, few and many, and such that help, of one image and several; panels of any length and none."""
    import torch

    from pygen.models import MADE
    from pygen.native import _dense_cuda

    for room, num_levels, images, threads in (
        (5000, 2, 1, 96),
        (48 << 10, 3, 4, 32),
        (3000, 300, 2, 64),
        (5000, 2, 4, 128),
        (0, 2, 2, 64),
    ):
        _dense_cuda._BUFFERS_BYTES = room
        _dense_cuda.make_plan.cache_clear()
        model = MADE(40, (33, 20), num_levels=num_levels)
        dtype = torch.uint8 if num_levels <= 256 else torch.int64
        levels, u = torch.zeros(5, 40, dtype=dtype), torch.rand(5, 40)
        known = levels.clone()
        launcher.draw(model._program(0), levels, u, known, u < 0.3, 0.7, threads=threads, images_per_block=images)


def exercise_autoregressive_inverse(launcher) -> None:
    """And its gradient's network: panels of several lengths and none, each sample's own biases, additive layers and splines."""
    import torch

    from pygen.native import _dense_cuda
    from pygen.nn import MaskedAutoregressive, MaskedAutoregressiveSpline
    from pygen.ops._autoregressive_inverse import network_of
    from pygen.reference.autoregressive_inverse import transposed

    for room, dtype, images, threads, own, numbers in (  # of an input
        (5000, torch.float32, 1, 96, True, 2),
        (48 << 10, torch.float64, 4, 32, False, 2),
        (3000, torch.float32, 2, 64, True, 1),
        (3000, torch.float32, 4, 128, True, 2),
        (0, torch.float64, 2, 64, True, 2),
        (20000, torch.float32, 4, 128, True, 8),
        (0, torch.float64, 2, 64, False, 8),
        (48 << 10, torch.float32, 2, 32, False, 35),
    ):
        _dense_cuda._BUFFERS_BYTES = room
        _dense_cuda.make_plan.cache_clear()
        if numbers > 2:
            layer = MaskedAutoregressiveSpline(40, (33, 20), num_bins=(numbers + 1) // 3, activation="tanh").to(dtype)
        else:
            layer = MaskedAutoregressive(40, (33, 20), cond_features=2, additive=numbers == 1).to(dtype)
        weights, biases = ([getattr(part, kind).detach() for part in layer.layers] for kind in ("weight", "bias"))
        if own:
            biases[0] = biases[0].expand(5, -1)
        network, y = (
            network_of(weights, biases, layer._degrees, layer.activation, layer._rule),
            torch.rand(5, 40, dtype=dtype),
        )
        tuned = {"threads": threads, "images_per_block": images}
        factors = (None, None, None) if numbers == 1 else (y, y[..., None], y[..., None])
        if numbers > 2:
            launcher.forward_spline(y, network, "linear", -2.0, 0.5, 1e-3, 1e-3, 1e-3, 1.0, **tuned)
            factors = None, *[torch.rand(5, 40, numbers, dtype=dtype)] * 2
        else:
            launcher.forward(y, network, "exp", 1.0, **tuned)
        hidden = [torch.rand(5, len(degrees), dtype=dtype) - 0.5 for degrees in network.degrees[:0:-1]]
        launcher.solve(y, transposed(network), *factors, hidden, **tuned)
