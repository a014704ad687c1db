"""What --help shows."""

import re

from programs import ROOT, call


def test_every_flag_of_the_training_stands_in_its_group_once():
    done = call("casm_tf.train", "--help")
    assert done.returncode == 0, done.stderr
    defined = (ROOT / "casm_tf" / "cli" / "train_flags.py").read_text()
    names = re.findall(r'^flags\.DEFINE_\w+\(\s*"(\w+)"', defined, re.MULTILINE)
    assert re.findall(r"^  --(?:\[no\])?(\w+): ", done.stdout, re.MULTILINE) == [
        *names,
        "max_pixels",
    ]
    groups = re.findall(r"^(\w+):$", done.stdout, re.MULTILINE)
    assert groups == ["data", "networks", "objectives", "thinning", "optimization", "machine"]
    assert "--seed: Of the initial weights, the data's order and every draw. Default: 0.\n" in (
        done.stdout
    )
    assert "One of: entropy, classification. Default: entropy." in done.stdout
