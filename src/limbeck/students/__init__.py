"""What makes a student cheaper: convolutions of one bit a weight and one bit an activation."""

from limbeck.students.binary import (
    BinaryConv2d as BinaryConv2d,
    binary as binary,
    set_tau as set_tau,
    tau as tau,
)
from limbeck.students.packing import (
    LayerSize as LayerSize,
    PackedWeight as PackedWeight,
    packed_bits as packed_bits,
    size_table as size_table,
    unpacked as unpacked,
)
from limbeck.students.signs import (
    binarised as binarised,
    binary_activation as binary_activation,
    rectified as rectified,
)
