import pytest

from vqgan.data.label_names import read_label_names
from vqgan.errors import DataError


def written(path, text):
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    "text",
    [
        "sky\n\ntall tree\n2\n",
        "number,name\n0,sky\n1, tall tree\n",
        "1: tall tree\n0: sky",
        "0;sky\n1;tall tree\n",
        "0\tsky\n1\ttall tree",
    ],
)
def test_names_stand_in_the_order_of_the_labels_or_behind_their_numbers(tmp_path, text):
    assert read_label_names(written(tmp_path / "names", text), 3) == ("sky", "tall tree", "2")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sky\ntree", "has 2 names for 3 labels"),
        ("0,sky\n3,tree", "names the label 3, expected 0 to 2"),
        ("", "has 0 names for 3 labels"),
    ],
)
def test_names_that_do_not_fit_are_refused(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        read_label_names(written(tmp_path / "names", text), 3)


def test_a_file_that_is_missing_or_no_text_is_named(tmp_path):
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\xff")
    with pytest.raises(DataError, match=r"cannot read the label names `.*none.txt`: no such file"):
        read_label_names(str(tmp_path / "none.txt"), 3)
    with pytest.raises(DataError, match=r"picture.png`: it is not a text file in UTF-8"):
        read_label_names(str(tmp_path / "picture.png"), 3)
