"""Pictures of the screen: read as QEMU writes them (PPM), compared, looked at, written as PNG.  No library: pixels only."""

import re
import struct
import zlib
from collections import Counter
from dataclasses import dataclass
from functools import cached_property

#: A blinking cursor or a clock changes less than this part of the picture.
_STILL = 0.003
_TEXT_COLUMNS, _TEXT_ROWS = 80, 25
_HEAD = re.compile(rb"P6\s+([0-9]{1,5})\s+([0-9]{1,5})\s+255\s")


@dataclass(frozen=True)
class Picture:
    width: int
    height: int
    pixels: bytes  #: three bytes each, row by row

    @classmethod
    def from_ppm(cls, data: bytes) -> "Picture":
        """QEMU's own: "P6", width, height, 255.  Raises ValueError for anything else."""
        head = _HEAD.match(data)
        if head is None:
            raise ValueError("not a picture of QEMU")
        width, height = int(head[1]), int(head[2])
        if not (0 < width <= 8192 and 0 < height <= 8192):
            raise ValueError("not a picture of QEMU")
        pixels = data[head.end() : head.end() + width * height * 3]
        if len(pixels) != width * height * 3:
            raise ValueError("half a picture")
        return cls(width, height, pixels)

    def to_png(self) -> bytes:
        row = self.width * 3
        rows = b"".join(b"\0" + self.pixels[start : start + row] for start in range(0, len(self.pixels), row))
        header = struct.pack(">IIBBBBB", self.width, self.height, 8, 2, 0, 0, 0)
        return (
            b"\x89PNG\r\n\x1a\n"
            + _chunk(b"IHDR", header)
            + _chunk(b"IDAT", zlib.compress(rows, 6))
            + _chunk(b"IEND", b"")
        )

    def is_like(self, other: "Picture | None") -> bool:
        """Whether it shows the same, but for a cursor that blinks."""
        if other is None or (self.width, self.height) != (other.width, other.height):
            return False
        if self.pixels == other.pixels:
            return True
        row = self.width * 3
        different = 0
        most = int(self.width * self.height * _STILL)
        for start in range(0, len(self.pixels), row):
            mine, theirs = self.pixels[start : start + row], other.pixels[start : start + row]
            if mine != theirs:
                different += sum(mine[at : at + 3] != theirs[at : at + 3] for at in range(0, row, 3))
                if different > most:
                    return False
        return True

    @cached_property
    def colours(self) -> list[tuple[tuple[int, int, int], float]]:
        """The most frequent colours with their part of the picture, from a sample of its pixels."""
        step = 3 * max(1, self.width * self.height // 20_000 | 1)  # odd, so that it does not follow the columns
        sample = [self.pixels[at : at + 3] for at in range(0, len(self.pixels) - 2, step)]
        return [((p[0], p[1], p[2]), count / len(sample)) for p, count in Counter(sample).most_common(4)]

    @property
    def is_blank(self) -> bool:
        """One colour all over: off, or between two modes."""
        first = self.pixels[:3]
        return self.pixels == first * (self.width * self.height)

    @property
    def is_stop_screen(self) -> bool:
        """Windows' blue screen: one blue nearly all over, and writing on it in nearly white."""
        (red, green, blue), part = self.colours[0]
        is_blue = blue >= 120 and blue - red >= 80 and blue - green >= 30
        # Windows 8 and later 0,120,215 or 16,113,170; Windows 7 and before 0,0,128; insider builds are green, rarely met
        light = [part for colour, part in self.colours[1:] if min(colour) >= 160]
        return is_blue and part >= 0.7 and bool(light)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def text_of(memory: bytes) -> str:
    """What stands on a screen in text mode, from the memory of the graphics card at 0xb8000 (letter, colour, ...)."""
    letters = memory[: _TEXT_COLUMNS * _TEXT_ROWS * 2 : 2]
    if not any(32 < letter < 127 for letter in letters) or sum(letter < 32 and letter != 0 for letter in letters) > 400:
        return ""
    text = "".join(chr(letter) if 32 <= letter < 127 else " " for letter in letters)
    rows = [text[at : at + _TEXT_COLUMNS].rstrip() for at in range(0, len(text), _TEXT_COLUMNS)]
    return "\n".join(rows).strip("\n")
