"""ART's door to training: AdversarialTrainerGAIRAT."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from art.attacks.attack import EvasionAttack
from art.defences.trainer import AdversarialTrainer
from art.estimators.classification import PyTorchClassifier
from torch import Tensor

from art_gair import generators
from art_gair.attacks.art_attack import as_inner_attack, describe_attack
from art_gair.attacks.base import InnerAttack
from art_gair.attacks.default import default_attack
from art_gair.checks import require_int
from art_gair.distributed.speaking import speaking
from art_gair.distributed.start import find_group
from art_gair.engine.classifier import TensorClassifier
from art_gair.engine.fast import FastClassifier
from art_gair.engine.inputs import as_tensor, check_inputs
from art_gair.engine.placing import place
from art_gair.engine.precision import precision_on, without_autocast
from art_gair.objectives.at import AT
from art_gair.objectives.base import Objective
from art_gair.objectives.per_sample import per_sample, require_untrained
from art_gair.plugins.base import Plugin
from art_gair.training.best_epoch import ending_with
from art_gair.training.data import Source, epochs_from_arrays, epochs_from_generator
from art_gair.training.history import EpochRecord
from art_gair.training.hooks import runs_on_each_process
from art_gair.training.loop import train
from art_gair.training.make_validation import make_validation
from art_gair.training.notices import note_never_weighted
from art_gair.training.options import Options
from art_gair.training.plan import TrainingPlan
from art_gair.training.prepare import make_run
from art_gair.training.progress import Progress
from art_gair.training.replicas import Replicas
from art_gair.training.requirements import (
    BurnIn,
    burn_in_epochs,
    check_burn_in,
    check_model,
    check_optimizer,
    check_parts,
)
from art_gair.training.resume import find_checkpoint
from art_gair.training.settings import note_settings_left
from art_gair.training.streams import Streams
from art_gair.training.train_mode import TrainMode
from art_gair.training.validation import Validation
from art_gair.weighting.base import Weighting
from art_gair.weighting.geometry import TanhWeighting
from art_gair.weighting.uniform import UniformWeighting

logger = logging.getLogger(__name__)


class AdversarialTrainerGAIRAT(AdversarialTrainer):
    """Geometry-aware instance-reweighted adversarial training (Zhang et al., ICLR 2021, arXiv 2010.01736, Alg. 2).

    Each batch is attacked by GA-PGD, which counts kappa; each sample's loss on its adversarial example is weighted by
    kappa; the weighted mean of the classifier's own loss is minimised by the classifier's own optimizer.

    **Read its robust accuracy with care.** GAIRAT largely masks gradients: accuracy under PGD with the cross entropy
    says more than stronger attacks leave. Judge a model by the worst of several attacks, at the least
    `GeometryAwarePGD(..., loss="margin")` beside "ce", better AutoAttack; never by `history` alone.

    Training follows torch's generator: `fit(seed=...)`, or `torch.manual_seed` before it, makes it repeatable.
    BatchNorm sees only the update's forward. A batch of one sample is merged into its larger neighbour. After `fit` the
    model is in eval mode.

    :param classifier: an ART PyTorchClassifier with an optimizer and a loss that has a per-sample form.
    :param attack: the inner attack: a GeometryAwarePGD or FriendlyPGD on the same classifier, or any other untargeted
        ART evasion attack, which counts no kappa and so works with weightings that do not need it. None:
        GeometryAwarePGD with the loss and the start that the objective asks for, L-inf, eps 8/255 and eps_step 2/255 of
        the range of the classifier's clip_values, 10 steps.
    :param weighting: scheme of the weights; None is TanhWeighting(-1). Any callable of the signature of
        `art_gair.weighting.Weighting` is one.
    :param objective: AT(), TRADES() or MART(), or another `art_gair.objectives.Objective`; None is AT().
    :param burn_in: first epochs in which all weights are 1: an int, their number; a float between 0 and 1, their share
        of nb_epochs, rounded; or a function of the epoch that says whether it is one. 0.3 is the paper's 30 of 100
        epochs. On the first batch of a burn-in the weighting is tried once, so that one that cannot work fails early.
    :param precision: of the attack and of the update's passes: "fp32"; "bf16", with weights, gradients and optimizer
        state still in float32; or "auto", bf16 on a device with instructions for it, else fp32.
    :param compile: whether attacks run through torch.compile, which needs a C++ compiler and half a minute at the
        start. On two CPU cores (AVX2) it gained 4 to 11 % a pass on a ResNet-18 and lost a third on a small CNN, batch
        64, float32: measure before you use it. Not measured on a GPU.
    :param plugins: such as AWP() and EMA(); hooks are called in this order.
    :raises EstimatorError: if the classifier is no PyTorchClassifier.
    :raises TypeError, ValueError, NotImplementedError: if an argument cannot work, by its name.
    """

    def __init__(
        self,
        classifier: PyTorchClassifier,
        attack: EvasionAttack | InnerAttack | None = None,
        weighting: Weighting | None = None,
        *,
        objective: Objective | None = None,
        burn_in: BurnIn = 0.3,
        precision: str = "fp32",
        compile: bool = False,
        plugins: Sequence[Plugin] = (),
    ) -> None:
        tensor_classifier = FastClassifier(classifier, type(self), precision=precision, compiled=compile)
        check_model(tensor_classifier)
        check_optimizer(classifier.optimizer, tensor_classifier)
        require_untrained(classifier.loss, classifier.optimizer, classifier.model)
        per_sample(classifier.loss, tensor_classifier.nb_classes, tensor_classifier.device)
        self.objective = AT() if objective is None else objective
        self.weighting: Weighting = TanhWeighting(-1.0) if weighting is None else weighting
        self.precision = precision
        self.compile = compile
        self.plugins = plugins
        if attack is None:
            attack = default_attack(classifier, **getattr(self.objective, "attack", {}))
        check_parts(classifier, attack, self.weighting, self.objective, self.plugins)
        super().__init__(classifier, attacks=attack if isinstance(attack, EvasionAttack) else [attack], ratio=1.0)
        self.attack: Any = attack
        as_inner_attack(attack).on_batches(tensor_classifier, epoch=0)  # refuses radii for each sample of an array
        self.burn_in = check_burn_in(burn_in)
        self.train_mode = TrainMode(tensor_classifier.module)
        self.history: list[EpochRecord] = []
        self.best_epoch: int | None = None

    def fit(
        self,
        x: Any,
        y: Any,
        validation_data: tuple[Any, Any] | None = None,
        batch_size: int = 128,
        nb_epochs: int = 20,
        scheduler: Any = None,
        *,
        validation_attack: EvasionAttack | Sequence[EvasionAttack] | None = None,
        keep_best: bool = False,
        validate_every: int = 1,
        validate_from: int = 0,
        validate_on: int | float | None = None,
        augment: Callable[[Tensor], Tensor] | None = None,
        accumulate: int = 1,
        scheduler_step: str | None = None,
        seed: int | None = None,
        non_finite: str = "stop",
        max_skipped: int = 10,
        resume: bool = False,
        verbose: bool = True,
        distributed: bool | None = None,
        **kwargs: Any,
    ) -> None:
        """Train on arrays, shuffled anew in each epoch.

        A second `fit` begins anew: epoch 0, a new history, the weights that the classifier has then. To go on with a
        training that was stopped or killed, put a `Checkpoint` among the plugins and call it with `resume=True`.

        Submodules that are in eval mode while the model itself is in train mode stay in eval mode, such as a frozen
        backbone whose BatchNorm must not move: `model.train(); model.backbone.eval()` before the trainer is made, or
        before `fit`. `predict` and `fit` leave all of the model in eval mode, which says nothing; then the earlier
        choice counts.

        Memory: x is not copied, so a memory map of any size can be trained on; a step takes its batch, and a check of
        the values at the beginning some thousand samples. On a GPU, x of up to 1 GiB is put there for good.

        The trainer's `precision` says in which arithmetic; a `torch.autocast` around the call has no effect, and a
        warning says so.

        Ctrl-C, SIGTERM and SIGHUP let the batch finish and, with a `Checkpoint`, save the training; a second signal
        ends it at once. Classifier and trainer can be used afterwards.

        :param x: samples (n, *input_shape) inside clip_values; float32 in the computation, as in ART.
        :param y: classes, indices (n,) or one-hot (n, nb_classes).
        :param validation_data: (x, y) for clean and robust accuracy after each epoch.
        :param batch_size: samples that are attacked and go through the model at once.
        :param nb_epochs: epochs to train.
        :param scheduler: a torch scheduler of the classifier's optimizer, or any object with `step()` and
            `state_dict()`, for a Checkpoint also `load_state_dict()`. ReduceLROnPlateau gets the epoch's loss in mode
            "min", validation's robust accuracy in mode "max".
        :param validation_attack: an untargeted ART evasion attack on the same classifier, or a list of them, of one
            strength in all epochs. A validation sample counts as robust if it is classified rightly as it is and under
            each of them. None: if it is under the training attack, a BoundaryPGD with all steps for each sample. Put a
            margin attack among them, since under PGD with the cross entropy GAIRAT can gain by masking gradients:
            `[attack, attack.with_loss("margin")]`.
        :param keep_best: leave the classifier with the weights and buffers of the epoch of the highest robust accuracy
            on validation_data, as validation saw them (EMA's average, say). Ties: higher clean accuracy, then the
            earlier epoch. `best_epoch` is its number, else None. So does a training that an exception stops, Ctrl-C
            too; the error says so. The optimizer stays as the last epoch left it. Select on data set aside for it,
            never on test data. Takes the memory of one more copy of the model, of two while it is renewed.
        :param validate_every: validate after every so many epochs, and after the last of nb_epochs.
        :param validate_from: the first epoch that may be validated, counted from 0. With `keep_best` the first epoch
            after the burn-in keeps a model that was trained with weights; else the best epoch may lie in the burn-in,
            of which the trainer warns.
        :param validate_on: validate on so many samples of validation_data, or, a float, on this share of them: a random
            subset, the same in each epoch.
        :param augment: a function of a batch of training inputs before they are attacked: float32
            (n, *input_shape) on the classifier's device -> the like. What it returns is clipped to clip_values. It can
            be resumed if it draws from torch's, NumPy's or Python's global generators.
        :param accumulate: batches whose gradients are added up before the optimizer's step. The weights have mean 1
            over all of them; so `accumulate=4, batch_size=32` is a step on 128 samples in the memory of 32, but for
            BatchNorm, which sees 32. A weighting that looks at logits costs one more forward pass then.
        :param scheduler_step: "epoch" or "batch", after what the scheduler is stepped: each epoch, or each step of the
            optimizer. None: "batch" for OneCycleLR and CyclicLR, also inside another, else "epoch".
        :param seed: seeds torch's, NumPy's and Python's generators for this training alone; they are put back
            afterwards. On a CPU the same seed gives the same bits on the same machine with the same number of threads.
            On a GPU it gives the same order, starts and noise; sums may differ in their last bits unless
            `torch.use_deterministic_algorithms(True)` is set. Weights that the model begins with are drawn before.
        :param non_finite: what to do when loss, model, optimizer state or the attack's gradient turn NaN or infinite:
            "stop" undoes the step and raises; "skip" undoes it and goes on, up to `max_skipped` times an epoch. On a
            GPU "skip" makes each step wait for the device.
        :param max_skipped: bound of "skip".
        :param resume: go on from the newest whole save of the first `Checkpoint` among the plugins, as if the training
            had not been stopped: on the same machine, bit for bit. It must be the same training; nb_epochs may differ,
            and, with a warning, device, precision, threads and versions. Without a save it begins, with a warning.
        :param verbose: show a bar within each epoch on a terminal or in a notebook, and a line after each.
        :param distributed: None: train on all processes that torchrun has started, or that are in torch's default
            process group, each of which must make this call with the same arguments; on this one alone where there are
            no others. batch_size then counts the samples of all processes together. True: refuse to train alone.
            False: train alone. See docs/scaling_out.md.
        :raises TypeError, ValueError: if an argument is unusable, by its name, before any training.
        :raises PeerError: if another process fails, with its error, is lost, or does not come.
        :raises FloatingPointError: if loss, model, optimizer state or the attack's gradient turn non-finite; the batch
            is undone, and the message names epoch, batch, samples, learning rate and the last losses.
        :raises KeyboardInterrupt, SystemExit: after Ctrl-C; after SIGTERM or SIGHUP.
        """
        self._refuse(kwargs, "fit")
        options = Options(
            *(nb_epochs, scheduler, scheduler_step, augment, accumulate, seed, non_finite, max_skipped, resume, verbose)
        )
        batch_size = require_int(batch_size, "batch_size", at_least=1)

        def source(classifier: TensorClassifier, streams: Streams) -> Source:
            unlabelled = self.objective.unlabelled
            return epochs_from_arrays(classifier, x, y, batch_size, unlabelled=unlabelled, streams=streams)

        validating = (validation_data, validation_attack, keep_best, validate_every, validate_from, validate_on)
        self._train_together(distributed, source, validating, options)

    def fit_generator(
        self,
        generator: Any,
        nb_epochs: int = 20,
        validation_data: tuple[Any, Any] | None = None,
        scheduler: Any = None,
        *,
        validation_attack: EvasionAttack | Sequence[EvasionAttack] | None = None,
        keep_best: bool = False,
        validate_every: int = 1,
        validate_from: int = 0,
        validate_on: int | float | None = None,
        augment: Callable[[Tensor], Tensor] | None = None,
        accumulate: int = 1,
        scheduler_step: str | None = None,
        seed: int | None = None,
        non_finite: str = "stop",
        max_skipped: int = 10,
        resume: bool = False,
        verbose: bool = True,
        steps_per_epoch: int | None = None,
        sharded: bool | None = None,
        distributed: bool | None = None,
        **kwargs: Any,
    ) -> None:
        """Train on batches as a generator yields them; everything else as in `fit`.

        A training that is resumed within an epoch goes through the batches it has had again, without training on them.
        So it goes on bit for bit if the order is drawn at the beginning of the epoch from torch's, NumPy's or Python's
        global generators, or from those of a DataLoader and its samplers; what a batch draws for itself, such as
        augmentations, may come from the global ones at any time. If other labels come, it warns. Random generators that
        an object holds itself, a worker that lives on from epoch to epoch (`persistent_workers`), and an order drawn
        on the way (a shuffle buffer) cannot be repeated. The content of the data is not compared.

        :param generator: an ART DataGenerator, a torch DataLoader, or another iterable of batches (x, y) that starts
            afresh in each epoch. An ART generator that is no iterable gives ceil(size / batch_size) batches an epoch.
            Batches are checked where they lie; for those that lie on a GPU already this waits for it.
        :param steps_per_epoch: None: an epoch is one pass through the generator. A number: so many of the optimizer's
            steps; the next epoch goes on where the last one ended, as an endless stream needs it.
        :param sharded: on several processes, whether each process's generator yields samples of its own. False: each
            goes through the same batches and takes its part of each. None: True for a DataLoader with a
            DistributedSampler, else False.
        """
        self._refuse(kwargs, "fit_generator")
        options = Options(
            *(nb_epochs, scheduler, scheduler_step, augment, accumulate, seed, non_finite, max_skipped, resume, verbose)
        )
        if steps_per_epoch is not None:
            steps_per_epoch = require_int(steps_per_epoch, "steps_per_epoch", at_least=1)
        if sharded is not None and not isinstance(sharded, bool):
            raise TypeError(f"sharded is {sharded!r}; expected True, False or None.")
        batches = None if steps_per_epoch is None else steps_per_epoch * options.accumulate

        def source(classifier: TensorClassifier, streams: Streams) -> Source:
            settings: dict[str, Any] = {"streams": streams, "sharded": sharded, "batches": batches}
            return epochs_from_generator(classifier, generator, unlabelled=self.objective.unlabelled, **settings)

        validating = (validation_data, validation_attack, keep_best, validate_every, validate_from, validate_on)
        self._train_together(distributed, source, validating, options)

    def predict(self, x: Any, **kwargs: Any) -> Any:
        """Return the classifier's outputs, float32 (n, nb_classes), as `classifier.predict` does outside autocast.

        :param x: samples (n, *input_shape), real and finite; they may lie outside clip_values.
        :param kwargs: of `classifier.predict`, such as batch_size.
        :raises TypeError, ValueError: if x or batch_size is unusable, by its name.
        """
        inputs = as_tensor(x, "x")
        check_inputs(inputs, "x", tuple(self.classifier.input_shape), None)
        if "batch_size" in kwargs:
            kwargs["batch_size"] = require_int(kwargs["batch_size"], "batch_size", at_least=1)
        with without_autocast(self.classifier.device):
            return super().predict(inputs.cpu().to(torch.float32).numpy(), **kwargs)

    def _refuse(self, unknown: dict[str, Any], method: str) -> None:
        if unknown:
            signature = inspect.signature(getattr(AdversarialTrainerGAIRAT, method))  # a subclass may take **settings
            allowed = [name for name in signature.parameters if name not in ("self", "kwargs")]
            raise TypeError(f"{method} got unknown arguments {sorted(unknown)}; it takes {', '.join(allowed)}.")

    def _tensor_classifier(self) -> FastClassifier:
        """Return the classifier as tensors see it now; the parts may have been set since, and are looked at again."""
        check_parts(self.classifier, self.attack, self.weighting, self.objective, self.plugins)
        return FastClassifier(self.classifier, precision=self.precision, compiled=self.compile)

    def _train_together(
        self,
        distributed: bool | None,
        make_source: Callable[[TensorClassifier, Streams], Source],
        validating: tuple[Any, ...],
        options: Options,
    ) -> None:
        """Train on the processes that take part."""
        group, device = find_group(distributed, self.classifier.device), self.classifier.device
        surrounded = torch.is_autocast_enabled(device.type)
        with (
            without_autocast(device),
            speaking(first=group.rank == 0),
            group.together(f"{type(self).__name__}'s fit"),
        ):
            if surrounded:
                logger.warning(
                    "fit is called inside torch.autocast, which has no effect: precision is %r.", self.precision
                )
            if group.size > 1:
                place(self.classifier, group.device)
            tensor_classifier = self._tensor_classifier()
            source = make_source(tensor_classifier, Streams(group, tensor_classifier.device))
            validation = make_validation(tensor_classifier, self.classifier, self.attack, *validating)
            self._train(tensor_classifier, source, validation, options)

    def _train(
        self, tensor_classifier: TensorClassifier, source: Source, validation: Validation | None, options: Options
    ) -> None:
        self.train_mode.note()
        streams, group = source.streams, source.streams.group
        plan = self._plan(tensor_classifier, options, streams)
        checkpoint = find_checkpoint(self.plugins)
        run, made_with = make_run(plan, source, validation, options, self.classifier, checkpoint)
        logger.info("Performing adversarial training with GAIRAT: %s", self)
        self.train_mode.log()
        note_never_weighted(plan.burn_in, self.weighting)
        before = self.history, self.best_epoch
        self.history, self.best_epoch = run.history, None
        best = None if validation is None else validation.best
        ending = ending_with(best, [] if isinstance(self.weighting, UniformWeighting) else plan.burn_in)
        progress = Progress(options.nb_epochs, run.scheduler.steps, options.verbose and group.rank == 0)
        try:
            with generators.seeded(tensor_classifier.device, options.seed), torch.enable_grad(), ending:
                streams.begin()
                train(run, progress, checkpoint if options.resume else None)
                streams.finish()
        finally:
            self.best_epoch = None if best is None else best.epoch
            if not run.begun:  # resume was refused
                self.history, self.best_epoch = before
            tensor_classifier.module.eval()
            note_settings_left(self.classifier.optimizer, self.classifier.loss, self.classifier.model, made_with)

    def _plan(self, tensor_classifier: TensorClassifier, options: Options, streams: Streams) -> TrainingPlan:
        second_loss, group = self.objective.second_attack, streams.group
        first = group.rank == 0
        precision = precision_on(self.precision, tensor_classifier.device)
        return TrainingPlan(
            classifier=tensor_classifier,
            attack=as_inner_attack(self.attack),
            second_attack=None if second_loss is None else self.attack.with_loss(second_loss),
            objective=self.objective,
            loss=per_sample(self.classifier.loss, tensor_classifier.nb_classes, tensor_classifier.device),
            weighting=self.weighting,
            optimizer=self.classifier.optimizer,
            plugins=[plugin for plugin in self.plugins if first or runs_on_each_process(plugin)],
            train_mode=self.train_mode,
            burn_in=burn_in_epochs(self.burn_in, options.nb_epochs),
            augment=options.augmentation(tensor_classifier),
            max_skipped=options.max_skipped if options.non_finite == "skip" else 0,
            environment={"precision": precision, "compile": str(self.compile)},
            streams=streams,
            replicas=Replicas(tensor_classifier.module, group) if group.size > 1 else None,
        )

    def __repr__(self) -> str:
        parts = f"{describe_attack(self.attack)}, {self.weighting}, objective={self.objective}, burn_in={self.burn_in}"
        parts += f", precision={self.precision!r}, compile={self.compile}"
        return f"{type(self).__name__}({parts}, plugins={self.plugins})"
