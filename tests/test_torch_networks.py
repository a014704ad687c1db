"""EfficientNet-Lite0 and its decoder against the same in PyTorch, weights and answers."""

import pytest

from casm_tf import networks
from casm_tf.networks import conversion


def arrays(module):
    return {name: t.numpy() for name, t in module.state_dict().items() if t.ndim}


def test_a_lite_and_its_decoder_answer_as_pytorchs():
    torch = pytest.importorskip("torch")
    from benchmarks import torch_networks

    torch.manual_seed(0)
    theirs = torch_networks.EfficientNetLite(10)
    their_decoder = torch_networks.Decoder(theirs.CHANNELS, stem=0, interpolation="bilinear")
    for module in (*theirs.modules(), *their_decoder.modules()):
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1
    images = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        their_decoder(theirs(images)[1])  # gives the statistics of these images
        expected, maps = theirs.eval()(images)
        expected_masks = their_decoder.eval()(maps).numpy().transpose(0, 2, 3, 1)
    expected = expected.numpy()

    ours = conversion.filled_classifier("efficientnet_lite0", arrays(theirs))
    decoder = networks.decoder(networks.map_shapes(ours), 224, 64, "bilinear")
    named = conversion.torch_variables(decoder)
    conversion.fill(named, arrays(their_decoder), {1: (0,), 4: (2, 3, 1, 0)})
    outputs = ours(images.numpy().transpose(0, 2, 3, 1))
    masks = decoder(outputs["maps"]).numpy()

    assert expected.std() > 0.1
    assert expected_masks.std() > 0.01
    assert outputs["logits"].numpy() == pytest.approx(expected, abs=1e-4)
    assert masks == pytest.approx(expected_masks, abs=1e-4)
