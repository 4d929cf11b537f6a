"""The cells of a grid: read from JSON, and laid out as tables."""

import json
import math

import numpy as np

from limbeck.forecasting.grid import grid_text, read_grid


GRID = {
    "about": {"seeds": 3},
    "misses": {"kd accuracy cka": [0.5, -1.0, 0.25]},
    "rows": [
        {
            "name": [data, teacher, f"student {gain}"],
            "teacher": f"{data} {teacher}",
            "figures": figures,
            "pilots": pilots,
            "gains": {
                "itrd": {"accuracy": gain + 1.0, "cross_entropy": 7.0},
                "kd": {"accuracy": gain, "cross_entropy": gain / 10},
            },
            "spreads": {"kd": {"accuracy": 0.1, "cross_entropy": 0.2}},
        }
        for data, teacher, figures, pilots, gain in [
            ("digits", "good", {"classes": 3.0, "cka": 0.5}, {"kd": {"pilot_accuracy": 9.0}}, 2.0),
            ("digits", "bad", {"classes": 4.0}, {"itrd": {"pilot_accuracy": 8.0}}, -1.0),
            ("digits", "good", {}, {}, 0.0),
            ("cifar10", "good", {}, {}, 0.0),
        ]
    ],
}


def test_tables_of_a_grid():
    grid = read_grid(json.dumps(GRID))
    assert grid.about == {"seeds": 3}
    assert grid.rows[1].name == ("digits", "bad", "student -1.0")
    assert grid.methods == ("itrd", "kd")
    found = grid.figures(["cka", "classes", "pilot_accuracy"], "kd")
    expected = [[0.5, 3.0, 9.0], [math.nan, 4.0, math.nan], *[[math.nan] * 3] * 2]
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(
        grid.figures(["pilot_accuracy"], "itrd"), [[math.nan], [8.0], [math.nan], [math.nan]]
    )
    np.testing.assert_array_equal(grid.gains("kd", "accuracy"), [2.0, -1.0, 0.0, 0.0])
    np.testing.assert_array_equal(grid.gains("kd", "cross_entropy"), [0.2, -0.1, 0.0, 0.0])
    np.testing.assert_array_equal(grid.gains("itrd", "accuracy"), [3.0, 0.0, 1.0, 1.0])
    one, other, again, elsewhere = grid.teachers.tolist()
    assert one == again
    assert len({one, other, elsewhere}) == 3
    assert len(set(grid.data_sets[:3])) == 1
    assert grid.data_sets[3] != grid.data_sets[0]
    assert grid.misses == {"kd accuracy cka": [0.5, -1.0, 0.25]}
    assert read_grid(grid_text(grid)) == grid
