"""forecast(): what is trained and compared, for whom, and what is left as it was."""

import copy
import math

import pytest
import torch
from helpers.forecasts import REACH, gain_model, use_models
from helpers.small import QUICK, good_teacher, network, rows, weights_of
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import limbeck as lb
from limbeck.forecasting import forecast as module
from limbeck.forecasting.gathering import Gathered
from limbeck.training.saving import save_model
from limbeck.types import Outputs


VALIDATION = rows(91, seed=3)
TWENTY = QUICK | {"epochs": 20}


def plain_gaps(before, after):
    """Return the gain in accuracy [points] and cross-entropy [bits], row by row in plain words."""
    x, y = VALIDATION
    found = []
    with torch.no_grad():
        for model in (before.eval(), after.eval()):
            right, bits = 0, 0.0
            for row, target in zip(model(x).double().tolist(), y.tolist(), strict=True):
                right += max(range(len(row)), key=row.__getitem__) == target
                total = sum(math.exp(one) for one in row)
                bits -= math.log2(math.exp(row[target]) / total)
            found.append((100 * right / len(y), bits / len(y)))
    return found[1][0] - found[0][0], found[0][1] - found[1][1]


def trained(student, data, **options):
    """Return a copy of a student after plain training."""
    return lb.distill(copy.deepcopy(student), None, data, **options).student


@pytest.fixture
def gathered(monkeypatch):
    """Put a recorder in the place of all figures; a test says what it answers."""
    calls = []

    def gather(case, groups, *, pilots=None, early=None):
        calls.append({"case": case, "groups": list(groups), "pilots": pilots, "early": early})
        answer = gather.answer(calls[-1]) if gather.answer else {}
        pilot = {name: Gathered({"pilot_accuracy": 5.0}, {"pilot": 2.0}) for name in pilots or {}}
        return Gathered(answer, dict.fromkeys(groups, 1.0)), pilot

    gather.answer = None
    gather.calls = calls
    monkeypatch.setattr(module, "gather", gather)
    return gather


def test_the_gaps_are_those_to_a_tenth_of_the_training(models):
    student, teacher = network(), good_teacher()
    found = lb.forecast(teacher, student, rows(61), validation=VALIDATION, **TWENTY)
    short = trained(student, rows(61), **TWENTY | {"epochs": 2})
    points, bits = plain_gaps(short, teacher)
    assert found.figures["accuracy_gap"] == pytest.approx(points)
    assert found.figures["cross_entropy_gap"] == pytest.approx(bits)
    expected, ends = found.accuracy, 2.0 * REACH
    assert expected.value == pytest.approx(1.0 + 0.5 * points)
    assert expected.lower == pytest.approx(expected.value - ends)
    assert expected.upper == pytest.approx(expected.value + ends)
    assert found.cross_entropy.value == pytest.approx(0.25 + 2.0 * bits)
    assert found.cross_entropy.upper == pytest.approx(found.cross_entropy.value + 0.5 * REACH)
    for one, unit in ((found.accuracy, "points"), (found.cross_entropy, "bits")):
        assert (one.unit, one.n, one.status) == (unit, 7, "resolved")
        assert one.settings["level"] == 0.9
    assert models == [("kd", "accuracy", False), ("kd", "cross_entropy", False)]
    assert found.decided_by.name == "accuracy_gap"
    assert found.decided_by.share == pytest.approx(0.5 * points)
    assert found.settings["steps"] == 20 * 4
    assert found.data["rows"] == found.data["labelled"] == 61
    assert (found.data["validation"], found.data["classes"], found.cells) == (91, 3, 7)
    assert found.settings["shares_of_the_run"] == {"short control": 0.1}


def test_rows_without_a_label_count_for_the_steps_alone(models):
    """61 rows in batches of 16 are 4 steps an epoch; 20 labelled ones 2, in 40 epochs."""
    x, y = rows(61)
    y = torch.where(torch.arange(61) < 20, y, -1)
    partly = (torch.cat([VALIDATION[0], x[:5]]), torch.cat([VALIDATION[1], torch.full((5,), -1)]))
    student = network()
    with pytest.raises(lb.checks.DataError, match="5 of 96 validation rows also"):
        lb.forecast(good_teacher(), student, (x, y), validation=partly, **TWENTY)
    partly = (torch.cat([partly[0][:-5], x[:5] + 1.0]), partly[1])
    found = lb.forecast(good_teacher(), student, (x, y), validation=partly, **TWENTY)
    short = trained(student, (x[:20], y[:20]), **TWENTY | {"epochs": 4})
    points, _ = plain_gaps(short, good_teacher())
    assert found.figures["accuracy_gap"] == pytest.approx(points)
    assert (found.data["rows"], found.data["labelled"], found.data["validation"]) == (61, 20, 91)


