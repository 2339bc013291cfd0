"""Fused CPU kernels of the flat-token decoder: a small C library, optional; without it the plain torch code runs.

`hatch_build.py` compiles `kernels.cpp` once for each instruction set where a C++ compiler is at hand; which one is
loaded is decided here, by what the processor can do. The library knows neither Python nor torch: it gets addresses,
so one build serves every version of both. FORETUNE_KERNELS=off leaves it out.
"""

# SPDX-License-Identifier: Apache-2.0
#
# Shapes: T tokens, D width, F gate width, M rows of logits, V vocabulary, C = (H + 2 K) E columns of queries, keys and
# values side by side.
from __future__ import annotations

import ctypes
import struct
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from foretune.models.flat_rules import BF16_KERNELS_FILE, KERNELS_FILE, are_kernels_built, has_bf16_dots, has_bf16_tiles

__all__ = ["FLAVOURS", "Kernels", "TileTable", "load_kernels", "multiplies", "usable"]

VERSION = 3  # of the interface; foretune_kernels_version() of the library
FLAVOURS = {  # best first
    "AVX512_BF16": BF16_KERNELS_FILE,
    "AVX512": "kernels_avx512.so",
    "AVX2": "kernels_avx2.so",
    "DEFAULT": KERNELS_FILE,
}
LEAST_ROWS = 64  # of a product that pays for packing the weight
TYPES = {torch.float32: 0, torch.bfloat16: 1}
I64, INT, FLOAT, AT = ctypes.c_int64, ctypes.c_int, ctypes.c_float, ctypes.c_void_p
SLOT = struct.Struct("@qqqqdPP")  # start, end, first rank, number of ranks, scale, addresses of A and B
SIGNATURES: dict[str, tuple[Any, ...]] = {
    "foretune_rms_norm": (AT, INT, AT, INT, AT, INT, AT, I64, I64, FLOAT, INT),
    "foretune_rms_norm_backward": (AT, INT, AT, INT, AT, INT, AT, AT, I64, I64, INT),
    "foretune_gated": (AT, INT, AT, I64, I64, INT),
    "foretune_gated_backward": (AT, INT, AT, AT, I64, I64, INT),
    "foretune_cross_entropy": (AT, INT, AT, AT, AT, I64, I64, INT, INT),
    "foretune_attention": (AT, INT, AT, AT, AT, AT, AT, I64, AT, AT, I64, I64, I64, FLOAT, INT),
    "foretune_attention_backward": (AT, INT, AT, AT, AT, AT, AT, AT, AT, I64, AT, AT, I64, I64, I64, FLOAT, INT),
}
BF16_SIGNATURES: dict[str, tuple[Any, ...]] = {  # of the library with bf16 dot products alone
    "foretune_product": (AT, I64, AT, I64, INT, AT, AT, AT, INT, I64, I64, I64, INT),
    "foretune_adapted": (AT, AT, AT, AT, I64, AT, AT, AT, INT, AT, AT, AT, I64, I64, I64, I64, INT),
    "foretune_adapted_backward": (AT, AT, AT, AT, AT, AT, AT, I64, AT, AT, I64, I64, I64, I64, INT),
}


class TileTable(NamedTuple):
    """Attention's work in three int64 tables: tiles [n, 5], key ranges [n, 2], and trees [n, 3].

    A tile is start, end and origin of its queries, then the first and the number of its ancestors' ranges; a tree its
    first and last tile (exclusive) and its tokens. Trees do not see each other, so threads share them out.
    """

    tiles: Tensor
    ranges: Tensor
    trees: Tensor


class Adapted(NamedTuple):
    """A product with adapters, and what its gradient needs: A x, all A below each other, scaled B as block diagonal."""

    y_TO: Tensor
    h_TR: Tensor
    a_RI: Tensor
    b_OR: Tensor


class AdaptedGradients(NamedTuple):
    """Of the input (where asked for), of A x, and of A and B of each adapter in turn (fp32)."""

    dx_TI: Tensor | None
    dh_TR: Tensor
    matrices: list[Tensor]


