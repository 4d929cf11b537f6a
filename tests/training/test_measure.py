"""measure(): which rows, which vectors, and what is refused."""

import json

import pytest
import torch
from helpers.measured import measure
from helpers.small import good_teacher, network, rows
from torch import nn
from torch.utils.data import TensorDataset

import limbeck as lb
from limbeck.checks import ArgumentError, DataError, LayerError, ModelError, ShapeError
from limbeck.training import measuring
from limbeck.training.own_scores import posteriors_of


def test_default_on_a_known_truth():
    """The teacher tells four classes apart, the student only their halves: one bit each."""
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(4, (500,), generator=generator)
    x = nn.functional.one_hot(targets, 4) + 0.1 * torch.randn(500, 4, generator=generator)
    student = nn.Linear(4, 2, bias=False)
    student.weight.data = torch.tensor([[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]])
    found = measure(nn.Identity(), student, (x, targets), layers="logits")
    assert found.distillable.value == pytest.approx(1.0, abs=0.1)
    assert found.distilled.value == pytest.approx(1.0, abs=0.1)
    assert found.unique_student.upper < 0.1
    assert found.verdict == "distil"
    assert found.accuracy["teacher"]["teacher"].value == 1.0
    assert "student" not in found.accuracy  # two outputs are no scores of four classes
    assert found.settings["method"] == "hull"
    for text in ("teacher (logits) to student (logits), n = 500", "distillable", "bits"):
        assert text in str(found)


def test_the_estimator_gets_the_layers_of_the_labelled_rows(recorder):
    x, y = rows(90)
    partly = torch.where(torch.arange(90) % 4 == 0, -1, y)
    teacher, student = good_teacher(), network(norm=True, dropout=0.5)
    with torch.no_grad():  # moved from where evaluation would put it by chance
        student[1].running_mean += 0.5
    before = [tensor.clone() for tensor in student.state_dict().values()]
    found = measure(teacher, student, (x, partly), batch_size=7, seed=3)
    (call,) = recorder.calls
    kept = partly >= 0
    student.eval()
    with torch.no_grad():
        inner = student[:-1](x)[kept]
        for side, module in (("teacher", teacher), ("student", student)):
            own = module(x)[kept].softmax(1)
            torch.testing.assert_close(call[f"{side}_posteriors"], own)
            assert found.accuracy[side][side].value == pytest.approx(
                (own.argmax(1) == y[kept]).double().mean().item()
            )
            bits = -own[torch.arange(len(own)), y[kept]].double().log2().mean().item()
            assert found.cross_entropy[side][side].value == pytest.approx(bits, rel=1e-5)
    assert torch.equal(call["targets"], y[kept])
    torch.testing.assert_close(call["student"], inner)
    torch.testing.assert_close(call["teacher"], teacher[0](x)[kept].detach())
    assert call["student"].dtype == torch.float32
    assert not call["student"].requires_grad
    assert (call["method"], call["n_symbols"], call["seed"]) == ("hull", None, 3)
    assert (found.data["used"], found.data["unlabelled"]) == (67, 23)
    assert all(
        torch.equal(one, two)
        for one, two in zip(before, student.state_dict().values(), strict=True)
    )


def test_unlabelled_items_are_left_out_as_they_are_read(recorder):
    x, y = rows(90)
    partly = torch.where(torch.arange(90) % 4 == 0, -1, y)
    found = measure(good_teacher(), network(), list(zip(x, partly, strict=True)), batch_size=7)
    measure(good_teacher(), network(), (x, partly), batch_size=7)
    items, arrays = recorder.calls
    for name in ("targets", "teacher", "student"):
        torch.testing.assert_close(items[name], arrays[name])
    assert (found.data["used"], found.data["unlabelled"]) == (67, 23)


def test_modes_and_hooks_are_as_before(recorder):
    student = network(norm=True).train()
    student[1].eval()
    measure(good_teacher().train(), student, rows(30))
    assert [part.training for part in student] == [True, False, True, True]
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in student.modules())
    with pytest.raises(LayerError):
        measure(good_teacher(), student, rows(30), layers={"student": ["0", "7"]})
    assert [part.training for part in student] == [True, False, True, True]
    assert not any(part._forward_hooks for part in student.modules())


