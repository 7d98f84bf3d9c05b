"""Word tables for parsing numbers: numerals, units, and words that change the meaning of a number."""

from __future__ import annotations

FACTORS = {
    **{"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12, "dozen": 12},
    **{"百": 100, "千": 1000, "万": 10**4, "亿": 10**8},
}
_ONES = """
    zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
    seventeen eighteen nineteen
"""
ONES = _ONES.split()
_TENS = """
    twenty thirty forty fifty sixty seventy eighty ninety
"""
TENS = _TENS.split()
CHINESE = "零一二三四五六七八九十"
_UNITS = """
    mm: millimeter millimetre 毫米
    cm: centimeter centimetre 厘米
    m: meter metre 米
    km: kilometer kilometre 千米 公里
    in: inch inches
    ft: foot feet
    yd: yard
    mi: mile
    mg: milligram 毫克
    g: gram 克
    kg: kilogram 千克 公斤
    t: ton tonne 吨
    lb: pound lbs
    oz: ounce
    ml: milliliter millilitre 毫升
    l: liter litre 升
    gal: gallon
    s: second sec 秒
    min: minute mins 分钟
    h: hour hr hrs 小时
    day: days 天
    week: weeks 周
    month: months 个月
    year: years yr yrs 年
    $: dollar dollars usd us$ 美元
    cent: cents ¢ 美分
    €: euro eur 欧元
    ¥: yuan rmb 元 块 yen
    £: gbp
    degree: degrees deg 度
    radian: radians rad
    mph:
    kph:
    hz: hertz
"""
UNITS = {
    name: unit.strip()
    for line in _UNITS.strip().splitlines()
    for unit, names in [line.split(":")]
    for name in (unit.strip(), *names.split())
}
"""Units that name a quantity: answers with different ones differ. Other words ("apples") may be present or absent."""
POWERS = {"square": "2", "sq": "2", "平方": "2", "cubic": "3", "cu": "3", "立方": "3"}
_MEANING_CHANGING = """
    not no nor or and but then if plus minus times more less fewer greater than squared cubed factorial to mod
    base over is isn isn't was wasn't wrong incorrect false when unless except remainder half twice double
    triple third quarter thirds quarters between least most about mistake wait actually divided multiplied sqrt
    root negative cannot can't maybe either should would th st nd rd through by off power
"""
MEANING_CHANGING = frozenset(_MEANING_CHANGING.split())
"""Words that change the meaning of a number next to them."""
_FUNCTIONS = """
    sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log ln exp sqrt frac cdot times pi infty pm mp
    cup cap le ge leq geq neq lt gt in binom theta alpha beta gamma delta lambda mu phi omega sigma rho tau
    epsilon begin end pmatrix bmatrix vmatrix matrix mathbb emptyset varnothing lfloor rfloor lceil rceil max
    min gcd lcm mod div sum prod int lim to setminus mid vec hat bar overline abs dots ldots forall notin cases
"""
FUNCTIONS = frozenset(_FUNCTIONS.split())
"""Words that are part of a mathematical expression."""
