"""Packed weights and files against plain loops and the models they were made of."""

import copy

import pytest
import torch
from helpers.students import (
    STUDENTS,
    Bag,
    bag_inputs,
    images,
    needs_torchao,
    scrambled,
    seeded,
    small,
    trained,
)
from safetensors.torch import load_file, save_file
from torch import nn

from limbeck.checks import (
    CheckpointError,
    LayerError,
    ShapeError,
)
from limbeck.students.grids import GRIDS
from limbeck.students.packed_file import fixed, load_packed, save_packed
from limbeck.students.packing import PackedWeight, packed_bits, size_table, unpacked
from limbeck.students.quantised import quantised


PER_BYTE = {8: 1, 4: 2, 2: 4, "ternary": 5, 1: 8}
BASE = {8: 256, 4: 16, 2: 4, "ternary": 3, 1: 2}
LOWEST = {8: -128, 4: -8, 2: -2, "ternary": -1}


@pytest.fixture(params=STUDENTS)
def student(request):
    return trained(STUDENTS[request.param]())


@pytest.mark.parametrize("bits", GRIDS)
def test_bytes_by_plain_loops(bits):
    model = quantised(small(), bits=bits)
    packed = packed_bits(model)
    assert list(packed) == ["3", "4.1"]
    levels, scale = model[4][1].levels()
    digits = [
        (level > 0) if bits == 1 else level - LOWEST[bits] for level in levels.flatten().tolist()
    ]
    assert len(set(digits)) > 1
    assert 0 <= min(digits) <= max(digits) < BASE[bits]
    count = PER_BYTE[bits]
    digits += [0] * (-len(digits) % count)
    expected = []
    for start in range(0, len(digits), count):
        byte = 0
        for digit in digits[start : start + count]:
            byte = byte * BASE[bits] + digit
        expected.append(byte)
    found = packed["4.1"]
    assert found.bits.dtype == torch.uint8
    assert found.bits.tolist() == expected
    assert torch.equal(found.scale, scale)
    assert (found.shape, found.grid) == ((5, 6, 3, 3), bits)
    for name, weight in unpacked(packed).items():
        assert torch.equal(weight, model.get_submodule(name).effective_weight())


@needs_torchao
@pytest.mark.parametrize("bits", [8, 4, 2])
def test_layers_of_torchao_are_packed(bits):
    model = quantised(seeded(Bag), bits=bits)
    packed = packed_bits(model)
    assert list(packed) == ["inner"]
    assert packed["inner"].grid == bits
    expected = model.inner.weight_fake_quantizer(model.inner.weight)
    assert torch.equal(unpacked(packed)["inner"], expected)
    row = next(row for row in size_table(model) if row.layer == "inner")
    assert (row.float_bytes, row.stored_bytes, row.packed_bytes) == (
        4 * 56, 4 * 56, 48 * bits // 8 + 4 * (8 + 8),
    )  # fmt: skip


@needs_torchao
def test_groups_of_torchao_are_counted_as_floats():
    from torchao.quantization.qat import FakeQuantizedLinear, IntxFakeQuantizeConfig

    config = IntxFakeQuantizeConfig(torch.int4, group_size=4)
    layer = FakeQuantizedLinear.from_linear(nn.Linear(8, 2), None, config)
    with pytest.raises(LayerError, match="packed_bits"):
        packed_bits(layer)
    assert size_table(layer)[0].packed_bytes == 4 * 18


@pytest.mark.parametrize("bits", GRIDS)
def test_sizes(bits):
    rows = {
        row.layer: (row.float_bytes, row.stored_bytes, row.packed_bytes)
        for row in size_table(quantised(small(), bits=bits))
    }
    assert list(rows) == ["0", "1", "3", "4.1", "7"]
    assert rows["0"] == (4 * 112,) * 3
    assert rows["1"] == (4 * 8,) * 3
    steps = 0 if bits in ("ternary", 1) else 1
    weights = {8: 216, 4: 108, 2: 54, "ternary": 44, 1: 27}[bits]
    assert rows["3"] == (4 * 222, 4 * (222 + 6 * steps + 2), weights + 4 * (6 + 6 + 2))
    weights = {8: 270, 4: 135, 2: 68, "ternary": 54, 1: 34}[bits]
    assert rows["4.1"] == (4 * 270, 4 * (270 + 5 * steps + 2), weights + 4 * (5 + 2))
    narrow = size_table(small().bfloat16())
    assert [row.stored_bytes * 2 for row in narrow] == [row.float_bytes for row in narrow]
    no_range = size_table(quantised(small(), bits=bits, activation_bits=None))
    assert no_range[2].packed_bytes == rows["3"][2] - 8


