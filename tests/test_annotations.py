"""Boxes of pictures, from XML files and tables: what is read, and what is refused."""

import codecs

import numpy as np
import pytest
from trees import xml

from casm_tf.data import annotations


def test_boxes_are_clipped_and_those_without_an_area_left_out():
    boxes = annotations.shares(
        [
            (6, 4, 30, 20),  # inside: 0.1, 0.1, 0.5, 0.5
            (-6, 20, 30, 60),  # partly outside: 0, 0.5, 0.5, 1
            (30, 20, 6, 4),  # inverted
            (60, 0, 90, 40),  # outside, along the border
            (6, 4, 6, 20),  # a line
        ],
        size=(60, 40),
    )
    found, left_out = annotations.clipped(boxes)
    assert found == pytest.approx(np.array([[0.1, 0.1, 0.5, 0.5], [0, 0.5, 0.5, 1]]))
    assert left_out == 3
    assert annotations.clipped(annotations.shares([], (60, 40)))[0].shape == (0, 4)


def test_xml_is_in_its_own_size_or_without_one_in_the_pictures(tmp_path):
    path = tmp_path / "a.xml"
    path.write_text(xml([(10, 10, 50, 20)], size=(100, 50)))
    assert annotations.read_xml(path, "cat", (60, 40)) == pytest.approx(
        np.array([[0.1, 0.2, 0.5, 0.4]])
    )
    for size in (None, (0, 0), ("60.0", "4e1")):
        path.write_text(xml([(6, 4, 30, 20)], size=size))
        assert annotations.read_xml(path, "cat", (60, 40)) == pytest.approx(
            np.array([[0.1, 0.1, 0.5, 0.5]])
        )


def test_xml_gives_the_class_own_boxes_or_all_where_it_names_none(tmp_path):
    one, other = xml([(0, 0, 30, 40)]), xml([(0, 0, 60, 20)], name="dog")
    path = tmp_path / "a.xml"
    path.write_text(one.replace("</annotation>", "") + other.replace("<annotation>", ""))
    assert annotations.read_xml(path, "cat", (60, 40)).tolist() == [[0, 0, 0.5, 1]]
    assert annotations.read_xml(path, "bird", (60, 40)).shape == (2, 4)
    # Indented by an editor, and written by macOS.
    text = path.read_text().replace(">cat<", ">\n  cafe\u0301\n<")
    path.write_text(text)
    assert annotations.read_xml(path, "caf\u00e9", (60, 40)).tolist() == [[0, 0, 0.5, 1]]


KOREAN = xml([(0, 0, 30, 40)], name="고양이")
ENCODED_XML = {
    "GBK": '<?xml version="1.0" encoding="GBK"?>' + xml([(0, 0, 30, 40)], name="猫"),
    "EUC-KR": "<?xml version='1.0' encoding='euc-kr' standalone='yes'?>" + KOREAN,
    "Latin-1": '<?xml version="1.0" encoding="ISO-8859-1"?>' + xml([(0, 0, 30, 40)], name="Bär"),
    "UTF-8 with a mark": '<?xml version="1.0" encoding="GBK"?>' + KOREAN,
    "UTF-16": '<?xml version="1.0" encoding="utf-16"?>' + KOREAN,
    # .NET writes so what it had in memory.
    "UTF-8 that says UTF-16": '<?xml version="1.0" encoding="utf-16"?>' + KOREAN,
    "nothing declared": KOREAN,
    "after an empty line": '\r\n<?xml version="1.0"?>\r\n' + KOREAN,
}


