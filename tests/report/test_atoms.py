"""Figures of a measurement: what is drawn, where, and in which unit."""

import copy
import re
import xml.etree.ElementTree as ElementTree

import pytest
from helpers.measured import pid_estimate

from limbeck.report.atoms import ATOMS, atoms_svg, figures_of, layers_svg, trajectory_svg


def entry(student="s", teacher="t", layers=("a", "b"), **changes):
    return {
        "teacher": teacher,
        "student": student,
        "teacher_layer": layers[0],
        "student_layer": layers[1],
        "estimate": pid_estimate(**changes).to_dict(),
    }


def rectangles(svg, colour):
    """Return the left and right ends of the filled boxes of a colour in the axes."""
    paths = re.findall(rf'<path d="M ([^"]*?)z?\s*"[^>]*style="fill: {colour.lower()}', svg)
    ends = []
    for path in paths:
        across = [
            float(pair.split()[0]) for pair in path.replace("L", "").split("\n") if pair.strip()
        ]
        ends.append((min(across), max(across)))
    return ends


def test_which_figures_there_are():
    assert set(figures_of({"entries": [entry()]})) == {"atoms.svg"}
    students = [entry("1"), entry("2")]
    assert set(figures_of({"entries": students})) == {"atoms.svg", "trajectory.svg"}
    teachers = [entry(teacher="x"), entry(teacher="y")]
    assert set(figures_of({"entries": teachers})) == {"atoms.svg"}
    layers = [entry(), entry(layers=("a", "c"))]
    assert set(figures_of({"entries": layers})) == {"atoms.svg", "layers.svg"}
    both = [*layers, entry("2"), entry("2", layers=("a", "c"))]
    assert set(figures_of({"entries": both})) == {"atoms.svg"}


def test_bars_are_as_long_as_the_atoms():
    svg = atoms_svg([entry(distillable=1.0), entry("u", distillable=0.5)])
    ElementTree.fromstring(svg)
    ends = {name: rectangles(svg, colour)[:2] for name, (_, colour) in ATOMS.items()}
    longer, shorter = ends["unique_teacher"]
    bit = longer[1] - longer[0]
    assert shorter[1] - shorter[0] == pytest.approx(bit / 2, rel=1e-3)
    for name in ("redundant", "unique_student", "synergistic"):
        assert ends[name][0][1] - ends[name][0][0] == pytest.approx(bit / 2, rel=1e-3)
    assert longer[0] == pytest.approx(ends["redundant"][0][1])  # stacked
    assert "information about the targets [bits], n = 100" in svg
    assert "H(Y), all there is to know" in svg


def test_an_unresolved_atom_has_no_length_beyond_what_is_certain():
    svg = atoms_svg([entry(distillable=1.0), entry("u", distillable=1.0, status="unresolved")])
    sure, unsure = rectangles(svg, ATOMS["unique_teacher"][1])[:2]
    assert (unsure[1] - unsure[0]) / (sure[1] - sure[0]) == pytest.approx(0.9, rel=1e-3)
    svg = layers_svg([entry(), entry(layers=("a", "c"), distillable=0.77, status="unresolved")])
    assert "unresolved" in svg
    assert "0.77" not in svg
    assert "[0.67, 0.87]" in svg


def test_trajectory_over_epochs_and_over_names():
    epochs = [entry("1"), entry("10"), entry("40")]
    assert ">checkpoint<" in trajectory_svg(epochs)
    names = trajectory_svg([entry("a $ b $"), entry("a label that is very long and has an end")])
    assert ">student<" in names
    assert ">information [bits]<" in names
    assert ">...very long and has an end<"[-20:] in names
    assert "a label" not in names
    assert ">a $ b $<" in names  # not mathematics


def test_figures_depend_on_the_record_alone():
    record = {"entries": [entry("1"), entry("2")]}
    assert figures_of(record) == figures_of(copy.deepcopy(record))
    assert "metadata" not in figures_of(record)["atoms.svg"]


def test_real_targets_have_no_entropy_to_draw():
    record = entry()
    record["estimate"]["target_entropy"] = None
    assert "H(Y)" not in atoms_svg([record])
