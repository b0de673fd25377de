"""Names of many things made short, and still told apart."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["cut_names", "short_names"]


def short_names(paths: Sequence[Sequence[str]], separator: str) -> tuple[str, ...]:
    """The shortest ends of paths by which they can be told apart; none begins with a number.

    >>> short_names([("a", "lr"), ("b", "lr"), ("layers", "0")], ".")
    ('a.lr', 'b.lr', 'layers.0')
    """

    def shortest(path: Sequence[str]) -> str:
        for length in range(1, len(path)):
            end = tuple(path[-length:])
            same = [other for other in paths if tuple(other[-length:]) == end]
            if not end[0].isdecimal() and all(tuple(other) == tuple(path) for other in same):
                return separator.join(end)
        return separator.join(path)

    return tuple(map(shortest, paths))


def cut_names(names: Sequence[str], most: int) -> list[str]:
    """Names of at most so many letters: what is left out is the beginning that they share, else the middle.

    >>> cut_names(["digits_with_dropout-1", "digits_with_dropout-12"], 12)
    ['…_dropout-1', '…_dropout-12']
    >>> cut_names(["digits_with_dropout", "wine_without_dropout"], 12)
    ['digi…dropout', 'wine…dropout']
    """
    over = max(map(len, names), default=0) - most
    beginnings = {name[: over + 1] for name in names}
    if over > 0 and len(names) > 1 and len(beginnings) == 1:  # it goes from all of them
        return [f"…{name[over + 1 :]}" for name in names]
    return [_middle(name, most) for name in names]


def _middle(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    start = (most - 1) * 2 // 5
    return f"{text[:start]}…{text[len(text) - (most - 1 - start) :]}"
