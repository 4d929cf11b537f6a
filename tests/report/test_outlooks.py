"""The gradient-noise view of a saved variance report."""

import pytest

from limbeck.report.outlooks import section


def estimate(value=0.4, lower=0.25, upper=0.5, status="resolved"):
    return {"value": value, "lower": lower, "upper": upper, "status": status}


def report(**changes):
    grid = [
        {"weight": at / 2, "noise_left": 1 - at / 4, "bias_one_step": 0.125 * at,
         "bias_long_run": None, "plateau": 0.5}
        for at in range(3)
    ]  # fmt: skip
    advice = {
        "one_step": estimate(), "loss": estimate(status="unresolved"),
        "horizon": estimate(0.1, None),
        "floor": 0.25, "settings": {"horizon": None}, "diagnosis": "biased teacher",
    }  # fmt: skip
    made = {"grid": grid, "advice": advice, "advised": "loss", "weight_in_use": 0.9}
    return {**made, "verdict": "lowers it.", "notes": ["few rows"], **changes}


def test_advice_has_its_intervals_and_the_figure_its_data():
    found = section(report(), "weigh")
    assert found["advice"] == [
        {"name": "a single step", "value": "0.400", "ends": "[0.250, 0.500]"},
        {"name": "the steps named", "value": "0.100", "ends": "[?, 0.500]"},
        {"name": "the training loss", "value": "unresolved", "ends": "[0.250, 0.500]"},
    ]
    assert (found["verdict"], found["used"], found["diagnosis"]) == (
        "Lowers it.",
        "0.9",
        "biased teacher",
    )
    assert section(report(weight_in_use=None), "weigh")["used"] is None
    (figure,) = found["figures"]
    assert figure["rows"][1] == ["0.5", "0.75", "0.125", "", "0.5"]
    assert figure["picture"].svg().startswith("<svg role=")
    assert figure["picture"].file_name == "weights"


@pytest.mark.parametrize("suffix", [" 1", " 2"])
def test_several_have_names_of_their_own(suffix):
    assert section(report(), "a", suffix)["figures"][0]["picture"].name == f"weights{suffix}"
