"""Numbers are read as they are written, to the last digit, or refused."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paramcount.units import parse_count, parse_size, short, size

COUNT_FACTORS = {"K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
SIZE_FACTORS = {
    **dict(zip(["KB", "MB", "GB", "TB"], COUNT_FACTORS.values(), strict=True)),
    **{f"{prefix}iB": 2 ** (10 * power) for power, prefix in enumerate("KMGT", start=1)},
}


@pytest.mark.parametrize(
    ("written", "count"),
    [
        (0, 0),
        (25557032, 25557032),
        ("0", 0),
        ("25557032", 25557032),
        ("60K", 60_000),
        ("22.5M", 22_500_000),
        ("25.557032M", 25_557_032),
        ("14.3B", 14_300_000_000),
        ("1.000000000001T", 1_000_000_000_001),
        ("0.001K", 1),
        ("2.500000K", 2_500),
    ],
)
def test_a_count_is_an_integer_or_a_number_with_a_decimal_unit(written: object, count: int) -> None:
    assert parse_count(written) == count


@pytest.mark.parametrize(
    ("written", "nbytes"),
    [
        (90, 90),
        ("90", 90),
        ("90KB", 90_000),
        ("90MB", 90_000_000),
        ("1.5GB", 1_500_000_000),
        ("2TB", 2_000_000_000_000),
        ("1KiB", 1024),
        ("0.5MiB", 524_288),
        ("1.5GiB", 1_610_612_736),
        ("1TiB", 1_099_511_627_776),
    ],
)
def test_a_size_is_an_integer_or_a_number_with_a_decimal_or_binary_unit(written: object, nbytes: int) -> None:
    assert parse_size(written) == nbytes


REFUSED: list[object] = [
    *(
        "",
        " ",
        "25.5",
        "25.0",
        "-5",
        "+5",
        "-5M",
        "5 M",
        " 5M",
        "5M ",
        "5M\n",
        ".5M",
        "5.M",
        "5,5M",
        "1,000",
        "5m",
        "5k",
    ),
    *("1_000", "1e6", "1E6", "0777", "007M", "0x1F", "0o17", "1:30", "yes", "true", "null", "inf", ".inf", "nan", "5G"),
    *("5MiBs", "5Kb", "5kB", "5MM", "٥M", "²", "9" * 41, "9" * 5000 + "M", "M", "B"),
    *(-5, True, False, None, 1.0, 25.5, float("inf"), [], [5], {}, b"5"),
]


@pytest.mark.parametrize("written", [*REFUSED, "90MB", "90MiB"])
def test_anything_else_is_no_count(written: object) -> None:
    with pytest.raises(
        ValueError, match=r"^[^\n]* is no count: write a whole number such as 22500000, or one with K, M, B"
    ):
        parse_count(written)


@pytest.mark.parametrize("written", [*REFUSED, "90M", "90K", "90B", "90T", "90KIB"])
def test_anything_else_is_no_size(written: object) -> None:
    with pytest.raises(
        ValueError, match=r"^[^\n]* is no size: write bytes such as 90000000, or a number with KB, MB, GB"
    ):
        parse_size(written)


def test_what_comes_to_a_fraction_of_an_element_is_refused() -> None:
    for written in ("0.0001K", "22.0000005M", "1.5555K"):
        with pytest.raises(
            ValueError, match=f"^'{written}' comes to a fraction: it has too many decimals for its unit$"
        ):
            parse_count(written)
    with pytest.raises(ValueError, match=r"^'0\.3KiB' comes to a fraction"):
        parse_size("0.3KiB")


@given(st.from_regex(r"(0|[1-9][0-9]{0,9})(\.[0-9]{1,14})?", fullmatch=True), st.sampled_from(sorted(SIZE_FACTORS)))
def test_a_number_and_its_unit_come_to_their_exact_product_or_are_refused(number: str, unit: str) -> None:
    product = Fraction(number) * SIZE_FACTORS[unit]
    if product.denominator == 1:
        assert parse_size(number + unit) == product
    else:
        with pytest.raises(ValueError, match="comes to a fraction"):
            parse_size(number + unit)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1_000, "1K"),
        (9_408, "9.41K"),
        (60_000, "60K"),
        (999_499, "999K"),
        (999_500, "1M"),
        (25_557_032, "25.6M"),
        (22_500_000, "22.5M"),
        (14_300_000_000, "14.3B"),
        (1_700_000_000_000, "1.7T"),
        (5_000_000_000_000_000, "5,000T"),
    ],
)
def test_a_short_count_has_three_digits_and_a_unit(number: int, text: str) -> None:
    assert short(number) == text


@given(st.integers(min_value=1, max_value=10**18))
def test_a_short_count_is_off_by_less_than_a_hundredth(number: int) -> None:
    text = short(number).replace(",", "")
    factor = COUNT_FACTORS.get(text[-1], 1)
    assert abs(Fraction(text.rstrip("KMBT")) * factor - number) * 100 < number


@given(st.integers(min_value=1, max_value=10**18))
def test_a_size_is_off_by_less_than_a_hundredth(number: int) -> None:
    text, unit = size(number).replace(",", "").split()
    assert abs(Fraction(text) * SIZE_FACTORS.get(unit, 1) - number) * 100 < number
