"""Networks of the distillation literature for small images, and two for tests and examples.

Every network takes pixels in [0, 1] and normalises them itself; see :func:`network`.
"""

from .base import Network as Network
from .cnn import small_cnn as small_cnn
from .mobilenet import mobilenetv2_half as mobilenetv2_half
from .normalise import (
    STATISTICS as STATISTICS,
    Normalisation as Normalisation,
    Normalise as Normalise,
    normaliser as normaliser,
)
from .perceptron import mlp as mlp
from .pretrained import akamaster_state_dict as akamaster_state_dict
from .registry import NETWORKS as NETWORKS, network as network
from .resnet import (
    resnet8x4 as resnet8x4,
    resnet20 as resnet20,
    resnet32 as resnet32,
    resnet32x4 as resnet32x4,
    resnet44 as resnet44,
    resnet56 as resnet56,
    resnet110 as resnet110,
)
from .resnet50 import resnet50_32px as resnet50_32px
from .shufflenet_v1 import shufflenetv1 as shufflenetv1
from .shufflenet_v2 import shufflenetv2 as shufflenetv2
from .vgg import vgg8 as vgg8, vgg13 as vgg13
from .wide_resnet import (
    wrn_16_1 as wrn_16_1,
    wrn_16_2 as wrn_16_2,
    wrn_16_8 as wrn_16_8,
    wrn_28_10 as wrn_28_10,
    wrn_40_1 as wrn_40_1,
    wrn_40_2 as wrn_40_2,
)