@pytest.mark.parametrize("kind", ENCODED_XML)
def test_xml_is_decoded_as_it_says(kind, tmp_path):
    text = ENCODED_XML[kind]
    encoding = {"UTF-8 with a mark": "utf-8-sig"}.get(kind, kind)
    try:
        codecs.lookup(encoding)
    except LookupError:
        encoding = "utf-8"
    (tmp_path / "a.xml").write_bytes(text.encode(encoding))
    label = text.partition("<name>")[2].partition("<")[0]
    other = xml([(0, 0, 60, 20)], name="dog").replace("<annotation>", "")
    both = text.replace("</annotation>", "") + other
    (tmp_path / "a.xml").write_bytes(both.encode(encoding))
    found = annotations.read_xml(tmp_path / "a.xml", label, (60, 40))
    assert found.tolist() == [[0, 0, 0.5, 1]]


ENTITIES = '<!DOCTYPE a [<!ENTITY b "{}">]>' + xml([(0, 0, 30, 40)], name="&b;")
BAD_XML = {
    "entities": ENTITIES.format("cat" * 1000).encode(),
    "entities in UTF-16": ENTITIES.format("cat").encode("utf-16"),
    "entities in GBK": ('<?xml version="1.0" encoding="GBK"?>' + ENTITIES).encode("gbk"),
    "no encoding": ('<?xml version="1.0" encoding="no"?>' + xml([(0, 0, 30, 40)])).encode(),
    "a slow encoding": (
        '<?xml version="1.0" encoding="punycode"?>' + xml([(0, 0, 30, 40)])
    ).encode(),
    "another encoding than it says": b'<?xml version="1.0" encoding="GBK"?><a>\xff\xff</a>',
    "endless": xml([(0, 0, 30, 40)], size=("inf", "inf")).encode(),
    "cut off": xml([(0, 0, 30, 40)]).encode()[:-20],
    "no number": xml([("a", 0, 30, 40)]).encode(),
    "not finite": xml([("nan", 0, 30, 40)]).encode(),
    "three sides": xml([(0, 0, 30, 40)]).replace("ymin", "min").encode(),
    "size in words": xml([(0, 0, 30, 40)], size=("a", "b")).encode(),
    "before the rotation": xml([(0, 0, 30, 40)], size=(40, 60)).encode(),
}


@pytest.mark.parametrize("kind", BAD_XML)
def test_xml_that_is_not_safe_or_not_right_is_refused_by_name(kind, tmp_path):
    path = tmp_path / "a.xml"
    path.write_bytes(BAD_XML[kind])
    with pytest.raises(ValueError, match=r"a\.xml: "):
        annotations.read_xml(path, "cat", (60, 40), size_before=(40, 60))


def test_what_is_no_number_in_xml_is_told(tmp_path):
    (tmp_path / "a.xml").write_text(xml([(0, 0, 30, 40)], size=("60px", 40)))
    with pytest.raises(ValueError, match=r"expected a number in <size/width>; found '60px'"):
        annotations.read_xml(tmp_path / "a.xml", "cat", (60, 40))


def test_annotations_belong_to_the_picture_they_have_most_in_common_with():
    names = ["train/cat/1.png", "val/cat/1.JPEG", "val/dog/1.jpg", "val/dog/2.jpg"]
    assert annotations.join(names, ["2", "3"]) == {"val/dog/2.jpg": "2"}
    assert annotations.join(names, ["dog/1"]) == {"val/dog/1.jpg": "dog/1"}
    assert annotations.join(names, ["train/cat/1", "CLS-LOC/val/2"]) == {
        "train/cat/1.png": "train/cat/1",
        "val/dog/2.jpg": "CLS-LOC/val/2",
    }
    with pytest.raises(ValueError, match=r"1 fits train/cat/1\.png and val/cat/1\.JPEG"):
        annotations.join(names, ["1"])
    with pytest.raises(ValueError, match=r"val/dog/2\.jpg fits a/2 and b/2"):
        annotations.join(names, ["a/2", "b/2"])


