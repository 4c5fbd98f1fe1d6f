"""Planted faults of the modules of pygen.nn: options that do not arrive, stacks of several functions."""
# ruff: noqa: E501  (the table quotes lines of ours)

from .fault import Fault

OPTIONS = "tests/test_module_options.py"
CODES = "tests/test_vector_quantize.py -k 'not triton and not compile'"
GATED = "tests/test_pixel_models.py -k 'twin_in_values and gated'"

FAULTS = (
    Fault("Contrast, module: always of its own negatives", "pygen/nn/noise_contrastive.py", "\"shared\": self.shared", "\"shared\": False", OPTIONS),
    Fault("Contrast, module: reduction forgotten", "pygen/nn/noise_contrastive.py", "reduction=self.reduction,\n", "", OPTIONS),
    Fault("Contrast, module: power forgotten", "pygen/nn/noise_contrastive.py", "if counts is None else counts, power)", "if counts is None else counts)", OPTIONS),
    Fault("Contrast, module: weights as nn.Embedding's", "pygen/nn/noise_contrastive.py", "std=self.features**-0.5", "std=1.0", OPTIONS),
    Fault("Contrast, module: backend forgotten", "pygen/nn/noise_contrastive.py", "            backend=self.backend,\n            **options", "            **options", OPTIONS),
    Fault("Codes, module: beta forgotten", "pygen/nn/vector_quantize.py", "            beta=self.beta,\n", "", OPTIONS),
    Fault("AMSoftmax: the margin is the default", "pygen/nn/am_softmax.py", "            margin=self.margin,\n", "", OPTIONS),
    Fault("AMSoftmax: reduction forgotten", "pygen/nn/am_softmax.py", "            reduction=self.reduction,\n", "", OPTIONS),
    Fault("NADENLL: reduction forgotten", "pygen/nn/nade_nll.py", "*parameters, reduction=self.reduction,", "*parameters,", OPTIONS),
    Fault("RBMFreeEnergy: reduction forgotten", "pygen/nn/rbm.py", "*parameters, reduction=self.reduction,", "*parameters,", OPTIONS),
    Fault("LinearChainCRF: reduction forgotten", "pygen/nn/crf.py", "reduction=self.reduction, backend=self.backend)\n", "backend=self.backend)\n", OPTIONS),
    Fault("LinearChainCRF: samples at temperature 1", "pygen/nn/crf.py", "temperature=temperature,\n            seed", "\n            seed", OPTIONS),
    Fault("ReparameterizeKL: free bits forgotten", "pygen/nn/reparameterize_kl.py", "            free_bits=self.free_bits,\n", "", OPTIONS),
    Fault("ReparameterizeKL: the prior's width forgotten", "pygen/nn/reparameterize_kl.py", "            prior_logvar=prior_logvar,\n", "", OPTIONS),
    Fault("DiagonalGaussian: logvar before mu", "pygen/nn/reparameterize_kl.py", "        mu, logvar = self.linear(features).chunk(2, dim=-1)", "        logvar, mu = self.linear(features).chunk(2, dim=-1)", OPTIONS),
    Fault("DiagonalGaussian: kl alone in another reduction", "pygen/nn/reparameterize_kl.py", "reduction=self.reparameterize.reduction, backend", "backend", OPTIONS),
    Fault("coupling, module: bound forgotten", "pygen/nn/affine_coupling.py", "            bound=self.bound,\n", "", OPTIONS),
    Fault("GANLoss: smoothing is the generated ones'", "pygen/nn/gan_loss.py", "label_smoothing=self.label_smoothing,\n            reduction", "reduction", OPTIONS),
    Fault("Codes, module: an average's codebook has a loss", "pygen/nn/vector_quantize.py", "1.0 if decay is None else 0.0", "1.0", CODES),
    Fault("Codes, module: restarted codes keep their sums", "pygen/nn/vector_quantize.py", "            total = torch.where(dead.unsqueeze(1), drawn * self.restart_threshold, total)\n", "", CODES),
    Fault("Codes, module: an empty batch moves the averages", "pygen/nn/vector_quantize.py", "        if not indices.numel():\n            return\n", "", CODES),
    Fault("Codes, module: lookup leaves features last", "pygen/nn/vector_quantize.py", "self.codebook).movedim(-1, 1)", "self.codebook)", CODES),
    Fault("GatedMaskedConv2d: the gates' conditions change places", "pygen/nn/masked_conv2d.py", "to_vertical, to_horizontal = both.chunk", "to_horizontal, to_vertical = both.chunk", GATED),
    Fault("GatedMaskedConv2d: nothing is added to the horizontal stack", "pygen/nn/masked_conv2d.py", "return gated_v, out if self.mask_type == \"A\" else horizontal + out", "return gated_v, out", GATED),
    Fault("GatedMaskedConv2d: the vertical stack sees its own row", "pygen/nn/masked_conv2d.py", "(mask_type == \"B\")\n", "1\n", GATED),
)  # fmt: skip
