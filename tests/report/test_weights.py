"""The figure of a variance report: what is drawn, where, and in which unit."""

import copy
import re
import xml.etree.ElementTree as ElementTree

import pytest

from limbeck.report.weights import IN_USE, LONG_RUN, ONE_STEP, figures_of, weights_svg


def estimate(value=0.4, lower=0.25, upper=0.5, status="resolved"):
    return {"value": value, "lower": lower, "upper": upper, "status": status}


def record(**changes):
    grid = [
        {
            "weight": at / 10,
            "noise_left": (1 - at / 10) ** 2,
            "bias_one_step": 0.1 * (at / 10) ** 2,
            "bias_long_run": (at / 10) ** 2,
            "plateau": 0.25 * (1 - at / 10) ** 2 + 0.5 * (at / 10) ** 2,
        }
        for at in range(11)
    ]
    advice = {
        "one_step": estimate(0.9, 0.875, 1.0),
        "horizon": estimate(0.75, 0.5, 0.8),
        "loss": estimate(),
        "floor": 0.25,
        "settings": {"horizon": None},
    }
    made = {"grid": grid, "advice": advice, "advised": "loss", "weight_in_use": None}
    return {**made, **changes}


def without(name, made):
    made["grid"] = [{**one, name: None} for one in made["grid"]]
    return made


def xs(svg, colour, kind="stroke"):
    """Return the horizontal ends of every path of a colour."""
    found = []
    for path, style in re.findall(r'<path d="(M [^"]*?)"[^>]*style="([^"]*)"', svg):
        if f"{kind}: {colour.lower()}" in style:
            pairs = [pair.split()[-2:] for pair in re.split(r"[MLz]\s*", path) if pair.strip()]
            across = [float(pair[0]) for pair in pairs]
            found.append((min(across), max(across)))
    return found


def axis(svg, panel):
    """Return where weights 0 and 1 are: the ends of the curve."""
    return max(xs(svg, (ONE_STEP, LONG_RUN)[panel]), key=lambda ends: ends[1] - ends[0])


@pytest.mark.parametrize(
    ("panel", "colour", "ends", "at"),
    [(0, ONE_STEP, (0.875, 1.0), 0.9), (1, LONG_RUN, (0.25, 0.5), 0.4)],
)
def test_the_interval_is_shaded_and_a_resolved_weight_has_a_line(panel, colour, ends, at):
    svg = weights_svg(record())
    ElementTree.fromstring(svg)
    zero, one = axis(svg, panel)
    place = lambda weight: zero + weight * (one - zero)  # noqa: E731
    (shade,) = [e for e in xs(svg, colour, "fill") if e[1] - e[0] > 10]
    assert shade == pytest.approx((place(ends[0]), place(ends[1])), abs=0.1)
    lines = [low for low, high in xs(svg, colour) if low == high]
    assert lines == [pytest.approx(place(at), abs=0.1)]


def test_an_unresolved_weight_has_its_interval_alone():
    made = record()
    made["advice"]["loss"] = estimate(status="unresolved")
    svg = weights_svg(made)
    assert not [low for low, high in xs(svg, LONG_RUN) if low == high]
    assert [e for e in xs(svg, LONG_RUN, "fill") if e[1] - e[0] > 10]


def test_units_and_panels():
    svg = weights_svg(record())
    assert ">plateau above the least training loss [nats]<" in svg
    assert ">[share of plain SGD's]<" in svg.replace("&#39;", "'")
    assert ">one step<" in svg
    assert ">long run<" in svg
    assert svg.count(">distillation weight<") == 2
    assert "95 % interval" in svg


def heights(svg, colour):
    """Return the vertical places of the curve of a colour."""
    paths = re.findall(r'<path d="(M [^"]*?)"[^>]*style="([^"]*)"', svg)
    longest = max((p for p, s in paths if f"stroke: {colour.lower()}" in s), key=len)
    return [float(pair.split()[1]) for pair in re.split(r"[ML]\s*", longest) if pair.strip()]


def test_curves_are_noise_and_bias_of_a_step_and_the_plateau():
    made = record()
    svg = weights_svg(made)
    expected = {
        ONE_STEP: [one["noise_left"] + one["bias_one_step"] for one in made["grid"]],
        LONG_RUN: [one["plateau"] for one in made["grid"]],
    }
    lasting = without("plateau", record(advised="horizon"))
    share = [one["noise_left"] + one["bias_long_run"] for one in made["grid"]]
    for text, colour, values in (
        (svg, ONE_STEP, expected[ONE_STEP]),
        (svg, LONG_RUN, expected[LONG_RUN]),
        (weights_svg(lasting), LONG_RUN, share),
    ):
        drawn = heights(text, colour)
        assert len(drawn) == 11
        scale = (drawn[0] - drawn[5]) / (values[0] - values[5])
        assert scale < 0  # down is more in SVG
        for place, value in zip(drawn, values, strict=True):
            assert place == pytest.approx(drawn[0] + scale * (value - values[0]), abs=0.1)


def test_without_curvature_the_long_run_is_a_share_or_not_there():
    made = without("plateau", record(advised="horizon"))
    made["advice"]["loss"] = None
    made["advice"]["settings"]["horizon"] = 9
    svg = weights_svg(made)
    assert ">9 steps<" in svg
    assert "nats" not in svg
    assert ">noise and lasting bias<" in svg
    svg = weights_svg(without("bias_long_run", made))
    assert ">not measured<" in svg
    assert not [e for e in xs(svg, LONG_RUN, "fill") if e[1] - e[0] > 10]


def test_the_weight_in_use_is_marked_in_both_panels():
    assert "weight in use" not in weights_svg(record())
    svg = weights_svg(record(weight_in_use=0.7))
    assert "weight in use" in svg
    lines = sorted(low for low, high in xs(svg, IN_USE) if low == high)
    for line, panel in zip(lines, (0, 1), strict=True):
        zero, one = axis(svg, panel)
        assert line == pytest.approx(zero + 0.7 * (one - zero), abs=0.1)


def test_the_figure_depends_on_the_record_alone():
    made = record(weight_in_use=0.7)
    assert figures_of(made) == figures_of(copy.deepcopy(made))
    assert set(figures_of(made)) == {"weights.svg"}
    assert "metadata" not in figures_of(made)["weights.svg"]
