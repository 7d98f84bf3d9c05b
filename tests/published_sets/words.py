"""English and Chinese prompts of our own with answers, for the rows of the stand-in data sets."""

from __future__ import annotations

from typing import Literal, NamedTuple

from .tasks import problem, program

Topic = Literal["talk", "code", "math"]

_ASKS = [
    "Write a short story about {}.",
    "Give me three tips for someone who is new to {}.",
    "Explain {} to a ten-year-old child.",
    "What are the advantages and disadvantages of {}?",
    "Write a polite email to a friend about {}.",
    "Summarize the history of {} in two sentences.",
    "I want to spend less time on {}. What should I do first?",
    "Suggest a title for a magazine article about {}.",
    "Compare {} with reading a book.",
    "Write four lines of verse about {}.",
    "Which questions would you ask an expert on {}?",
    "Plan a weekend around {}.",
]
_SUBJECTS = [
    "growing tomatoes",
    "keeping bees",
    "city buses",
    "sailing",
    "baking bread",
    "chess",
    "mountain hiking",
    "old maps",
    "jazz",
    "winter swimming",
    "school uniforms",
    "solar panels",
    "pottery",
    "street markets",
    "bird watching",
    "letter writing",
    "night trains",
    "public libraries",
    "green tea",
    "volcanoes",
    "carpentry",
    "family dinners",
    "puppet theatre",
    "lighthouses",
    "crossword puzzles",
    "cycling to work",
    "learning Italian",
    "board games",
    "wild mushrooms",
    "photography",
    "rainy days",
]


class Asked(NamedTuple):
    """A prompt, what it is about, and its subject in a few words."""

    text: str
    topic: Topic
    subject: str


def asked(index: int) -> Asked:
    """The English prompt of an index, of which no two below 372 are equal: of ten, one is of code and one of maths."""
    if index % 10 == 4:
        task = program(index // 10)
        code = f"```python\n{task.source('f')}\n```"
        text = f"Write a Python function `{task.snake}` that {task.does}."
        text = text if index % 20 == 4 else f"What does this Python code do, and how can I test it?\n\n{code}"
        return Asked(text, "code", task.does)
    if index % 10 == 7:
        return Asked(f"{problem(index).text} Show your calculation.", "math", problem(index).step)
    subject = _SUBJECTS[index % len(_SUBJECTS)]
    return Asked(_ASKS[index % len(_ASKS)].format(subject), "talk", subject)


def answer(subject: str, quality: int) -> str:
    """An English answer; a higher quality, from 0, is a longer text."""
    sentences = [
        f"Here is something about {subject}.",
        "Start with what you already know, and take one small step a day.",
        "Ask people who have done it for years; most of them like to help.",
        f"In the end, {subject} is best understood by trying it yourself.",
    ]
    return " ".join(sentences[: quality + 1])


_PLACES = ["北京", "上海", "成都", "杭州", "西安", "广州", "南京", "哈尔滨", "昆明", "苏州", "青岛", "拉萨"]
_QUESTIONS = [
    "请介绍一下{}的一种特色小吃。",
    "我想去{}旅行三天，应该怎么安排？",
    "用两句话描述{}的冬天。",
    "为一家位于{}的书店想一个名字，并说明理由。",
    "{}适合老年人居住吗？请给出三个理由。",
    "写一首关于{}的四行小诗。",
    "请给第一次到{}的朋友写一封欢迎信。",
]


def asked_in_chinese(index: int) -> Asked:
    """The Chinese prompt of an index, of which no two below 84 are equal: of ten, one is of code and one of maths."""
    if index % 10 == 4:
        name = program(index // 10).snake
        return Asked(f"请用Python写一个名为{name}的函数，并解释代码。", "code", "函数")
    if index % 10 == 7:
        return Asked(
            f"小明有{index + 3}个苹果，又买了{index % 5 + 2}个，一共有多少个？请写出计算过程。", "math", "苹果"
        )
    place = _PLACES[index % 12]
    return Asked(_QUESTIONS[index % 7].format(place), "talk", place)


def answer_in_chinese(subject: str) -> str:
    aspects = "首先是历史，其次是人们的日常生活，最后是当地的风景"
    return f"关于{subject}，可以从三个方面来看：{aspects}。希望这些信息对您有帮助。"


def task_in_chinese(index: int) -> tuple[str, str]:
    """An instruction and its input. Of an even index the input is filled: few instructions, many inputs."""
    place = _PLACES[index // 2 % 12]
    sentence = f"{place}今天的天气很好，第{index}路公共汽车上坐满了人。"
    if index % 2:
        return asked_in_chinese(42 + index).text, ""
    match index // 2 % 4:
        case 0:
            return "把下面的句子改写得更加正式。", sentence
        case 1:
            return "将以下句子翻译成英文。", sentence
        case 2:
            return "找出下面句子中的地名。", sentence
        case _:
            return "根据所给的词语造一个句子。", f"{place}，朋友，第{index}次"


_TALK = ["Information seeking", "Advice seeking", "Creative writing", "Planning", "Brainstorming", "Editing"]


def category(topic: Topic, index: int) -> str | None:
    """The tag of a Magpie set: none where the model that gave them failed."""
    if topic == "talk":
        return None if index % 40 == 36 else _TALK[index % len(_TALK)]
    return {"code": "Coding & Debugging", "math": "Math"}[topic]
