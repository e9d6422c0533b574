"""A transformers model in this process, as `transformers/PATH`: for trying things out and for tests, CPU is enough.

One call at a time. torch and transformers are imported when the model is made. Streams, stops at the block's end and on
cancel at the next token, counts tokens exactly. No batching, no quantisation: a server does that better.
"""

import threading
import time
from typing import Any, cast

from agent.errors import UserError
from agent.models import errors
from agent.models.base import OnDelta, Reply, StopAt, Strings, Usage, flat, ignore_delta
from agent.models.blocks import Watch
from agent.models.profile import PLAIN, ROOM_UNKNOWN
from agent.models.thoughts import Splitter


class LocalModel:
    def __init__(self, path: str, *, offline: bool = False, max_tokens: int = ROOM_UNKNOWN) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.path, self.max_tokens = path, max_tokens
        try:
            self.tokenizer: Any = AutoTokenizer.from_pretrained(path, local_files_only=offline)
            loaded = AutoModelForCausalLM.from_pretrained(path, local_files_only=offline, dtype="auto")
            self.network = cast(Any, loaded)
        except (OSError, ValueError, KeyError) as error:
            reason = str(error).strip().split("\n", 1)[0][:200]
            raise UserError(f"{path} cannot be loaded: {reason} Give the folder of a causal language model.") from None
        if not self.tokenizer.chat_template:
            raise UserError(f"{path} has no chat template. Take the instruct version of the model.")
        self.network.to(_device())
        self.network.eval()
        self.window: int | None = getattr(self.network.config, "max_position_embeddings", None)
        self._lock = threading.Lock()

    def generate(
        self,
        messages: list[dict],
        *,
        on_delta: OnDelta = ignore_delta,
        cancel: threading.Event | None = None,
        stop_at: StopAt = "block",
    ) -> Reply:
        cancel, begin = cancel or threading.Event(), time.monotonic()
        inputs = self.tokenizer.apply_chat_template(
            flat(messages), add_generation_prompt=True, return_tensors="pt", return_dict=True
        ).to(self.network.device)
        prompt = int(inputs["input_ids"].shape[1])
        room = min(self.max_tokens, (self.window or prompt + self.max_tokens) - prompt)
        if room < 1:
            raise _overflow(prompt, self.window)
        while not self._lock.acquire(timeout=0.1):
            _stop_if(cancel)
        try:
            run = _Run(self, inputs, room, stop_at)
            for kind, piece in run.pieces(cancel):
                on_delta(kind, piece)
        finally:
            self._lock.release()
        usage = Usage(prompt, run.made, False)
        finish = "cut" if run.cut else "length" if run.made >= room else "stop"
        reply = Reply(
            "".join(run.text), "".join(run.thoughts), usage, finish, time.monotonic() - begin, run.first_token
        )
        error = _fault(run, reply, cancel)
        if error:
            error.reply = reply
            raise error
        return reply


class _Run:
    """One generation: transformers writes in a thread of its own, pieces are read here."""

    def __init__(self, owner: LocalModel, inputs: Any, room: int, stop_at: StopAt) -> None:
        from transformers import StoppingCriteriaList, TextIteratorStreamer

        self.text: list[str] = []
        self.thoughts: list[str] = []
        self.made, self.cut, self.broke = 0, False, ""
        self.first_token: float | None = None
        self._begin = time.monotonic()
        self._halt = threading.Event()
        self._watch = Watch() if stop_at == "block" else Strings(stop_at) if stop_at else None
        self._streamer = TextIteratorStreamer(owner.tokenizer, skip_prompt=True, skip_special_tokens=True)
        self._prompt = int(inputs["input_ids"].shape[1])
        sampling = {name: PLAIN[name] for name in ("temperature", "top_p", "top_k")}
        options = {"max_new_tokens": room, "do_sample": True, "streamer": self._streamer, **sampling}
        options["stopping_criteria"] = StoppingCriteriaList([self._count])
        self._thread = threading.Thread(target=self._work, args=[owner.network, {**inputs, **options}], daemon=True)

    def pieces(self, cancel: threading.Event) -> Any:
        self._thread.start()
        splitter = Splitter()
        try:
            for piece in self._streamer:
                if cancel.is_set():
                    break
                yield from self._kept(splitter.feed(piece))
                if self.cut:
                    break
            if not self.cut:
                yield from self._kept(splitter.end())
        finally:
            self._halt.set()
            self._thread.join()

    def _kept(self, pairs: list[tuple[str, str]]) -> Any:
        for kind, piece in pairs:
            if self.first_token is None:
                self.first_token = time.monotonic() - self._begin
            if kind == "think":
                self.thoughts.append(piece)
                yield kind, piece
                continue
            keep = self._watch.feed(piece) if self._watch and not self.cut else None
            if self.cut:
                return
            if keep is not None:
                self.cut = True
                if keep < 0:
                    self.text, keep = ["".join(self.text)[:keep]], 0
                piece = piece[:keep]
            if piece:
                self.text.append(piece)
                yield kind, piece

    def _count(self, ids: Any, scores: Any, **_: Any) -> Any:
        """transformers asks after every token whether to stop."""
        import torch

        self.made = int(ids.shape[1]) - self._prompt
        return torch.full((ids.shape[0],), self._halt.is_set(), device=ids.device, dtype=torch.bool)

    def _work(self, network: Any, options: dict) -> None:
        try:
            network.generate(**options)
        except Exception as error:  # the border to a library: it must reach the reader, who is in another thread
            self.broke = f"{type(error).__name__}: {error}"
            self._streamer.end()


def _fault(run: _Run, reply: Reply, cancel: threading.Event) -> errors.ModelError | None:
    if cancel.is_set():
        return errors.Cancelled("The call to the model was cancelled.")
    if run.broke:
        return errors.CutStream(
            f"The model in this process failed: {errors.scrub(run.broke, None)[:200]}. Try a smaller one."
        )
    if reply.finish == "length":
        return errors.Truncated("The answer reached the token limit and is incomplete. Ask for a smaller step.")
    if not reply.text.strip():
        return errors.EmptyAnswer("The model answered nothing. Ask again, or take a larger one.")
    return None


def _overflow(prompt: int, window: int | None) -> errors.Overflow:
    error = errors.Overflow(f"The prompt of {prompt} tokens is larger than the window of {window}. Shorten it.")
    error.window, error.prompt = window, prompt
    return error


def _stop_if(cancel: threading.Event) -> None:
    if cancel.is_set():
        raise errors.Cancelled("The call to the model was cancelled.")


def _device() -> str:
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