def test_layers_by_name_and_maps(recorder):
    teacher, student, data = good_teacher(), network(), rows(40)
    chosen = {"teacher": ["0", "logits"], "student": ["1", "penultimate", "2"]}
    found = measure(teacher, student, data, layers=chosen)
    pairs = [(entry.teacher_layer, entry.student_layer) for entry in found.entries]
    assert pairs == [(a, b) for a in chosen["teacher"] for b in chosen["student"]]
    given = [(c["teacher"].shape[1], c["student"].shape[1]) for c in recorder.calls]
    assert given == [(10, 8), (10, 8), (10, 3), (3, 8), (3, 8), (3, 3)]
    own = [
        (c["teacher_posteriors"] is not None, c["student_posteriors"] is not None)
        for c in recorder.calls
    ]
    # The layer "2" gives the logits too, but only "logits" and "penultimate" are known to.
    assert own == [(a, b) for a in (False, True) for b in (False, True, False)]
    both = measure(teacher, student, data, layers="0")
    assert (both.entries[0].teacher_layer, both.entries[0].student_layer) == ("0", "0")
    half = measure(teacher, student, data, layers={"student": "1"})
    assert (half.entries[0].teacher_layer, half.entries[0].student_layer) == ("penultimate", "1")


def test_a_network_without_a_head_is_measured_at_its_output(recorder):
    found = measure(nn.Sequential(nn.Linear(6, 5), nn.Tanh()), network(), rows(40))
    assert found.entries[0].teacher_layer == "logits"
    assert recorder.calls[0]["teacher"].shape == (40, 5)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ({"student": "layer3"}, "student: expected the name of a layer of Sequential.*'layer3'"),
        ({"teacher": ["0", "00"]}, "teacher: .*'00'.*Did you mean 0"),
    ],
)
def test_unknown_layers(layers, message):
    with pytest.raises(LayerError, match=message):
        measure(good_teacher(), network(), rows(30), layers=layers)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ({"studnet": "0"}, "'studnet'.*Did you mean student"),
        ({"student": []}, "list of names, for the student; got \\[\\]"),
        ({"teacher": 3}, "for the teacher; got 3"),
    ],
)
def test_layers_that_are_no_names(without_shape_hook, layers, message):
    with pytest.raises(ArgumentError, match=message):
        measure(good_teacher(), network(), rows(30), layers=layers)


def test_maps_are_averaged_over_space(recorder):
    images = torch.rand(30, 2, 5, 4, generator=torch.Generator().manual_seed(0))
    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(18, 3))
    measure(net, net, (images, torch.arange(30) % 3), layers={"teacher": "0"})
    expected = net[0](images).mean((2, 3)).detach()
    torch.testing.assert_close(recorder.calls[0]["teacher"], expected)
    assert recorder.calls[0]["student"].shape == (30, 18)


def test_a_layer_that_gives_no_vector_a_row_is_named(recorder):
    net = nn.Sequential(nn.Unflatten(1, (1, 3, 2, 1)), nn.Flatten(), nn.Linear(6, 3))
    with pytest.raises(ShapeError, match=r"layer '0' of teacher 'a': .*\(16, 1, 3, 2, 1\)"):
        measure({"a": net}, network(), rows(40), layers={"teacher": "0"})
    assert not net[0]._forward_hooks


class Words(nn.Module):
    """Embeds tokens and classifies their mean over the mask."""

    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Embedding(9, 4), nn.Linear(4, 3)

    def forward(self, ids, attention_mask):
        kept = attention_mask[:, :, None]
        return self.head((self.embed(ids) * kept).sum(1) / kept.sum(1))