def test_networks_and_the_random_state_stay_as_they_are(models):
    student, teacher = network(norm=True, dropout=0.2), good_teacher().eval()
    teacher.train()
    teacher[1].eval()
    before = [weights_of(one) for one in (student, teacher)]
    modes = [[part.training for part in one.modules()] for one in (student, teacher)]
    state = torch.get_rng_state()
    lb.forecast(
        teacher, student, rows(61), validation=VALIDATION, pilot=True, teacher_precision="bf16",
        **TWENTY,
    )  # fmt: skip
    after = [weights_of(one) for one in (student, teacher)]
    for one, other in zip(before, after, strict=True):
        for first, second in zip(one, other, strict=True):
            assert first.dtype == second.dtype
            assert torch.equal(first, second)
    assert modes == [[part.training for part in one.modules()] for one in (student, teacher)]
    assert torch.equal(state, torch.get_rng_state())
    assert not any(part._forward_hooks for one in (student, teacher) for part in one.modules())
    assert all(one.grad is None for one in (*student.parameters(), *teacher.parameters()))


def test_the_seed_decides_the_order_of_training(models):
    def once(seed):
        return lb.forecast(
            good_teacher(), network(), rows(61), validation=VALIDATION, seed=seed, **TWENTY
        ).figures

    assert once(1) == once(1)
    assert once(1) != once(2)


def test_only_what_the_models_take_is_taken_and_once(monkeypatch, gathered):
    use_models(
        monkeypatch,
        accuracy=gain_model({"accuracy_gap": 1.0, "classes": 1.0}),
        cross_entropy=gain_model({"smoothing_cross_entropy": 2.0, "corrects": 1.0}),
    )
    gathered.answer = lambda call: {
        **({"classes": 3.0} if "set-up" in call["groups"] else {}),
        **({"smoothing_cross_entropy": 0.5} if "smoothing" in call["groups"] else {}),
        "accuracy_gap": 10.0 * len(gathered.calls),
        "corrects": 1.0,
    }
    trainings = []
    real = module.control
    monkeypatch.setattr(
        module, "control", lambda *given, **how: trainings.append(how) or real(*given, **how)
    )
    student = network()
    found = lb.forecast(
        [good_teacher(), good_teacher()], student, rows(61), validation=VALIDATION, **QUICK
    )
    assert trainings == [{"share": 0.1}]
    assert [call["groups"] for call in gathered.calls] == [
        ["set-up", "scores", "smoothing"],
        ["scores"],
    ]
    assert all(call["pilots"] is None for call in gathered.calls)
    assert len({id(call["early"]) for call in gathered.calls}) == 1
    assert gathered.calls[0]["early"] is not student
    assert [one.accuracy.value for one in found.entries] == [13.0, 23.0]
    assert [one.cross_entropy.value for one in found.entries] == [2.0, 2.0]
    assert [one.teacher for one in found.entries] == ["0", "1"]
    assert [one.teacher for one in found.ranking()] == ["1", "0"]
    seconds = found.seconds
    assert {name: seconds[name] for name in ("set-up", "scores", "smoothing")} == {
        "set-up": 1.0,
        "scores": 2.0,
        "smoothing": 1.0,
    }
    assert seconds["short control"] == found.early_seconds > 0


def test_what_lies_outside_is_unresolved_and_last(monkeypatch, gathered):
    use_models(
        monkeypatch,
        accuracy=gain_model({"accuracy_gap": 1.0}, limit=50.0),
        cross_entropy=gain_model({"corrects": 1.0}),
    )
    gathered.answer = lambda call: {"accuracy_gap": (60.5, 4.0, 6.0)[len(gathered.calls) - 1]}
    teachers = dict.fromkeys("abc", good_teacher())
    found = lb.forecast(teachers, network(), rows(61), validation=VALIDATION, **QUICK)
    assert [one.teacher for one in found.ranking()] == ["c", "b", "a"]
    far, near, _ = found.entries
    assert far.outside == ("accuracy_gap is 60.5, the grid's -50 to 50",)
    assert (far.accuracy.status, far.cross_entropy.status) == ("unresolved", "unresolved")
    assert (near.outside, near.accuracy.status) == ((), "resolved")
    assert far.missing == near.missing == ("corrects",)
    assert far.verdict == "outside of what I have seen"


