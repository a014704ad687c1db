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
        unread = [f"{name}: {reason}" for name, reason in sorted(self.bad.items())]
        said, lines = self._others()
        lines = unread + lines
        if not lines:
            return ""
        with files.replacing(self.path) as unfinished:
            text = "".join(f"{files.printable(line)}\n" for line in lines)
            unfinished.write_text(text, encoding="utf-8")
        root = self.tree.image_dir
        total = sum(map(len, self.tree.pictures.values()))
        if empty or len(unread) > _LARGEST_BAD_SHARE * total:
            found = f"{len(unread)} of {total} pictures in {root} cannot be read, more than 1%"
            if empty:
                count = len(self.tree.pictures[empty])
                found = f"none of the {count} {empty} pictures in {root} can be read"
            raise ValueError(f"{found}: {self.path} lists them; the first: {unread[0]}")
        if unread:
            said.insert(0, f"{len(unread)} of {total} pictures cannot be read")
        return f"{'; '.join(said)}: {self.path} lists them"

    def _others(self):
        """What else is left out: parts of a sentence, and lines of the list."""
        said, lines = [], []
        left_out = {name: annotations.clipped(x)[1] for name, x in sorted(self.boxes.items())}
        if any(left_out.values()):
            boxes = np.concatenate([*self.boxes.values()])
            found = f"{sum(left_out.values())} of {len(boxes)} boxes have no area"
            if (boxes[:, 2:] < boxes[:, :2]).any(axis=1).mean() > 0.5:
                found += "; expected x0, y0, x1, y1: these look like x, y, width, height"
            said.append(found)
            reason = "boxes left out: inverted, empty or outside"
            lines += [f"{name}: {count} {reason}" for name, count in left_out.items() if count]
        if self.blank:
            said.append(f"{len(self.blank)} masks are salient everywhere or nowhere")
            lines += [f"{x}: its mask is salient {y}" for x, y in sorted(self.blank.items())]
        for kind, unmatched in self.tree.unmatched.items():
            if unmatched:
                said.append(f"{len(unmatched)} of --{kind} fit no picture")
                lines += unmatched
        others, elsewhere = picture_tree.passed_over(
            self.tree.image_dir, self.tree.pictures, has_boxes=self.tree.boxes is not None
        )
        if others:
            found = f"{len(others)} files are of no kind that is read"
            said.append(f"{found} ({pictures.kinds(others)})")
            lines += [f"{path}: of no kind that is read" for path in others]
        if elsewhere:
            folders = sorted({str(path.parent) for path in elsewhere})
            some = ", ".join(folders[:3]) + (", ..." if len(folders) > 3 else "")
            said.append(f"{len(elsewhere)} pictures are in folders that are not read ({some})")
            lines += [f"{path}: in a folder that is not read" for path in elsewhere]
        return said, lines


def say(found, path):
    """Print what was `found` to be left out; if nothing, how much `path` lists from before."""
    if not found and path.exists():
        count = len(path.read_text(encoding="utf-8").splitlines())
        found = f"{count} files, boxes or masks: {path} lists them"
    if found:
        print(f"left out  {files.printable(found)}", file=sys.stderr)
