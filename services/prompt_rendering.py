"""Prompts of a source LLM: a conversation as token ids, under the source's chat template and system-message policy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fusechat.pipeline.errors import one_line
from fusechat.pipeline.records import Message
from fusechat.pipeline.sampling.messages import with_system

from .reward_inputs import special_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class PromptRenderer:
    """Renders conversations for one source.

    Args:
        chat_template: the recipe's Jinja template. Without one, the model's own template is used.
        system: the system-message policy (recipe key `sources[].system`).
        max_model_len: the engine's context length. A prompt must leave room for at least one token.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, *, chat_template: str | None, system: str, max_model_len: int
    ) -> None:
        self._tokenizer, self._chat_template, self._system = tokenizer, chat_template, system
        self.max_model_len = max_model_len

    def with_system(self, messages: Sequence[Message]) -> list[Message]:
        """Returns the messages under the source's system-message policy."""
        return with_system(messages, self._system)

    def render(self, messages: Sequence[Message], *, for_scoring: bool = False) -> list[int] | str:
        """Returns the token ids of the prompt, or the reject that says why it can't be rendered.

        A template in the recipe defines how the source is prompted to answer (e.g. with few-shot examples). For
        scoring, the source reads the conversation under the model's own template if there is one.

        A special token in a message's text becomes that token, as on the OpenAI routes: the caller writes the whole
        conversation anyway. For scoring it is a reject, because the text was written by a model, which could end its
        own turn and write another role's turn.
        """
        template = self._chat_template
        if for_scoring and self._tokenizer.chat_template:
            template = None
        conversation = self.with_system(messages)
        if not conversation:
            return "empty_prompt: there is no message"
        if for_scoring and (token := self.find_special_token(*(m["content"] for m in conversation))):
            return f"special_token: a message holds {token!r}"
        try:
            text = self._tokenizer.apply_chat_template(
                conversation, chat_template=template, add_generation_prompt=True, tokenize=False
            )
            text.encode()
        except UnicodeEncodeError:
            return "not_unicode: a message holds a lone surrogate"
        except Exception as error:  # noqa: BLE001 - a template is a program and may raise anything
            return f"template_error: {one_line(error) or type(error).__name__}"
        ids = self.tokenize(text)
        if not ids:
            return "empty_prompt: the template renders no token"
        if len(ids) >= self.max_model_len:
            return f"prompt_too_long: {len(ids)} tokens, the engine takes {self.max_model_len - 1}"
        return ids

    def tokenize(self, text: str) -> list[int]:
        """Returns the token ids of a text, without added special tokens."""
        ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def find_special_token(self, *texts: str) -> str | None:
        """Returns a special token that one of the texts contains."""
        special = special_tokens(self._tokenizer)
        return next((t for t in special if any(t in text for text in texts)), None)
