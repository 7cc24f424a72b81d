"""Versioned secret keys: the newest makes, every one of the ring opens."""

import base64
import binascii


class Keyring:
    """Keys by number, from lines (or comma separated parts) `number:base64url` of 32 bytes.

    The last line's key is the current one. Rotation adds a line, and later drops the
    first. Raises ValueError, without repeating a key, when the text does not fit.
    """

    def __init__(self, text: str) -> None:
        self._keys: dict[int, bytes] = {}
        for line in text.replace(",", "\n").split():
            number, _, encoded = line.partition(":")
            try:
                key = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
                self.current = int(number)
            except (ValueError, binascii.Error):
                raise ValueError("must hold lines of the form number:base64url") from None
            if len(key) != 32 or not 0 <= self.current <= 255:
                raise ValueError("must hold keys of 32 bytes, numbered 0 to 255")
            if self.current in self._keys:
                raise ValueError("must not hold one number twice")
            self._keys[self.current] = key
        if not self._keys:
            raise ValueError("must hold a key")

    def __getitem__(self, number: int) -> bytes:
        """The key of that number. Raises KeyError."""
        return self._keys[number]

    def __contains__(self, number: int) -> bool:
        return number in self._keys

    def __repr__(self) -> str:
        return f"Keyring(numbers={sorted(self._keys)})"