def test_tokens_are_averaged_over_the_mask(recorder):
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(9, (30, 5), generator=generator)
    mask = (torch.arange(5) < torch.randint(1, 6, (30, 1), generator=generator)).long()
    net, data = Words(), ({"ids": ids, "attention_mask": mask}, ids[:, 0] % 3)
    measure(net, net, data, layers={"teacher": "embed"})
    states = net.embed(ids).detach()
    expected = torch.stack([states[i, : mask[i].sum()].mean(0) for i in range(30)])
    torch.testing.assert_close(recorder.calls[0]["teacher"], expected)
    torch.testing.assert_close(recorder.calls[0]["student"], expected)


def test_rows_beyond_the_budget_are_a_sample_that_depends_on_the_seed_alone(recorder):
    x, y = rows(200)
    dataset, places = TensorDataset(x, y, torch.arange(200)), []

    class Items(torch.utils.data.Dataset):
        def __len__(self):
            return 200

        def __getitem__(self, index):
            places.append(index)
            return dataset[index][:2]

    width = 10 + 3 + 8 + 3  # penultimate layers and logits
    found = measure(good_teacher(), network(), (x, y), memory=4 * width * 60 + 4 * width - 1)
    measure(good_teacher(), network(), (x, y), max_rows=60, batch_size=9)
    measure(good_teacher(), network(), Items(), max_rows=60, batch_size=1000)
    measure(good_teacher(), network(), (x, y), max_rows=60, seed=1)
    first, *others = [call["student"] for call in recorder.calls]
    assert len(first) == 60
    torch.testing.assert_close(others[0], first)
    torch.testing.assert_close(others[1], first)
    assert len(set(places)) <= 60 + 16  # the first rows find the layers; the others are not read
    assert len(others[2]) == 60
    assert not torch.equal(others[2], first)
    assert found.settings["sampled"]
    assert "60 of 200 rows are used" in found.warnings[0]
    assert "Raise `memory`" in found.warnings[0]


def test_only_labelled_rows_count_for_the_sample(recorder):
    x, y = rows(200)
    partly = torch.where(torch.arange(200) < 150, -1, y)
    found = measure(good_teacher(), network(), (x, partly), max_rows=50)
    assert not found.settings["sampled"]
    assert (found.data["used"], found.data["unlabelled"], found.data["rows"]) == (50, 150, 200)
    assert found.warnings == ()


def test_a_teacher_may_be_a_function(recorder):
    def teacher(batch):
        return lb.Outputs(batch.inputs[:, :3], {"inner": batch.inputs[:, :2]})

    x, y = rows(40)
    found = measure(teacher, network(), (x, y), layers={"teacher": ["logits", "inner"]})
    assert torch.equal(recorder.calls[0]["teacher"], x[:, :3])
    assert torch.equal(recorder.calls[1]["teacher"], x[:, :2])
    assert found.accuracy["teacher"]["teacher"].value == pytest.approx(
        (x[:, :3].argmax(1) == y).double().mean().item()
    )
    with pytest.raises(LayerError, match=r"'iner'.*Did you mean inner"):
        measure(teacher, network(), (x, y), layers={"teacher": "iner"})


def test_no_forward_pass_keeps_a_graph(recorder):
    said = []

    class Asked(nn.Module):
        def forward(self, x):
            said.append(torch.is_grad_enabled())
            return x

    measure(nn.Sequential(nn.Linear(6, 4), Asked()), network(), rows(40), layers="0")
    assert said == [False, False]


class NotFinite(nn.Module):
    """Gives NaN on rows whose first input is large."""

    def forward(self, x):
        return torch.where(x[:, :1] > 3.0, torch.nan, x)


def test_features_that_are_not_finite_name_layer_network_and_row():
    x, y = rows(40)
    x[:, 0] = 0.0
    x[37, 0] = 4.0
    broken = nn.Sequential(NotFinite(), nn.Linear(6, 3))
    with pytest.raises(DataError, match=r"layer '0' of student 'b'.*1 of 8 rows, first in row 37"):
        measure(good_teacher(), {"b": broken}, (x, y), layers={"student": "0"}, batch_size=8)
    with pytest.raises(DataError, match="layer 'penultimate' of teacher; "):
        measure(broken, network(), (x, y))


