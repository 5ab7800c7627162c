"""What the templates take from the core: `<<name>>` in a template is the piece of that name here."""

from __future__ import annotations

from upstream.lift import Piece

BATCH = ['x: "torch.Tensor"', 'x_adv: "torch.Tensor"', 'labels: "torch.Tensor"']
BATCH_DOC = {"x": "Inputs of shape `(n, *shape)`.", "x_adv": "Their adversarial examples.", "labels": "Class indices."}
LOSS = {"loss": "self._losses", "batch.labels": "labels"}
NORM = {"Norm": "Linf | L2 | L1"}

DEFINITIONS: dict[str, Piece] = {
    # the attack
    "best_other": Piece("logits.py:best_other"),
    "label_score": Piece("logits.py:label_score"),
    "margin": Piece("logits.py:margin"),
    "kl_divergence": Piece("logits.py:kl_divergence"),
    "cross_entropy": Piece("attacks/losses.py:cross_entropy"),
    "negative_margin": Piece("attacks/losses.py:negative_margin"),
    "kl": Piece("attacks/losses.py:kl"),
    "LOSSES": Piece("attacks/losses.py:LOSSES"),
    "KL_START_STD": Piece("attacks/pgd.py:KL_START_STD"),
    "Box": Piece("engine/inputs.py:Box", without=["of", "require_inside"]),
    "Linf": Piece("attacks/norms.py:Linf"),
    "L2": Piece("attacks/norms.py:L2"),
    "L1": Piece("attacks/norms.py:L1"),
    "NORMS": Piece("attacks/norms.py:NORMS", types=NORM),
    "Samples": Piece("attacks/rows.py:Samples", without=["take", "_take"]),
    "GeometryAwareSteps": Piece(
        "attacks/pgd.py:PGD",
        "GeometryAwareSteps",
        without=["note_gradient"],
        drop=["self.note_gradient(grad)"],
        replace={
            "whole_batch.draw(x, lambda like: self.norm.sample(like, samples.eps))": "self.norm.sample(x, samples.eps)",
            "whole_batch.draw(x, torch.randn_like)": "torch.randn_like(x)",
        },
        types=NORM,
        doc={"_clip()": "Return x inside the box.", "_kl_start_std()": "Return the deviation of the start for `kl`."},
        words={
            "; every setting is checked at ART's door": "",
            "as in ART's PGD": "as in the other PGD attacks",
        },
    ),
    "input_gradient": Piece("attacks/pgd.py:input_gradient"),
    "select_samples": Piece("attacks/pgd.py:select_samples"),
    "_mask": Piece("attacks/pgd.py:_mask", doc={"_mask()": "Put zero where the mask is False."}),
    "_take_rows": Piece("attacks/geometry_aware_pgd.py:_take_rows", doc={"value": "Values for the samples."}),
    "_per_sample": Piece("attacks/norms.py:_per_sample"),
    "_nonzero": Piece("attacks/norms.py:_nonzero", doc={"x": "Norms or other values by which something is divided."}),
    "_radii": Piece(
        "attacks/geometry_aware_pgd.py:GeometryAwarePGD._radii",
        replace={
            '_broadcastable(self.eps, "eps", shape)': 'self._broadcastable(self.eps, "eps", shape)',
            '_broadcastable(self.eps_step, "eps_step", shape)': 'self._broadcastable(self.eps_step, "eps_step", shape)',
        },
    ),
    # the trainer
    "normalise": Piece(
        "weighting/base.py:normalise",
        drop=['require_tensor(log_weights, "log_weights", FLOATS, ndim=1)'],
        doc={"log_weights": "Logarithms of the weights, of shape `(n,)`.", "raises": ""},
    ),
    "discrete_log_weights": Piece(
        "weighting/geometry.py:DiscreteWeighting.log_weights", "discrete_log_weights", without=["self", "epoch"]
    ),
    "sigmoid_log_weights": Piece(
        "weighting/geometry.py:TanhWeighting.log_weights",
        "sigmoid_log_weights",
        without=["self", "epoch"],
        arguments=["lam: float", "steepness: float"],
        replace={"self.lam_at(epoch)": "lam", "self.steepness": "steepness"},
        doc={
            "lam": "How far all samples count.",
            "steepness": "How steeply the weights fall.",
        },
        words={"sigmoid(2 (lam": "sigmoid(steepness (lam"},
    ),
    "burn_in_epochs": Piece(
        "training/requirements.py:burn_in_epochs",
        drop=["setting = check_burn_in(setting)"],
        given={"callable(setting)": False},
        types={"BurnIn": "int | float"},
        doc={
            "setting": "The number of epochs in which all weights are 1, or, as a float, their share.",
            "nb_epochs": "Number of epochs of the training.",
        },
    ),
    "batch_bounds": Piece(
        "training/data.py:_bounds",
        "batch_bounds",
        doc={"n": "Number of samples.", "batch_size": "Size of batches."},
    ),
    "PerSample": Piece(
        "objectives/per_sample.py:PerSample",
        without=["state_dict", "load_state_dict", "__call__.scale", "scale.n", "scale.add_up"],
        replace={
            "len(labels) if n is None else n": "len(labels)",
            "labels.clamp(min=0)": "labels",
            "torch.where(labels >= 0, values, 0.0) * (self.scale(labels) if scale is None else scale)": (
                "values * self.scale(labels)"
            ),
            "labelled.float()": "torch.ones(n, device=labels.device)",
            "self.weight[labels.clamp(min=0)] * labelled": "self.weight[labels]",
        },
        drop=["labelled = labels >= 0", "divisor = add_up(divisor)"],
        doc={
            "__init__()": "Create a :class:`.PerSample` instance.",
            "__call__()": "Return the losses, of shape `(n,)`.",
            "loss": "The loss of the classifier.",
            "factor()": "Return how many times the mean over a batch the classifier's loss is.",
            "n": "Number of samples.",
            "reduction()": "Return the reduction of the loss.",
            "unreduced()": "Return what the loss gives without its reduction.",
        },
        words={"it gives {": "The loss of the classifier gives {"},
    ),
    "Terms": Piece("objectives/base.py:Terms", doc={"logits": "Logits of the adversarial examples."}),
    "total": Piece(
        "objectives/base.py:Objective.total",
        without=["self"],
        doc={"weights": "Weights of the samples, of shape `(n,)`.", "terms": "Losses of the batch."},
    ),
    "terms_at": Piece(
        "objectives/at.py:AT.__call__",
        "_terms_at",
        without=["classifier", "loss", "batch"],
        arguments=BATCH,
        replace={"classifier.training_logits(batch.x_adv, batch.labels)": "self._logits(x_adv)", **LOSS},
        doc=BATCH_DOC,
        doc_of="objectives/at.py:AT",
    ),
    "terms_trades": Piece(
        "objectives/trades.py:TRADES.__call__",
        "_terms_trades",
        without=["classifier", "loss", "batch"],
        arguments=BATCH,
        replace={
            "classifier.training_logits(batch.x, batch.labels)": "self._logits(x)",
            "classifier.training_logits(batch.x_adv, batch.labels)": "self._logits(x_adv)",
            "self.beta": "self._beta",
            **LOSS,
        },
        given={'self.weigh == "kl"': True},
        doc=BATCH_DOC,
        doc_of="objectives/trades.py:TRADES",
    ),
}
"""Functions, classes and constants, each on lines of its own in a template."""

