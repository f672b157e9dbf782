"""Numbers with a check digit, as digits whose contributions add up to a multiple.

Luhn's formula (ISO/IEC 7812-1) for payment cards, the weights of ABA routing numbers, of ISBN-13
(ISO 2108) and of IBAN (ISO 13616, modulo 97). Knows arithmetic, not grammars.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..ir import ChecksumString

_ALL = "0123456789"


def _luhn(start: Sequence[str], length: int) -> ChecksumString:
    """Every second digit from the right counts double, as the sum of its digits."""
    double = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)
    digits = [*start, *[_ALL] * (length - len(start))]
    return ChecksumString(
        tuple(
            {digit: double[int(digit)] if (length - place) % 2 == 0 else int(digit) for digit in at}
            for place, at in enumerate(digits)
        ),
        modulus=10,
    )


def _weighted(start: str, length: int, weights: Sequence[int]) -> ChecksumString:
    """Each digit counts its weight's times; the weights repeat."""
    digits = [*start, *[_ALL] * (length - len(start))]
    return ChecksumString(
        tuple(
            {digit: int(digit) * weights[place % len(weights)] % 10 for digit in at}
            for place, at in enumerate(digits)
        ),
        modulus=10,
    )


def _iban(country: str, account: int) -> ChecksumString:
    """IBANs of a country whose account numbers have that number of digits.

    The account, the country as two numbers from 10 on, and the check digits, read as one number,
    are 1 modulo 97.
    """
    letters = [ord(letter) - ord("A") + 10 for letter in country]
    fixed = letters[0] * 10**4 + letters[1] * 10**2 - 1
    checks: list[Mapping[str, int]] = [
        {digit: int(digit) * 10**power % 97 for digit in _ALL} for power in (1, 0)
    ]
    rest: list[Mapping[str, int]] = [
        {digit: int(digit) * 10 ** (power + 6) % 97 for digit in _ALL}
        for power in range(account - 1, -1, -1)
    ]
    head: list[Mapping[str, int]] = [{country[0]: fixed % 97}, {country[1]: 0}]
    return ChecksumString((*head, *checks, *rest), modulus=97)


CHECKSUMS: Mapping[str, Sequence[ChecksumString]] = {
    "payment-card": (
        _luhn("4", 16),
        _luhn(("5", "12345"), 16),
        _luhn(("3", "47"), 15),
    ),
    "aba-routing-number": (_weighted("", 9, (3, 7, 1)),),
    "isbn13": (_weighted("978", 13, (1, 3)), _weighted("979", 13, (1, 3))),
    "iban": (_iban("DE", 18),),
}
"""Formats by name, each of a few kinds: Visa, Mastercard and American Express; IBAN of Germany."""
