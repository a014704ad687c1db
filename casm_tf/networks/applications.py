"""Networks of keras.applications as classifiers, without their heads' softmax.

Those with maps at strides 4, 8, 16 and 32. VGG's head is tied to one size of images, and the
maps of Inception, NASNet and Xception have no such strides.
"""

import re
import warnings

import keras
from keras import layers, ops

from casm_tf.networks.layers import head as last_layer

# Mean and deviation of pixels in [0, 1] that the networks take.
_GREY = (0.5,) * 3, (0.5,) * 3  # [-1, 1]
_HALVES = (128 / 255,) * 3, (128 / 255,) * 3  # pixels / 128 - 1
_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Blue, green and red in [0, 255] less these means; `classifier` undoes the deviation.
_CAFFE = tuple(mean / 255 for mean in (123.68, 116.779, 103.939)), _IMAGENET[1]

# Of each its name in keras.applications, and its mean and deviation.
NETWORKS = {
    "mobilenet": ("MobileNet", _GREY),
    "mobilenet_v2": ("MobileNetV2", _GREY),
    "mobilenet_v3_small": ("MobileNetV3Small", _GREY),
    "mobilenet_v3_large": ("MobileNetV3Large", _GREY),
    **{f"efficientnet_b{n}": (f"EfficientNetB{n}", _IMAGENET) for n in range(8)},
    **{f"efficientnet_v2_b{n}": (f"EfficientNetV2B{n}", _IMAGENET) for n in range(4)},
    "efficientnet_v2_s": ("EfficientNetV2S", _HALVES),
    "efficientnet_v2_m": ("EfficientNetV2M", _HALVES),
    "efficientnet_v2_l": ("EfficientNetV2L", _HALVES),
    "convnext_tiny": ("ConvNeXtTiny", _IMAGENET),
    "convnext_small": ("ConvNeXtSmall", _IMAGENET),
    "convnext_base": ("ConvNeXtBase", _IMAGENET),
    "convnext_large": ("ConvNeXtLarge", _IMAGENET),
    "convnext_xlarge": ("ConvNeXtXLarge", _IMAGENET),
    "densenet121": ("DenseNet121", _IMAGENET),
    "densenet169": ("DenseNet169", _IMAGENET),
    "densenet201": ("DenseNet201", _IMAGENET),
    "keras_resnet50": ("ResNet50", _CAFFE),
    "keras_resnet101": ("ResNet101", _CAFFE),
    "keras_resnet152": ("ResNet152", _CAFFE),
    "resnet50_v2": ("ResNet50V2", _GREY),
    "resnet101_v2": ("ResNet101V2", _GREY),
    "resnet152_v2": ("ResNet152V2", _GREY),
}
_STRIDES = (4, 8, 16, 32)
# The layers at the ends of blocks: a sum, else what ends a bottleneck, else all that MobileNet has.
_BLOCK_ENDS = re.compile(r"(^|_)(add(_\d+)?|out|concat|project_bn)$|^conv_pw_\d+_relu$", re.I)
_IMAGENET_CLASSES = 1000


def classifier(architecture, image_size, num_classes):
    """A classifier with four maps, at strides 4, 8, 16 and 32: what the last blocks there give.

    Args:
        architecture: a key of `NETWORKS`.
        image_size: height and width of the images in pixels, a multiple of 32.
        num_classes: how many logits.

    Returns:
        A `keras.Model`: images [B, H, W, 3], normalised as `NETWORKS` says -> {"logits": float32
        [B, num_classes], "maps": four maps, finest first}. Layers have Keras's names.
    """
    x = images = keras.Input((image_size, image_size, 3), name="images")
    is_caffe = NETWORKS[architecture][1] is _CAFFE
    if is_caffe:
        scale = [255 * deviation for deviation in reversed(_CAFFE[1])]
        x = layers.Rescaling(scale, dtype="float32", name="caffe")(ops.flip(x, axis=-1))
    network = _application(architecture, num_classes, input_tensor=x)
    # MobileNet's and MobileNetV3's is a convolution.
    head = last_layer(network)

    def own(layer):
        """A layer as it is to be here."""
        config = layer.get_config()
        if isinstance(layer, (layers.Rescaling, layers.Normalization)) and not is_caffe:
            # The images come normalised; and Keras loses a Normalization's numbers in copies.
            return layers.Identity(name=layer.name)
        if layer.name == head.name:
            config["dtype"] = "float32"
        return type(layer).from_config(config)

    outputs = {"logits": network.output, "maps": _maps(network, image_size)}
    model = keras.Model(images, outputs, name=architecture)
    return keras.models.clone_model(model, clone_function=own)


def fill(model, architecture, source):
    """Give a classifier published weights.

    Args:
        model: what `classifier` made.
        architecture: a key of `NETWORKS`.
        source: "imagenet", to be downloaded or found in Keras's cache, or the path of a .h5 file of
            Keras's, for ImageNet's 1,000 classes or the model's.

    Returns:
        Whether the head is the published one; if not, for another number of classes, it is as it
        was.

    Raises OSError where there is nothing to download and what `keras.Model.load_weights` raises.
    """
    num_classes = model.output["logits"].shape[1]
    published = (
        _downloaded(architecture)
        if source == "imagenet"
        else _read(architecture, source, num_classes)
    )
    *backbone, head = (layer for layer in model.layers if layer.weights)
    for layer in backbone:
        layer.set_weights(published.get_layer(layer.name).get_weights())
    weights = published.get_layer(head.name).get_weights()
    has_head = [w.shape for w in weights] == [tuple(w.shape) for w in head.weights]
    if has_head:
        head.set_weights(weights)
    return has_head


def _application(architecture, num_classes, weights=None, **arguments):
    make = getattr(keras.applications, NETWORKS[architecture][0])
    return make(weights=weights, classes=num_classes, classifier_activation=None, **arguments)


def _maps(network, image_size):
    """What the last block of each stride gives."""
    last = {}
    for operation in network.operations:
        if _BLOCK_ENDS.search(operation.name):
            last[image_size // operation.output.shape[1]] = operation.output
    return [last[stride] for stride in _STRIDES]


def _downloaded(architecture):
    try:
        with warnings.catch_warnings(action="ignore", category=UserWarning):
            return _application(architecture, _IMAGENET_CLASSES, "imagenet")
    except Exception as error:  # Keras raises no narrower one.
        url = re.search(r"https?://\S+\.h5", str(error))
        if url is None:
            raise OSError(f"the ImageNet weights of {architecture}: {error}") from error
        raise OSError(
            f"{url[0]} cannot be downloaded; put that file into ~/.keras/models, or into models in "
            "the directory KERAS_HOME, or give its path instead of imagenet"
        ) from error


def _read(architecture, path, num_classes):
    network = _application(architecture, num_classes)
    try:
        network.load_weights(path)
    except ValueError:
        network = _application(architecture, _IMAGENET_CLASSES)
        network.load_weights(path)
    return network
