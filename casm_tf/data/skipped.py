"""What of a user's folder is left out: said in a line, and listed in skipped.txt."""

import dataclasses
import pathlib
import sys

import numpy as np

from casm_tf.data import annotations, picture_tree, pictures
from casm_tf.host import files

_LARGEST_BAD_SHARE = 0.01


@dataclasses.dataclass
class Skipped:
    """What is found while a tree is prepared, by the pictures' names; threads may fill it.

    Attributes:
        tree: the `image_folder.ImageFolderConfig`.
        path: where the list is written.
        bad: {name: why it cannot be read}.
        boxes: {name: its boxes, float64 [N, 4]} of those with any, also without an area.
        blank: {name: "everywhere" or "nowhere", where its mask is salient}.
    """

    tree: object
    path: pathlib.Path
    bad: dict[str, str] = dataclasses.field(default_factory=dict)
    boxes: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    blank: dict[str, str] = dataclasses.field(default_factory=dict)

    def report(self, empty=None):
        """Write the list; a line on what is in it, or none.

        Raises ValueError where too much is bad, or for `empty`, a split without a good picture.
        """
        self.path.unlink(missing_ok=True)
        root, total = self.tree.image_dir, sum(map(len, self.tree.pictures.values()))
        kinds = [(said, lines) for said, lines in self._kinds(total) if lines]
        if not kinds:
            return ""
        with files.replacing(self.path) as unfinished:
            text = "".join(f"{files.printable(line)}\n" for _, lines in kinds for line in lines)
            unfinished.write_text(text, encoding="utf-8")
        if empty or len(self.bad) > _LARGEST_BAD_SHARE * total:
            found = f"{len(self.bad)} of {total} pictures in {root} cannot be read, more than 1%"
            if empty:
                count = len(self.tree.pictures[empty])
                found = f"none of the {count} {empty} pictures in {root} can be read"
            raise ValueError(f"{found}: {self.path} lists them; the first: {kinds[0][1][0]}")
        return f"{'; '.join(said for said, _ in kinds)}: {self.path} lists them"

    def _kinds(self, total):
        """Of each kind of what is left out a part of a sentence, and lines of the list."""
        lines = [f"{name}: {reason}" for name, reason in sorted(self.bad.items())]
        yield f"{len(lines)} of {total} pictures cannot be read", lines
        left_out = {name: annotations.clipped(x)[1] for name, x in sorted(self.boxes.items())}
        boxes = [box for some in self.boxes.values() for box in some]
        found = f"{sum(left_out.values())} of {len(boxes)} boxes have no area"
        if sum(x1 < x0 or y1 < y0 for x0, y0, x1, y1 in boxes) > len(boxes) / 2:
            found += "; expected x0, y0, x1, y1: these look like x, y, width, height"
        reason = "boxes left out: inverted, empty or outside"
        yield found, [f"{name}: {count} {reason}" for name, count in left_out.items() if count]
        lines = [f"{x}: its mask is salient {where}" for x, where in sorted(self.blank.items())]
        yield f"{len(lines)} masks are salient everywhere or nowhere", lines
        for kind, lines in self.tree.unmatched.items():
            yield f"{len(lines)} of --{kind} fit no picture", lines
        others, elsewhere = picture_tree.passed_over(
            self.tree.image_dir, self.tree.pictures, has_boxes=self.tree.boxes is not None
        )
        found = f"{len(others)} files are of no kind that is read ({pictures.kinds(others)})"
        yield found, [f"{path}: of no kind that is read" for path in others]
        folders = sorted({str(path.parent) for path in elsewhere})
        some = ", ".join(folders[:3]) + (", ..." if len(folders) > 3 else "")
        found = f"{len(elsewhere)} pictures are in folders that are not read ({some})"
        yield found, [f"{path}: in a folder that is not read" for path in elsewhere]


def say(found, path):
    """Print what was `found` to be left out; if nothing, how much `path` lists from before."""
    if not found and path.exists():
        count = len(path.read_text(encoding="utf-8").splitlines())
        found = f"{count} files, boxes or masks: {path} lists them"
    if found:
        print(f"left out  {files.printable(found)}", file=sys.stderr)
