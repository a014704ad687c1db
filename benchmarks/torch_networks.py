"""torchvision's ResNets and the original decoder in PyTorch: what casm_tf's networks are held to.

Names and structure are theirs, so that their state dicts are those of the published files.
"""

import torch
from torch import nn

torch.set_num_threads(1)  # on a busy machine its threads wait for one another

BLOCKS = {
    "resnet18": (2, 2, 2, 2),
    "resnet34": (3, 4, 6, 3),
    "resnet50": (3, 4, 6, 3),
    "resnet101": (3, 4, 23, 3),
}


class Block(nn.Module):
    """torchvision's BasicBlock or Bottleneck."""

    def __init__(self, inputs, width, stride, bottleneck):
        super().__init__()
        outputs = 4 * width if bottleneck else width
        # (outputs, size, stride) of each convolution
        plan = (
            [(width, 1, 1), (width, 3, stride), (outputs, 1, 1)]
            if bottleneck
            else [(width, 3, stride), (width, 3, 1)]
        )
        self.count, channels = len(plan), inputs
        for number, (filters, size, step) in enumerate(plan, 1):
            convolution = nn.Conv2d(channels, filters, size, step, size // 2, bias=False)
            setattr(self, f"conv{number}", convolution)
            setattr(self, f"bn{number}", nn.BatchNorm2d(filters))
            channels = filters
        self.downsample = None
        if stride > 1 or inputs != outputs:
            convolution = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.downsample = nn.Sequential(convolution, nn.BatchNorm2d(outputs))

    def forward(self, x):
        shortcut = x if self.downsample is None else self.downsample(x)
        for number in range(1, self.count + 1):
            x = getattr(self, f"bn{number}")(getattr(self, f"conv{number}")(x))
            if number < self.count:
                x = torch.relu(x)
        return torch.relu(x + shortcut)


class ResNet(nn.Module):
    """torchvision's: images [B, 3, H, W] -> logits, and the five maps that the decoder reads."""

    def __init__(self, architecture, classes):
        super().__init__()
        bottleneck = architecture in ("resnet50", "resnet101")
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        channels = 64
        for stage, blocks in enumerate(BLOCKS[architecture], 1):
            width, layer = 32 * 2**stage, []
            for number in range(blocks):
                stride = 2 if stage > 1 and number == 0 else 1
                layer.append(Block(channels, width, stride, bottleneck))
                channels = 4 * width if bottleneck else width
            setattr(self, f"layer{stage}", nn.Sequential(*layer))
        self.fc = nn.Linear(channels, classes)

    def forward(self, images):
        x = torch.relu(self.bn1(self.conv1(images)))
        maps = [nn.functional.max_pool2d(x, 3, 2, 1)]
        for stage in range(1, 5):
            maps.append(getattr(self, f"layer{stage}")(maps[-1]))
        return self.fc(maps[-1].mean((2, 3))), maps


class Decoder(nn.Module):
    """The original's: five maps -> mask [B, 1, 4 H, 4 W] in [0, 1]."""

    def __init__(self, channels=(256, 512, 1024, 2048)):
        super().__init__()
        for stage, inputs in enumerate(channels, 1):
            layers = [nn.Conv2d(inputs, 64, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
            setattr(self, f"conv1x1_{stage}", nn.Sequential(*layers))
        self.final = nn.Sequential(nn.Conv2d(64 + 4 * 64, 1, 3, padding=1))

    def forward(self, maps):
        levels = [maps[0]]
        for stage, x in enumerate(maps[1:], 1):
            x = getattr(self, f"conv1x1_{stage}")(x)
            scale = 2 ** (stage - 1)
            levels.append(
                nn.functional.interpolate(
                    x, scale_factor=scale, mode="bilinear", align_corners=False
                )
            )
        mask = torch.sigmoid(self.final(torch.cat(levels, 1)))
        return nn.functional.interpolate(mask, scale_factor=4, mode="nearest")


class Pair:
    """A classifier and its decoder, and what they answer and learn.

    Images, masks and arrays of weights are numpy's, images and masks [B, H, W, C]; all is computed
    in `dtype`.
    """

    def __init__(self, architecture, classes, dtype=torch.float32):
        self.dtype = dtype
        self.classifier = ResNet(architecture, classes)
        width = 256 if architecture in ("resnet50", "resnet101") else 64
        self.decoder = Decoder([width * 2**stage for stage in range(4)])
        self.modules = [module.to(dtype) for module in (self.classifier, self.decoder)]

    def state_dicts(self):
        """The two state dicts as arrays, without the counters."""
        return [
            {
                name: value.numpy().copy()
                for name, value in module.state_dict().items()
                if value.ndim
            }
            for module in self.modules
        ]

    def load(self, states):
        """Take the weights of two state dicts of arrays."""
        for module, state in zip(self.modules, states, strict=True):
            tensors = {name: torch.from_numpy(value) for name, value in state.items()}
            missing, left_over = module.load_state_dict(tensors, strict=False)
            assert not left_over
            assert all(name.endswith("num_batches_tracked") for name in missing)

    def answers(self, images):
        """Logits and masks in eval mode."""
        for module in self.modules:
            module.eval()
        with torch.no_grad():
            return [output.numpy() for output in self._outputs(images)]

    def sgd_step(self, images, labels, weights, rate):
        """One step of SGD in train mode on the cross-entropy plus the mean of weights * mask."""
        parameters = [p for module in self.modules for p in module.train().parameters()]
        logits, masks = self._outputs(images)
        loss = nn.functional.cross_entropy(logits, torch.from_numpy(labels))
        (loss + (self._tensor(weights) * masks).mean()).backward()
        torch.optim.SGD(parameters, rate).step()

    def _outputs(self, images):
        logits, maps = self.classifier(self._tensor(images).permute(0, 3, 1, 2))
        return logits, self.decoder(maps).permute(0, 2, 3, 1)

    def _tensor(self, array):
        return torch.from_numpy(array).to(self.dtype)
