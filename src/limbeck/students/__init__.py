"""What makes a student cheaper: binary and quantised layers, conversions by name, export."""

from limbeck.students.binary import (
    BinaryConv2d as BinaryConv2d,
    binary as binary,
    set_tau as set_tau,
    tau as tau,
)
from limbeck.students.binary_resnet import (
    BINARY_NETWORKS as BINARY_NETWORKS,
    BinaryResNet as BinaryResNet,
    binary_resnet18 as binary_resnet18,
    binary_resnet20 as binary_resnet20,
)
from limbeck.students.conversions import (
    CONVERSIONS as CONVERSIONS,
    check_conversion as check_conversion,
    conversion as conversion,
    converted as converted,
)
from limbeck.students.export import (
    Exported as Exported,
    Parity as Parity,
    export as export,
)
from limbeck.students.grids import (
    ActivationGrid as ActivationGrid,
    integer_weight as integer_weight,
    one_bit_weight as one_bit_weight,
    start_step as start_step,
    ternary_weight as ternary_weight,
    weight_levels as weight_levels,
)
from limbeck.students.packed_file import (
    fixed as fixed,
    load_packed as load_packed,
    save_packed as save_packed,
)
from limbeck.students.packing import (
    LayerSize as LayerSize,
    PackedWeight as PackedWeight,
    packed_bits as packed_bits,
    size_table as size_table,
    unpacked as unpacked,
)
from limbeck.students.quantised import quantised as quantised
from limbeck.students.quantised_layers import (
    FakeQuantisedConv2d as FakeQuantisedConv2d,
    FakeQuantisedLinear as FakeQuantisedLinear,
)
from limbeck.students.reused_head import (
    ReusedHead as ReusedHead,
    reusing_head as reusing_head,
)
from limbeck.students.signs import (
    binarised as binarised,
    binary_activation as binary_activation,
    rectified as rectified,
)
