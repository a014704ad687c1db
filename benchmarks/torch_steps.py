"""Steps of CASM in PyTorch: the original's, and one without a pass or a gradient too many.

Neither imports TensorFlow. Each function gives kind -> one step, where the kind "past" has an
earlier classifier as the critic and "present" the one that is trained.
"""

import copy

import torch

from benchmarks.torch_networks import Decoder, EfficientNetLite, ResNet


def original(images, labels, classes, memory_format=torch.contiguous_format, half=False):
    """ResNet-50's step as the original's code takes it, in the order that present PyTorch accepts.

    A forward pass for the clean image, one for the masked image where the present classifier is the
    critic, one for the decoder's loss, and backward passes through all parameters, also those whose
    gradients are thrown away.

    Args:
        images: float32 [B, 3, H, W], on the device that is to compute.
        labels: int64 [B], there.
        classes: how many logits.
        memory_format: of images and weights.
        half: whether operations that autocast knows are in bfloat16.
    """
    classifier, decoder = _networks("resnet50", classes, images.device, memory_format)
    past = copy.deepcopy(classifier).eval()
    classifier_optimizer, decoder_optimizer = _optimizers(classifier, decoder)
    images = images.contiguous(memory_format=memory_format)
    cross_entropy = torch.nn.CrossEntropyLoss()

    def learn(logits):
        classifier_optimizer.zero_grad()
        cross_entropy(logits, labels).backward()
        classifier_optimizer.step()

    def step(kind):
        with _autocast(images, half):
            clean, maps = classifier(images)
            right = clean.argmax(1) == labels
            learn(clean)
            mask = decoder([x.detach() for x in maps])
            masked = images * (1 - mask)
            if kind == "present":
                learn(classifier(masked.detach())[0])
            logits, _ = (past if kind == "past" else classifier)(masked)
            decoder_optimizer.zero_grad()
            classifier_optimizer.zero_grad()
            _negative_score(right, logits, labels, mask).backward()
            torch.nn.utils.clip_grad_norm_(decoder.parameters(), 10)
            decoder_optimizer.step()

    return step


def lean(images, labels, classes, architecture="resnet50", half=False, compiled=False):
    """The step of casm_tf, with channels_last: each network's gradients alone, nothing thrown away.

    One pass for the masked image serves both losses where the present classifier is the critic. Of
    EfficientNet-Lite0 the step is that of configs/photographs.flags: a teacher gives the labels.

    Arguments are as of `original`; with `compiled` torch.compile makes, in its default mode, one
    function of each kind's two forward passes and its losses.
    """
    is_lite = architecture == "efficientnet_lite0"
    classifier, decoder = _networks(architecture, classes, images.device, torch.channels_last)
    teacher = copy.deepcopy(classifier).eval()
    past = copy.deepcopy(teacher).requires_grad_(False)
    classifier_optimizer, decoder_optimizer = _optimizers(classifier, decoder, fused=True)
    parameters, mask_parameters = list(classifier.parameters()), list(decoder.parameters())
    images = images.contiguous(memory_format=torch.channels_last)
    cross_entropy = torch.nn.CrossEntropyLoss()

    def losses(kind):
        targets = labels
        if is_lite:
            with torch.no_grad():
                targets = teacher(images)[0].argmax(1)
        clean, maps = classifier(images)
        right = clean.argmax(1) == targets
        mask = decoder([x.detach() for x in maps])
        logits, _ = (past if kind == "past" else classifier)(images * (1 - mask))
        loss = cross_entropy(clean, targets)
        if kind == "present":
            loss = (loss + cross_entropy(logits, targets)) / 2
        return loss, _negative_score(right, logits, targets, mask)

    if compiled:
        losses = torch.compile(losses)

    def step(kind):
        with _autocast(images, half):
            loss, negative_score = losses(kind)
        gradients = torch.autograd.grad(loss, parameters, retain_graph=kind == "present")
        mask_gradients = torch.autograd.grad(negative_score, mask_parameters)
        for parameter, gradient in zip(
            [*parameters, *mask_parameters], [*gradients, *mask_gradients], strict=True
        ):
            parameter.grad = gradient
        torch.nn.utils.clip_grad_norm_(mask_parameters, 10)
        classifier_optimizer.step()
        decoder_optimizer.step()

    return step


def _networks(architecture, classes, device, memory_format):
    """A classifier and its decoder, in train mode."""
    torch.manual_seed(0)
    if architecture == "resnet50":
        classifier, decoder = ResNet(architecture, classes), Decoder()
    else:
        classifier = EfficientNetLite(classes)
        decoder = Decoder(classifier.CHANNELS, stem=0, interpolation="bilinear")
    return [
        network.to(device=device, memory_format=memory_format).train()
        for network in (classifier, decoder)
    ]


def _optimizers(classifier, decoder, **kwargs):
    return (
        torch.optim.SGD(classifier.parameters(), 1e-3, momentum=0.9, weight_decay=1e-4, **kwargs),
        torch.optim.Adam(decoder.parameters(), 1e-3, weight_decay=1e-4, **kwargs),
    )


def _autocast(images, half):
    return torch.autocast(images.device.type, torch.bfloat16, enabled=half)


def _negative_score(right, logits, labels, mask):
    log_p = torch.log_softmax(logits.float(), 1)
    entropy = -(log_p.exp() * log_p).sum(1)
    fooled = right & (logits.argmax(1) != labels)
    size = torch.relu(fooled.float() - mask.float().mean((1, 2, 3)))
    return -(right * entropy).mean() - 10 * size.mean()