VALUES = {
    "tanh steepness": "weighting/geometry.py:TanhWeighting.steepness",
    "sigmoid steepness": "weighting/geometry.py:SigmoidWeighting.steepness",
    "default beta": "objectives/trades.py:TRADES.beta",
}
"""Values of constants, within a line."""

DEFAULTS = {
    "attack": "attacks/geometry_aware_pgd.py:GeometryAwarePGD.__init__",
    "lam": "weighting/geometry.py:TanhWeighting.__init__",
    "trainer": "trainer.py:AdversarialTrainerGAIRAT.__init__",
    "fit": "trainer.py:AdversarialTrainerGAIRAT.fit",
}
"""Functions whose arguments' defaults a template takes: `<<default attack.eps>>`."""

FORMULAS = {
    "cross_entropy": "attacks/losses.py:cross_entropy",
    "negative_margin": "attacks/losses.py:negative_margin",
    "kl": "attacks/losses.py:kl",
    "tanh": "weighting/geometry.py:TanhWeighting",
    "sigmoid": "weighting/geometry.py:SigmoidWeighting",
    "discrete": "weighting/geometry.py:DiscreteWeighting",
    "AT": "objectives/at.py:AT",
    "TRADES": "objectives/trades.py:TRADES",
}
"""Docstrings whose first sentence a template takes, within a line: `<<formula AT>>`."""
