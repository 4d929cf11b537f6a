"""Figures on the page and as files: named, escaped, without addresses, whole or absent."""

import re
import xml.etree.ElementTree as ElementTree

import pytest
from matplotlib.figure import Figure
from PIL import Image

from limbeck.checks import StorageError
from limbeck.report.curves import Band, Curve, curve_picture, panels_picture
from limbeck.report.intervals import Interval, Pair, pairs_picture
from limbeck.report.pictures import PAGE, PAPER, Picture


NASTY = "<script>alert(\"x\")</script> & $a_b$ 'q'"


def curve(*names):
    bands = [
        Band(name, [1, 2, 3], [1.0, 2.0, 4.0], [0.5, 1.0, 3.0], [2.0, 3.0, 5.0]) for name in names
    ]
    return Curve("loss task", "Task loss", "nats", bands, "loss task [nats]")


def drawings():
    colours = {NASTY: 0, "kd": 1}
    pair = Pair(NASTY, Interval("forecast", 1.0, 0.0, 2.0), Interval("came", None, -1.0, 3.0))
    return [
        curve_picture(curve(NASTY, "kd"), colours),
        panels_picture(curve(NASTY, "kd"), colours),
        pairs_picture([pair], "points", name="forecast accuracy", title=NASTY),
    ]


@pytest.mark.parametrize("picture", drawings())
def test_a_drawing_on_the_page_is_sound_and_has_a_name(picture):
    text = str(picture.svg())
    root = ElementTree.fromstring(text)
    assert root.get("role") == "img"
    assert '<script>alert("x")</script>' in root.get("aria-label")
    assert root.get("width") is root.get("height") is None
    assert "<script" not in text
    said = ["".join(one.itertext()) for one in root.iter() if one.tag.endswith("text")]
    shown = [one for one in said if "script" in one]
    # matplotlib leaves names out of the page's curves, whose legend is HTML
    assert all(one == NASTY for one in shown if "..." not in one)
    assert not re.search(r"#0a0b1|#010203|#040506|<metadata", text)


def test_ids_begin_with_the_name_and_references_follow():
    text = str(curve_picture(curve("kd"), {"kd": 3}).svg())
    ids = re.findall(r'\bid="([^"]*)"', text)
    assert len(ids) == len(set(ids)) > 5
    assert all(one.startswith("loss-task-") for one in ids)
    assert set(re.findall(r'url\(#([^)]*)\)|href="#([^"]*)"', text)) - {("", "")}
    for pair in re.findall(r'url\(#([^)]*)\)|href="#([^"]*)"', text):
        assert "".join(pair) in ids
    assert "var(--series-3)" in text
    assert "currentColor" in text


@pytest.mark.parametrize("picture", drawings())
def test_files_are_of_300_dots_an_inch_and_of_one_page(picture, tmp_path):
    png, pdf = picture.save(tmp_path / "deep")
    assert (png.name, pdf.name) == (f"{picture.file_name}.png", f"{picture.file_name}.pdf")
    with Image.open(png) as image:
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.01)
        assert image.size[0] == 1380  # 4.6 inches
        colours = {colour for _, colour in image.convert("RGB").getcolors(2**24)}
    ink = tuple(bytes.fromhex(PAPER.ink[1:]))
    assert ink in colours
    assert not {tuple(bytes.fromhex(one[1:])) for one in (PAGE.ink, PAGE.grid)} & colours
    data = pdf.read_bytes()
    assert data.startswith(b"%PDF")
    assert len(re.findall(rb"/Type /Page\b", data)) == 1
    assert b"CreationDate" not in data
    assert sorted(one.name for one in png.parent.iterdir()) == sorted([png.name, pdf.name])


def test_a_figure_that_stands_alone_names_its_groups_and_its_axis():
    picture = curve_picture(curve("first", "second"), {"first": 0, "second": 1})
    assert "first" not in "".join(ElementTree.fromstring(str(picture.svg())).itertext())
    figure = picture.draw(PAPER)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["first", "second"]
    assert figure.axes[0].get_ylabel() == "loss task [nats]"
    assert picture.draw(PAGE).axes[0].get_ylabel() == "nats"
    lines = legend.get_lines()
    assert [line.get_color() for line in lines] == list(PAPER.series[:2])
    assert len({line.get_linestyle() for line in lines}) == 2  # colour is not the only sign


def test_the_files_show_what_the_page_shows():
    pair = Pair("KD", Interval("forecast", 1.0, -1.0, 2.0), Interval("came", 0.5, 0.25, 0.75))
    picture = pairs_picture([pair], "points", name="one", title="two")
    lines = picture.draw(PAPER).axes[0].get_lines()
    spans = [tuple(line.get_xdata()) for line in lines]
    for expected in ((-1.0, 2.0), (0.25, 0.75), (1.0,), (0.5,)):
        assert expected in spans
    drawn = [one.get_xdata()[0] for one in lines if tuple(one.get_xdata()) == (0, 0)]
    assert drawn == [0]  # the line at zero


def test_a_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "taken").write_text("")
    picture = Picture("a", "b", lambda _: Figure())
    with pytest.raises(StorageError, match="expected to write this file"):
        picture.save(tmp_path / "taken")
    assert (tmp_path / "taken").read_text() == ""
