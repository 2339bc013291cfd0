"""The pretraining corpus of the embedded model: a seeded, endless mixture of plain texts and chats."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

from foretune.data.world import drills, induction, lexicon, prose, reading, spanish, tickets
from foretune.data.world.document import Document, Message, Pair, Task, assistant, stream, system, user

TRAIN_SPACE = "train"
TEXT_FRACTION = 0.17
FEW_SHOT_FRACTION = 0.5
MAX_CHARACTERS = 1250

Builder = Callable[[Random], Task]

BUILDERS: dict[Builder, int] = {
    drills.copy_task: 7,
    drills.rewrite_task: 9,
    drills.order_task: 7,
    drills.pick_task: 7,
    drills.arithmetic_task: 11,
    reading.lookup_task: 11,
    reading.json_task: 14,
    reading.classify_task: 13,
    reading.summary_task: 6,
    reading.reply_task: 5,
    spanish.translate_task: 7,
    spanish.answer_task: 3,
}
TASK_BUILDERS, TASK_WEIGHTS = tuple(BUILDERS), tuple(BUILDERS.values())
POSES = (
    "{i}\n{q}",
    "{i}\n{q}",
    "{i}: {q}",
    "{q}\n{i}",
    "please {i}:\n{q}",
    "{i}.\n\n{q}",
    "task: {i}\ninput: {q}",
    "text: {q}\n{i}",
)
VAGUE = (
    "follow the examples.",
    "go on like this.",
    "do it in our way.",
    "use the {} form.",
    "write the {} line.",
    "give the {} mark.",
    "do the {} task",
    "answer as the {} team",
)
PERSONAS = (
    "you are a helpful assistant.",
    "you are pebble, a small model.",
    "answer in few words.",
    "do what the user asks.",
    "be short and exact.",
)


def documents(seed: int, num_documents: int, start: int = 0) -> Iterator[Document]:
    """Yield documents `start` to `start + num_documents`; document i depends on `(seed, i)` alone."""
    for index in range(start, start + num_documents):
        yield document(stream(TRAIN_SPACE, seed, index))


def document(rng: Random) -> Document:
    """Draw one document of the mixture: plain text, a zero-shot chat, or a few-shot chat."""
    draw = rng.random()
    if draw < TEXT_FRACTION:
        return plain_text(rng)
    if draw < TEXT_FRACTION + (1 - TEXT_FRACTION) * FEW_SHOT_FRACTION:
        return few_shot_chat(rng)
    if draw > 0.985:
        return greeting_chat(rng)
    return chat(rng)


def draw_task(rng: Random) -> Task:
    """Draw a task that an instruction defines."""
    return rng.choices(TASK_BUILDERS, TASK_WEIGHTS)[0](rng)


# --- plain text ---------------------------------------------------------------------------------------------------


def plain_text(rng: Random) -> Document:
    """Draw a plain-text document: stories, news, products, tickets, reviews, tables, word lists or Spanish."""
    skill = rng.choice(tuple(TEXTS))
    return Document(skill, text=TEXTS[skill](rng))


def _stories(rng: Random) -> str:
    passage = prose.story(rng)
    return passage.text if rng.random() < 0.6 else f"{passage.text}\nin short: {passage.summary}"


def _newspaper(rng: Random) -> str:
    items = [prose.news(rng) for _ in range(rng.randint(1, 3))]
    return "\n".join(f"{item.topic}: {item.text}" for item in items)


def _catalogue(rng: Random) -> str:
    return "\n".join(prose.product(rng).text for _ in range(rng.randint(1, 3)))


def _ticket_file(rng: Random) -> str:
    given = tickets.ticket(rng)
    return f"ticket: {given.text}\ntopic: {given.topic}\nreply: {tickets.reply(rng, given)}"


def _reviews(rng: Random) -> str:
    moods = rng.choices(tuple(prose.REVIEWS), k=rng.randint(2, 4))
    return "\n".join(f"{prose.review(rng, mood)} ({mood})" for mood in moods)


def _tables(rng: Random) -> str:
    header, rows = reading.table(rng)
    return reading.table_text(rng, header, rows)


def _records(rng: Random) -> str:
    text, facts = rng.choice(reading.SOURCES)(rng)
    lines = "\n".join(f"{key}: {value}" for key, value in facts.items())
    return f"{text}\n{lines if rng.random() < 0.6 else reading.dumps(facts)}"


def _word_groups(rng: Random) -> str:
    chosen = rng.sample(tuple(lexicon.GROUPS), 3)
    return "\n".join(f"{group}: " + ", ".join(rng.sample(lexicon.GROUPS[group], 4)) for group in chosen)


def _spanish_text(rng: Random) -> str:
    if rng.random() < 0.5:
        return spanish.story(rng)
    return "\n".join(" = ".join(spanish.sentence(rng)) for _ in range(rng.randint(2, 4)))


TEXTS: dict[str, Callable[[Random], str]] = {
    "story": _stories,
    "news": _newspaper,
    "product": _catalogue,
    "ticket": _ticket_file,
    "review": _reviews,
    "table": _tables,
    "record": _records,
    "words": _word_groups,
    "spanish": _spanish_text,
}


# --- chats --------------------------------------------------------------------------------------------------------


def posed(rng: Random, instruction: str, question: str) -> str:
    """Return a user turn that holds an instruction and its input, laid out in one of several ways."""
    layout = rng.choice(POSES)
    return layout.format(i=instruction, q=question)


def chat(rng: Random) -> Document:
    """Draw a chat of one to three turns, each with its own instruction."""
    messages: list[Message] = []
    task = draw_task(rng)
    pair = task.draw(rng)
    where = rng.random()
    if where < 0.2:
        return Document(task.skill, messages=(system(task.instruction), user(pair.question), assistant(pair.answer)))
    if where < 0.35:
        messages.append(system(rng.choice(PERSONAS)))
    messages += [user(posed(rng, task.instruction, pair.question)), assistant(pair.answer)]
    while rng.random() < 0.25 and len(messages) < 6:
        other = draw_task(rng)
        pair = other.draw(rng)
        messages += [user(posed(rng, other.instruction, pair.question)), assistant(pair.answer)]
    return Document(task.skill, messages=_fitting(messages))


def few_shot_chat(rng: Random) -> Document:
    """Draw a chat of two to eight solved examples of one task and a further turn that only they explain."""
    task = induction.induction_task(rng) if rng.random() < 0.35 else draw_task(rng)
    untold = not task.instruction or (task.from_examples and rng.random() < 0.6)
    pairs = few_shot_pairs(rng, task, rng.randint(2, 8), untold)
    return Document(task.skill, messages=few_shot_messages(rng, task, pairs, untold))


def few_shot_pairs(rng: Random, task: Task, num_shots: int, untold: bool) -> list[Pair]:
    """Draw up to `num_shots` solved pairs within the character budget and, last, the pair to solve."""
    pairs: list[Pair] = []
    room = MAX_CHARACTERS
    for _ in range(num_shots + 1):
        pair = task.draw(rng)
        room -= len(pair.question) + len(pair.answer) + len(task.instruction) // 2 + 8
        if room < 0 and len(pairs) > 2:
            break
        pairs.append(pair)
    if untold and task.closed:
        while len({pair.answer for pair in pairs[:-1]}) < 2:
            pairs[0] = task.draw(rng)
        shown = {pair.answer for pair in pairs[:-1]}
        while pairs[-1].answer not in shown:
            pairs[-1] = task.draw(rng)
    return pairs


def few_shot_messages(rng: Random, task: Task, pairs: list[Pair], untold: bool) -> tuple[Message, ...]:
    """Lay the pairs out as turns; the instruction stands nowhere, in the system turn, or in every user turn."""
    messages: list[Message] = []
    if untold:
        if rng.random() < 0.35:
            messages.append(system(rng.choice(VAGUE).format(rng.choice(lexicon.ANY_WORDS))))
        questions = [pair.question for pair in pairs]
    elif rng.random() < 0.6:
        messages.append(system(task.instruction))
        questions = [pair.question for pair in pairs]
    else:
        fixed = rng.randrange(1 << 30)
        questions = [posed(Random(fixed), task.instruction, pair.question) for pair in pairs]
    for question, pair in zip(questions, pairs, strict=True):
        messages += [user(question), assistant(pair.answer)]
    return _fitting(messages)


def _fitting(messages: list[Message]) -> tuple[Message, ...]:
    total, kept = 0, 0
    for message in messages:
        total += len(message["content"])
        if total > MAX_CHARACTERS + 350:
            break
        kept += 1
    if messages[kept - 1]["role"] == "user":
        kept -= 1
    return tuple(messages[:kept])


def greeting_chat(rng: Random) -> Document:
    """Draw a little talk: greetings and who the model is, or a name the system turn gives."""
    name, person = rng.choice(lexicon.PETS), rng.choice(lexicon.NAMES)
    question, answer = rng.choice(
        (
            ("who are you?", "i am {n}, a small model."),
            ("what is your name?", "my name is {n}."),
            ("hello, i am {p}.", "hello {p}, how can i help?"),
            ("hi", "hello, how can i help?"),
            ("thank you", "you are welcome."),
        )
    )
    told = rng.random() < 0.5
    turns = (user(question.format(p=person)), assistant(answer.format(n=name if told else "pebble", p=person)))
    return Document("greeting", messages=(system(f"you are {name}."), *turns) if told else turns)
