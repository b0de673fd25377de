"""Hashes of bytes to 64 bits that are the same everywhere: FarmHash, and SipHash under a key.

They are the ones that Keras takes from TensorFlow, so that bins are Keras's. Python's own `hash` differs from
one process to the next.

FarmHash: https://github.com/google/farmhash (`Fingerprint64`). SipHash-2-4: Aumasson and Bernstein, 2012,
https://www.aumasson.jp/siphash/siphash.pdf
"""

from __future__ import annotations

__all__ = ["combined", "farmhash", "siphash"]

_MASK = (1 << 64) - 1
_K0, _K1, _K2 = 0xC3A5C85C97CB3127, 0xB492B66FBE98F273, 0x9AE16A3B2F90404F


def farmhash(data: bytes) -> int:
    """FarmHash's 64-bit fingerprint.

    >>> farmhash(b"") == 0x9AE16A3B2F90404F
    True
    """
    if len(data) <= 16:
        return _up_to_16(data)
    if len(data) <= 32:
        return _up_to_32(data)
    return _up_to_64(data) if len(data) <= 64 else _longer(data)


def combined(first: int, second: int) -> int:
    """One fingerprint out of two, in their order, as TensorFlow crosses features."""
    factor = 0xC6A4A7935BD1E995
    second = _shifted(second * factor & _MASK) * factor & _MASK
    mixed = _shifted((first ^ factor ^ second) * factor & _MASK) * factor & _MASK
    return _shifted(mixed)


def siphash(data: bytes, key: tuple[int, int]) -> int:
    """SipHash-2-4 of the data under a key of two 64-bit numbers."""
    k0, k1 = key[0] & _MASK, key[1] & _MASK
    state = (
        k0 ^ 0x736F6D6570736575,
        k1 ^ 0x646F72616E646F6D,
        k0 ^ 0x6C7967656E657261,
        k1 ^ 0x7465646279746573,
    )
    filled = data + bytes(7 - len(data) % 8) + bytes([len(data) & 0xFF])
    for at in range(0, len(filled), 8):
        word = int.from_bytes(filled[at : at + 8], "little")
        a, b, c, d = _sip_rounds(2, (*state[:3], state[3] ^ word))
        state = (a ^ word, b, c, d)
    a, b, c, d = _sip_rounds(4, (state[0], state[1], state[2] ^ 0xFF, state[3]))
    return a ^ b ^ c ^ d


