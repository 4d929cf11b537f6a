"""certify(): modules, language models, tables and callables, on answers whose law is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

import limbeck
from limbeck.checks import ArgumentError, DataError, ModelError
from limbeck.records import TeacherRecord
from limbeck.training.building import build
from limbeck.training.certify import certify
from limbeck.training.saving import save_model


class Network(nn.Module):
    """A classifier that counts what it runs, with dropout that must be off."""

    def __init__(self, labels=4, inputs=3):
        super().__init__()
        torch.manual_seed(labels)
        self.layer = nn.Linear(inputs, labels)
        self.dropout = nn.Dropout(0.9)
        self.rows = 0

    def forward(self, x):
        self.rows += len(x)
        return self.dropout(self.layer(x))


@pytest.fixture(scope="module")
def inputs():
    return torch.from_numpy(np.random.default_rng(0).standard_normal((50, 3))).float()


def teacher_rows(inputs, labels=4):
    """Return a teacher's rows over the inputs."""
    generator = np.random.default_rng(labels)
    logits = inputs.double().numpy() @ generator.standard_normal((inputs.shape[1], labels))
    return np.exp(logits) / np.exp(logits).sum(1, keepdims=True)


def every_answer(rows, times=20, **given):
    """Return each label of each input about as often as the teacher says it."""
    found = []
    for s, row in enumerate(rows):
        for a, t in enumerate(row):
            count = round(t * times)
            if count:
                fields = {name: value[s] for name, value in given.items()}
                found.append(TeacherRecord(s, a, float(np.log(t)), count=count, **fields))
    return found


def sampled(rows, n, seed=0):
    """Return n answers to inputs that are drawn evenly."""
    generator = np.random.default_rng(seed)
    places = generator.integers(0, len(rows), n).tolist()
    return [
        TeacherRecord(s, a, float(np.log(rows[s, a])))
        for s in places
        for a in [int(generator.choice(rows.shape[1], p=rows[s]))]
    ]


def rows_of(module, inputs):
    with torch.no_grad():
        return module.eval()(inputs).double().softmax(1).numpy()


def test_a_module_on_rows_of_data(inputs):
    teacher, student = teacher_rows(inputs), Network()
    student.train()
    student.dropout.eval()  # a mixed mode must come back as it was
    records = sampled(teacher, 600)
    found = certify(student, records, inputs, device="cpu")
    assert student.training
    assert not student.dropout.training
    assert student.rows == len({r.input for r in records})
    p = rows_of(student, inputs)
    terms = [max(0.0, 1 - p[r.input, r.label] / teacher[r.input, r.label]) for r in records]
    assert found.total_variation.value == pytest.approx(np.mean(terms), abs=1e-6)
    k3 = [p[r.input, r.label] / teacher[r.input, r.label] for r in records]
    k3 = [x - 1 - math.log(x) for x in k3]
    assert found["kl_k3"].value == pytest.approx(np.mean(k3), abs=1e-5)
    truth = 0.5 * np.abs(p - teacher).sum(1).mean()
    assert found.total_variation.lower < truth < found.total_variation.upper
    assert (found.student, found.records) == ("Network", 600)


def test_batches_and_order_change_nothing(inputs):
    teacher, student = teacher_rows(inputs), Network()
    records = sampled(teacher, 200)
    first = certify(student, records, inputs, device="cpu")
    for other in (records[::-1], records):
        again = certify(student, other, inputs, batch_size=7, device="cpu")
        for name in ("total_variation", "kl_k3", "kl_k1"):
            assert again[name].value == pytest.approx(first[name].value, abs=1e-6)


def test_whole_rows_are_compared_exactly(inputs):
    teacher, student = teacher_rows(inputs), Network()
    records = [TeacherRecord(s, 0, row=np.log(teacher[s])) for s in range(50)]
    found = certify(student, records, inputs, device="cpu")
    p = rows_of(student, inputs)
    exact = 0.5 * np.abs(p - teacher).sum(1)
    assert found.privilege == "soft_labels"
    assert found.total_variation.value == pytest.approx(exact.mean(), abs=1e-6)
    assert found.kl.value == pytest.approx((teacher * np.log(teacher / p)).sum(1).mean(), abs=1e-6)


