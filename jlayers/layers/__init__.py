"""The layers, one module per family; every name here is a constructor registered for configurations."""

from jlayers.layers import (
    activation,
    adaptive_pooling,
    attention,
    attention_heads,
    cells,
    conv_recurrent,
    convolution,
    core,
    depthwise,
    einsum,
    embedding,
    global_pooling,
    masking,
    merging,
    normalization,
    pooling,
    position,
    recurrent,
    regularization,
    reshaping,
    resizing,
    rnn,
    separable,
    sequence_wrappers,
    transformer,
    transposed,
    unit_norm,
    vision,
)
from jlayers.layers.activation import *
from jlayers.layers.adaptive_pooling import *
from jlayers.layers.attention import *
from jlayers.layers.attention_heads import *
from jlayers.layers.cells import *
from jlayers.layers.conv_recurrent import *
from jlayers.layers.convolution import *
from jlayers.layers.core import *
from jlayers.layers.depthwise import *
from jlayers.layers.einsum import *
from jlayers.layers.embedding import *
from jlayers.layers.global_pooling import *
from jlayers.layers.masking import *
from jlayers.layers.merging import *
from jlayers.layers.normalization import *
from jlayers.layers.pooling import *
from jlayers.layers.position import *
from jlayers.layers.recurrent import *
from jlayers.layers.regularization import *
from jlayers.layers.reshaping import *
from jlayers.layers.resizing import *
from jlayers.layers.rnn import *
from jlayers.layers.separable import *
from jlayers.layers.sequence_wrappers import *
from jlayers.layers.transformer import *
from jlayers.layers.transposed import *
from jlayers.layers.unit_norm import *
from jlayers.layers.vision import *

__all__: list[str] = []
__all__ += activation.__all__
__all__ += adaptive_pooling.__all__
__all__ += attention.__all__
__all__ += attention_heads.__all__
__all__ += cells.__all__
__all__ += conv_recurrent.__all__
__all__ += convolution.__all__
__all__ += core.__all__
__all__ += depthwise.__all__
__all__ += einsum.__all__
__all__ += embedding.__all__
__all__ += global_pooling.__all__
__all__ += masking.__all__
__all__ += merging.__all__
__all__ += normalization.__all__
__all__ += pooling.__all__
__all__ += position.__all__
__all__ += recurrent.__all__
__all__ += regularization.__all__
__all__ += reshaping.__all__
__all__ += resizing.__all__
__all__ += rnn.__all__
__all__ += separable.__all__
__all__ += sequence_wrappers.__all__
__all__ += transformer.__all__
__all__ += transposed.__all__
__all__ += unit_norm.__all__
__all__ += vision.__all__
