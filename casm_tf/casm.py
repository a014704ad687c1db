"""Classifier-agnostic saliency map extraction: Algorithm 1 of Zolna, Geras and Cho (CVIU 2020)."""

import keras
import tensorflow as tf

from casm_tf import objectives, steps

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


class CASM(steps.Model):
    """A mask model and the classifier it is trained against.

    Calling it gives the masks of images, float32 [B, H, W, 3] -> [B, H, W, 1] in [0, 1].
    Training takes batches (images, labels) and alternates the two networks:

        for k = 1, 2, ...
            theta_f  <-  theta_f - eta_f grad L(m, f)       the classifier, eq. (8) or (3)
            F^(k)    <-  thinned F^(k-1) with f             `remember`
            f'       <-  drawn from F^(k)                   `Snapshots.draw`
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
        lambda_size: the weight lambda_R of the size term, at least 0.
        first_lambda: (lambda_R, steps), another one for so many steps at the start: what keeps a
            trained mask small may be more than one that is not yet trained survives.
        lambda_variation: the weight of the total variation, at least 0.
        classifier_form: "both" (eq. 8) or "masked" (eq. 3).
        masked_steps: "always", the classifier learns from the masked images at every step (the
            paper), or "present", only where it is itself the critic (the original code; cheaper).
        weight_decay: of both networks, added to the gradient (L2, as PyTorch's).
        clip_norm: the largest norm of the decoder's gradient.

    Raises:
        ValueError: a choice is not one of these, a weight is negative, or `classifier_form` is
            "masked" with `masked_steps` "present": there would be steps without any loss.
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
        first_lambda=(0.0, 0),
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
        if min(lambda_size, *first_lambda, lambda_variation, weight_decay, clip_norm) < 0:
            raise ValueError(
                "lambda_size, first_lambda, lambda_variation, weight_decay, clip_norm: at least 0"
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
        self.lambda_size = lambda_size
        self.first_lambda = first_lambda
        self.lambda_variation = lambda_variation
        self.classifier_form = classifier_form
        self.masked_steps = masked_steps
        self.weight_decay = weight_decay
        self.clip_norm = clip_norm
        self.averages = {name: keras.metrics.Mean(name) for name in _AVERAGES}
        self.averages["mask_std"] = _Deviation("mask_std")

    def call(self, images, training=False):
        if self.encoder is None:
            maps = self.classifier(images, training=training)["maps"]
        else:
            maps = self.encoder(images, training=training)
        return self.decoder(maps, training=training)

    def compile(self, classifier_optimizer, decoder_optimizer, **kwargs):
        """Take the two optimizers, and build them, so that a checkpoint restores them whole.

        Raises ValueError for steps_per_execution: snapshots are taken between steps.
        """
        if kwargs.get("steps_per_execution", 1) != 1:
            raise ValueError("steps_per_execution is 1: snapshots are taken between steps")
        super().compile(optimizer=None, **kwargs)
        self.classifier_optimizer = classifier_optimizer
        self.decoder_optimizer = decoder_optimizer
        classifier_optimizer.build(self.classifier.trainable_variables)
        decoder_optimizer.build(self.mask_variables)

    @property
    def mask_variables(self):
        """theta_m: the decoder's weights, and those of a separate encoder."""
        encoder = [] if self.encoder is None else self.encoder.trainable_variables
        return self.decoder.trainable_variables + encoder

    def find_step(self, data, run=steps.call):
        step = self.decoder_optimizer.iterations
        count = run(steps.images_of_all, data)

        def with_past(data, count):
            return self._gradients(data, count, past=self.snapshots.draw(step))

        # f', the same on all replicas.
        if self.snapshots.capacity == 0:
            return run(self._gradients, data, count)
        return tf.cond(
            self.snapshots.draws_past(step),
            lambda: run(with_past, data, count),
            lambda: run(self._gradients, data, count),
        )

    def take_step(self, found):
        # theta_f  <-  theta_f - eta_f grad L
        if not self.snapshots.thinning.fixed:
            gradients = found["classifier"]
            self._apply(self.classifier_optimizer, gradients, self.classifier.trainable_variables)
        # theta_m  <-  theta_m + eta_m grad S
        # Clipped is the gradient of all images; the optimizer then sums over the replicas again.
        context = tf.distribute.get_replica_context()
        gradients = context.all_reduce("sum", found["mask"])
        gradients, _ = tf.clip_by_global_norm(gradients, self.clip_norm)
        gradients = [gradient / context.num_replicas_in_sync for gradient in gradients]
        self._apply(self.decoder_optimizer, gradients, self.mask_variables)
        steps.assign_on_all(self._statistics, found["statistics"])
        return self.update_averages(found["values"])

    def test_step(self, data):
        images, labels = data
        _, _, values = self._objectives(images, labels, past=None, training=False)
        return self.update_averages(values)

    @property
    def state(self):
        networks = {"classifier": self.classifier, "decoder": self.decoder, "encoder": self.encoder}
        return {
            **{name: network.variables for name, network in networks.items() if network},
            "classifier_optimizer": self.classifier_optimizer.variables,
            "decoder_optimizer": self.decoder_optimizer.variables,
            "snapshots": [self.snapshots.stored, *self.snapshots.slots],
        }

    @property
    def _statistics(self):
        """BatchNorm's, of the networks that are trained."""
        networks = [self.decoder, self.encoder]
        if not self.snapshots.thinning.fixed:
            networks.append(self.classifier)
        return [x for network in networks if network for x in network.non_trainable_variables]

    def _gradients(self, data, count, past=None):
        """The gradients of L and of -S at one point, this replica's share of the mean over all."""
        with (
            keras.StatelessScope() as scope,  # What BatchNorm would assign is kept for `take_step`.
            tf.GradientTape() as mask_tape,
            tf.GradientTape() as classifier_tape,
        ):
            loss, score, values = self._objectives(*data, past, training=True)
            loss = tf.reduce_sum(loss) / count
            negative_score = -tf.reduce_sum(score) / count
        variables = [] if self.snapshots.thinning.fixed else self.classifier.trainable_variables
        of_classifier = classifier_tape.gradient(loss, variables)
        of_mask = mask_tape.gradient(negative_score, self.mask_variables)
        statistics = steps.assigned(scope, self._statistics)
        found = (loss, negative_score, *of_classifier, *of_mask, *statistics)
        return {
            "classifier": of_classifier,
            "mask": of_mask,
            "statistics": statistics,
            "values": values,
            "refused": steps.is_not_finite(*found),
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
        critic_logits = masked_logits if past is None else self._past(past, masked_images)

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
        score = evidence + self._lambda_size() * size - self.lambda_variation * variation

        mean_mask = objectives.mean_mask(masks)
        values = {
            "classifier_loss": loss,
            "score": score,
            "evidence": evidence,
            "size": size,
            "accuracy": clean_right,
            "accuracy_masked_out": masked_right,
            "mask_mean": mean_mask,
            "mask_std": mean_mask,
            "mask_entropy": objectives.mask_entropy(masks),
            "mask_tv": variation,
            "snapshots": tf.fill(tf.shape(loss), tf.cast(self.snapshots.held(), tf.float32)),
        }
        return loss, score, values

    def _lambda_size(self):
        """lambda_R at this step."""
        first, steps = self.first_lambda
        if steps == 0:
            return self.lambda_size
        return tf.where(self.decoder_optimizer.iterations < steps, first, self.lambda_size)

    def _past(self, weights, images):
        """Logits of a past classifier; the present one's weights and statistics do not move."""
        count = len(self.classifier.trainable_variables)
        outputs, _ = self.classifier.stateless_call(
            weights[:count], weights[count:], images, training=False
        )
        return outputs["logits"]

    def _apply(self, optimizer, gradients, variables):
        # The optimizer sums over replicas: each adds its share of the decay.
        decay = self.weight_decay / tf.distribute.get_strategy().num_replicas_in_sync
        pairs = zip(gradients, variables, strict=True)
        optimizer.apply([g + decay * v for g, v in pairs], variables)

    def inference_model(self):
        """Images -> {"mask", "logits"} as one functional model that shares these weights."""
        images = self.classifier.input
        outputs = self.classifier.output
        maps = outputs["maps"] if self.encoder is None else self.encoder(images)
        return keras.Model(images, {"mask": self.decoder(maps), "logits": outputs["logits"]})

    def remember(self, step):
        """Keep the classifier as it is after `step` steps, if it is due; outside `strategy.run`."""
        if self.snapshots.thinning.is_due(step):
            self.snapshots.store(self.classifier)

    def fit(self, *args, callbacks=(), **kwargs):
        """As `keras.Model.fit`; the snapshots are taken between its steps."""
        return super().fit(*args, callbacks=[*(callbacks or ()), _Remember()], **kwargs)


class _Deviation(keras.metrics.Metric):
    """The standard deviation of all values since the last reset, ddof 0."""

    def __init__(self, name):
        super().__init__(name=name)
        self.mean = keras.metrics.Mean("mean")
        self.mean_square = keras.metrics.Mean("mean_square")

    def update_state(self, values):
        self.mean.update_state(values)
        self.mean_square.update_state(tf.square(values))

    def result(self):
        variance = self.mean_square.result() - self.mean.result() ** 2
        return tf.sqrt(tf.nn.relu(variance))  # a rounding error may make it negative


class _Remember(keras.callbacks.Callback):
    """Takes the snapshots in `fit`, where the training loop of training.py would."""

    def on_train_begin(self, logs=None):
        self.step = int(self.model.decoder_optimizer.iterations)
        if self.step == 0:  # a later one was looked at when it was taken
            self.model.remember(0)

    def on_train_batch_end(self, batch, logs=None):
        self.step += 1
        self.model.remember(self.step)