def test_a_pilot_is_a_twentieth_of_the_run(monkeypatch):
    asked = use_models(
        monkeypatch,
        accuracy=gain_model({"pilot_accuracy": 1.0}),
        cross_entropy=gain_model({"pilot_cross_entropy": 3.0, "accuracy_gap": 0.0}),
    )
    student, teacher = network(), good_teacher()
    found = lb.forecast(teacher, student, rows(61), validation=VALIDATION, pilot=True, **TWENTY)
    one_epoch = TWENTY | {"epochs": 1}
    short = lb.distill(copy.deepcopy(student), teacher, rows(61), loss="kd", **one_epoch).student
    points, bits = plain_gaps(trained(student, rows(61), **one_epoch), short)
    assert found.accuracy.value == pytest.approx(points)
    assert found.cross_entropy.value == pytest.approx(3.0 * bits)
    assert {with_pilot for _, _, with_pilot in asked} == {True}
    assert found.settings["pilot"] is True
    assert found.settings["shares_of_the_run"]["pilot"] == 0.05
    assert found.seconds["pilot"] > 0


def test_a_pilot_of_another_method_and_of_a_teacher_that_a_run_would_refuse(monkeypatch, gathered):
    use_models(
        monkeypatch,
        accuracy=gain_model({"pilot_accuracy": 1.0}),
        cross_entropy=gain_model({"pilot_accuracy": 1.0}),
    )
    found = lb.forecast(
        good_teacher(), network(), rows(61), validation=VALIDATION, pilot=True, loss="itrd", **QUICK
    )
    (call,) = gathered.calls
    assert call["pilots"] == {"itrd": {"loss": "itrd", "force": True}}
    assert (found.accuracy.value, found.loss, found.seconds["pilot"]) == (5.0, "itrd", 3.0)


def test_layers_of_a_teacher_are_ranked(monkeypatch, gathered):
    use_models(
        monkeypatch,
        accuracy=gain_model({"distillable": 1.0, "accuracy_gap": 1.0, "pilot_accuracy": 0.0}),
        cross_entropy=gain_model({"distillable_kmeans": 1.0}),
    )
    bits = {"0": 1.0, "2": 3.0}
    gathered.answer = lambda call: {
        **({"accuracy_gap": 10.0} if "scores" in call["groups"] else {}),
        "distillable": bits[call["case"].layers["teacher"]],
    }
    layers = {"teacher": ["0", "2"], "student": "0"}
    found = lb.forecast(
        good_teacher(), network(), rows(61), validation=VALIDATION, layers=layers, pilot=True,
        **QUICK,
    )  # fmt: skip
    assert [(one.layer, one.accuracy.value) for one in found.ranking()] == [
        ("2", 13.0),
        ("0", 11.0),
    ]
    assert [one.title for one in found.entries] == ["teacher (0)", "teacher (2)"]
    assert [call["groups"] for call in gathered.calls] == [
        ["scores", "bits", "k-means", "pilot"],
        ["bits", "k-means"],
    ]
    assert [bool(call["pilots"]) for call in gathered.calls] == [True, False]
    assert [call["case"].layers["student"] for call in gathered.calls] == [("0",), ("0",)]
    assert found.settings["layers"] == {"teacher": ["0", "2"], "student": ["0"]}
    with pytest.raises(lb.checks.ArgumentError, match="one layer of the student; got 0, 1"):
        lb.forecast(
            good_teacher(), network(), rows(61), validation=VALIDATION, layers=["0", "1"], **QUICK
        )


def test_layers_without_a_figure_that_depends_on_them(models):
    with pytest.raises(
        lb.checks.ArgumentError, match=r"no `layers`.*\(scores\) depends on a layer"
    ):
        lb.forecast(good_teacher(), network(), rows(61), validation=VALIDATION, layers="0", **QUICK)


