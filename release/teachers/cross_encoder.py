"""Any CrossEncoder as a teacher."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from release import hub_access
from release.errors import ReleaseError
from release.revisions import model_revision
from release.teachers.base import Progress

BATCH = {
    "cuda": 128,
    "cpu": 32,
}  # pairs; an H100 scores 1.5 times as fast with 128 (1b's shape, recipes/EXPERIMENTS.md)
BLOCK = 4096  # pairs between two steps of the progress; sorted by length over a whole shard beforehand
TOKENS = ["1", "0"]  # what a causal teacher says for relevant and irrelevant


class CrossEncoderTeacher:
    """Any CrossEncoder as a teacher: raw logits, bfloat16 on CUDA and float32 on a CPU.

    A causal one is asserted to compare the tokens "1" and "0" (without its modules.json it would silently compare others), and
    its logits are computed in float32, since bfloat16 knows only about a hundred values in their range. With
    flash attention it runs without padding, as the equal model that `headless` makes of it.
    """

    def __init__(self, model: str, max_length: int, *, revision: str | None = None, dtype: str | None = None) -> None:
        import torch  # here and below: torch and Sentence Transformers take seconds to import
        from sentence_transformers import CrossEncoder

        from release.runtime.precision import has_flash_attention

        cuda = torch.cuda.is_available()
        dtype = dtype or ("bfloat16" if cuda else "float32")
        flash = cuda and dtype != "float32" and has_flash_attention()
        kwargs = {"dtype": dtype} | ({"attn_implementation": "flash_attention_2"} if flash else {})
        try:
            loaded = CrossEncoder(
                model,
                revision=revision,
                activation_fn=torch.nn.Identity(),
                model_kwargs=kwargs,
                trust_remote_code=False,
            )
        except (OSError, ValueError, ImportError) as error:
            what = f"cannot load the teacher ({str(error).strip().splitlines()[0][:200]})"
            hint = "connect to the Hub once, or name a local folder in [teacher]"
            raise hub_access.refusal(error, model) or ReleaseError(what, where=model, hint=hint) from error
        if what := incomplete(loaded):
            raise ReleaseError(what, where=model, hint="choose a teacher that was trained to score")
        limit_length(loaded, max_length)
        template = str(getattr(loaded.tokenizer, "chat_template", None))
        self.model = loaded
        form = "as saved"
        if hasattr(loaded[-1], "true_token_id"):
            check_tokens(loaded, model)
            loaded.set_keep_in_fp32_modules(["0.model.lm_head"])
            if flash:
                self.model, form = headless(loaded, revision), "headless"
        self.batch = BATCH["cuda" if cuda else "cpu"]
        self.identity = {
            "model": model,
            "kind": "cross-encoder",
            "revision": revision or model_revision(model),
            "template_sha256": hashlib.sha256(template.encode()).hexdigest(),
            "dtype": dtype,
            "max_length": loaded.max_seq_length,
            "form": form,
        }

    def predict(self, pairs: Sequence[tuple[str, str]], progress: Progress | None = None) -> np.ndarray:
        """Raw logits, float32 of shape (len(pairs),): the longest pairs first, so that memory fails early."""
        order = sorted(range(len(pairs)), key=lambda row: -sum(map(len, pairs[row])))
        scores = np.empty(len(pairs), np.float32)
        batch = self.batch
        for start in range(0, len(order), BLOCK):
            rows = order[start : start + BLOCK]
            scores[rows], batch = self._block([pairs[row] for row in rows], batch)
            if progress:
                progress(len(rows))
        return scores

    def _block(self, pairs: list[tuple[str, str]], batch: int) -> tuple[np.ndarray, int]:
        """Logits of one block, and the batch that memory sufficed for, halved until it does.

        The next block begins with it, the next call of `predict` anew: in bfloat16 the last bits of a logit depend on the batch,
        and a shard shall not depend on what the process scored before it.
        """
        from release.runtime.memory import free, is_out_of_memory

        while True:
            try:
                return self.model.predict(pairs, batch_size=batch, show_progress_bar=False), batch
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error) or batch == 1:
                    raise
            batch //= 2
            free()


def limit_length(model: Any, most: int | None) -> None:
    """Let a CrossEncoder read at most `most` tokens of a pair, and never more than its tokenizer says or it has positions.

    Raises:
        ReleaseError: Its settings name no number of tokens.
    """
    config = model[0].model.config.get_text_config()
    if not isinstance(model.max_seq_length, int | None):
        what = f"max_seq_length is {model.max_seq_length!r}, no number of tokens"
        raise ReleaseError(what, where="sentence_bert_config.json", hint="correct it, or download the model again")
    limits = (most, model.max_seq_length, getattr(config, "max_position_embeddings", None))
    model.max_seq_length = min((limit for limit in limits if limit), default=None)


def incomplete(model: Any) -> str | None:
    """What is random of a CrossEncoder that was loaded: weights that are in no file the library draws, and only warns."""
    weights = dict(getattr(model[0], "model", model[0]).named_parameters())
    loaded = {name for name, weight in weights.items() if getattr(weight, "_is_hf_initialized", False)}
    random = [name for name in weights if name not in loaded]
    if not (loaded and random):
        return None
    return f"{len(random)} of its weights are in none of its files and would be random, such as {random[0]}"


def check_tokens(model: Any, name: str) -> None:
    """Refuse a causal teacher that compares other tokens than "1" and "0", or is asked nothing."""
    ids = [model[-1].true_token_id, model[-1].false_token_id]
    tokens = model.tokenizer.convert_ids_to_tokens(ids)
    if tokens != TOKENS:
        raise ReleaseError(
            f"the teacher compares the tokens {tokens}, not {TOKENS}",
            where=name,
            hint="load it with its modules.json, or choose a teacher that was trained to say 1 or 0",
        )
    if not getattr(model.tokenizer, "chat_template", None):
        what, hint = "the teacher has no chat template: nothing would be asked", "choose a repository that has one"
        raise ReleaseError(what, where=name, hint=hint)


def headless(model: Any, revision: str | None = None) -> Any:
    """The same scores from the last state and the difference of two rows of the head, in a form that can be unpadded.

    score = logit("1") - logit("0") = (W["1"] - W["0"]) @ state, so the other 150,000 rows of the head need not be computed.
    """
    import torch
    from sentence_transformers import CrossEncoder
    from sentence_transformers.base.modules import Dense, Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    old, score = model[0], model[-1]
    at = {"revision": revision} if revision else {}
    body = Transformer(
        old.model.config._name_or_path,
        transformer_task="feature-extraction",
        max_seq_length=old.max_seq_length,
        model_kwargs={"dtype": old.model.dtype, "attn_implementation": old.model.config._attn_implementation} | at,
        processor_kwargs=dict(at),
        config_kwargs=dict(at),
    )
    tokenizer: Any = body.tokenizer
    tokenizer.padding_side = "left"
    weight = old.model.lm_head.weight.detach().float()
    row = (weight[score.true_token_id] - weight[score.false_token_id]).unsqueeze(0).cpu()
    width = body.get_embedding_dimension()
    head = Dense(width, 1, bias=False, activation_function=None, init_weight=row, module_output_name="scores")
    return CrossEncoder(
        modules=[body, Pooling(width, "lasttoken"), head],
        activation_fn=torch.nn.Identity(),
        keep_in_fp32_modules=["2.linear"],
        device=str(model.device),
    )
