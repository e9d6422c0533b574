"""The agent: smolagents' CodeAgent with our own step. One step is: read the conversation, ask the model, take its one
code block, run it in the sandbox, remember what came of it.

The engine below keeps the memory, counts steps and ends at the final answer. Ends of other kinds are `TurnEnded`.
"""

import threading
from collections.abc import Callable, Generator
from typing import Any

from smolagents import CodeAgent
from smolagents.agents import ActionOutput
from smolagents.memory import ActionStep
from smolagents.monitoring import AgentLogger, LogLevel, TokenUsage
from smolagents.utils import AgentParsingError

from agent.loop.circles import Circles
from agent.loop.context import Context
from agent.loop.endings import LimitReached, TurnCancelled, TurnEnded, TurnFailed
from agent.loop.executor import SandboxExecutor
from agent.loop.live import Live
from agent.loop.parse import Answer, parse
from agent.loop.prompt import render
from agent.models.base import Model, Reply
from agent.models.errors import Cancelled, CutStream, EmptyAnswer, ModelError, Overflow, Truncated

Emit = Callable[[str, dict[str, Any]], None]
MOST_REPAIRS = 4  # answers in a row that hold nothing to run


class Smith(CodeAgent):
    """`remember(step)` is called after each step, before anything else happens."""

    def __init__(
        self,
        model: Model,
        executor: SandboxExecutor,
        context: Context,
        emit: Emit,
        flush: Callable[[], None],
        cancel: threading.Event,
        system_text: str,
        limits: Callable[[], str | None],
        remember: Callable[[ActionStep], None],
        model_name: str = "",
    ):
        self.system_text, self.context = system_text, context
        self.emit, self.flush, self.cancel_flag = emit, flush, cancel
        self.limits, self.remember = limits, remember
        self.model_name = model_name
        self.circles, self.repairs, self.steps_done = Circles(), 0, 0
        self.answer: Any = None  # of the last turn
        super().__init__(
            tools=[],
            model=model,  # only our own step talks to it
            executor=executor,
            max_steps=10**6,  # the gate counts, over the whole session
            logger=AgentLogger(level=LogLevel.OFF),
            step_callbacks={ActionStep: self.after_step},
        )

    def initialize_system_prompt(self) -> str:
        return self.system_text

    def begin_turn(self) -> None:
        """What a turn before did badly is not held against this one."""
        self.circles, self.repairs, self.answer = Circles(), 0, None

    # -- one step ----------------------------------------------------------------------------------------------------

    def _step_stream(self, memory_step: ActionStep) -> Generator[ActionOutput, None, None]:
        reached = self.limits()
        if reached:
            raise LimitReached(reached)
        self.steps_done += 1
        self.python_executor.step = self.python_executor.bridge.step = self.steps_done
        answer = self.ask(memory_step)
        if answer.kind == "prose":
            self.answer = answer.prose
            yield ActionOutput(output="", is_final_answer=True)
            return
        if answer.kind == "repair":
            self.repair(answer.problem or "There was no code block in your answer.")
        self.repairs = 0
        memory_step.code_action = answer.code
        try:
            done = self.python_executor(answer.code)
        except TurnEnded as ending:
            memory_step.observations = f"{ending.printed}\n[stopped in the middle: {ending.reason}]".strip()
            raise
        finally:
            self.flush()
        memory_step.observations = done.logs
        if answer.problem:
            memory_step.observations += f"\n[{answer.problem}]"
        if done.is_final_answer:
            self.answer = done.output
        else:
            self.look_for_circles(memory_step)
        # The engine would import torch to look at anything but text.
        yield ActionOutput(output="", is_final_answer=done.is_final_answer)

    def ask(self, step: ActionStep) -> Answer:
        """One answer of the model. An overflow compacts the conversation; it and a cut stream ask once more."""
        for attempt in (1, 2):
            messages = self.python_executor.bridge.redactor.value(self.context.messages(self.memory))
            live = Live(lambda kind, text: self.emit(kind, {"text": text, "step": self.steps_done}))
            try:
                reply = self.model.generate(messages, on_delta=self.listen(live), cancel=self.cancel_flag)
            except Cancelled:
                raise TurnCancelled("cancelled by the person") from None
            except Overflow as error:
                if attempt == 2:
                    raise TurnFailed(str(error)) from None
                self.context.overflowed(self.memory, error.window)
                continue
            except CutStream as error:
                self.count(error.reply, messages)
                if attempt == 2:
                    raise TurnFailed(str(error)) from None
                self.emit("error", {"text": str(error), "kind": "model", "hint": "The model is asked again."})
                continue
            except Truncated as error:
                self.count(error.reply, messages)
                step.model_output = error.reply.text if error.reply else ""
                self.repair("Your answer reached the token limit and was not run. Write shorter code.")
            except EmptyAnswer as error:
                self.count(error.reply, messages)
                self.repair("Your answer was empty.")
            except ModelError as error:
                raise TurnFailed(str(error)) from None
            finally:
                live.end()
                self.flush()  # so that nothing of the answer is seen after what its code does
            self.count(reply, messages)
            self.context.window = self.model.window or self.context.window  # some servers tell it only now
            answer = parse(reply.text)
            step.model_output = as_said(answer) if answer.kind != "repair" else reply.text[:4000]
            step.token_usage = TokenUsage(reply.usage.prompt, reply.usage.completion)
            return answer
        raise AssertionError("unreachable")

    def listen(self, live: Live) -> Callable[[str, str], None]:
        def take(kind: str, piece: str) -> None:
            if kind == "think":
                self.emit("thought", {"text": piece, "step": self.steps_done})
            else:
                live.feed(piece)

        return take

    def count(self, reply: Reply | None, messages: list[dict[str, Any]]) -> None:
        if reply is None:
            return
        usage = reply.usage
        if not usage.estimated:
            self.context.learn(self.context.size(messages), usage.prompt)
        told: dict[str, Any] = {
            "input_tokens": usage.prompt,
            "output_tokens": usage.completion,
            "estimated": usage.estimated,
        }
        told |= {"seconds": reply.seconds, "model": self.model_name, "step": self.steps_done}
        if self.context.window:
            told["context"] = self.context.window
        self.emit("usage", told)

    def repair(self, problem: str) -> None:
        """Ask for another answer; too many in a row end the turn."""
        self.repairs += 1
        if self.repairs >= MOST_REPAIRS:
            raise TurnFailed(f"The model gave no usable answer {MOST_REPAIRS} times in a row. Last: {problem}")
        self.emit("error", {"text": problem, "kind": "parse", "step": self.steps_done})
        raise AgentParsingError(render("repair", problem=problem), self.logger)

    def look_for_circles(self, step: ActionStep) -> None:
        repeated = self.circles.add(step.code_action or "", step.observations or "")
        if repeated == "told":
            text = render("circles", times=self.circles.times)
            step.observations = f"{step.observations}\n\n{text}"
            self.emit("error", {"text": "The same steps came again with the same result.", "kind": "circles"})
        elif repeated == "stop":
            raise TurnFailed("The model went in circles: the same steps with the same result, also after it was told.")

    def after_step(self, step: ActionStep, agent: Any = None) -> None:
        """Keep only what the next step needs: the engine's own copies grow with the square of the steps."""
        step.model_input_messages = step.tool_calls = step.model_output_message = None
        self.remember(step)


def as_said(answer: Answer) -> str:
    """An answer as it stands in the history: always in the form the prompt asks for, so that it is the form learned."""
    if answer.kind != "code":
        return answer.prose
    return f"{answer.prose}\n<code>\n{answer.code}\n</code>".strip()
