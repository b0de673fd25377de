"""A policy: the dtypes of a layer's parameters, computation and output."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from jlayers.core.errors import refused
from jlayers.core.registry import Kind, Registry
from jlayers.core.spec import Spec

__all__ = ["DTYPES", "NAMES", "DType", "Policy", "PolicyLike", "PrecisionLike", "get", "registry"]

DType = Literal["float16", "bfloat16", "float32", "float64"]
DTYPES = get_args(DType)

registry = Registry("policy", "policies")

# Keras's names: where parameters are kept, and where is computed.
NAMES: Mapping[str, tuple[DType, DType]] = {
    "float16": ("float16", "float16"),
    "bfloat16": ("bfloat16", "bfloat16"),
    "float32": ("float32", "float32"),
    "float64": ("float64", "float64"),
    "mixed_float16": ("float32", "float16"),
    "mixed_bfloat16": ("float32", "bfloat16"),
}


@dataclasses.dataclass(frozen=True)
class Policy:
    """The dtypes of a layer's parameters, of its computation and of its output.

    Keras's policies have Keras's names: "float32", "float64", "bfloat16", "float16", "mixed_bfloat16" and
    "mixed_float16"; the mixed ones keep parameters in float32 and compute in 16 bits.

    Attributes:
        param: dtype of the parameters, and so of their gradients and of the optimizer's memory of them.
        compute: dtype to which parameters and floating inputs are cast. Statistics of normalizations and
            softmax stay float32 or wider all the same.
        output: dtype to which floating outputs of the layer that has the policy are cast; the layers inside
            it return `compute`. None for `compute`, or in a container for whatever its layers return.

    Raises:
        ValueError: another dtype.

    >>> import jlayers as jl
    >>> jl.Policy("float32", "bfloat16", output="float32")
    Policy(param='float32', compute='bfloat16', output='float32')
    >>> jl.Policy("float32", "half")
    Traceback (most recent call last):
    ValueError: Policy: expected one of float16, bfloat16, float32, float64, received compute='half'
    """

    param: DType = "float32"
    compute: DType = "float32"
    output: DType | None = None

    def __post_init__(self) -> None:
        for name, dtype in dataclasses.asdict(self).items():
            if dtype not in DTYPES and (name != "output" or dtype is not None):
                raise refused(
                    ValueError, f"expected one of {', '.join(DTYPES)}", raised_by="Policy", **{name: dtype}
                )

    @property
    def inside(self) -> Policy:
        """The policy of the layers inside a layer that has this one."""
        return dataclasses.replace(self, output=None)

    @property
    def spec(self) -> Spec:
        """The shortest call that makes the policy, as it is written down."""
        for name, dtypes in NAMES.items():
            if self == Policy(*dtypes):
                return Spec("policy", name, {})
        return Spec("policy", "Policy", dataclasses.asdict(self))


def _register(name: str, param: DType, compute: DType) -> None:
    def make() -> Policy:
        return Policy(param, compute)

    make.__name__ = make.__qualname__ = name
    make.__doc__ = f"Parameters in {param}, computation in {compute}."
    registry.register(name, make)


registry.register("Policy", Policy)
for _name, _dtypes in NAMES.items():
    _register(_name, *_dtypes)

PolicyLike = Annotated[str | Mapping[str, Any] | Policy, Kind("policy")]
PrecisionLike = dict[str, PolicyLike | None] | PolicyLike


def get(value: Any) -> Policy | None:
    """A policy from its name, from `{"Policy": arguments}`, or from itself; None stays None."""
    if value is None or isinstance(value, Policy):
        return value
    if isinstance(value, (str, Mapping)):
        return registry.get(value)
    raise refused(
        TypeError, "expected a policy by name, such as 'mixed_bfloat16', or a jl.Policy", precision=value
    )
