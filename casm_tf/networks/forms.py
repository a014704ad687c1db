"""Other forms of a network: copies, other maps, other inputs, layers that stay as they are."""

import keras

from casm_tf.networks.layers import BatchNormalization, OpenUpSampling2D

_NORMALIZATIONS = (BatchNormalization, keras.layers.BatchNormalization)


def copy(model):
    """A network of the same layers with weights of its own, which are the same now."""
    copied = keras.models.clone_model(model)
    copied.set_weights(model.get_weights())
    return copied


def encoder_copy(model):
    """A classifier's images -> maps as a network of its own, with the same weights."""
    copied = copy(model)
    return keras.Model(copied.input, copied.output["maps"], name="encoder")


def with_coarsest_maps(model, count):
    """A classifier with the same layers that gives its last `count` maps alone.

    Raises ValueError where it has fewer, or where their finest does not fit into the image.
    """
    maps = model.output["maps"]
    if count > len(maps):
        raise ValueError(f"{model.name} has {len(maps)} maps; found {count}")
    side, finest = model.input_shape[1], maps[-count].shape[1]
    if side % finest:
        raise ValueError(f"{side} pixels are no multiple of the finest map's {finest}")
    outputs = {**model.output, "maps": maps[-count:]}
    return keras.Model(model.input, outputs, name=model.name)


def with_finest_map(model):
    """A classifier with the same layers that gives a map of half the image's side first.

    That is the last of those with the fewest channels; without any, the classifier itself.
    """
    side, maps = model.input_shape[1] // 2, model.output["maps"]
    shapes = [
        layer.output for layer in model.layers if len(getattr(layer.output, "shape", ())) == 4
    ]
    found = [x for x in shapes if x.shape[1] == side]
    if maps[0].shape[1] == side or not found:
        return model
    fewest = min(x.shape[-1] for x in found)
    finest = [x for x in found if x.shape[-1] == fewest][-1]
    return keras.Model(model.input, {**model.output, "maps": [finest, *maps]}, name=model.name)


def on_open_inputs(model):
    """The same layers, not copies, on inputs whose height and width are left open."""
    inputs = [keras.Input((None, None, x.shape[-1]), name=x.name) for x in model.inputs]
    return keras.models.clone_model(
        model, inputs if len(inputs) > 1 else inputs[0], clone_function=_opened
    )


def _opened(layer):
    if isinstance(layer, keras.Model):
        return on_open_inputs(layer)
    if isinstance(layer, keras.layers.UpSampling2D):
        return OpenUpSampling2D.from_config(layer.get_config())
    return layer


def freeze_normalizations(model):
    """Keep a trained network's normalizations as they are, in training too, in place.

    Else they take the batch's statistics, and those of one kind of pictures are not what the
    network was trained with: it no longer knows what it knew.
    """
    for layer in model.layers:
        if isinstance(layer, _NORMALIZATIONS):
            layer.trainable = False


def synchronize_batch_normalization(model):
    """Take the means and variances of training over all replicas, in place; Keras's layers too."""
    for layer in model.layers:
        if isinstance(layer, _NORMALIZATIONS):
            layer.synchronized = True


def mask_model(classifier, decoder, encoder=None):
    """Images -> {"mask", "logits"} as one functional model that shares the networks' weights."""
    outputs = classifier.output
    maps = outputs["maps"] if encoder is None else encoder(classifier.input)
    return keras.Model(classifier.input, {"mask": decoder(maps), "logits": outputs["logits"]})
