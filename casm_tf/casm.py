"""Classifier-agnostic saliency map extraction: Algorithm 1 of Zolna, Geras and Cho (CVIU 2020)."""

import keras
import tensorflow as tf

from casm_tf import objectives
from casm_tf.thinning import Snapshots, Thinning

_AVERAGES = (
    "classifier_loss",
    "score",
    "evidence",
    "size",
    "total_variation",
    "accuracy_clean",
    "accuracy_masked",
    "mask_mean",
)


class CASM(keras.Model):
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
        encoder: images -> maps, trained with the decoder; None shares the classifier's maps, and
            then no gradient of the mask's objective reaches them.
        thinning: which past classifiers are kept and drawn. With `Thinning.named("F")` the classifier
            is fixed: the paper's baseline.
        score: "entropy" (E) or "classification" (C), what the decoder maximises.
        size: "adaptive" (the original code) or "l1" (eq. 7).
        lambda_size: the weight lambda_R of the size term, at least 0.
        lambda_variation: the weight of the total variation, at least 0.
        classifier_form: "both" (eq. 8) or "masked" (eq. 3).
        masked_steps: "always", the classifier learns from the masked images at every step (the
            paper), or "present", only where it is itself the critic (the original code; cheaper).
        weight_decay: of both networks, added to the gradient (L2, as PyTorch's).
        clip_norm: the largest norm of the decoder's gradient.
        seed: of the draws from the snapshots.
    """

    def __init__(
        self,
        classifier,
        decoder,
        encoder=None,
        *,
        thinning=Thinning.named("L100"),
        score="entropy",
        size="adaptive",
        lambda_size=10.0,
        lambda_variation=0.0,
        classifier_form="both",
        masked_steps="always",
        weight_decay=1e-4,
        clip_norm=10.0,
        seed=0,
    ):
        super().__init__(name="casm")
        self.classifier = classifier
        self.decoder = decoder
        self.encoder = encoder
        self.thinning = thinning
        self.score = score
        self.size = size
        self.lambda_size = lambda_size
        self.lambda_variation = lambda_variation
        self.classifier_form = classifier_form
        self.masked_steps = masked_steps
        self.weight_decay = weight_decay
        self.clip_norm = clip_norm
        self.snapshots = Snapshots(classifier, thinning, seed)
        self.averages = {name: keras.metrics.Mean(name) for name in _AVERAGES}

    def call(self, images, training=False):
        if self.encoder is None:
            maps = self.classifier(images, training=training)["maps"]
        else:
            maps = self.encoder(images, training=training)
        return self.decoder(maps, training=training)

    def compile(self, classifier_optimizer, decoder_optimizer, **kwargs):
        """Take the two optimizers, and build them, so that a checkpoint restores them whole."""
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

    def train_step(self, data):
        images, labels = data
        step = self.decoder_optimizer.iterations
        if self.snapshots.capacity == 0:
            gradients = self._gradients(images, labels, None)
        else:
            gradients = tf.cond(
                self.snapshots.draws_past(step),
                lambda: self._gradients(images, labels, self.snapshots.draw(step)),
                lambda: self._gradients(images, labels, None),
            )
        classifier_gradients, mask_gradients, values = gradients
        if not self.thinning.fixed:
            self._apply(
                self.classifier_optimizer, classifier_gradients, self.classifier.trainable_variables
            )
        mask_gradients, _ = tf.clip_by_global_norm(mask_gradients, self.clip_norm)
        self._apply(self.decoder_optimizer, mask_gradients, self.mask_variables)
        return self._update_averages(values)

    def _gradients(self, images, labels, past):
        """The gradients of L and of -S, and what they were; the critic f' has the weights `past`,
        or is the present classifier where that is None."""
        moves = not self.thinning.fixed
        sees_masked = past is None or self.masked_steps == "always"

        with tf.GradientTape() as mask_tape, tf.GradientTape() as classifier_tape:
            clean = self.classifier(images, training=moves)
            if self.encoder is None:
                maps = [tf.stop_gradient(x) for x in clean["maps"]]
            else:
                maps = self.encoder(images, training=True)
            masks = self.decoder(maps, training=True)
            masked_images = objectives.masked_out(images, masks)
            if sees_masked:
                masked_logits = self.classifier(masked_images, training=moves)["logits"]
            critic_logits = masked_logits if past is None else self._past(past, masked_images)

            clean_loss = objectives.cross_entropy(clean["logits"], labels)
            if sees_masked:
                masked_loss = objectives.cross_entropy(masked_logits, labels)
                classification = objectives.classifier_loss(
                    clean_loss, masked_loss, self.classifier_form
                )
            else:
                classification = clean_loss

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
            score = evidence + self.lambda_size * size - self.lambda_variation * variation

            # Gradients are summed over replicas, so each takes its share of the mean.
            replicas = tf.distribute.get_strategy().num_replicas_in_sync
            loss = tf.reduce_mean(classification) / replicas
            negative_score = -tf.reduce_mean(score) / replicas

        variables = self.classifier.trainable_variables if moves else []
        values = {
            "classifier_loss": classification,
            "score": score,
            "evidence": evidence,
            "size": size,
            "total_variation": variation,
            "accuracy_clean": clean_right,
            "accuracy_masked": masked_right,
            "mask_mean": objectives.mean_mask(masks),
        }
        return (
            classifier_tape.gradient(loss, variables),
            mask_tape.gradient(negative_score, self.mask_variables),
            {name: tf.reduce_mean(value) for name, value in values.items()},
        )

    def _past(self, weights, images):
        """Logits of a past classifier; the present one's weights and statistics stay as they are."""
        count = len(self.classifier.trainable_variables)
        outputs, _ = self.classifier.stateless_call(
            weights[:count], weights[count:], images, training=False
        )
        return outputs["logits"]

    def _apply(self, optimizer, gradients, variables):
        pairs = zip(gradients, variables, strict=True)
        optimizer.apply([g + self.weight_decay * v for g, v in pairs], variables)

    def _update_averages(self, values):
        for name, value in values.items():
            self.averages[name].update_state(value)
        return {name: average.result() for name, average in self.averages.items()}

    def remember(self, step):
        """Keep the classifier as it is after `step` steps, if it is due; outside `strategy.run`."""
        if self.thinning.is_due(step):
            self.snapshots.store(self.classifier)

    def fit(self, *args, callbacks=(), **kwargs):
        """As `keras.Model.fit`; the snapshots are taken between its steps."""
        return super().fit(*args, callbacks=[*(callbacks or ()), _Remember()], **kwargs)


class _Remember(keras.callbacks.Callback):
    """Takes the snapshots in `fit`, where the training loop of training.py would."""

    def on_train_begin(self, logs=None):
        self.step = int(self.model.decoder_optimizer.iterations)
        self.model.remember(self.step)

    def on_train_batch_end(self, batch, logs=None):
        self.step += 1
        self.model.remember(self.step)