def test_every_label_as_often_as_it_comes(inputs):
    """Designed draws, the same number at each input: inputs are the units, and it is exact."""
    teacher = np.array([[0.5, 0.25, 0.25, 0.0], [0.1, 0.2, 0.3, 0.4]])
    student = np.array([[0.25, 0.25, 0.25, 0.25], [0.4, 0.3, 0.2, 0.1]])
    records = every_answer(np.where(teacher == 0, 1e-12, teacher))
    found = certify(lambda rows: student[rows], records)
    assert (found.unit, found.units) == ("input", 2)
    assert found.total_variation.value == pytest.approx(0.5 * np.abs(teacher - student).sum() / 2)


def test_censored_answers_bracket_the_truth(inputs):
    teacher, student = teacher_rows(inputs, 12), Network(12)
    records = []
    for record in sampled(teacher, 800):
        row = teacher[record.input]
        top = tuple((int(a), float(np.log(row[a]))) for a in np.argsort(-row)[:4])
        records.append(TeacherRecord(record.input, record.label, top=top))
    censored = [record for record in records if record.censored]
    assert len(censored) > 30
    found = certify(student, records, inputs, device="cpu")
    truth = 0.5 * np.abs(rows_of(student, inputs) - teacher).sum(1).mean()
    assert found.total_variation.status == "unresolved"
    assert found.total_variation.lower < truth < found.total_variation.upper
    low, high = [], []
    p = rows_of(student, inputs)
    for record in records:
        t, mine = teacher[record.input], p[record.input, record.label]
        known = dict(record.top)
        tail = 1 - sum(math.exp(log) for log in known.values())
        limit = min(math.exp(record.top[-1][1]), tail)
        exact = max(0.0, 1 - mine / t[record.label])
        low.append(0.0 if record.censored else exact)
        high.append(max(0.0, 1 - mine / limit) if record.censored else exact)
    assert found.total_variation.value == pytest.approx(
        (np.mean(low) + np.mean(high)) / 2, abs=1e-5
    )


def test_labels_among_numbers_are_bracketed_not_dropped(inputs):
    """Numbers that are missing where they are small would flatter a student."""
    teacher = teacher_rows(inputs, 12)
    records = [
        r if r.log_probability > math.log(0.1) else TeacherRecord(r.input, r.label)
        for r in sampled(teacher, 500)
    ]
    found = certify(lambda rows: np.full((len(rows), 12), 1 / 12), records, inputs)
    truth = 0.5 * np.abs(teacher - 1 / 12).sum(1).mean()
    assert found.records == 500
    assert found.total_variation.lower < truth < found.total_variation.upper
    assert any("label alone among others" in text for text in found.warnings)


def test_labels_alone_are_refused_with_what_can_be_said(inputs):
    records = [TeacherRecord(s, 0) for s in range(30)]
    with pytest.raises(DataError, match="neither total variation nor KL") as raised:
        certify(Network(), records, inputs)
    assert "compare_students(first, second, records)" in str(raised.value)
    found = limbeck.compare_students(Network(), Network(), records, inputs, device="cpu")
    assert found.kl.value == 0


def test_a_callable_gets_rows_of_data_or_indices(inputs):
    seen = []

    def of_rows(rows):
        seen.extend(rows)
        return torch.stack(rows).softmax(1)

    records = [TeacherRecord(s, 0, -1.0) for s in (4, 2, 4)]
    certify(of_rows, records, inputs, batch_size=1)
    assert torch.equal(torch.stack(seen), inputs[[4, 2]])
    asked = []

    def of_indices(rows):
        asked.extend(rows)
        return [[0.5, 0.5]] * len(rows)

    certify(of_indices, records)
    assert asked == [4, 2]


