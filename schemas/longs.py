"""Avro's variable-length longs, as they stand between the data: zigzag, then 7 bits a byte, lowest first."""

from __future__ import annotations


def write_long(number: int) -> bytes:
    """Return the encoding of a signed 64-bit number."""
    number = (number << 1) ^ (number >> 63)
    out = bytearray()
    while number > 0x7F:
        out.append((number & 0x7F) | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def read_long(data: bytes, at: int) -> tuple[int, int]:
    """Return the number that begins at a place, and the place behind it. Raises IndexError when it is cut off."""
    number = shift = 0
    while True:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return (number >> 1) ^ -(number & 1), at