def test_constant_features_hold_nothing():
    """A stated result, not an error."""
    student = nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 3))
    for parameter in student.parameters():
        nn.init.zeros_(parameter)
    found = measure(good_teacher(), student, rows(150), method="cells")
    assert found.estimate.mutual_student.value < 0.05
    assert found.distilled.value < 0.05
    assert found.estimate.mutual_teacher.value > 1.0
    assert "layer 'penultimate' of student says the same for every row" in found.warnings[0]


def test_too_few_rows_or_classes():
    teacher, student = good_teacher(), network()
    with pytest.raises(DataError, match="at least 50 rows; got 30"):
        measure(teacher, student, rows(30))
    x, _ = rows(90)
    with pytest.raises(DataError, match="at least two classes; got only class 1"):
        measure(teacher, student, (x, torch.ones(90, dtype=torch.int64)))
    with pytest.raises(DataError, match="none of 90 has a label"):
        measure(teacher, student, (x, torch.full((90,), -1)))
    with pytest.raises(DataError, match="expected targets in data"):
        measure(teacher, student, x)
    with pytest.raises(DataError, match="got rows: inputs 90, targets 89"):
        measure(teacher, student, (x, torch.zeros(89)))
    with pytest.raises(ModelError, match="student: expected Sequential to take a batch"):
        measure(teacher, nn.Sequential(nn.Linear(5, 3)), rows(60))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "multilabel"}, "got multilabel. Measure one label at a time"),
        ({"task": "embedding"}, "got embedding. Give class indices"),
        ({"task": "regression"}, "method='gaussian' for regression; got 'hull'"),
        ({"method": "hul"}, "'hul'. Did you mean hull"),
        ({"max_rows": 0}, "`max_rows` > 0; got 0"),
        ({"memory": -1}, "`memory` > 0; got -1"),
    ],
)
def test_what_cannot_be_measured_is_refused_by_name(options, message):
    with pytest.raises(ArgumentError, match=message):
        measure(good_teacher(), network(), rows(60), **options)


def test_real_targets_are_gaussian_only():
    x, _ = rows(300)
    with pytest.raises(DataError, match=r"expected one integer class index a row.*float32"):
        measure(good_teacher(), network(), (x, x[:, 0]))
    noise = torch.randn(300, 1, generator=torch.Generator().manual_seed(7))
    targets = x[:, :1] + 0.5 * x[:, 1:2] + 0.5 * noise
    targets[::3] = torch.nan
    found = measure(
        nn.Identity(), nn.Linear(6, 2), (x, targets), task="regression", method="gaussian",
        layers="logits",
    )  # fmt: skip
    assert (found.data["used"], found.data["unlabelled"]) == (200, 100)
    assert found.accuracy == {}
    assert found.distillable.n == 200
    assert any("Gaussian" in text for text in found.estimate.warnings)
    assert json.dumps(found.to_dict(), allow_nan=False)


def test_posteriors_of_data_without_its_last_class(recorder):
    x, y = rows(60)
    measure(good_teacher(), network(), (x, y % 2))
    logits = good_teacher()(x).detach()
    torch.testing.assert_close(recorder.calls[0]["teacher_posteriors"], logits[:, :2].softmax(1))
    assert posteriors_of(torch.full((1, 3), -1e4), 2).tolist() == [[0.5, 0.5]]


def test_rows_seen_in_training_are_warned_of(recorder):
    found = measure(good_teacher(), network(), rows(60), seen_in_training=True)
    assert "memorised" in found.warnings[0]
    assert measure(good_teacher(), network(), rows(60)).warnings == ()


def test_the_teachers_probe_serves_every_student(recorder):
    x, y = rows(90)
    kept = []

    def called(*arguments, fitted, **options):
        kept.append(sorted(side for side, _ in fitted))
        number = str(len(kept))
        fitted["teacher", "once"] = fitted["student", number] = object()
        return recorder(*arguments, fitted=fitted, **options)

    measuring.estimate_pid = called  # the recorder's place is given back by its fixture
    measure(good_teacher(), {str(epoch): network() for epoch in range(3)}, (x, y))
    assert kept == [[], ["teacher"], ["teacher"]]