def test_a_saved_folder(inputs, tmp_path):
    student = build("helpers.small:network", width=4)
    save_model(student, tmp_path)
    images = torch.rand(8, 6)
    records = [TeacherRecord(s, 1, -1.0) for s in range(8)]
    found = certify(tmp_path, records, images, device="cpu", trust=True)
    direct = certify(student, records, images, device="cpu")
    assert found.total_variation.value == pytest.approx(direct.total_variation.value)
    with pytest.raises(ModelError, match="trust=True"):
        certify(tmp_path, records, images)


def test_the_public_name_has_the_estimates(inputs):
    found = limbeck.certify(Network(), sampled(teacher_rows(inputs), 50), inputs, device="cpu")
    assert isinstance(found, limbeck.Certificate)
    assert isinstance(found.total_variation, limbeck.Estimate)
    assert found.total_variation.unit == "fraction"
    assert found.kl.unit == "nats"


def test_what_it_was_built_from_and_deployment(inputs):
    teacher = teacher_rows(inputs)
    built = sampled(teacher[:20], 100)
    held = sampled(teacher[:20], 200, seed=1)
    far = list(range(20, 50))
    found = certify(
        lambda rows: teacher[rows], held, built_from=built, deployment=far + list(range(20))
    )
    assert found.total_variation.value == pytest.approx(0, abs=1e-9)
    known = {}
    for record in built:
        known.setdefault(record.input, {})[record.label] = math.exp(record.log_probability)
    left = [1 - sum(known.get(r.input, {}).values()) for r in held]
    assert found["residual"].value == pytest.approx(np.mean(left), abs=1e-9)
    assert found["residual_deployment"].value > 0.6
    assert found["shift"].lower > 0
    assert 0 <= found["missing_mass"].value <= 1
    assert "residual of a table" in str(found)
    with pytest.raises(ArgumentError, match="`built_from` beside `deployment`"):
        certify(lambda rows: teacher[rows], held, deployment=far)


def test_what_cannot_be_run_is_said(inputs):
    records = [TeacherRecord(s, 0, -1.0) for s in range(3)]
    with pytest.raises(ArgumentError, match="Give the data that the indices point into"):
        certify(Network(), records)
    with pytest.raises(ArgumentError, match="callable from a list of inputs"):
        certify(3, records)
    with pytest.raises(ModelError, match="forward pass failed"):
        certify(Network(inputs=7), records, inputs, device="cpu")
    with pytest.raises(ModelError, match=r"expected scores \[rows, labels\]"):
        certify(nn.Flatten(0), records, inputs, device="cpu")
    broken = Network()
    nn.init.constant_(broken.layer.weight, math.nan)
    with pytest.raises(DataError, match="finite scores"):
        certify(broken, records, inputs, device="cpu")
    for wrong, what in (
        (lambda rows: [[0.5, 0.6]] * len(rows), "that sum to 1"),
        (lambda rows: [[1.5, -0.5]] * len(rows), "that sum to 1"),
        (lambda rows: [[math.nan, 1.0]] * len(rows), "that sum to 1"),
        (lambda rows: [0.5, 0.5], "one row an input|shape"),
        (lambda rows: [[0.5, 0.5]] * (len(rows) + 1), "one row an input|shape"),
    ):
        with pytest.raises(DataError, match=what):
            certify(wrong, records)
    with pytest.raises(DataError, match="share their labels or vocabulary"):
        certify(lambda rows: [[1.0]] * len(rows), [TeacherRecord(0, 3, -1.0)])
    with pytest.raises(DataError, match="share their labels or vocabulary"):
        certify(
            lambda rows: [[0.5, 0.5]] * len(rows),
            [TeacherRecord(0, 0, row=np.log([0.5, 0.25, 0.25]))],
        )
    with pytest.raises(ArgumentError, match="`batch_size` > 0"):
        certify(Network(), records, inputs, batch_size=0)


def test_the_mode_comes_back_after_a_failure(inputs):
    student = Network(inputs=7).train()
    with pytest.raises(ModelError):
        certify(student, [TeacherRecord(0, 0, -1.0)], inputs, device="cpu")
    assert student.training
    assert student.dropout.training
