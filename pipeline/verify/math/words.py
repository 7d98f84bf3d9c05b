"""Word tables: numerals, units, and words that change the meaning of a number."""

from __future__ import annotations

FACTORS = {
    **{"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12, "dozen": 12},
    **{"lakh": 10**5, "crore": 10**7, "mn": 10**6, "bn": 10**9},
    **{"百": 100, "千": 1000, "万": 10**4, "亿": 10**8, "打": 12},
}
_ONES = """
    zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
    seventeen eighteen nineteen
"""
_TENS = """
    twenty thirty forty fifty sixty seventy eighty ninety
"""
CARDINALS = {
    **{name: n for n, name in enumerate(_ONES.split())},
    **{name: 10 * n for n, name in enumerate(_TENS.split(), start=2)},
}
_PARTS = "half third quarter fifth sixth seventh eighth ninth tenth eleventh twelfth"
PARTS = {
    **{name: n for n, name in enumerate(_PARTS.split(), start=2)},
    **{f"{name}s": n for n, name in enumerate(_PARTS.split(), start=2)},
    **{"halves": 2, "fourth": 4, "fourths": 4, "sixteenth": 16, "sixteenths": 16, "twentieth": 20, "twentieths": 20},
    **{"hundredth": 100, "hundredths": 100, "thousandth": 1000, "thousandths": 1000},
}
"""Denominators in words. "second" is left out: it is a unit."""
_UNITS = """
    nm: nanometer nanometre 纳米
    mm: millimeter millimetre 毫米
    cm: centimeter centimetre 厘米
    dm: decimeter decimetre 分米
    m: meter metre 米
    km: kilometer kilometre 千米 公里
    in: inch inches 英寸
    ft: foot feet 英尺
    yd: yard
    mi: mile 英里
    ha: hectare 公顷
    acre: acres
    mg: milligram 毫克
    g: gram 克
    kg: kilogram 千克 公斤
    t: ton tonne 吨
    lb: pound lbs
    oz: ounce
    ml: milliliter millilitre 毫升
    l: liter litre 升
    gal: gallon
    qt: quart
    ms: millisecond 毫秒
    s: second sec secs 秒 秒钟
    min: minute mins 分钟
    h: hour hr hrs 小时 个小时
    day: days 天
    week: weeks wk 周
    month: months 个月
    year: years yr yrs 年
    $: dollar dollars usd us$ 美元 buck
    cent: cents ¢ 美分
    €: euro eur 欧元
    ¥: yuan rmb 元 块 块钱 元钱 yen cny
    £: gbp
    ₹: rupee rs inr
    degree: degrees deg 度
    celsius: °c
    fahrenheit: °f
    kelvin: kelvins
    radian: radians rad rads 弧度
    mph:
    kph: kmph
    hz: hertz 赫兹
    n: newton 牛 牛顿
    j: joule 焦 焦耳
    kj: kilojoule 千焦
    cal: calorie
    kcal: kilocalorie
    w: watt 瓦 瓦特
    kw: kilowatt 千瓦
    kwh:
    v: volt 伏 伏特
    amp: ampere amps 安 安培
    ohm: omega 欧 欧姆
    pa: pascal 帕
    kpa: kilopascal
    atm: atmosphere
    mol: mole moles 摩尔
    bit: bits
    byte: bytes
    kb: kilobyte
    mb: megabyte
    gb: gigabyte
"""
UNITS = {
    name: unit.strip()
    for line in _UNITS.strip().splitlines()
    for unit, names in [line.split(":")]
    for name in (unit.strip(), *names.split())
}
"""Units that name a quantity: answers with different ones differ. Other words ("apples") may be present or absent."""
CURRENCIES = frozenset(("$", "cent", "€", "¥", "£", "₹"))
LETTERS = {
    **{"m": "m", "g": "g", "s": "s", "h": "h", "l": "l", "L": "l", "t": "t", "N": "n", "J": "j", "W": "w", "V": "v"},
    **{"K": "kelvin", "C": "celsius", "F": "fahrenheit", "A": "amp", "Ω": "ohm"},
}
"""Units of one letter."""
NO_VARIABLES = frozenset("mghsLNJWV")
"""Letters that are units behind a space, even without a text command. The others are mostly variables."""
POWERS = {"square": "2", "sq": "2", "squared": "2", "平方": "2", "cubic": "3", "cu": "3", "cubed": "3", "立方": "3"}
_MEANING_CHANGING = """
    not no nor or and but then if plus minus times more less fewer greater than squared cubed factorial to mod
    base over is isn isn't was wasn't wrong incorrect false when unless except remainder half halves twice double
    triple third quarter thirds quarters between least most about mistake wait actually divided multiplied sqrt
    root roots negative cannot can't maybe either should would th st nd rd through by off power powers below under
    above beyond within without near nearly almost until before after past versus vs first last next previous
    choose product sum difference quotient square cube log infinity infinite undefined fold
"""
MEANING_CHANGING = frozenset(_MEANING_CHANGING.split()).union(set(PARTS) - {"half", "quarter"})
"""Words that change the meaning of a number next to them."""
_GREEK = """
    alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi rho sigma tau upsilon phi chi psi omega pi
"""
GREEK = frozenset(_GREEK.split())
_FUNCTIONS = """
    sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log ln lg exp sqrt cbrt frac cdot times infty pm mp
    cup cap le ge ne lt gt in binom begin end pmatrix bmatrix vmatrix matrix mathbb emptyset lfloor rfloor lceil
    rceil max min gcd lcm mod setminus vec hat bar overline abs ldots cases text circ infinity inf approx implies
    langle rangle left right degrees
"""
_SPOKEN = "sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log ln lg exp sqrt"
SPOKEN_FUNCTIONS = GREEK.union(_SPOKEN.split())
"""Words that make an expression of the number before them: 3 sin x."""
FUNCTIONS = GREEK.union(_FUNCTIONS.split())
"""Words that are part of a mathematical expression."""
_MONTHS = """
    january jan: 1
    february feb: 2
    march mar: 3
    april apr: 4
    may: 5
    june jun: 6
    july jul: 7
    august aug: 8
    september sep sept: 9
    october oct: 10
    november nov: 11
    december dec: 12
"""
MONTHS = {
    name: int(number)
    for line in _MONTHS.strip().splitlines()
    for names, number in [line.split(":")]
    for name in names.split()
}
_WEEKDAYS = """
    monday tuesday wednesday thursday friday saturday sunday
"""
WEEKDAYS = frozenset(_WEEKDAYS.split())
_LINKING = """
    is are was were has have had equals makes make made earns earn earned costs cost gets get got needs need needed
    spends spend spent pays pay paid weighs weigh takes take took sold sells sell buys buy bought owns own owes owe
    contains contain holds hold gives give gave saves save saved collects collect collected receives receive received
    uses use used ate eats eat drinks drink read reads ran runs run walks walk walked travels travel traveled drove
    drives drive finds find found keeps keep kept there
"""
LINKING = frozenset(_LINKING.split())
"""Verbs before the only number of a short statement ("Tom has 12 apples")."""
