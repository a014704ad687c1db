"""Classifier-agnostic saliency map extraction: Algorithm 1 of Zolna, Geras and Cho (CVIU 2020)."""

import keras
import tensorflow as tf

from casm_tf import networks, objectives

# Averages over images; `accuracy_masked_out` is the critic's, in training often a past one's.
_AVERAGES = (
    *("classifier_loss", "score", "evidence", "size", "accuracy", "accuracy_masked_out"),
    *("mask_mean", "mask_entropy", "mask_tv", "snapshots"),
)
_CHOICES = {
    "score": ("entropy", "classification"),
    "size": ("adaptive", "l1"),
    "classifier_form": ("both", "masked"),
    "masked_steps": ("always", "present"),
}


class CASM(keras.Model):
    """A mask model and the classifier it is trained against.

    Calling it gives the masks of images, float32 [B, H, W, 3] -> [B, H, W, 1] in [0, 1].
    Training takes batches (images, labels) and alternates the two networks:

        for k = 1, 2, ...
            theta_f  <-  theta_f - eta_f grad L(m, f)       the classifier, eq. (8) or (3)
            F^(k)    <-  thinned F^(k-1) with f             `remember`
            f'       <-  drawn from F^(k)                   `run_step`, `Snapshots.draw`
            theta_m  <-  theta_m + eta_m grad S(m, f')      the mask's decoder, eq. (7)

    Both gradients of a step are taken at the same point and then applied.

    Args:
        classifier: images -> {"logits", "maps"}, of `networks.classifier`; trained already.
        decoder: maps -> mask, of `networks.decoder`.
        snapshots: the `Snapshots` of the classifier, made outside a strategy's scope; with thinning
            F the classifier is fixed, the paper's baseline.
        encoder: images -> maps, trained with the decoder; None shares the classifier's maps, and
            then no gradient of the mask's objective reaches them.
        teacher: None, or the classifier as it was before the alternation, a network of its own that
            never moves: then the target of an image is what it predicts on that very view, and
            labels are not looked at. The theory is the paper's with one word changed: the mask's
            objective is an average over the classifiers that agree with the first one, instead of
            over those that are right.
        score: "entropy" (E) or "classification" (C), what the decoder maximises.
        size: "adaptive" (the original code) or "l1" (eq. 7).
        lambda_size: the weight lambda_R of the size term, at least 0; or a schedule of it, step ->
            number, such as Keras has for rates.
        lambda_variation: the weight of the total variation, at least 0.
        classifier_form: "both" (eq. 8) or "masked" (eq. 3).
        masked_steps: "always", the classifier learns from the masked images at every step (the
            paper), or "present", only where it is itself the critic (the original code; cheaper).
        weight_decay: of both networks, added to the gradient (L2, as PyTorch's).
        clip_norm: the largest norm of the decoder's gradient.

    Raises:
        ValueError: a choice is not one of these, a weight is negative (lambda_size at step 0), or
            `classifier_form` is "masked" with `masked_steps` "present": there would be steps
            without any loss.
    """

    def __init__(
        self,
        classifier,
        decoder,
        snapshots,
        encoder=None,
        teacher=None,
        *,
        score="entropy",
        size="adaptive",
        lambda_size=10.0,
        lambda_variation=0.0,
        classifier_form="both",
        masked_steps="always",
        weight_decay=1e-4,
        clip_norm=10.0,
    ):
        super().__init__(name="casm")
        chosen = (score, size, classifier_form, masked_steps)
        for (name, choices), value in zip(_CHOICES.items(), chosen, strict=True):
            if value not in choices:
                raise ValueError(f"{name} is {' or '.join(map(repr, choices))}; found {value!r}")
        self.lambda_size = lambda_size if callable(lambda_size) else lambda step: lambda_size
        if min(self.lambda_size(0), lambda_variation, weight_decay, clip_norm) < 0:
            raise ValueError(
                "lambda_size, lambda_variation, weight_decay and clip_norm are at least 0"
            )
        if classifier_form == "masked" and masked_steps == "present":
            raise ValueError("classifier_form 'masked' needs masked_steps 'always'")

        self.classifier = classifier
        self.decoder = decoder
        self.encoder = encoder
        self.teacher = teacher
        if teacher is not None:
            teacher.trainable = False
        self.snapshots = snapshots
        self.score = score
        self.size = size
        self.lambda_variation = lambda_variation
        self.classifier_form = classifier_form
        self.masked_steps = masked_steps
        self.weight_decay = weight_decay
        self.clip_norm = clip_norm
        self.averages = {name: keras.metrics.Mean(name) for name in _AVERAGES}

    def call(self, images, training=False):
        if self.encoder is None:
            maps = self.classifier(images, training=training)["maps"]
        else:
            maps = self.encoder(images, training=training)
        return self.decoder(maps, training=training)

    def compile(self, classifier_optimizer, decoder_optimizer, jit_compile=False, **kwargs):
        """Take the two optimizers, and build them, so that a checkpoint restores them whole.

        With `jit_compile` a step is compiled by XLA. Raises ValueError for steps_per_execution:
        snapshots are taken between steps.
        """
        if kwargs.get("steps_per_execution", 1) != 1:
            raise ValueError("steps_per_execution is 1: snapshots are taken between steps")
        super().compile(optimizer=None, jit_compile=jit_compile, **kwargs)
        self.classifier_optimizer = classifier_optimizer
        self.decoder_optimizer = decoder_optimizer
        classifier_optimizer.build(self.classifier.trainable_variables)
        decoder_optimizer.build(self.mask_variables)

    @property
    def classifier_variables(self):
        """theta_f: the classifier's weights; none with thinning F."""
        return [] if self.snapshots.thinning.fixed else self.classifier.trainable_variables

    @property
    def mask_variables(self):
        """theta_m: the decoder's weights, and those of a separate encoder."""
        encoder = [] if self.encoder is None else self.encoder.trainable_variables
        return self.decoder.trainable_variables + encoder

    def train_step(self, data, past=False):
        """A step of Algorithm 1 on this replica's part of a batch (images, labels).

        `past` says whether the critic f' is a classifier of F^(k) or the present one. Returns
        {"finite": 1.0, or 0.0 where a loss, a gradient or a statistic is NaN or above 1e19}.
        """
        images, labels = data
        replicas = tf.distribute.get_replica_context()
        count = replicas.all_reduce("sum", tf.cast(tf.shape(images)[0], tf.float32))
        # f'  <-  drawn from F^(k)
        critic = self.snapshots.draw(self.decoder_optimizer.iterations) if past else None

        # Both gradients are those at this point: the tapes hold the weights as they are now.
        with tf.GradientTape() as classifier_tape, tf.GradientTape() as mask_tape:
            loss, score, values = self._objectives(images, labels, critic, training=True)
            loss = tf.reduce_sum(loss) / count
            negative_score = -tf.reduce_sum(score) / count

        # theta_f  <-  theta_f - eta_f grad L
        gradients = classifier_tape.gradient(loss, self.classifier_variables)
        numbers = [loss, negative_score, *gradients]
        self._apply(self.classifier_optimizer, gradients, self.classifier_variables)

        # theta_m  <-  theta_m + eta_m grad S
        gradients = mask_tape.gradient(negative_score, self.mask_variables)
        numbers += gradients
        # Clipped is the gradient of all images; the optimizer then sums over the replicas again.
        gradients = replicas.all_reduce("sum", gradients)
        gradients, _ = tf.clip_by_global_norm(gradients, self.clip_norm)
        gradients = [gradient / replicas.num_replicas_in_sync for gradient in gradients]
        self._apply(self.decoder_optimizer, gradients, self.mask_variables)

        moved = [self.decoder, self.encoder]
        if not self.snapshots.thinning.fixed:
            moved.append(self.classifier)
        numbers += networks.share_statistics(*filter(None, moved))
        for name, value in values.items():
            self.averages[name].update_state(value)
        return {"finite": tf.cast(tf.math.is_finite(tf.linalg.global_norm(numbers)), tf.float32)}

    def test_step(self, data):
        images, labels = data
        _, _, values = self._objectives(images, labels, past=None, training=False)
        for name, value in values.items():
            self.averages[name].update_state(value)
        return self.get_metrics_result()

    @property
    def state(self):
        trained = {"classifier": self.classifier, "decoder": self.decoder, "encoder": self.encoder}
        return {
            **{name: network.variables for name, network in trained.items() if network},
            "classifier_optimizer": self.classifier_optimizer.variables,
            "decoder_optimizer": self.decoder_optimizer.variables,
            "snapshots": [self.snapshots.stored, *self.snapshots.slots],
        }

    def _objectives(self, images, labels, past, training):
        """L and S of each image, float32 [B], and what else there is to watch of each.

        The critic f' has the weights `past`, or is the present classifier where that is None.
        """
        if self.teacher is not None:
            labels = objectives.predicted(self.teacher(images, training=False)["logits"])
        moves = training and not self.snapshots.thinning.fixed
        clean = self.classifier(images, training=moves)
        if self.encoder is None:
            maps = [tf.stop_gradient(x) for x in clean["maps"]]
        else:
            maps = self.encoder(images, training=training)
        masks = self.decoder(maps, training=training)
        masked_images = objectives.masked_out(images, masks)

        clean_loss = objectives.cross_entropy(clean["logits"], labels)
        if past is None or self.masked_steps == "always":
            masked_logits = self.classifier(masked_images, training=moves)["logits"]
            masked_loss = objectives.cross_entropy(masked_logits, labels)
            loss = objectives.classifier_loss(clean_loss, masked_loss, self.classifier_form)
        else:
            loss = clean_loss
        if past is None:
            critic_logits = masked_logits
        else:
            critic_logits = networks.logits(self.classifier, past, masked_images)

        clean_right = objectives.is_right(clean["logits"], labels)
        masked_right = objectives.is_right(critic_logits, labels)
        if self.score == "entropy":
            evidence = objectives.entropy_score(critic_logits, clean_right)
        else:
            evidence = objectives.classification_score(critic_logits, labels)
        if self.size == "adaptive":
            size = objectives.adaptive_size(masks, clean_right, masked_right)
        else:
            size = objectives.l1_size(masks)
        variation = objectives.total_variation(masks)
        lambda_size = self.lambda_size(self.decoder_optimizer.iterations)
        score = evidence + lambda_size * size - self.lambda_variation * variation

        values = {
            "classifier_loss": loss,
            "score": score,
            "evidence": evidence,
            "size": size,
            "accuracy": clean_right,
            "accuracy_masked_out": masked_right,
            "mask_mean": objectives.mean_mask(masks),
            "mask_entropy": objectives.mask_entropy(masks),
            "mask_tv": variation,
            "snapshots": tf.fill(tf.shape(loss), tf.cast(self.snapshots.held(), tf.float32)),
        }
        return loss, score, values

    def _apply(self, optimizer, gradients, variables):
        # The optimizer sums over replicas: each adds its share of the decay.
        decay = self.weight_decay / tf.distribute.get_strategy().num_replicas_in_sync
        pairs = zip(gradients, variables, strict=True)
        optimizer.apply([g + decay * v for g, v in pairs], variables)

    def run_step(self, data):
        """`train_step` on every replica of the model's strategy.

        The kind of critic is drawn here, the same for all of them: a replica cannot speak with the
        others inside of a tf.cond.
        """
        step = self.train_step
        if self.jit_compile:
            step = tf.function(step, jit_compile=True)

        def run(past):
            finite = self.distribute_strategy.run(step, (data, past))["finite"]
            return {"finite": self.distribute_strategy.reduce("mean", finite, axis=None)}

        if self.snapshots.capacity == 0:
            return run(past=False)
        is_past = self.snapshots.draws_past(self.decoder_optimizer.iterations)
        return tf.cond(is_past, lambda: run(past=True), lambda: run(past=False))

    def make_train_function(self, force=False):
        """For `fit`: batches -> what `run_step` makes of the next one, and the averages so far."""
        if self.train_function is None or force:
            run_step = tf.function(self.run_step)
            self.train_function = lambda batches: self._step_of_fit(run_step, next(batches))

    def _step_of_fit(self, run_step, batch):
        if self.decoder_optimizer.iterations == 0:  # later ones were kept when they were taken
            self.remember(0)
        found = run_step(batch)
        self.remember(int(self.decoder_optimizer.iterations))
        return {**found, **self.get_metrics_result()}

    def remember(self, step):
        """Keep the classifier as it is after `step` steps, if it is due; outside `strategy.run`."""
        if self.snapshots.thinning.is_due(step):
            self.snapshots.store(self.classifier)
