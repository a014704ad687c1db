"""Classifier-agnostic saliency map extraction: Algorithm 1 of Zolna, Geras and Cho (CVIU 2020)."""

import tensorflow as tf

from casm_tf import lambdas, networks, objectives
from casm_tf.stepwise import Stepwise

# Averages over images; `accuracy_masked_out` is the critic's, in training often a past one's.
_WATCHED = (
    *("classifier_loss", "score", "evidence", "size", "accuracy", "accuracy_masked_out"),
    *("mask_mean", "mask_entropy", "mask_tv", "lambda_size", "snapshots"),
)


class CASM(Stepwise):
    """A mask model and the classifier it is trained against.

    Calling it gives the masks of images, float32 [B, H, W, 3] -> [B, H, W, 1] in [0, 1].
    Training takes batches (images, labels) and alternates the two networks:

        for k = 1, 2, ...
            theta_f  <-  theta_f - eta_f grad L(m, f)       the classifier, eq. (8) or (3)
            F^(k)    <-  thinned F^(k-1) with f             `remember`
            f'       <-  drawn from F^(k)                   `run_step`, `critic`
            theta_m  <-  theta_m + eta_m grad S(m, f')      the mask's decoder, eq. (7)

    Args:
        classifier: images -> {"logits", "maps"}, of `networks.classifier`; trained already.
        decoder: maps -> mask, of `networks.decoder`.
        snapshots: the `Snapshots` of the classifier, made outside a strategy's scope; with thinning
            F the classifier is fixed, the paper's baseline.
        encoder: images -> maps, trained with the decoder; None shares the classifier's maps, and
            then no gradient of the mask's objective reaches them.
        teacher: None, or the classifier as it was before the alternation, a network of its own that
            never moves: then the target of an image is what it predicts on that very view, and
            labels are not looked at (docs/method.md).
        further_critics: of other architectures, images -> logits, which never move; each is drawn
            as often as the classifier, present and kept.
        score: "entropy" (E) or "classification" (C), what the decoder maximises.
        size: "adaptive" (the original code) or "l1" (eq. 7).
        lambda_size: lambda_R, the size term's weight, at least 0; or a schedule, step -> number; or
            a `lambdas.Multiplier`, which finds that for masks of a chosen size.
        lambda_variation: the weight of the total variation, at least 0.
        masked_in_weight: of the critic's loss on masked-in images, at least 0 (0: the paper).
        fill: what is seen where the mask hides an image; `objectives.filling`.
        classifier_form: "both" (eq. 8) or "masked" (eq. 3).
        masked_steps: "always", the classifier learns from the masked images at every step (the
            paper), or "present", only where it is itself the critic (the original code; cheaper).
        weight_decay: of both networks, added to the gradient (L2, as PyTorch's).
        clip_norm: the largest norm of the decoder's gradient.

    Raises ValueError for another choice, a negative weight, or steps without any loss:
    `classifier_form` "masked" with `masked_steps` "present".
    """

    def __init__(
        self,
        classifier,
        decoder,
        snapshots,
        encoder=None,
        teacher=None,
        further_critics=(),
        *,
        score="entropy",
        size="adaptive",
        lambda_size=10.0,
        lambda_variation=0.0,
        masked_in_weight=0.0,
        fill="mean",
        classifier_form="both",
        masked_steps="always",
        weight_decay=1e-4,
        clip_norm=10.0,
    ):
        super().__init__("casm", _WATCHED)
        objectives.check_choices(score=score, size=size, fill=fill)
        objectives.check_choices(classifier_form=classifier_form, masked_steps=masked_steps)
        self.lambda_size = lambdas.made(lambda_size)
        weights = (self.lambda_size(0), lambda_variation, masked_in_weight, weight_decay, clip_norm)
        if min(weights) < 0:
            raise ValueError(
                f"lambda_size and the other weights are at least 0; found {min(weights)}"
            )

        self.classifier = classifier
        self.at_rest = networks.AtRest(classifier)
        self.decoder = decoder
        self.encoder = encoder
        self.teacher = teacher
        if teacher is not None:
            teacher.trainable = False
        self.teacher_at_rest = teacher and networks.AtRest(teacher)
        self.further_critics = tuple(further_critics)
        self.snapshots = snapshots
        self.is_fixed = snapshots.thinning.fixed
        self.score = score
        self.size = size
        self.lambda_variation = lambda_variation
        self.masked_in_weight = masked_in_weight
        self.fill = fill
        self.classifier_form = classifier_form
        self.masked_steps = masked_steps
        self.weight_decay = weight_decay
        self.clip_norm = clip_norm

    def call(self, images, training=False):
        if self.encoder is None:
            maps = self.classifier(images, training=training)["maps"]
        else:
            maps = self.encoder(images, training=training)
        return self.decoder(maps, training=training)

    def compile(self, classifier_optimizer, decoder_optimizer, **kwargs):
        """Take the two optimizers, and build them, so that a checkpoint restores them whole."""
        super().compile(**kwargs)
        self.classifier_optimizer = classifier_optimizer
        self.decoder_optimizer = decoder_optimizer
        classifier_optimizer.build(self.classifier.trainable_variables)
        decoder_optimizer.build(self.mask_variables)

    @property
    def steps_taken(self):
        """The one clock, of rates, draws and lambda_R: steps of the alternation, an int tensor."""
        return self.decoder_optimizer.iterations

    @property
    def classifier_variables(self):
        """theta_f: the classifier's weights; none with thinning F."""
        return [] if self.is_fixed else self.classifier.trainable_variables

    @property
    def mask_variables(self):
        """theta_m: the decoder's weights, and those of a separate encoder."""
        encoder = [] if self.encoder is None else self.encoder.trainable_variables
        return self.decoder.trainable_variables + encoder

    def train_step(self, data, kind=0):
        """A step of Algorithm 1 on this replica's part of a batch (images, labels).

        `kind` is the critic's: 0 the present classifier, 1 a kept one, then further ones. Returns
        {"finite": 1.0, or 0.0 where a loss, a gradient or a statistic is NaN or above 1e19}.
        """
        images, labels = data
        replicas = tf.distribute.get_replica_context()
        count = replicas.all_reduce("sum", tf.cast(tf.shape(images)[0], tf.float32))
        # f'  <-  drawn from F^(k)
        critic = self.critic(kind)

        # Both gradients are those at this point: the tapes hold the weights as they are now.
        with tf.GradientTape() as classifier_tape, tf.GradientTape() as mask_tape:
            values = self._objectives(images, labels, training=True, critic=critic)
            loss = tf.reduce_sum(values["classifier_loss"]) / count
            negative_score = -tf.reduce_sum(values["score"]) / count

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
        self.lambda_size.move(
            replicas.all_reduce("sum", tf.reduce_sum(values["mask_mean"])) / count
        )

        moved = [self.decoder, self.encoder, None if self.is_fixed else self.classifier]
        numbers += networks.share_statistics(*filter(None, moved))
        self.watch(values)
        return {"finite": tf.cast(tf.math.is_finite(tf.linalg.global_norm(numbers)), tf.float32)}

    @property
    def state(self):
        trained = {"classifier": self.classifier, "decoder": self.decoder, "encoder": self.encoder}
        return {
            **{name: network.variables for name, network in trained.items() if network},
            "classifier_optimizer": self.classifier_optimizer.variables,
            "decoder_optimizer": self.decoder_optimizer.variables,
            "lambda_size": self.lambda_size.variables,
            "snapshots": [self.snapshots.stored, *self.snapshots.slots],
        }

    def _objectives(self, images, labels, training, critic=None):
        """L ("classifier_loss"), S ("score") and what else is watched: {name: float32 [B]}."""
        if self.teacher is not None:
            labels = objectives.predicted(self.teacher_at_rest(images))
        moves = training and not self.is_fixed
        clean = self.classifier(images, training=moves)
        if self.encoder is None:
            maps = [tf.stop_gradient(x) for x in clean["maps"]]
        else:
            maps = self.encoder(images, training=training)
        masks = self.decoder(maps, training=training)
        filling = objectives.filling(images, self.fill, self.snapshots.seed, self.steps_taken)
        masked_images = objectives.masked_out(images, masks, filling)

        loss = objectives.cross_entropy(clean["logits"], labels)
        if critic is None or self.masked_steps == "always":
            critic_logits = self.classifier(masked_images, training=moves)["logits"]
            masked_loss = objectives.cross_entropy(critic_logits, labels)
            loss = objectives.classifier_loss(loss, masked_loss, self.classifier_form)
        if critic is not None:
            critic_logits = critic(masked_images)

        clean_right = objectives.is_right(clean["logits"], labels)
        masked_right = objectives.is_right(critic_logits, labels)
        evidence = objectives.evidence(critic_logits, labels, clean_right, self.score)
        size = objectives.size(masks, clean_right, masked_right, self.size)
        variation = objectives.total_variation(masks)
        lambda_size = tf.cast(self.lambda_size(self.steps_taken), tf.float32)
        score = evidence + lambda_size * size - self.lambda_variation * variation
        if self.masked_in_weight:
            logits = (critic or self.at_rest)(objectives.masked_in(images, masks, filling))
            score -= self.masked_in_weight * objectives.cross_entropy(logits, labels)
        return {
            "classifier_loss": loss,
            "score": score,
            "evidence": evidence,
            "size": size,
            "accuracy": clean_right,
            "accuracy_masked_out": masked_right,
            "mask_mean": objectives.mean_mask(masks),
            "mask_entropy": objectives.mask_entropy(masks),
            "mask_tv": variation,
            "lambda_size": tf.fill(tf.shape(loss), lambda_size),
            "snapshots": tf.fill(tf.shape(loss), tf.cast(self.snapshots.held(), tf.float32)),
        }

    def _apply(self, optimizer, gradients, variables):
        # The optimizer sums over replicas: each adds its share of the decay.
        decay = self.weight_decay / tf.distribute.get_strategy().num_replicas_in_sync
        gradients = [g + decay * v for g, v in zip(gradients, variables, strict=True)]
        optimizer.apply(gradients, variables)

    def critic(self, kind):
        """f' of a kind, as `train_step` takes it: images -> logits, or None for the present one."""
        if kind == 0:
            return None
        if kind > 1:
            return self.further_critics[kind - 2]
        weights = self.snapshots.draw(self.steps_taken)
        return lambda images: self.at_rest(images, weights)

    def run_step(self, data):
        """`train_step` on all replicas, with a critic of the kind that is drawn here.

        A replica cannot speak with the others inside of a branch.
        """
        others = len(self.further_critics)
        if self.snapshots.capacity == others == 0:
            return self.on_replicas(data)
        kinds = [lambda kind=kind: self.on_replicas(data, kind) for kind in range(2 + others)]
        return tf.switch_case(self.snapshots.draw_kind(self.steps_taken, others), kinds)

    def remember(self, step):
        """Keep the classifier as it is after `step` steps, if it is due; outside `strategy.run`."""
        if self.snapshots.thinning.is_due(step):
            self.snapshots.store(self.classifier)
