"""Training steps in PyTorch, which casm_tf's are timed against: kind of critic -> one step.

Images are [B, H, W, 3] and labels [B], both numpy's. A step does not wait for a GPU to end it.
"""

import copy

import torch

from benchmarks.torch_networks import Decoder, EfficientNetLite, ResNet

KINDS = ("present", "past")


def original(images, labels, classes, memory_format, device="cpu", bfloat16=False):
    """ResNet-50's step as the original's code takes it; with `bfloat16` under autocast.

    A forward pass for the clean image, one for the masked image where the present classifier is
    the critic, one for the decoder's loss, and backward passes through all parameters, also those
    whose gradients are thrown away; in the order that present PyTorch accepts.
    """
    torch.manual_seed(0)
    classifier, decoder = _networks("resnet50", classes, memory_format, device)
    past = copy.deepcopy(classifier).eval()
    classifier_optimizer = torch.optim.SGD(
        classifier.parameters(), 1e-3, momentum=0.9, weight_decay=1e-4
    )
    decoder_optimizer = torch.optim.Adam(decoder.parameters(), 1e-3, weight_decay=1e-4)
    cross_entropy = torch.nn.CrossEntropyLoss()
    images = _tensor(images, memory_format, device)
    labels = torch.from_numpy(labels).to(device)
    classifier.train()
    decoder.train()

    def learn(logits):
        classifier_optimizer.zero_grad()
        cross_entropy(logits, labels).backward()
        classifier_optimizer.step()

    def step(kind):
        with torch.autocast(images.device.type, torch.bfloat16, enabled=bfloat16):
            clean, maps = classifier(images)
            right = clean.argmax(1) == labels
            learn(clean)
            mask = decoder([x.detach() for x in maps])
            masked = images * (1 - mask)
            if kind == "present":
                learn(classifier(masked.detach())[0])
            logits, _ = (past if kind == "past" else classifier)(masked)
            negative_score = _negative_score(right, logits, labels, mask)
        decoder_optimizer.zero_grad()
        classifier_optimizer.zero_grad()
        negative_score.backward()
        torch.nn.utils.clip_grad_norm_(decoder.parameters(), 10)
        decoder_optimizer.step()

    return step


def lean(architecture, images, labels, classes, device="cpu", bfloat16=False, compiled=False):
    """A step without a pass or a gradient too many, with channels_last.

    Each network's gradients alone, and one pass for the masked image, which serves both losses
    where the present classifier is the critic. With `labels` None a teacher gives them. With
    `bfloat16` networks compute under autocast, with `compiled` under torch.compile.
    """
    torch.manual_seed(0)
    classifier, decoder = _networks(architecture, classes, torch.channels_last, device)
    teacher = copy.deepcopy(classifier).eval()
    past = copy.deepcopy(teacher).requires_grad_(False)
    parameters, mask_parameters = list(classifier.parameters()), list(decoder.parameters())
    classifier_optimizer = torch.optim.SGD(
        parameters, 1e-3, momentum=0.9, weight_decay=1e-4, fused=True
    )
    decoder_optimizer = torch.optim.Adam(mask_parameters, 1e-3, weight_decay=1e-4, fused=True)
    cross_entropy = torch.nn.CrossEntropyLoss()
    images = _tensor(images, torch.channels_last, device)
    given = None if labels is None else torch.from_numpy(labels).to(device)
    if compiled:
        # The graph of a pass that two losses share is read twice.
        torch._functorch.config.donated_buffer = False
        for network in (classifier, decoder, teacher, past):
            network.compile()

    def passes(kind):
        """The two losses."""
        with torch.no_grad():
            labels = teacher(images)[0].argmax(1) if given is None else given
        clean, maps = classifier(images)
        right = clean.argmax(1) == labels
        mask = decoder([x.detach() for x in maps])
        logits, _ = (past if kind == "past" else classifier)(images * (1 - mask))
        loss = cross_entropy(clean, labels)
        if kind == "present":
            loss = (loss + cross_entropy(logits, labels)) / 2
        return loss, _negative_score(right, logits, labels, mask)

    def step(kind):
        with torch.autocast(images.device.type, torch.bfloat16, enabled=bfloat16):
            loss, negative_score = passes(kind)
        classifier_optimizer.zero_grad()
        decoder_optimizer.zero_grad()
        loss.backward(inputs=parameters, retain_graph=kind == "present")
        negative_score.backward(inputs=mask_parameters)
        torch.nn.utils.clip_grad_norm_(mask_parameters, 10)
        classifier_optimizer.step()
        decoder_optimizer.step()

    return step


def _networks(architecture, classes, memory_format, device):
    if architecture == "resnet50":
        classifier, decoder = ResNet("resnet50", classes), Decoder()
    else:
        classifier = EfficientNetLite(classes)
        decoder = Decoder(classifier.CHANNELS, stem=0, interpolation="bilinear")
    return [x.to(device, memory_format=memory_format) for x in (classifier, decoder)]


def _tensor(images, memory_format, device):
    images = torch.from_numpy(images.transpose(0, 3, 1, 2)).to(device)
    return images.contiguous(memory_format=memory_format)


def _negative_score(right, logits, labels, mask):
    log_p = torch.log_softmax(logits, 1)
    entropy = -(log_p.exp() * log_p).sum(1)
    fooled = right & (logits.argmax(1) != labels)
    size = torch.relu(fooled.float() - mask.mean((1, 2, 3)))
    return -(right * entropy).mean() - 10 * size.mean()
