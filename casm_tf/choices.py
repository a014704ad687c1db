"""The names that are chosen among, without TensorFlow: flags are read before it is imported."""

RESNETS = (
    *("small_resnet", "medium_resnet"),
    *("resnet18", "resnet34", "resnet50", "resnet101"),
)
EFFICIENTNETS_LITE = tuple(f"efficientnet_lite{n}" for n in range(5))
KERAS_NETWORKS = (
    *("mobilenet", "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large"),
    *(f"efficientnet_b{n}" for n in range(8)),
    *(f"efficientnet_v2_{size}" for size in ("b0", "b1", "b2", "b3", "s", "m", "l")),
    *(f"convnext_{size}" for size in ("tiny", "small", "base", "large", "xlarge")),
    *("densenet121", "densenet169", "densenet201"),
    *("keras_resnet50", "keras_resnet101", "keras_resnet152"),
    *("resnet50_v2", "resnet101_v2", "resnet152_v2"),
)
ARCHITECTURES = (*RESNETS, *EFFICIENTNETS_LITE, *KERAS_NETWORKS)

OBJECTIVES = {
    "score": ("entropy", "classification"),
    "size": ("adaptive", "l1"),
    "fill": ("mean", "blur", "noise", "shuffle"),
    "classifier_form": ("both", "masked"),
    "masked_steps": ("always", "present"),
}
STRATEGIES = ("auto", "one_device", "mirrored", "multi_worker")
PROTOCOLS = ("centre_crop", "squash")  # what is seen of a picture that is no square
PRETRAINED = "pretrained"  # among the runs that are compared: the model of the package
COMPARED = ("full_image", "centre_box", "cam", "grad_cam", "gradient", "smooth_gradient")
