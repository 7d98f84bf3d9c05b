"""Families of short arithmetic word problems; the gold answer is always computed here, never typed.

A family is a function that draws its numbers from a generator and returns (problem, gold answer). One or two
steps, small whole numbers: what a model of 135M parameters can learn from a few hundred short answers.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

Family = Callable[[Random], tuple[str, int]]

# Small models are very sensitive to this sentence: it was chosen by probing six of them.
SUFFIX = " Show each calculation on its own line, then end with the line: The answer is <number>."

NAMES = [
    "Anna",
    "Ben",
    "Carla",
    "David",
    "Ella",
    "Felix",
    "Grace",
    "Henry",
    "Iris",
    "Jack",
    "Kate",
    "Leo",
    "Mia",
    "Noah",
    "Olga",
    "Paul",
    "Rosa",
    "Sam",
    "Tina",
    "Victor",
]
THINGS = [
    "apples",
    "pencils",
    "stickers",
    "marbles",
    "cookies",
    "shells",
    "stamps",
    "buttons",
    "oranges",
    "balloons",
    "cards",
    "beads",
]
GOODS = ["pens", "notebooks", "mugs", "candles", "plants", "brushes", "scarves", "lamps", "toys", "plates"]


def _two(rng: Random, items: list[str]) -> tuple[str, str]:
    first, second = rng.sample(items, 2)
    return first, second


def gives_away(rng: Random) -> tuple[str, int]:
    name, thing = rng.choice(NAMES), rng.choice(THINGS)
    friends, each, left = rng.randint(2, 6), rng.randint(2, 5), rng.randint(3, 10)
    start = friends * each + left
    return (
        f"{name} has {start} {thing} and gives {each} {thing} to each of {friends} friends. "
        f"How many {thing} does {name} have left?",
        left,
    )


def buys_change(rng: Random) -> tuple[str, int]:
    name, good = rng.choice(NAMES), rng.choice(GOODS)
    count, price = rng.randint(2, 5), rng.randint(2, 9)
    paid = 20 if count * price < 20 else 50
    return (
        f"{name} buys {count} {good} for {price} dollars each and pays with {paid} dollars. "
        f"How many dollars of change does {name} get?",
        paid - count * price,
    )


def boxes_and_loose(rng: Random) -> tuple[str, int]:
    name, thing = rng.choice(NAMES), rng.choice(THINGS)
    boxes, each, loose = rng.randint(2, 8), rng.randint(3, 10), rng.randint(2, 15)
    return (
        f"{name} has {boxes} boxes with {each} {thing} in each box and {loose} more {thing} on the table. "
        f"How many {thing} does {name} have in all?",
        boxes * each + loose,
    )


def shares_rest(rng: Random) -> tuple[str, int]:
    name, thing = rng.choice(NAMES), rng.choice(THINGS)
    kept, children, each = rng.randint(2, 8), rng.randint(2, 5), rng.randint(2, 8)
    return (
        f"{name} has {kept + children * each} {thing}. {name} keeps {kept} and shares the rest equally among "
        f"{children} children. How many {thing} does each child get?",
        each,
    )


def saves_and_spends(rng: Random) -> tuple[str, int]:
    name, good = rng.choice(NAMES), rng.choice(GOODS)
    weeks, each = rng.randint(2, 8), rng.randint(3, 10)
    spent = rng.randint(2, min(12, weeks * each - 2))
    return (
        f"{name} saves {each} dollars a week for {weeks} weeks and then spends {spent} dollars on {good}. "
        f"How many dollars are left?",
        weeks * each - spent,
    )


def times_as_many(rng: Random) -> tuple[str, int]:
    (one, other), thing = _two(rng, NAMES), rng.choice(THINGS)
    count, factor = rng.randint(3, 15), rng.randint(2, 5)
    return (
        f"{one} has {count} {thing}. {other} has {factor} times as many {thing} as {one}. "
        f"How many {thing} do they have together?",
        count + factor * count,
    )


def pages_left(rng: Random) -> tuple[str, int]:
    name = rng.choice(NAMES)
    days, each, left = rng.randint(2, 5), rng.randint(3, 10), rng.randint(4, 20)
    return (
        f"A book has {days * each + left} pages. {name} reads {each} pages a day for {days} days. "
        f"How many pages are left to read?",
        left,
    )


def bus_stops(rng: Random) -> tuple[str, int]:
    start, off, on = rng.randint(10, 30), rng.randint(2, 8), rng.randint(2, 10)
    vehicle = rng.choice(["bus", "train", "ferry", "tram"])
    return (
        f"There are {start} people on a {vehicle}. At the next stop {off} people get off and {on} people "
        f"get on. How many people are on the {vehicle} now?",
        start - off + on,
    )


def trip_length(rng: Random) -> tuple[str, int]:
    name, way = rng.choice(NAMES), rng.choice(["runs", "walks", "cycles", "swims"])
    each, days, more = rng.randint(2, 12), rng.randint(2, 6), rng.randint(2, 15)
    return (
        f"{name} {way} {each} miles every day for {days} days and then {more} miles more on the last day. "
        f"How many miles is that in all?",
        each * days + more,
    )


def empty_seats(rng: Random) -> tuple[str, int]:
    place = rng.choice(["hall", "cinema", "theater", "classroom", "circus tent"])
    rows, seats = rng.randint(2, 8), rng.randint(4, 10)
    taken = rng.randint(2, min(15, rows * seats - 2))
    return (
        f"A {place} has {rows} rows with {seats} seats in each row. {taken} seats are taken. How many seats are empty?",
        rows * seats - taken,
    )


def eggs_sold(rng: Random) -> tuple[str, int]:
    name = rng.choice(NAMES)
    hens, each = rng.randint(3, 9), rng.randint(2, 6)
    sold = rng.randint(2, min(12, hens * each - 2))
    return (
        f"{name} has {hens} hens and each hen lays {each} eggs. {name} sells {sold} eggs. How many eggs are left?",
        hens * each - sold,
    )


def two_purchases(rng: Random) -> tuple[str, int]:
    name, (one, other) = rng.choice(NAMES), _two(rng, GOODS)
    a, p, b, q = (rng.randint(2, 6) for _ in range(4))
    return (
        f"{name} buys {a} {one} for {p} dollars each and {b} {other} for {q} dollars each. "
        f"How many dollars does {name} spend in all?",
        a * p + b * q,
    )


def ages_together(rng: Random) -> tuple[str, int]:
    one, other = _two(rng, NAMES)
    age, older = rng.randint(5, 20), rng.randint(2, 10)
    return (
        f"{one} is {age} years old. {other} is {older} years older than {one}. How old are they together?",
        age + age + older,
    )


def rope_left(rng: Random) -> tuple[str, int]:
    what = rng.choice(["rope", "ribbon", "wire", "pipe"])
    pieces, each, left = rng.randint(2, 5), rng.randint(2, 8), rng.randint(2, 10)
    return (
        f"A {what} is {pieces * each + left} meters long. {pieces} pieces of {each} meters are cut off. "
        f"How many meters of {what} are left?",
        left,
    )


def finds_and_loses(rng: Random) -> tuple[str, int]:
    name, thing = rng.choice(NAMES), rng.choice(THINGS)
    start, found, lost = rng.randint(5, 25), rng.randint(3, 10), rng.randint(2, 8)
    return (
        f"{name} has {start} {thing}, finds {found} more and then loses {lost}. How many {thing} does {name} have now?",
        start + found - lost,
    )


def hourly_pay(rng: Random) -> tuple[str, int]:
    name = rng.choice(NAMES)
    pay, hours, tip = rng.randint(4, 10), rng.randint(2, 8), rng.randint(3, 15)
    return (
        f"{name} earns {pay} dollars an hour and works {hours} hours. {name} also gets a tip of {tip} "
        f"dollars. How many dollars does {name} earn in all?",
        pay * hours + tip,
    )


def trays_eaten(rng: Random) -> tuple[str, int]:
    name, thing = rng.choice(NAMES), rng.choice(["muffins", "rolls", "pies", "cakes", "tarts"])
    trays, each = rng.randint(2, 8), rng.randint(4, 10)
    eaten = rng.randint(2, 12) if trays * each > 14 else rng.randint(2, 6)
    return (
        f"{name} bakes {trays} trays of {each} {thing}. The guests eat {eaten} {thing}. How many {thing} are left?",
        trays * each - eaten,
    )


def morning_temperature(rng: Random) -> tuple[str, int]:
    start, up, down = rng.randint(5, 20), rng.randint(2, 12), rng.randint(2, 6)
    city = rng.choice(["Oslo", "Rome", "Lima", "Cairo", "Paris", "Quito"])
    return (
        f"In {city} it is {start} degrees in the morning. It gets {up} degrees warmer by noon and {down} "
        f"degrees colder by night. How many degrees is it at night?",
        start + up - down,
    )


def game_points(rng: Random) -> tuple[str, int]:
    name = rng.choice(NAMES)
    goals, points, bonus = rng.randint(3, 9), rng.randint(2, 6), rng.randint(3, 15)
    return (
        f"In a game {name} scores {goals} goals worth {points} points each and gets {bonus} bonus points. "
        f"How many points does {name} have?",
        goals * points + bonus,
    )


def school_classes(rng: Random) -> tuple[str, int]:
    classes, pupils = rng.randint(2, 8), rng.randint(5, 12)
    sick = rng.randint(2, 9)
    return (
        f"A school has {classes} classes with {pupils} pupils each. Today {sick} pupils are sick. "
        f"How many pupils are at school?",
        classes * pupils - sick,
    )


def water_tank(rng: Random) -> tuple[str, int]:
    buckets, each, left = rng.randint(2, 5), rng.randint(2, 8), rng.randint(3, 15)
    return (
        f"A tank holds {buckets * each + left} liters of water. {buckets} buckets of {each} liters are taken "
        f"out. How many liters stay in the tank?",
        left,
    )


def flower_bunches(rng: Random) -> tuple[str, int]:
    name, flower = rng.choice(NAMES), rng.choice(["roses", "tulips", "daisies", "lilies"])
    each, bunches, wilted = rng.randint(2, 6), rng.randint(2, 6), rng.randint(2, 8)
    return (
        f"{name} picks {each * bunches + wilted} {flower}. {wilted} are wilted and thrown away. The others "
        f"are tied into bunches of {each}. How many bunches does {name} make?",
        bunches,
    )


SEEN: tuple[Family, ...] = (
    gives_away, buys_change, boxes_and_loose, shares_rest, saves_and_spends, times_as_many,
    pages_left, bus_stops, trip_length, empty_seats, eggs_sold, two_purchases,
    ages_together, rope_left, finds_and_loses, hourly_pay,
)  # fmt: skip
UNSEEN: tuple[Family, ...] = (
    trays_eaten, morning_temperature, game_points, school_classes, water_tank, flower_bunches,
)  # fmt: skip
