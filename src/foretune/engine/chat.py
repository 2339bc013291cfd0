"""Messages in, message out: what a model of any kind says to a conversation, and what two models say side by side."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from foretune.data.inputs import asked, input_ids
from foretune.data.samples import Message
from foretune.errors import ConfigError

if TYPE_CHECKING:
    from foretune.engine.engine import Engine

__all__ = ["DEFAULT_NEW_TOKENS", "Chat", "ChatEngine", "Reply", "SideBySide", "side_by_side"]

DEFAULT_NEW_TOKENS = 256
LONGEST_CLASS_INPUT = 4096  # tokens, for models without a limit of their own


class Reply(NamedTuple):
    """An answer as text; `num_tokens` counts what was generated, 0 for a class."""

    text: str
    num_tokens: int


class SideBySide(NamedTuple):
    """What both models say to the same conversation."""

    base: str
    fine_tuned: str


class ChatEngine:
    """An engine that is spoken to in messages; a head for classes or a number answers with its name or it.

    `max_seq_len` is the longest input that a class head was trained on (0: what the model allows).
    """

    def __init__(self, engine: Engine, *, max_seq_len: int = 0) -> None:
        self.engine = engine
        limit = engine.max_len or LONGEST_CLASS_INPUT
        self._longest = min(max_seq_len or limit, limit)

    @property
    def kind(self) -> str:
        """causal, seq2seq, classify or regress."""
        return self.engine.loaded.kind

    def room(self, max_new_tokens: int) -> int | None:
        """Prompt tokens that leave room for an answer of `max_new_tokens`; None where there is no limit."""
        if self.engine.max_len is None or self.kind in ("classify", "regress"):
            return None
        return max(1, self.engine.max_len - max_new_tokens)

    def new_tokens(self, wanted: int) -> int:
        """`wanted`, but at most half of the context window, so that a prompt has room."""
        limit = self.engine.max_len
        return wanted if limit is None else max(1, min(wanted, limit // 2))

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        """What the model reads for a conversation that waits for an answer, nothing left out."""
        return input_ids(asked(messages), self.engine.tokenizer, kind=self.kind, max_seq_len=self._longest)

    def replies(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        max_new_tokens: int,
        batch_size: int = 32,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> list[Reply]:
        """Answers to many prompts of `prompt_ids`, in their order."""
        if self.kind == "classify":
            return [Reply(label, 0) for label in self.engine.classify(prompts, batch_size=batch_size)]
        if self.kind == "regress":
            return [Reply(number, 0) for number in self.engine.regress(prompts, batch_size=batch_size)]
        answers = self.engine.generate(
            prompts, max_new_tokens=max_new_tokens, batch_size=batch_size, on_progress=on_progress
        )
        return [Reply(self.engine.tokenizer.decode(ids), len(ids)) for ids in answers]

    def reply(self, messages: Sequence[Message], max_new_tokens: int = DEFAULT_NEW_TOKENS) -> str:
        """The answer to a conversation; where it is too long for the model, its oldest turns are left out.

        Raises ConfigError where the conversation does not end with a message of the user.
        """
        if not messages or messages[-1].role != "user":
            said = f"by {messages[-1].role}" if messages else "by nobody"
            raise ConfigError(
                f"the last message is {said}, expected one by user", fix='add {"role": "user", "content": ...}'
            )
        limit = self.new_tokens(max_new_tokens)
        (reply,) = self.replies([self._fitted(messages, limit)], max_new_tokens=limit)
        return reply.text

    def _fitted(self, messages: Sequence[Message], max_new_tokens: int) -> list[int]:
        """Prompt ids without the oldest turns that there is no room for; system and last message stay."""
        num_system = 1 if messages[0].role == "system" else 0
        system, turns = list(messages[:num_system]), list(messages[num_system:])
        ids, room = self.prompt_ids(messages), self.room(max_new_tokens)
        while room is not None and len(ids) > room and len(turns) > 1:
            del turns[0]
            while turns[0].role != "user":
                del turns[0]
            ids = self.prompt_ids([*system, *turns])
        return ids


@dataclass(frozen=True)
class Chat:
    """A model to talk to, with the name it goes by; `system` begins every conversation that has no such message."""

    name: str
    engine: ChatEngine
    system: str = ""

    def reply(self, messages: Sequence[Message], max_new_tokens: int = DEFAULT_NEW_TOKENS) -> str:
        """The answer to a conversation that ends with a user message; a classifier answers with a class."""
        begun = bool(messages) and messages[0].role == "system"
        start = [Message("system", self.system)] if self.system and not begun else []
        return self.engine.reply([*start, *messages], max_new_tokens)


def side_by_side(
    base_engine: Engine, tuned_engine: Engine, messages: Sequence[Message], max_new_tokens: int = DEFAULT_NEW_TOKENS
) -> SideBySide:
    """The answers of base and fine-tuned model to the same conversation."""
    engines = (ChatEngine(base_engine), ChatEngine(tuned_engine))
    return SideBySide(*(chat.reply(messages, max_new_tokens) for chat in engines))