class Kernels:
    """The loaded library; every method takes contiguous CPU tensors in fp32 or bf16."""

    def __init__(self, library: ctypes.CDLL, flavour: str) -> None:
        self.flavour = flavour
        self._library = library
        # On a processor with AMX tiles torch's own products are faster.
        self.has_products = flavour == "AVX512_BF16" and not has_bf16_tiles()
        for name, types in (SIGNATURES | (BF16_SIGNATURES if flavour == "AVX512_BF16" else {})).items():
            function = getattr(library, name)
            function.argtypes, function.restype = types, None

    def _call(self, name: str, *arguments: Any) -> None:
        getattr(self._library, name)(*arguments, torch.get_num_threads())

    def rms_norm(self, x_TD: Tensor, weight_D: Tensor, epsilon: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """The normed x in `dtype`, and 1 / rms of each row in fp32."""
        y_TD = torch.empty(x_TD.shape, dtype=dtype)
        width = x_TD.shape[-1]
        inverse_T = torch.empty(x_TD.numel() // width, dtype=torch.float32)
        self._call(
            "foretune_rms_norm",
            *_typed(x_TD),
            *_typed(weight_D),
            *_typed(y_TD),
            inverse_T.data_ptr(),
            len(inverse_T),
            width,
            epsilon,
        )
        return y_TD, inverse_T

    def rms_norm_backward(self, x_TD: Tensor, weight_D: Tensor, dy_TD: Tensor, inverse_T: Tensor) -> Tensor:
        """The gradient of x, in the type of x."""
        dx_TD = torch.empty_like(x_TD)
        self._call(
            "foretune_rms_norm_backward",
            *_typed(x_TD),
            *_typed(weight_D),
            *_typed(dy_TD),
            inverse_T.data_ptr(),
            dx_TD.data_ptr(),
            *_rows_and_width(x_TD),
        )
        return dx_TD

    def gated(self, both_T2F: Tensor) -> Tensor:
        """silu(gate) * up."""
        y_TF = both_T2F.new_empty(*both_T2F.shape[:-1], both_T2F.shape[-1] // 2)
        self._call("foretune_gated", *_typed(both_T2F), y_TF.data_ptr(), *_rows_and_width(y_TF))
        return y_TF

    def gated_backward(self, both_T2F: Tensor, dy_TF: Tensor) -> Tensor:
        """The gradient of gate and up side by side."""
        dboth_T2F = torch.empty_like(both_T2F)
        self._call(
            "foretune_gated_backward",
            *_typed(both_T2F),
            dy_TF.data_ptr(),
            dboth_T2F.data_ptr(),
            *_rows_and_width(dy_TF),
        )
        return dboth_T2F

    def cross_entropy(self, logits_MV: Tensor, targets_M: Tensor, *, has_gradient: bool) -> tuple[Tensor, Tensor]:
        """Losses and whether the target is likeliest; the logits become their gradient where asked for."""
        losses_M = torch.empty(len(logits_MV), dtype=torch.float32)
        right_M = torch.empty(len(logits_MV), dtype=torch.bool)
        self._call(
            "foretune_cross_entropy",
            *_typed(logits_MV),
            targets_M.data_ptr(),
            losses_M.data_ptr(),
            right_M.data_ptr(),
            *logits_MV.shape,
            int(has_gradient),
        )
        return losses_M, right_M

    def product(
        self,
        x_TI: Tensor,
        weight: Tensor,
        *,
        is_turned: bool,
        bias_O: Tensor | None = None,
        residual_TO: Tensor | None = None,
    ) -> Tensor:
        """residual + bias + x W in one pass, summed in fp32: the residual's type [T, O], without one bf16.

        `is_turned`: W lies as [O, I], else as [I, O]; all but the residual are bf16, and I is even.
        """
        num_outputs = weight.shape[0 if is_turned else 1]
        y_TO = torch.empty(len(x_TI), num_outputs, dtype=x_TI.dtype if residual_TO is None else residual_TO.dtype)
        self._call(
            "foretune_product",
            *_strided(x_TI),
            *_strided(weight),
            int(is_turned),
            _address(residual_TO),
            _address(bias_O),
            *_typed(y_TO),
            *x_TI.shape,
            num_outputs,
        )
        return y_TO

    def adapted(
        self,
        x_TI: Tensor,
        seen_TI: Tensor,
        weight_OI: Tensor,
        slots: Sequence[tuple[int, int, float]],
        matrices: Sequence[Tensor],
        *,
        bias_O: Tensor | None = None,
        residual_TO: Tensor | None = None,
    ) -> Adapted:
        """residual + bias + x W + seen A B in one pass, summed in fp32 and rounded once, as `product` does.

        `slots` are first output, end and scale of each adapter, in order and apart; `matrices` their A and B in turn.
        """
        (num_tokens, num_inputs), num_outputs = x_TI.shape, len(weight_OI)
        plain = [matrix.float().contiguous() for matrix in matrices]
        num_ranks = sum(len(matrix) for matrix in plain[0::2])
        y_type = x_TI.dtype if residual_TO is None else residual_TO.dtype
        made = Adapted(
            torch.empty(num_tokens, num_outputs, dtype=y_type),
            torch.empty(num_tokens, num_ranks, dtype=x_TI.dtype),
            torch.empty(num_ranks, num_inputs, dtype=x_TI.dtype),
            torch.empty(num_outputs, num_ranks, dtype=x_TI.dtype),
        )
        self._call(
            "foretune_adapted",
            _address(x_TI),
            _address(seen_TI),
            _address(weight_OI),
            _slot_table(slots, plain),
            len(slots),
            _address(residual_TO),
            _address(bias_O),
            *_typed(made.y_TO),
            made.a_RI.data_ptr(),
            made.b_OR.data_ptr(),
            made.h_TR.data_ptr(),
            num_tokens,
            num_inputs,
            num_outputs,
            num_ranks,
        )
        return made

    def adapted_backward(
        self,
        dy_TO: Tensor,
        seen_TI: Tensor,
        weight_OI: Tensor,
        ranks: tuple[Tensor, Tensor, Tensor],
        slots: Sequence[tuple[int, int, float]],
        sizes: Sequence[int],
        *,
        has_input: bool,
    ) -> AdaptedGradients:
        """Gradients of `adapted`; `ranks` are its h, a and b, `sizes` the rank of each adapter.

        The gradient of the input is that of an input which the adapters see as it is.
        """
        h_TR, a_RI, b_OR = ranks
        num_inputs = seen_TI.shape[1]
        shapes = (
            shape
            for (start, end, _), r in zip(slots, sizes, strict=True)
            for shape in ((r, num_inputs), (end - start, r))
        )
        matrices = [torch.empty(shape, dtype=torch.float32) for shape in shapes]
        dh_TR = torch.empty_like(h_TR)
        dx_TI = torch.empty_like(seen_TI) if has_input else None
        self._call(
            "foretune_adapted_backward",
            *(_address(x) for x in (dy_TO, seen_TI, h_TR, weight_OI, a_RI, b_OR)),
            _slot_table(slots, matrices),
            len(slots),
            dh_TR.data_ptr(),
            _address(dx_TI),
            len(dy_TO),
            num_inputs,
            *b_OR.shape,
        )
        return AdaptedGradients(dx_TI, dh_TR, matrices)

    def attention(
        self, qkv_TC: Tensor, cosine: Tensor, sine: Tensor, table: TileTable, heads: tuple[int, int, int]
    ) -> tuple[Tensor, Tensor]:
        """Rotary attention [T, C] -> [T, H E], and the log-sum-exp of every query's scores [T, H]."""
        num, num_keys, width = heads
        out_TC = qkv_TC.new_empty(len(qkv_TC), num * width)
        sums_TH = torch.empty(len(qkv_TC), num, dtype=torch.float32)
        self._call(
            "foretune_attention",
            *_typed(qkv_TC),
            out_TC.data_ptr(),
            sums_TH.data_ptr(),
            *_tables(table, cosine, sine),
            num,
            num_keys,
            width,
            width**-0.5,
        )
        return out_TC, sums_TH

    def attention_backward(
        self,
        qkv_TC: Tensor,
        out_TC: Tensor,
        dout_TC: Tensor,
        sums_TH: Tensor,
        cosine: Tensor,
        sine: Tensor,
        table: TileTable,
        heads: tuple[int, int, int],
    ) -> Tensor:
        """The gradient of queries, keys and values before their rotation, [T, C]."""
        dqkv_TC = torch.empty_like(qkv_TC)
        self._call(
            "foretune_attention_backward",
            *_typed(qkv_TC),
            out_TC.data_ptr(),
            dout_TC.data_ptr(),
            sums_TH.data_ptr(),
            dqkv_TC.data_ptr(),
            *_tables(table, cosine, sine),
            *heads,
            heads[2] ** -0.5,
        )
        return dqkv_TC


def _typed(x: Tensor) -> tuple[int, int]:
    """Address and type code. What is not contiguous is a mistake of the caller."""
    assert x.is_contiguous() and x.device.type == "cpu"
    return x.data_ptr(), TYPES[x.dtype]


def _strided(x: Tensor) -> tuple[int, int]:
    """Address and elements from row to row of a bf16 matrix whose rows are contiguous."""
    assert x.stride(1) == 1 and x.dtype == torch.bfloat16 and x.device.type == "cpu"
    return x.data_ptr(), x.stride(0)


def _address(x: Tensor | None) -> int | None:
    return None if x is None else _typed(x)[0]


def _slot_table(slots: Sequence[tuple[int, int, float]], matrices: Sequence[Tensor]) -> bytes:
    """The slots of kernels_products_bf16.h; `matrices` are A and B of each (fp32), or where their gradients go."""
    rows: list[bytes] = []
    column = 0
    for (start, end, scale), a_rI, b_Or in zip(slots, matrices[0::2], matrices[1::2], strict=True):
        rows.append(SLOT.pack(start, end, column, len(a_rI), scale, a_rI.data_ptr(), b_Or.data_ptr()))
        column += len(a_rI)
    return b"".join(rows)


def _rows_and_width(x: Tensor) -> tuple[int, int]:
    return x.numel() // x.shape[-1], x.shape[-1]


def _tables(table: TileTable, cosine: Tensor, sine: Tensor) -> tuple[int, ...]:
    addresses = (table.tiles.data_ptr(), table.ranges.data_ptr(), table.trees.data_ptr(), len(table.trees))
    return (*addresses, cosine.data_ptr(), sine.data_ptr())


def usable(kernels: Kernels | None, x: Tensor) -> Kernels | None:
    """The kernels where they serve a tensor of this device and type."""
    return kernels if kernels is not None and x.device.type == "cpu" and x.dtype in TYPES else None


def multiplies(kernels: Kernels | None, x_TI: Tensor, *widths: int) -> Kernels | None:
    """The kernels where they multiply this matrix: bf16 on a CPU, LEAST_ROWS or more, and all `widths` even."""
    if kernels is None or not kernels.has_products or x_TI.device.type != "cpu" or x_TI.dtype != torch.bfloat16:
        return None
    return kernels if len(x_TI) >= LEAST_ROWS and not any(width % 2 for width in widths) else None


@lru_cache(maxsize=1)
def load_kernels(folder: Path = Path(__file__).parent) -> Kernels | None:
    """The library for this processor; None where it was not built, is of another version, or is switched off."""
    if not are_kernels_built():
        return None
    for flavour in _flavours(torch.backends.cpu.get_cpu_capability()):
        path = folder / FLAVOURS[flavour]
        if not path.is_file():
            continue
        try:
            library = ctypes.CDLL(str(path))
        except OSError:  # built for another platform
            continue
        if library.foretune_kernels_version() == VERSION:
            return Kernels(library, flavour)
    return None


def _flavours(capability: str) -> Sequence[str]:
    """Instruction sets to try: the processor's, then the lesser ones; torch names newer ones AVX512_VNNI and so on."""
    names = list(FLAVOURS)
    if capability.startswith("AVX512") and has_bf16_dots():
        return names
    names = names[1:]
    best = next((index for index, name in enumerate(names) if capability.startswith(name)), len(names) - 1)
    return names[best:]