def test_reading_back_gives_identical_outputs(student, tmp_path):
    path = tmp_path / "student.safetensors"
    save_packed(student, path)
    student.eval()
    read = load_packed(scrambled(student), path)
    x = images()
    assert torch.equal(read(x), student(x))
    assert not torch.equal(scrambled(student)(x), student(x))
    assert not read.training
    tensors = load_file(path)
    assert not {"3.weight", "4.1.weight", "3.scale", "3.step"} & set(tensors)
    weights = {name: tensors[f"{name}.packed"].numel() for name in ("3", "4.1")}
    assert weights == {name: w.bits.numel() for name, w in packed_bits(student).items()}
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_fixed_models_give_identical_outputs(student):
    x = images()
    before = copy.deepcopy(student.state_dict())
    made = fixed(student)
    assert torch.equal(made(x), student.eval()(x))
    assert torch.equal(fixed(made)(x), made(x))
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())
    rounding = [m for m in made.modules() if hasattr(m, "fixed")]
    assert all(m.fixed and m.step is None and not m.weight.requires_grad for m in rounding)
    assert "fixed" in repr(made) or not rounding


@pytest.mark.parametrize("bits", [4, 1])
def test_fixed_models_are_not_packed_again(bits):
    made = fixed(quantised(small(), bits=bits))
    with pytest.raises(LayerError, match="packed_bits: expected a model with binary"):
        packed_bits(made)


@needs_torchao
def test_torchao_is_fixed_and_read_back(tmp_path):
    model, inputs = trained(quantised(seeded(Bag), bits=4), bag_inputs()), bag_inputs()
    path = tmp_path / "bag.safetensors"
    save_packed(model, path)
    expected = model.eval()(**inputs)["logits"]
    assert torch.equal(fixed(model)(**inputs)["logits"], expected)
    assert torch.equal(load_packed(scrambled(model), path)(**inputs)["logits"], expected)


def test_shared_layers_are_packed_once(tmp_path):
    layer = nn.Conv2d(3, 3, 3, padding=1)
    model = quantised(nn.Sequential(nn.Conv2d(3, 3, 3), layer, nn.ReLU(), layer), bits=1)
    trained(model)
    path = tmp_path / "shared.safetensors"
    save_packed(model, path)
    assert sum(name.endswith(".packed") for name in load_file(path)) == 1
    assert not {"1.weight", "3.weight"} & set(load_file(path))
    x = images()
    assert torch.equal(load_packed(scrambled(model), path)(x), model.eval()(x))


def test_messages_of_packed_files(tmp_path):
    path = tmp_path / "student.safetensors"
    with pytest.raises(LayerError, match="packed_bits: expected a model with binary convolutions"):
        save_packed(small(), path)
    model = quantised(small(), bits=4)
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_packed(model, path)
    path.write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_packed(model, path)
    save_file({"3.weight": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match="expected 'limbeck packed weights 1'; got None"):
        load_packed(model, path)
    save_packed(model, path)
    with pytest.raises(CheckpointError, match=r"'3' .*bits=2, as in Sequential; .*bits=4"):
        load_packed(quantised(small(), bits=2), path)
    with pytest.raises(CheckpointError, match=r"'4.1' no packed weight.*bits=4"):
        load_packed(quantised(small(), bits=4, keep="4"), path)
    wider = small()
    wider[7] = nn.Linear(5, 4)
    with pytest.raises(CheckpointError, match=r"7\.bias, 7\.weight are missing, too many or of an"):
        load_packed(quantised(wider, bits=4), path)
    with pytest.raises(CheckpointError, match=r"3\.activation\.high, 3\.activation\.low, 4"):
        load_packed(quantised(small(), bits=4, activation_bits=None), path)
    short = PackedWeight(torch.zeros(1, dtype=torch.uint8), torch.ones(2), (2, 1, 3, 3), "ternary")
    with pytest.raises(ShapeError, match=r"unpacked: .* 4 bytes and 2 scales; got 1 and 2"):
        unpacked({"conv": short})
