"""CRD with the memory of all rows: plain loops, what is remembered, what is drawn."""

import copy

import pytest
import torch
from helpers.contrast import INDICES, golden, plain_contrast
from helpers.features import DIGITS, args, drawn, prepared
from torch.nn import functional as F

from limbeck.checks import ArgumentError
from limbeck.losses import CRD
from limbeck.losses.crd import noise_contrastive_loss
from limbeck.types import Batch


ROWS, BANK, WIDTH = 5, 12, 4


def given(index=(3, 0, 7, 11, 5), labels=None, seed=0):
    student, teacher, batch = args(
        drawn(len(index), 6, seed=seed), drawn(len(index), 3, seed=seed + 1), targets=labels
    )
    return student, teacher, Batch(batch.inputs, labels, torch.tensor(index), batch.view)


def made(**options):
    """Return a loss with a bank, its rows of length 1, and embeddings that keep what they get."""
    loss = prepared(CRD(width=WIDTH, bank=BANK, **options), given()).double()
    for side in (loss.bank.student, loss.bank.teacher):
        side.copy_(F.normalize(side))
    return loss


def embedded(loss, arguments):
    student, teacher, _ = arguments
    return [
        F.normalize(rows.detach())
        for rows in loss.embeddings(
            student.features["penultimate"], teacher.features["penultimate"]
        )
    ]


def plain(loss, arguments, temperature, negatives=None):
    """Return both directions by plain loops, every other row a negative."""
    index = arguments[2].index.tolist()
    if negatives is None:
        negatives = [[j for j in range(BANK) if j != i] for i in index]
    student, teacher = embedded(loss, arguments)
    return sum(
        plain_contrast(queries, bank.clone(), index, negatives, temperature)
        for queries, bank in ((student, loss.bank.teacher), (teacher, loss.bank.student))
    )


def test_equals_plain_loops_where_every_row_is_drawn():
    for temperature in (0.07, 0.5):
        loss = made(negatives=BANK, temperature=temperature)
        expected = plain(loss, given(), temperature)
        assert loss(*given()).item() == pytest.approx(expected, rel=1e-12)


def test_candidates_may_be_drawn_from_more_rows():
    """The golden value of section 8.3 with no candidates but those that count."""
    queries, bank, _, _ = golden()
    for temperature, value in ((0.07, 9.020843460835), (0.5, 1.963360287417)):
        scores = torch.stack([(queries[i] @ bank[list(INDICES[i])].T) for i in (0, 1)])
        mean = (scores / temperature).exp().mean().log()
        losses = [
            noise_contrastive_loss(
                queries[i : i + 1],
                bank[list(INDICES[i])],
                torch.tensor([0]),
                torch.tensor([[False, True, True, True]]),
                temperature=temperature,
                log_normaliser=mean,
                size=10,
            )
            for i in (0, 1)
        ]
        assert (sum(losses) / 2).item() == pytest.approx(value, **DIGITS)


def test_the_first_mean_scores_stay():
    loss = made(negatives=BANK, temperature=0.5)
    assert loss.bank.mean_scores.isnan().all()
    loss(*given())
    first = loss.bank.mean_scores.clone()
    assert first.isfinite().all()
    loss(*given(seed=7))
    assert torch.equal(loss.bank.mean_scores, first)


def test_rows_that_were_seen_are_remembered_in_training_only():
    loss = made(negatives=BANK)
    before, arguments = copy.deepcopy(loss.bank), given()
    embeddings = embedded(loss, arguments)
    loss.eval()(*arguments)
    assert torch.equal(loss.bank.teacher, before.teacher)
    loss.train()(*arguments)
    index = arguments[2].index
    others = [row for row in range(BANK) if row not in index]
    for side, rows in zip(("student", "teacher"), embeddings, strict=True):
        now, old = getattr(loss.bank, side), getattr(before, side)
        torch.testing.assert_close(now[index], F.normalize(0.5 * old[index] + 0.5 * rows))
        assert torch.equal(now[others], old[others])


def test_rows_of_one_class_are_no_negatives_once_seen():
    loss, labels = made(negatives=BANK, temperature=0.5), torch.tensor([0, 1, 0, 2, 1])
    loss(*given(labels=labels))
    known = dict(zip(given()[2].index.tolist(), labels.tolist(), strict=True))
    assert loss.bank.labels.tolist() == [known.get(row, -1) for row in range(BANK)]
    _, negatives = loss.bank.candidates(torch.tensor([3, 1]), torch.tensor([0, -1]))
    places, _ = loss.bank.candidates(torch.tensor([3, 1]), None)
    allowed = {
        row: bool(kept) for row, kept in zip(places[2:].tolist(), negatives[0, 2:], strict=True)
    }
    assert allowed == {row: known.get(row) != 0 for row in range(BANK)}
    unknown = {
        row: bool(kept) for row, kept in zip(places[2:].tolist(), negatives[1, 2:], strict=True)
    }
    assert unknown == {row: row != 1 for row in range(BANK)}
    assert not negatives[:, :2].any()


def test_draws_are_without_replacement_seeded_and_new_every_step():
    loss = made(negatives=6)
    index = torch.tensor([0])
    first = loss.bank.candidates(index, None)[0][1:]
    assert len(set(first.tolist())) == 6
    assert torch.equal(loss.bank.candidates(index, None)[0][1:], first)
    loss(*given())
    second = loss.bank.candidates(index, None)[0][1:]
    assert not torch.equal(second, first)
    other = made(negatives=6)
    other.load_state_dict(loss.state_dict())
    assert torch.equal(other.bank.candidates(index, None)[0][1:], second)
    assert not torch.equal(made(negatives=6, seed=1).bank.candidates(index, None)[0][1:], first)


def test_negatives_are_those_drawn():
    loss = made(negatives=3, temperature=0.5)
    arguments = given(index=(2, 8))
    places, _ = loss.bank.candidates(arguments[2].index, None)
    negatives = [[j for j in places[2:].tolist() if j != i] for i in (2, 8)]
    expected = plain(loss, arguments, 0.5, negatives)
    assert loss(*arguments).item() == pytest.approx(expected, rel=1e-12)


def test_gradients_flow_into_both_embeddings_but_not_into_the_bank():
    loss = made(negatives=BANK)
    loss(*given()).backward()
    assert all(p.grad is not None and (p.grad != 0).any() for p in loss.parameters())
    assert not any(buffer.requires_grad for buffer in loss.buffers())


def test_messages():
    with pytest.raises(ArgumentError, match=r"row numbers below bank=12; got 12"):
        made()(*given(index=(12, 0)))
    with pytest.raises(ArgumentError, match="a queue or a bank"):
        CRD(queue=4, bank=BANK)
    with pytest.raises(ArgumentError, match="negatives"):
        CRD(bank=BANK, negatives=0)