def _sip_rounds(count: int, state: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    a, b, c, d = state
    for _ in range(count):
        a, c = (a + b) & _MASK, (c + d) & _MASK
        b, d = _right(b, 51) ^ a, _right(d, 48) ^ c
        a = _right(a, 32)
        c, a = (c + b) & _MASK, (a + d) & _MASK
        b, d = _right(b, 47) ^ c, _right(d, 43) ^ a
        c = _right(c, 32)
    return a, b, c, d


# ------------------------------------------------------------------------- FarmHash, by length of the data


def _right(value: int, by: int) -> int:
    """Rotated to the right within 64 bits."""
    value &= _MASK
    return (value >> by | value << (64 - by)) & _MASK


def _shifted(value: int) -> int:
    return value ^ value >> 47


def _word(data: bytes, at: int, size: int = 8) -> int:
    at %= len(data)  # negative positions count from the end
    return int.from_bytes(data[at : at + size], "little")


def _mixed(u: int, v: int, factor: int) -> int:
    """Two numbers as one."""
    a = _shifted((u ^ v) * factor & _MASK)
    b = _shifted((v ^ a) * factor & _MASK)
    return b * factor & _MASK


def _up_to_16(data: bytes) -> int:
    size = len(data)
    factor = _K2 + 2 * size & _MASK
    if size >= 8:
        a, b = _word(data, 0) + _K2 & _MASK, _word(data, -8)
        return _mixed(_right(b, 37) * factor + a & _MASK, (_right(a, 25) + b) * factor & _MASK, factor)
    if size >= 4:
        return _mixed(size + (_word(data, 0, 4) << 3) & _MASK, _word(data, -4, 4), factor)
    if size > 0:
        y = data[0] + (data[size >> 1] << 8)
        z = size + (data[-1] << 2)
        return _shifted((y * _K2 ^ z * _K0) & _MASK) * _K2 & _MASK
    return _K2


def _up_to_32(data: bytes) -> int:
    factor = _K2 + 2 * len(data) & _MASK
    a, b = _word(data, 0) * _K1 & _MASK, _word(data, 8)
    c, d = _word(data, -8) * factor & _MASK, _word(data, -16) * _K2 & _MASK
    first = _right(a + b, 43) + _right(c, 30) + d & _MASK
    return _mixed(first, a + _right(b + _K2, 18) + c & _MASK, factor)


def _up_to_64(data: bytes) -> int:
    factor = _K2 + 2 * len(data) & _MASK
    a, b = _word(data, 0) * _K2 & _MASK, _word(data, 8)
    c, d = _word(data, -8) * factor & _MASK, _word(data, -16) * _K2 & _MASK
    y = _right(a + b, 43) + _right(c, 30) + d & _MASK
    z = _mixed(y, a + _right(b + _K2, 18) + c & _MASK, factor)
    e, f = _word(data, 16) * factor & _MASK, _word(data, 24)
    g, h = (y + _word(data, -32)) * factor & _MASK, (z + _word(data, -24)) * factor & _MASK
    first = _right(e + f, 43) + _right(g, 30) + h & _MASK
    return _mixed(first, e + _right(f + a, 18) + g & _MASK, factor)


def _weak(data: bytes, at: int, a: int, b: int) -> tuple[int, int]:
    """32 bytes and two seeds as two numbers."""
    w, x, y, z = (_word(data, at + step) for step in (0, 8, 16, 24))
    a = a + w & _MASK
    b = _right(b + a + z, 21)
    whole = a + x + y & _MASK
    return whole + z & _MASK, b + _right(whole, 44) + a & _MASK


def _longer(data: bytes) -> int:
    x = 81
    y = x * _K1 + 113 & _MASK
    z = _shifted(y * _K2 + 113 & _MASK) * _K2 & _MASK
    v = w = (0, 0)
    x = x * _K2 + _word(data, 0) & _MASK
    end = (len(data) - 1) // 64 * 64
    for at in range(0, end, 64):
        x, y, z, v, w = _block(data, at, _K1, 1, x, y, z, v, w)
    factor = _K1 + ((z & 0xFF) << 1) & _MASK
    rest = len(data) - 1 & 63
    w = (w[0] + rest & _MASK, w[1])
    v = (v[0] + w[0] & _MASK, v[1])
    w = (w[0] + v[0] & _MASK, w[1])
    x, y, z, v, w = _block(data, len(data) - 64, factor, 9, x, y, z, v, w)
    first = _mixed(v[0], w[0], factor) + _shifted(y) * _K0 + z & _MASK
    return _mixed(first, _mixed(v[1], w[1], factor) + x & _MASK, factor)


def _block(
    data: bytes,
    at: int,
    factor: int,
    weight: int,
    x: int,
    y: int,
    z: int,
    v: tuple[int, int],
    w: tuple[int, int],
) -> tuple[int, int, int, tuple[int, int], tuple[int, int]]:
    """One round over 64 bytes; the last one has another factor, and weighs what came before."""
    x = _right(x + y + v[0] + _word(data, at + 8), 37) * factor & _MASK
    y = _right(y + v[1] + _word(data, at + 48), 42) * factor & _MASK
    x ^= w[1] * weight & _MASK
    y = y + v[0] * weight + _word(data, at + 40) & _MASK
    z = _right(z + w[0], 33) * factor & _MASK
    v = _weak(data, at, v[1] * factor & _MASK, x + w[0] & _MASK)
    w = _weak(data, at + 32, z + w[1] & _MASK, y + _word(data, at + 16) & _MASK)
    return z, y, x, v, w
