"""An affine map along any axes, given by an equation of letters."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import jax.numpy as jnp
from jax import random
from jaxtyping import Array, Float

from jlayers import activations, initializers
from jlayers.core.errors import refused
from jlayers.core.layer import layer
from jlayers.core.masks import Masked, refusal, with_mask
from jlayers.core.registry import ActivationLike, ConstraintLike, InitializerLike, RegularizerLike
from jlayers.core.shapes import param_dtype
from jlayers.layers._arguments import need_floating
from jlayers.ops.product import product

__all__ = ["EinsumDense"]

_FORM = re.compile(r"(\.\.\.)?([a-zA-Z]+)(\.\.\.)?,([a-zA-Z]+)->(\.\.\.)?([a-zA-Z]+)(\.\.\.)?")


@layer
def EinsumDense(
    equation: str,
    output_shape: int | tuple[int | None, ...],
    activation: ActivationLike | None = None,
    bias_axes: str | None = None,
    kernel_initializer: InitializerLike = "glorot_uniform",
    bias_initializer: InitializerLike = "zeros",
    kernel_regularizer: RegularizerLike | None = None,
    bias_regularizer: RegularizerLike | None = None,
    kernel_constraint: ConstraintLike | None = None,
    bias_constraint: ConstraintLike | None = None,
    activity_regularizer: RegularizerLike | None = None,
):
    """An affine map along any axes: `activation(einsum(equation, x, kernel) + bias)`. As in Keras.

    The equation names the axes of the input, of the kernel and of the output, such as `"abc,cd->abd"`, which
    is a `Dense`. `...` before or after the letters stands for any further axes, as in `"...c,cd->...d"`.

    Shapes: those of the equation; the batch comes first. A mask is kept if the output has the axes under it
    in the same places, else refused. Parameters: `kernel`, of the axes that the equation gives it;
    `bias`, of the output's axes from the first one in `bias_axes` on, with size 1 along the others.

    An initializer that counts inputs and outputs, such as `glorot_uniform`, counts along the axes that the
    kernel shares only with the input, and with the output.

    Args:
        equation: `"input,kernel->output"`.
        output_shape: size of each output axis without the batch, and without those under `...`; None for an
            axis that is as long as the input's of the same letter. One number for a single axis.
        bias_axes: letters of the output's axes along which the bias differs; None for no bias.

    Raises:
        ValueError: an equation of another form, sizes that do not fit it, or an input that fits neither.
        TypeError: complex numbers as input.

    >>> import jax, jlayers as jl
    >>> heads = jl.EinsumDense("abc,cde->abde", output_shape=(None, 2, 4), bias_axes="de")
    >>> params, state = heads.init(jax.random.key(0), (8, 10, 6))
    >>> params["kernel"].shape, params["bias"].shape
    ((6, 2, 4), (2, 4))
    >>> heads.apply(params, state, jax.numpy.ones((8, 10, 6)))[0].shape
    (8, 10, 2, 4)
    """
    form = _parse(equation, bias_axes)
    sizes = (output_shape,) if isinstance(output_shape, int) else tuple(output_shape)
    form.check_output_shape(sizes)
    activate = activations.get(activation)
    make_kernel, make_bias = initializers.get(kernel_initializer), initializers.get(bias_initializer)

    def init(key: Any, x: Any) -> dict[str, Any]:
        need_floating(x)
        of_input = form.input_sizes(x)
        of_output = form.output_sizes(sizes, of_input, x)
        kernel_key, bias_key = random.split(key)
        kernel_shape = form.fixed_sizes({**of_input, **of_output}, form.kernel, x)
        make = _along(make_kernel, *form.fans())
        params = {"kernel": make(kernel_key, kernel_shape, param_dtype(x))}
        if bias_axes is not None:
            shape = form.bias_shape(of_output, len(x.shape), x)
            params["bias"] = make_bias(bias_key, shape, param_dtype(x))
        return params

    def apply(params: Any, x: Float[Array, "batch *rest features"], *, mask: Any) -> Any:
        need_floating(x)
        kernel = params["kernel"]
        of_input = form.input_sizes(x)
        for letter, size in zip(form.kernel, kernel.shape, strict=True):
            if of_input.get(letter, size) != size:
                raise refused(
                    ValueError,
                    f"expected size {size} along {letter!r}, for which the parameters were made",
                    x,
                    equation=equation,
                )
        kernel = kernel.astype(x.dtype)
        axes = form.summed_last
        y = product(x, kernel, axes) if axes else jnp.einsum(form.equation, x, kernel)
        if bias_axes is not None:
            bias = params["bias"].astype(y.dtype)
            y = y + bias.reshape((1,) * (y.ndim - bias.ndim) + bias.shape)
        return with_mask(activate(y) if activate else y, form.kept_mask(x, mask))

    return init, apply


@dataclasses.dataclass(frozen=True)
class _Equation:
    """The letters of an equation, and where its `...` is."""

    input: str
    kernel: str
    output: str
    before: bool
    after: bool
    bias: str | None

    @property
    def equation(self) -> str:
        before, after = "..." * self.before, "..." * self.after
        return f"{before}{self.input}{after},{self.kernel}->{before}{self.output}{after}"

    @property
    def summed_last(self) -> int:
        """Number of summed axes if these are last in the input and first in the kernel, as in `product`."""
        axes = len(self.fans()[0])
        outer, summed, units = self.input[: len(self.input) - axes], self.kernel[:axes], self.kernel[axes:]
        same = self.input == outer + summed and self.output == outer + units
        return axes if same and not self.after else 0

    @property
    def sized_letters(self) -> str:
        """The output's letters that `output_shape` is about: the batch, first or under `...`, is not."""
        return self.output if self.before else self.output[1:]

    def check_output_shape(self, sizes: tuple[int | None, ...]) -> None:
        fits = all(s is None or (isinstance(s, int) and not isinstance(s, bool) and s > 0) for s in sizes)
        if not fits or len(sizes) != len(self.sized_letters):
            raise refused(
                ValueError,
                "expected output_shape to hold a positive whole number, or None, for each of the "
                f"axes {self.sized_letters!r} of {self.equation!r}",
                output_shape=sizes,
            )

    def input_sizes(self, x: Any) -> dict[str, Any]:
        rank, letters = len(x.shape), len(self.input)
        if rank < letters + self.before or (rank > letters and not (self.before or self.after)):
            least = "at least " if self.before or self.after else ""
            raise refused(
                ValueError,
                f"expected an input of {least}{letters + self.before} dimensions",
                x,
                equation=self.equation,
            )
        shape = x.shape[rank - letters :] if self.before else x.shape[:letters]
        return dict(zip(self.input, shape, strict=True))

    def output_sizes(self, sizes: tuple[int | None, ...], of_input: dict[str, Any], x: Any) -> dict[str, Any]:
        found = {} if self.before else {self.output[0]: of_input[self.output[0]]}
        for letter, size in zip(self.sized_letters, sizes, strict=True):
            known = of_input.get(letter)
            if size is None and known is None:
                raise refused(
                    ValueError,
                    f"expected a size in output_shape for {letter!r} of {self.equation!r}, an axis that "
                    "the input does not have",
                    output_shape=sizes,
                )
            if size is not None and known is not None and size != known:
                raise refused(
                    ValueError,
                    f"expected size {size} along {letter!r} of {self.equation!r}",
                    x,
                    output_shape=sizes,
                    instead="None takes the input's",
                )
            found[letter] = known if size is None else size
        return found

    def fixed_sizes(self, sizes: dict[str, Any], letters: str, x: Any) -> tuple[int, ...]:
        """The sizes of these axes, which parameters are made for."""
        for letter in letters:
            if not isinstance(sizes[letter], int):
                raise refused(
                    ValueError,
                    f"expected a fixed size along {letter!r}, for which parameters are made",
                    x,
                    equation=self.equation,
                )
        return tuple(sizes[letter] for letter in letters)

    def bias_shape(self, of_output: dict[str, Any], rank: int, x: Any) -> tuple[int, ...]:
        assert self.bias is not None
        first = min(map(self.output.index, self.bias))
        sizes = {letter: of_output[letter] if letter in self.bias else 1 for letter in self.output[first:]}
        rest = (1,) * (rank - len(self.input)) if self.after else ()
        return (*self.fixed_sizes(sizes, self.output[first:], x), *rest)

    def kept_mask(self, x: Any, mask: Any) -> Any:
        """The mask, if the equation treats each position by itself; otherwise it is refused."""
        if mask is None:
            return None
        hidden = x.ndim - len(self.input) if self.before else 0  # axes under `...`, in front
        letters = self.input[: max(0, mask.ndim - hidden)]
        if mask.ndim > hidden + len(self.input) or not self.output.startswith(letters):
            raise refusal(Masked(x, mask), f"whose axes {self.equation!r} does not keep")
        return mask

    def fans(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The kernel's axes that count as inputs, and those that count as outputs."""
        outputs = tuple(i for i, letter in enumerate(self.kernel) if letter in self.output)
        return tuple(i for i in range(len(self.kernel)) if i not in outputs), outputs


def _parse(equation: str, bias_axes: str | None) -> _Equation:
    form = _FORM.fullmatch(equation.replace(" ", "")) if isinstance(equation, str) else None
    if form is None:
        raise refused(
            ValueError,
            "expected an equation such as 'abc,cd->abd', '...c,cd->...d' or 'ab...,bc->ac...'",
            equation=equation,
        )
    before, inputs, after, kernel, outputs_before, outputs, outputs_after = form.groups()
    if (before, after) != (outputs_before, outputs_after) or (before and after):
        raise refused(
            ValueError,
            "expected '...' once, on one side of the letters, in input and output alike",
            equation=equation,
        )
    for letters in (inputs, kernel, outputs, bias_axes or ""):
        if len(set(letters)) < len(letters):
            raise refused(
                ValueError,
                f"expected each letter once in {letters!r}",
                equation=equation,
                bias_axes=bias_axes,
            )
    if not before and outputs[0] != inputs[0]:
        raise refused(ValueError, "expected the batch as first axis of input and output", equation=equation)
    if lost := [letter for letter in outputs if letter not in inputs and letter not in kernel]:
        raise refused(
            ValueError,
            f"expected the output's axis {lost[0]!r} in the input or in the kernel",
            equation=equation,
        )
    if lost := [letter for letter in kernel if letter not in inputs and letter not in outputs]:
        raise refused(
            ValueError,
            f"expected the kernel's axis {lost[0]!r} in the input or in the output",
            equation=equation,
        )
    if bias_axes is not None and (not bias_axes or any(letter not in outputs for letter in bias_axes)):
        raise refused(
            ValueError,
            f"expected bias_axes out of the output's axes {outputs!r}, or None for no bias",
            bias_axes=bias_axes,
        )
    return _Equation(inputs, kernel, outputs, bool(before), bool(after), bias_axes)


def _along(initializer: Any, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> Any:
    """The initializer with these axes of the kernel as inputs and outputs, if it counts them and has none."""
    spec = getattr(initializer, "spec", None)
    axes = ("input_axes", "output_axes")
    if spec is None or None not in [spec.arguments.get(name, axes) for name in axes]:
        return initializer
    arguments = {**spec.arguments, **dict(zip(axes, (inputs, outputs), strict=True))}
    return initializers.registry.build(spec.name, arguments)