def test_folders_and_teachers_that_are_no_modules(models, tmp_path):
    from limbeck.training.building import build

    saved = build("zoo:mlp", inputs=6, hidden=[5], num_classes=3)
    save_model(saved, tmp_path / "saved")
    teachers = {
        "folder": tmp_path / "saved",
        "module": saved,
        "callable": lambda batch: Outputs(saved(batch.inputs).detach()),
    }
    found = lb.forecast(teachers, network(), rows(61), validation=VALIDATION, **QUICK)
    assert len({one.accuracy.value for one in found.entries}) == 1
    assert [one.teacher for one in found.entries] == list(teachers)


def test_data_sets_of_items_and_the_loaders_batch_size(models):
    def figures(data, **options):
        found = lb.forecast(
            good_teacher(), network(), data, validation=VALIDATION, **TWENTY | options
        )
        return found.figures, found.settings["steps"]

    x, y = rows(61)
    items = TensorDataset(x, y)
    loader = DataLoader([items[i] for i in range(61)], batch_size=16)
    arrays = figures((x, y), batch_size=None)
    assert arrays[1] == 20  # 64 rows at a time
    found, steps = figures(loader, batch_size=None)
    assert steps == 80
    assert found == figures((x, y))[0] != arrays[0]
    assert figures(loader, batch_size=31)[1] == 40


class Growing(nn.Module):
    """A classifier whose class scores are replaced on request."""

    def __init__(self, change):
        super().__init__()
        self.inner, self.change = good_teacher(), change

    def forward(self, x):
        return self.change(self.inner(x))


def broken(logits):
    return logits.index_fill(0, torch.tensor([2]), math.nan)


ONE_CLASS = (rows(61)[0], torch.ones(61, dtype=torch.int64))
UNLABELLED = (VALIDATION[0], torch.full((91,), -1))


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"validation": None}, "DataError", r"expected validation rows; got None\. Give labelled"),
        ({"validation": VALIDATION[0]}, "DataError", "labelled rows in validation; none of 91"),
        ({"validation": UNLABELLED}, "DataError", "labelled rows in validation; none of 91"),
        ({"data": rows(61)[0]}, "DataError", "labelled rows in data; none of 61 has a label"),
        ({"data": ONE_CLASS}, "DataError", "two classes in data; all labels are 1"),
        (
            {"validation": (VALIDATION[0], torch.zeros(91, dtype=torch.int64))},
            "DataError",
            "two classes in validation; all labels are 0",
        ),
        (
            {"data": (rows(61)[0], rows(61)[1].double())},
            "DataError",
            r"got float64 of shape \(61,\).*classification alone",
        ),
        (
            {"data": (rows(61)[0], torch.zeros(61, 3, dtype=torch.int64))},
            "DataError",
            r"got int64 of shape \(61, 3\)",
        ),
        ({"data": (rows(61)[0], rows(61)[1] + 1)}, "DataError", r"labels from 0 to 2.*got 3 in"),
        ({"data": [part[:31] for part in VALIDATION]}, "DataError", "31 of 91 validation rows"),
        ({"teacher": Growing(broken)}, "DataError", r"the teacher; got NaN.*1 of 91 .*in row 2"),
        ({"student": Growing(broken)}, "DataError", "the student; got NaN or infinity"),
        ({"teacher": good_teacher(4)}, "ModelError", "3 classes from the teacher.*got 4"),
        (
            {"teacher": Growing(lambda z: z[:, :, None])},
            "ModelError",
            r"from the teacher.*outputs of shape \(91, 3, 1\)",
        ),
        (
            {"teacher": lambda batch: Outputs(None, {"0": batch.inputs})},
            "ModelError",
            "from the teacher.*got features alone",
        ),
        ({"teacher": nn.Linear(7, 3)}, "ModelError", r"(?s)teacher.*\(16, 6\)"),
        ({"student": Growing(lambda z: z[:, :1])}, "ModelError", "from the student.*shape .91, 1"),
        ({"loss": "dkd"}, "ArgumentError", r"one of kd, itrd, by name; got 'dkd'. Did you mean kd"),
        ({"loss": "rkd", "pilot": True}, "ArgumentError", "there are none with another loss"),
        ({"max_steps": 5}, "ArgumentError", "no `max_steps`.*say it by `epochs`"),
        ({"track": "tensorboard"}, "ArgumentError", "no `track`.*nobody.s to follow"),
        ({"task": "regression"}, "ArgumentError", "no `task`.*classification alone"),
        ({"weight": 0.5}, "ArgumentError", "no `weight`.*published combination"),
        ({"epoch": 5}, "RecipeError", "got `epoch`. Did you mean epochs"),
        ({"epochs": 0}, "RecipeError", "forecast: `epochs`"),
        ({"layers": {"techer": "0"}}, "ArgumentError", "Did you mean teacher"),
    ],
)
def test_what_is_wrong_is_said(models, changes, kind, message):
    given = {"teacher": good_teacher(), "student": network(), "data": rows(61)}
    given |= {"validation": VALIDATION} | QUICK | changes
    teacher, student, data = (given.pop(name) for name in ("teacher", "student", "data"))
    with pytest.raises(getattr(lb.checks, kind), match=message):
        lb.forecast(teacher, student, data, **given)


