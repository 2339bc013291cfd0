"""Word and number drills of the world: copy, rewrite, order, pick and small arithmetic."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections.abc import Callable
from random import Random

from foretune.data.world import lexicon as lex
from foretune.data.world.document import Pair, Task


def words(rng: Random, low: int = 2, high: int = 6) -> list[str]:
    """Draw `low` to `high` different words."""
    return rng.sample(lex.ANY_WORDS, rng.randint(low, high))


def _unique(rng: Random, low: int, high: int) -> list[str]:
    return list(dict.fromkeys(words(rng, low, high)))


def _on_words(skill: str, instruction: str, change: Callable[[list[str]], str], low: int = 2, high: int = 6) -> Task:
    def draw(rng: Random) -> Pair:
        given = _unique(rng, low, high)
        return Pair(" ".join(given), change(given))

    return Task(skill, instruction, draw)


def copy_task(rng: Random) -> Task:
    """Repeat the words, perhaps with a fixed frame around them."""
    kind = rng.randrange(4)
    if kind == 0:
        number = rng.choice(("repeat the number", "copy the number", "write the number again"))
        return Task("copy", number, lambda r: (lambda n: Pair(n, n))(str(r.randrange(10, 99999))))
    text = rng.choice(("repeat the text", "copy these words", "say it again", "write the same words", "echo the text"))
    if kind == 1:
        return _on_words("copy", text + " twice", lambda w: " ".join(w + w), 1, 3)
    return _on_words("copy", text, " ".join, 1, 7)


def rewrite_task(rng: Random) -> Task:
    """Change the case, replace a word, add a word, join with a mark, or drop a word."""
    kind = rng.choice(("upper", "title", "add_end", "add_start", "join", "replace", "drop_first", "drop_last"))
    if kind == "upper":
        asked = rng.choice(("write in upper case", "use capital letters", "make it upper case"))
        return _on_words("rewrite", asked, lambda w: " ".join(w).upper(), 1, 3)
    if kind == "title":
        asked = rng.choice(("start each word with a capital letter", "write in title case"))
        return _on_words("rewrite", asked, lambda w: " ".join(w).title(), 1, 4)
    if kind == "join":
        mark, name = rng.choice(
            ((",", "a comma"), ("-", "a dash"), ("/", "a slash"), ("+", "a plus"), (";", "a semicolon"))
        )
        asked = rng.choice(("join the words with {}", "put {} between the words")).format(name)
        return _on_words("rewrite", asked, mark.join, 2, 5)
    if kind in ("add_end", "add_start"):
        extra = rng.choice(lex.ANY_WORDS)
        where = "end" if kind == "add_end" else "start"
        asked = rng.choice(('add the word "{}" at the {}', 'put "{}" at the {}')).format(extra, where)
        return _on_words("rewrite", asked, lambda w: " ".join([*w, extra] if where == "end" else [extra, *w]), 1, 5)
    if kind == "replace":
        return _replace_task(rng)
    first = kind == "drop_first"
    asked = rng.choice(("drop the {} word", "remove the {} word")).format("first" if first else "last")
    return _on_words("rewrite", asked, lambda w: " ".join(w[1:] if first else w[:-1]), 2, 6)


def _replace_task(rng: Random) -> Task:
    old, new = rng.sample(lex.PLAIN_WORDS, 2)

    def draw(inner: Random) -> Pair:
        given = [w for w in _unique(inner, 2, 5) if w != old]
        given.insert(inner.randint(0, len(given)), old)
        return Pair(" ".join(given), " ".join(new if w == old else w for w in given))

    asked = rng.choice(('replace "{}" by "{}"', 'change the word "{}" to "{}"', 'write "{1}" for "{0}"'))
    if "{1}" not in asked:
        asked = asked.replace("{}", "{0}", 1).replace("{}", "{1}", 1)
    return Task("rewrite", asked.format(old, new), draw)


def order_task(rng: Random) -> Task:
    """Reverse the words, sort words or numbers, or swap the first and the last word."""
    kind = rng.choice(("reverse", "reverse", "sort", "numbers", "swap"))
    if kind == "reverse":
        asked = rng.choice(("reverse the words", "write the words backwards", "turn the order around"))
        return _on_words("order", asked, lambda w: " ".join(w[::-1]), 2, 6)
    if kind == "sort":
        asked = rng.choice(("sort the words", "sort by alphabet", "put the words in abc order"))
        return _on_words("order", asked, lambda w: " ".join(sorted(w)), 2, 4)
    if kind == "swap":
        asked = rng.choice(("swap the first and the last word", "let the first and last word change places"))
        return _on_words("order", asked, lambda w: " ".join([w[-1], *w[1:-1], w[0]]), 2, 5)
    down = rng.random() < 0.5
    asked = f"sort the numbers {'down' if down else 'up'}"

    def draw(inner: Random) -> Pair:
        given = inner.sample(range(1, 100), inner.randint(2, 5))
        return Pair(" ".join(map(str, given)), " ".join(map(str, sorted(given, reverse=down))))

    return Task("order", asked, draw)


def pick_task(rng: Random) -> Task:
    """Pick the first, last or n-th word, or the word after or before a given one."""
    kind = rng.choice(("first", "last", "second", "third", "pair", "after"))
    asked = rng.choice(("give the {} word", "what is the {} word?", "pick the {} word", "only the {} word"))
    if kind == "pair":
        asked = rng.choice(("give the first and the last word", "only the first and last word"))
        return _on_words("pick", asked, lambda w: f"{w[0]} {w[-1]}", 3, 6)
    if kind == "after":
        return _after_task(rng)
    place = {"first": 0, "second": 1, "third": 2, "last": -1}[kind]
    return _on_words("pick", asked.format(kind), lambda w: w[place], 3, 7)


def _after_task(rng: Random) -> Task:
    before = rng.random() < 0.4
    asked = rng.choice(("which word comes {} the mark?", "give the word {} the mark")).format(
        "before" if before else "after"
    )

    def draw(inner: Random) -> Pair:
        given = _unique(inner, 3, 6)
        at = inner.randrange(1, len(given))
        marked = [*given[:at], "*", *given[at:]]
        return Pair(" ".join(marked), given[at - 1] if before else given[at])

    return Task("pick", asked, draw)


def arithmetic_task(rng: Random) -> Task:
    """Add, take away, compare, count or continue small numbers."""
    kind = rng.choice(("add", "add", "subtract", "compare", "count", "next", "word"))
    return ARITHMETIC[kind](rng)


def _sum_task(rng: Random) -> Task:
    top = rng.choice((10, 50, 100))
    form = rng.choice(("{} + {}", "{}+{}", "{} plus {}"))
    asked = rng.choice(("add the numbers", "calculate", "what is the sum?"))

    def draw(inner: Random) -> Pair:
        a, b = inner.randrange(top), inner.randrange(top)
        return Pair(form.format(a, b), str(a + b))

    return Task("arithmetic", asked, draw)


def _difference_task(rng: Random) -> Task:
    top = rng.choice((10, 50, 100))
    form = rng.choice(("{} - {}", "{}-{}", "{} minus {}"))
    asked = rng.choice(("calculate", "what is the difference?", "take away"))

    def draw(inner: Random) -> Pair:
        low, high = sorted((inner.randrange(top), inner.randrange(top)))
        return Pair(form.format(high, low), str(high - low))

    return Task("arithmetic", asked, draw)


def _compare_task(rng: Random) -> Task:
    large = rng.random() < 0.5
    asked = rng.choice(("which number is {}?", "give the {} number")).format("larger" if large else "smaller")

    def draw(inner: Random) -> Pair:
        a, b = inner.sample(range(100), 2)
        return Pair(inner.choice((f"{a} or {b}", f"{a} and {b}")), str(max(a, b) if large else min(a, b)))

    return Task("arithmetic", asked, draw)


def _count_task(rng: Random) -> Task:
    asked = rng.choice(("how many words?", "count the words"))
    as_word = rng.random() < 0.3

    def draw(inner: Random) -> Pair:
        given = _unique(inner, 1, 7)
        return Pair(" ".join(given), lex.NUMBER_WORDS[len(given)] if as_word else str(len(given)))

    return Task("arithmetic", asked + (" answer with a word." if as_word else ""), draw)


def _next_task(rng: Random) -> Task:
    step = rng.choice((1, 1, 2, 5, 10))

    def draw(inner: Random) -> Pair:
        start = inner.randrange(1, 60)
        given = [start + step * i for i in range(4)]
        return Pair(" ".join(map(str, given[:3])), str(given[3]))

    return Task("arithmetic", rng.choice(("which number comes next?", "continue the numbers")), draw)


def _word_problem_task(rng: Random) -> Task:
    asked = rng.choice(("solve the problem", "answer with a number"))

    def draw(inner: Random) -> Pair:
        name, thing = inner.choice(lex.NAMES), inner.choice(lex.OBJECTS)
        low, high = sorted((inner.randrange(1, 30), inner.randrange(1, 30)))
        if inner.random() < 0.5:
            return Pair(f"{name} has {high} {thing}s and gets {low} more. how many {thing}s?", str(high + low))
        return Pair(f"{name} has {high} {thing}s and gives away {low}. how many {thing}s?", str(high - low))

    return Task("arithmetic", asked, draw)


ARITHMETIC: dict[str, Callable[[Random], Task]] = {
    "add": _sum_task,
    "subtract": _difference_task,
    "compare": _compare_task,
    "count": _count_task,
    "next": _next_task,
    "word": _word_problem_task,
}
