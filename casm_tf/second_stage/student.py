"""The student: a mask model that learns fine masks from labels which no one drew."""

import keras
import tensorflow as tf

from casm_tf import networks, objectives
from casm_tf.stepwise import Stepwise

_CLIP_NORM = 5.0
_PREDICTION_SHARE = 0.05  # of its gradient that reaches the encoder
_ENCODER_SHARE = 0.1  # of the decoder's rate: the encoder knows a lot already


class Student(Stepwise):
    """A classifier and its decoder, trained on labels between 0 and 1.

    The encoder is trained with the decoder, and to predict of a picture what the classifier did
    before, so that its labels stay good. That would cost masks: the layers behind the last map
    learn it in full, those before it by a twentieth. The normalizations do not move: they do not
    depend on the batch.

    Args:
        classifier: images -> {"logits", "maps"}, of `networks.classifier`; it is moved.
        decoder: maps -> mask, of `networks.fine_decoder`.
        rate: the decoder's, a schedule of Keras's; the encoder's is a tenth of it.
    """

    def __init__(self, classifier, decoder, rate):
        super().__init__("student", ("loss", "cross_entropy", "overlap", "mask_mean", "accuracy"))
        self.compile()
        networks.freeze_normalizations(classifier)
        self.classifier = classifier
        self.decoder = decoder
        self.open_classifier = networks.on_open_inputs(classifier)
        self.open_decoder = networks.on_open_inputs(decoder)
        self.open_head = networks.on_open_inputs(
            keras.Model(classifier.output["maps"][-1], classifier.output["logits"])
        )
        # AdamW takes steps of a size of its own, whatever the gradient's: each has its optimizer.
        self.classifier_optimizer = keras.optimizers.AdamW(
            _Share(rate, _ENCODER_SHARE), weight_decay=1e-4
        )
        self.decoder_optimizer = keras.optimizers.AdamW(rate, weight_decay=1e-4)
        self.classifier_optimizer.build(classifier.trainable_variables)
        self.decoder_optimizer.build(decoder.trainable_variables)

    def call(self, images, training=False):
        """Images of any size that the classifier takes -> {"mask", "logits"}."""
        maps = self.open_classifier(images, training=training)["maps"]
        return {
            "mask": self.open_decoder(maps, training=training),
            "logits": self.open_head(_held(maps[-1]), training=training),
        }

    @property
    def steps_taken(self):
        return self.decoder_optimizer.iterations

    def train_step(self, data):
        """A step on this replica's part of a batch; `CASM.train_step`'s dict.

        `data` are images, labels float32 [B, S, S, 1], and predictions: {"label", "prediction"}.
        """
        replicas = tf.distribute.get_replica_context()
        count = replicas.all_reduce("sum", tf.cast(tf.shape(data[0])[0], tf.float32))
        both = (self.classifier.trainable_variables, self.decoder.trainable_variables)
        with tf.GradientTape() as tape:
            values = self._objectives(*data, training=True)
            loss = tf.reduce_sum(values["loss"]) / count
        gradients = replicas.all_reduce("sum", tape.gradient(loss, both[0] + both[1]))
        gradients, norm = tf.clip_by_global_norm(gradients, _CLIP_NORM)
        # Each optimizer sums over the replicas again.
        gradients = [gradient / replicas.num_replicas_in_sync for gradient in gradients]
        self.classifier_optimizer.apply(gradients[: len(both[0])], both[0])
        self.decoder_optimizer.apply(gradients[len(both[0]) :], both[1])
        self.watch(values)
        numbers = [norm, loss, *networks.share_statistics(self.decoder)]
        return {"finite": tf.cast(tf.math.is_finite(tf.linalg.global_norm(numbers)), tf.float32)}

    @property
    def state(self):
        return {
            "classifier": self.classifier.variables,
            "decoder": self.decoder.variables,
            "classifier_optimizer": self.classifier_optimizer.variables,
            "decoder_optimizer": self.decoder_optimizer.variables,
        }

    def _objectives(self, images, targets, training):
        """What is minimised ("loss") and what else is watched: {name: float32 [B]}.

        CE(m, label)  +  1 - |m label| / |m + label - m label|  +  CE(f(x), prediction)
        """
        labels, predictions = targets["label"], targets["prediction"]
        outputs = self(images, training=training)
        masks, logits = outputs["mask"], outputs["logits"]
        entropy = tf.reduce_mean(keras.losses.binary_crossentropy(labels, masks), axis=(1, 2))
        both = tf.reduce_sum(masks * labels, axis=(1, 2, 3))
        either = tf.reduce_sum(masks + labels - masks * labels, axis=(1, 2, 3))
        overlap = (both + 1) / (either + 1)
        kept = tf.nn.softmax_cross_entropy_with_logits(predictions, logits)
        return {
            "loss": entropy + 1 - overlap + kept,
            "cross_entropy": entropy,
            "overlap": overlap,
            "mask_mean": tf.reduce_mean(masks, axis=(1, 2, 3)),
            "accuracy": objectives.is_right(logits, objectives.predicted(predictions)),
        }


def _held(x):
    """`x`, of whose gradient a share comes back."""
    return _PREDICTION_SHARE * x + (1 - _PREDICTION_SHARE) * tf.stop_gradient(x)


class _Share(keras.optimizers.schedules.LearningRateSchedule):
    """A share of another schedule."""

    def __init__(self, schedule, share):
        self._schedule, self._share = schedule, share

    def __call__(self, step):
        return self._share * self._schedule(step)
