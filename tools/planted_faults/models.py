"""Planted faults of pygen.models: losses, samples, what is remembered and what is written to files."""
# ruff: noqa: E501  (the table quotes lines of ours)

from .fault import Fault

WRONG = "tests/test_conformance_models_graphs.py -k wrong_level"

FAULTS = (
    Fault("flows: samples of levels are rounded", "pygen/models/_flow.py", "(self.num_levels / 2)).floor_()", "(self.num_levels / 2)).round_()", "tests/test_flows.py -k give_and_take"),
    Fault("flows: levels keep their scale", "pygen/models/_flow.py", "return data, math.log(2 / self.num_levels) * math.prod(x.shape[1:])", "return data, 0.0", "tests/test_flows.py -k twins"),
    Fault("flows: levels are the middle of their bin", "pygen/models/_flow.py", "data = (x + u)", "data = (x + 0.5 + 0 * u)", "tests/test_flows.py -k twins"),
    Fault("flows: a normal prior without its constant", "pygen/models/_flow.py", " - z.shape[1] * (0.5 * math.log(2 * math.pi))", "", "tests/test_flows.py -k twins"),
    Fault("flows: temperature is that of the variance", "pygen/models/_flow.py", "(z * temperature)", "(z * temperature**0.5)", "tests/test_flows.py -k own_density"),
    Fault("flows: evaluation is remembered as training", "pygen/models/_flow.py", "        if self.training:\n", "        if True:\n", "tests/test_conformance_models.py -k evaluation_leaves"),
    Fault("VAE: elbo takes beta", "pygen/models/vae.py", "_bits(x), reduction=\"none\") - kl", "_bits(x), reduction=\"none\") - self.beta * kl", "tests/test_vae.py -k twin_in_values"),
    Fault("VAE: the loss forgets beta", "pygen/models/vae.py", "return self.beta * kl + bern", "return kl + bern", "tests/test_vae.py -k twin_in_values"),
    Fault("VAE: the weights forget the posterior's width", "pygen/models/vae.py", "0.5 * (standardised.square() + logvar - z.square())", "0.5 * (standardised.square() - z.square())", "tests/test_vae.py -k twin_in_values"),
    Fault("VAE: log_prob forgets K", "pygen/models/vae.py", ".logsumexp(0) - math.log(num_samples)", ".logsumexp(0)", "tests/test_vae.py -k twin_in_values"),
    Fault("VAE: parts of K are other images'", "pygen/models/vae.py", "bits.expand(len(some_z), *bits.shape).flatten(0, 1)", "bits.repeat_interleave(len(some_z), 0)", "tests/test_vae.py -k twin_in_values"),
    Fault("GAN: a late penalty counts once", "pygen/models/gan.py", "loss + self.penalty_every * penalty", "loss + penalty", "tests/test_gan.py -k step_by_step"),
    Fault("GAN: real and generated images are one batch", "pygen/models/gan.py", "if couples_samples(self.discriminator):\n            real", "if False:\n            real", "tests/test_gan.py -k step_by_step"),
    Fault("GAN: gradients add up", "pygen/models/gan.py", "        optimizer.zero_grad()\n", "", "tests/test_gan.py -k step_by_step"),
    Fault("GAN: samples are the generator's own", "pygen/models/gan.py", "network = self.generator if self.generator_ema is None else self.generator_ema", "network = self.generator", "tests/test_gan.py -k step_by_step"),
    Fault("GAN: the average starts slowly", "pygen/models/gan.py", "min(self.ema_decay, (1 + t) / (10 + t))", "self.ema_decay", "tests/test_gan.py -k step_by_step"),
    Fault("GAN: a frozen player's statistics move", "pygen/models/_players.py", "            norm.track_running_stats = False\n", "            pass\n", "tests/test_gan.py -k step_by_step"),
    Fault("GAN: a player that was frozen learns after", "pygen/models/_players.py", "    parameters = [p for p in network.parameters() if p.requires_grad]", "    parameters = list(network.parameters())", "tests/test_gan.py -k freezing"),
    Fault("RBM: chains begin anew", "pygen/models/rbm.py", "start = self.chains if len(self.chains) else", "start =", "tests/test_rbm_model.py -k trains_with"),
    Fault("RBM: temperature stays out of the samples", "pygen/models/rbm.py", "            steps=steps,\n            temperature=temperature,\n            known_mask", "            steps=steps,\n            known_mask", "tests/test_rbm_model.py -k follow"),
    Fault("orderings: a mixture's mean forgets their number", "pygen/models/_ordered.py", ".logsumexp(0) - math.log(self.num_orders)", ".logsumexp(0)", "tests/test_made.py -k twin_in_values"),
    Fault("orderings: a sample's ordering is its batch-mates'", "pygen/models/_ordered.py", "(ordering == order).nonzero()[:, 0]", "(ordering[:1].expand(n) == order).nonzero()[:, 0]", "tests/test_made.py -k twins_whatever"),
    Fault("sampling: what rounding leaves of 1", "pygen/models/_sampling.py", "u.double().unsqueeze(-1) * cumulated[..., -1:]", "u.double().unsqueeze(-1)", "tests/test_pixel_models_sampling.py -k decision_takes"),
    Fault("sampling: a level of chance 0 is drawn", "pygen/models/_sampling.py", "(cumulated < u.double()", "(cumulated <= u.double()", "tests/test_pixel_models_sampling.py -k decision_takes"),
    Fault("sampling: temperature multiplies", "pygen/models/_sampling.py", "logits.double() / temperature", "logits.double() * temperature", "tests/test_pixel_models_sampling.py -k decision_takes"),
    Fault("checkpoint: defaults are those of the loader", "pygen/models/_checkpoint.py", "    bound.apply_defaults()  # today's, whatever they will be\n", "", "tests/test_checkpoint.py -k todays_defaults"),
    Fault("checkpoint: of any format", "pygen/models/_checkpoint.py", "if checkpoint[\"format\"] != _FORMAT:", "if False:", "tests/test_checkpoint.py -k refuses"),
    Fault("flows: a level that is none has a density where nobody looks", "pygen/models/_flow.py", 'data.masked_fill_(no_levels(x, self.num_levels), float("nan"))', "pass", WRONG),
    Fault("levels: what cannot be looked at is a number", "pygen/models/_levels.py", 'return scaled.masked_fill_(no_levels(x, num_levels), float("nan"))', "return scaled", WRONG),
    Fault("conditions: a class that is none is no condition", "pygen/models/_conditional.py", 'return one_hot.masked_fill(wrong.unsqueeze(1), float("nan"))', "return one_hot", WRONG),
)  # fmt: skip