def test_shared_rows_are_found_behind_augmentation(models):
    """What is compared is the row, not a view of it."""
    data = lb.Data(rows(61), augment=lambda x, index, view: x + 1.0 + view)
    shared = [part[:7] for part in rows(61)]
    with pytest.raises(lb.checks.DataError, match="7 of 7 validation rows"):
        lb.forecast(good_teacher(), network(), data, validation=shared, **QUICK)


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"student": "folder"}, "ModelError", "student to be a torch module; got str"),
        ({"loss": nn.Identity()}, "ArgumentError", r"one of kd, itrd, by name; got Identity\(\)"),
    ],
)
def test_what_is_of_another_kind(models, without_shape_hook, changes, kind, message):
    given = {"student": network(), "validation": VALIDATION} | QUICK | changes
    with pytest.raises(getattr(lb.checks, kind), match=message):
        lb.forecast(good_teacher(), data=rows(61), **given)


def test_options_that_are_left_open_are_no_mistake(models):
    given = {"max_steps": None, "weight": None, **QUICK}
    found = lb.forecast(good_teacher(), network(), rows(61), validation=VALIDATION, **given)
    assert (found.settings["max_steps"], len(found.entries)) == (None, 1)


def test_a_store_is_refused(models, tmp_path):
    store = lb.cache(good_teacher(), rows(61), tmp_path / "store", device="cpu", progress=False)
    for given in (store, tmp_path / "store"):
        with pytest.raises(lb.checks.ModelError, match="got a store, which answers for its own"):
            lb.forecast(given, network(), rows(61), validation=VALIDATION, **QUICK)


def test_rows_in_both_sets_may_be_forced(models):
    """64-bit inputs of validation are the same rows; another label does not make another row."""
    x, y = rows(61)
    mixed = (torch.cat([VALIDATION[0], x[:7]]).double(), torch.cat([VALIDATION[1], 2 - y[:7]]))
    student = nn.Sequential(Single(), network())
    teacher = nn.Sequential(Single(), good_teacher())
    with pytest.raises(lb.checks.DataError, match=r"7 of 98 .* or pass force=True"):
        lb.forecast(teacher, student, (x, y), validation=mixed, **QUICK)
    found = lb.forecast(teacher, student, (x, y), validation=mixed, force=True, **QUICK)
    (said,) = found.warnings
    assert said.startswith("7 of 98 validation rows also stand in the training data")
    assert f"warning: {said}" in str(found)


class Single(nn.Module):
    """Takes inputs of any precision."""

    def forward(self, x):
        return x.float()


def test_rows_of_several_tensors_are_told_apart():
    from limbeck.forecasting.checking import Rows, shared_rows

    def read(words, mask):
        return Rows.of(({"words": torch.tensor(words), "mask": torch.tensor(mask)}, [0, 1]), "data")

    first = read([[1, 2], [3, 4]], [[1, 1], [1, 0]])
    assert shared_rows(first, first) == 2
    assert shared_rows(first, read([[1, 2], [3, 4]], [[1, 1], [1, 1]])) == 1
    assert shared_rows(first, read([[2, 1], [3, 4]], [[1, 1], [1, 1]])) == 0
    images = torch.tensor([[[51]], [[255]]], dtype=torch.uint8)
    assert shared_rows(
        Rows.of((images, [0, 1]), "a"), Rows.of((torch.tensor([[[1.0]], [[0.0]]]), [0, 1]), "b")
    ) == 1  # fmt: skip
