"""Classifiers and decoders in PyTorch: what casm_tf's networks are held to.

torchvision's ResNets, EfficientNet-Lite0 and the original's decoder. Names and structure are
theirs, so that their state dicts are those of the published files. And the student's decoder.
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


class EfficientNetLite(nn.Module):
    """EfficientNet-Lite0: images [B, 3, H, W] -> logits, and maps at strides 4, 8, 16 and 32."""

    CHANNELS = 24, 40, 112, 320  # of the maps

    def __init__(self, classes):
        super().__init__()
        # Of each stage: blocks, kernel, stride, expansion, channels.
        stages = (
            *((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80)),
            *((3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320)),
        )
        self._conv_stem = nn.Conv2d(3, 32, 3, 2, bias=False)
        self._bn0 = _tensorflow_normalization(32)
        self._blocks, self.map_blocks, channels = nn.ModuleList(), [], 32
        for stage, (blocks, size, stride, expansion, outputs) in enumerate(stages):
            for number in range(blocks):
                strides = stride if number == 0 else 1
                self._blocks.append(_LiteBlock(channels, outputs, size, strides, expansion))
                channels = outputs
            if stage in (1, 2, 4, 6):
                self.map_blocks.append(len(self._blocks) - 1)
        self._conv_head = nn.Conv2d(channels, 1280, 1, bias=False)
        self._bn1 = _tensorflow_normalization(1280)
        self._fc = nn.Linear(1280, classes)

    def forward(self, images):
        maps = self.maps(images)
        return self.head(maps[-1]), maps

    def maps(self, images):
        """Images -> maps, finest first; the last is the last block's."""
        x = _relu6(self._bn0(self._conv_stem(_pad(images, 3))))
        maps = []
        for number, block in enumerate(self._blocks):
            x = block(x)
            if number in self.map_blocks:
                maps.append(x)
        return maps

    def head(self, x):
        """The last map -> logits."""
        return self._fc(_relu6(self._bn1(self._conv_head(x))).mean((2, 3)))


class _LiteBlock(nn.Module):
    """1x1 to more channels, depthwise, 1x1 to fewer; a shortcut where the shape stays."""

    def __init__(self, inputs, outputs, size, stride, expansion):
        super().__init__()
        self.size, self.stride, self.expands = size, stride, expansion > 1
        self.has_shortcut = stride == 1 and inputs == outputs
        width = expansion * inputs
        if self.expands:
            self._expand_conv = nn.Conv2d(inputs, width, 1, bias=False)
            self._bn0 = _tensorflow_normalization(width)
        padding = 0 if stride == 2 else size // 2
        self._depthwise_conv = nn.Conv2d(
            width, width, size, stride, padding, groups=width, bias=False
        )
        self._bn1 = _tensorflow_normalization(width)
        self._project_conv = nn.Conv2d(width, outputs, 1, bias=False)
        self._bn2 = _tensorflow_normalization(outputs)

    def forward(self, x):
        shortcut = x
        if self.expands:
            x = _relu6(self._bn0(self._expand_conv(x)))
        if self.stride == 2:
            x = _pad(x, self.size)
        x = _relu6(self._bn1(self._depthwise_conv(x)))
        x = self._bn2(self._project_conv(x))
        return x + shortcut if self.has_shortcut else x


def _tensorflow_normalization(channels):
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


def _relu6(x):
    return nn.functional.relu6(x, inplace=True)


def _pad(x, size):
    """TensorFlow's 'same' for stride 2 and even sides: the bottom and the right get one more."""
    before, after = (size - 2) // 2, (size - 1) // 2
    return nn.functional.pad(x, (before, after, before, after))


class Decoder(nn.Module):
    """Maps -> mask [B, 1, 4 H, 4 W] in [0, 1].

    By default the original's. The maps are one of `stem` channels, which is taken as it is, or none
    where that is 0, and one for each of `channels`, which is reduced to 64.
    """

    def __init__(self, channels=(256, 512, 1024, 2048), stem=64, interpolation="nearest"):
        super().__init__()
        self.first, self.interpolation = bool(stem), interpolation
        for stage, inputs in enumerate(channels, 1):
            layers = [nn.Conv2d(inputs, 64, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
            setattr(self, f"conv1x1_{stage}", nn.Sequential(*layers))
        self.final = nn.Sequential(nn.Conv2d(stem + 4 * 64, 1, 3, padding=1))

    def forward(self, maps):
        levels = list(maps[: self.first])
        for stage, x in enumerate(maps[self.first :], 1):
            x = getattr(self, f"conv1x1_{stage}")(x)
            if stage > 1:
                x = nn.functional.interpolate(
                    x, scale_factor=2 ** (stage - 1), mode="bilinear", align_corners=False
                )
            levels.append(x)
        mask = torch.sigmoid(self.final(torch.cat(levels, 1)))
        return nn.functional.interpolate(mask, scale_factor=4, mode=self.interpolation)


class FineDecoder(nn.Module):
    """casm_tf's `fine_decoder`, with its names: five maps -> mask [B, 1, 2 H, 2 W] in [0, 1].

    The maps are of `channels`, finest first, each of half the side of the one before it.
    """

    WIDTHS = 16, 48, 64, 80, 96

    def __init__(self, channels):
        super().__init__()
        self.levels = range(len(channels) - 1, -1, -1)
        for level in self.levels:
            width = self.WIDTHS[level]
            side = nn.Conv2d(channels[level], width, 1, bias=False)
            self._add_normalized(f"fine_side{level}", side)
            if level == self.levels[0]:
                self.fine_mean_side = nn.Conv2d(channels[level], width, 1)
            else:
                down = nn.Conv2d(self.WIDTHS[level + 1], width, 1, bias=False)
                self.add_module(f"fine_down{level}", down)
            convolution = nn.Conv2d(width, width, 3, padding=1, bias=False)
            self._add_normalized(f"fine_conv{level}", convolution)
        self.fine_final = nn.Conv2d(self.WIDTHS[0], 1, 3, padding=1)

    def forward(self, maps):
        x = self.fine_mean_side(maps[-1].mean((2, 3), keepdim=True))
        for level in self.levels:
            if level < self.levels[0]:
                x = _doubled(getattr(self, f"fine_down{level}")(x))
            x = torch.relu_(x + self._normalized(f"fine_side{level}", maps[level]))
            x = torch.relu_(self._normalized(f"fine_conv{level}", x))
        return torch.sigmoid(_doubled(self.fine_final(x)))

    def _add_normalized(self, name, convolution):
        self.add_module(name, convolution)
        self.add_module(f"{name}_bn", nn.BatchNorm2d(convolution.out_channels))

    def _normalized(self, name, x):
        return getattr(self, f"{name}_bn")(getattr(self, name)(x))


def _doubled(x):
    return nn.functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


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