ROWS = ["image,x0,y0,x1,y1", "cat/a b.jpg,1,2,3,4", '"c, d.png",5.5,6,7,8', "cat/a b.jpg,2,2,3,3"]
EXPECTED = {"cat/a b": [[1, 2, 3, 4], [2, 2, 3, 3]], "c, d": [[5.5, 6, 7, 8]]}
TABLES = {
    "as told": "\n".join(ROWS).encode(),
    "with a mark": "\r\n".join(ROWS).encode("utf-8-sig"),
    "in UTF-16": "\n".join(ROWS).encode("utf-16"),
    "semicolons": "\n".join(ROWS).replace(",", ";").replace("c; d", "c, d").encode(),
    "tabs": "\r\n".join(ROWS).replace(",", "\t").replace("c\t d", "c, d").encode("utf-16"),
    "of an old Mac": "\r".join(ROWS).encode(),
    "quoted": "\n".join(ROWS).replace("1,2,3,4", '"1","2","3","4"').encode(),
    "capitals and spaces": "\n".join(ROWS).replace("image,x0", " Image, X0 ").encode(),
    "backslashes": "\n".join(ROWS).replace("/", "\\").encode(),
    "spaces at the ends": "\n".join(ROWS).replace(".jpg,", ".jpg ,").encode(),
    "empty rows and cells": ("\n,,,,\n".join(f"{row},," for row in ROWS) + "\n\n").encode(),
}


@pytest.mark.parametrize("kind", TABLES)
def test_tables_of_every_program_are_read(kind, tmp_path):
    (tmp_path / "boxes.csv").write_bytes(TABLES[kind])
    assert annotations.read_table(tmp_path / "boxes.csv") == EXPECTED


def test_a_row_without_a_box_is_a_picture_without_one(tmp_path):
    (tmp_path / "boxes.csv").write_text("image,x0,y0,x1,y1\na.jpg,,,,\nb.jpg,1,2,3,4\n")
    assert annotations.read_table(tmp_path / "boxes.csv") == {"a": [], "b": [[1, 2, 3, 4]]}


def test_boxes_in_shares_of_the_picture_are_refused(tmp_path):
    (tmp_path / "boxes.csv").write_text("image,x0,y0,x1,y1\na.jpg,0,0,0,0\nb.jpg,.1,.1,.5,1\n")
    with pytest.raises(ValueError, match=r"boxes\.csv: .*in pixels; these look like shares"):
        annotations.read_table(tmp_path / "boxes.csv")
    (tmp_path / "a.xml").write_text(xml([(0.1, 0.1, 0.5, 1)]))
    with pytest.raises(ValueError, match=r"a\.xml: .*in pixels; these look like shares"):
        annotations.read_xml(tmp_path / "a.xml", "cat", (60, 40))
    (tmp_path / "a.xml").write_text(xml([(0, 0, 1, 1)], size=None))
    assert annotations.read_xml(tmp_path / "a.xml", "cat", (1, 1)).tolist() == [[0, 0, 1, 1]]


BAD_TABLES = {
    "other columns": "image,x,y,w,h\n",
    "nothing": "",
    "other commas": "image;x0;y0;x1;y1\na.jpg;1,5;2;3;4\n",
    "one column": "image,x0,y0,x1,y1\na.jpg\n",
    "no name": "image,x0,y0,x1,y1\n,1,2,3,4\n",
    "four columns": "image,x0,y0,x1,y1\na.jpg,1,2,3\n",
    "a word": "image,x0,y0,x1,y1\na.jpg,1,2,3,b\n",
    "not finite": "image,x0,y0,x1,y1\na.jpg,1,2,3,inf\n",
}


@pytest.mark.parametrize("kind", BAD_TABLES)
def test_a_wrong_table_is_refused_by_name(kind, tmp_path):
    (tmp_path / "boxes.csv").write_text(BAD_TABLES[kind])
    with pytest.raises(ValueError, match=r"boxes\.csv"):
        annotations.read_table(tmp_path / "boxes.csv")
    (tmp_path / "boxes.csv").write_bytes("image,x0,y0,x1,y1\n고양이,1,2,3,4\n".encode("euc-kr"))
    with pytest.raises(ValueError, match="UTF-8"):
        annotations.read_table(tmp_path / "boxes.csv")
