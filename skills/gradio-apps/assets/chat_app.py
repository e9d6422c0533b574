"""A chat with a model behind an OpenAI-compatible server (MODEL_URL, MODEL_KEY, MODEL_NAME); it streams."""

import os

import gradio as gr
from openai import AsyncOpenAI, OpenAIError

client = AsyncOpenAI(
    base_url=os.environ.get("MODEL_URL", "http://127.0.0.1:8080/v1"), api_key=os.environ.get("MODEL_KEY", "none")
)


async def reply(message: str, history: list[dict]):
    said = [{"role": one["role"], "content": plain(one["content"])} for one in history if one["role"] != "system"]
    try:
        name = os.environ.get("MODEL_NAME") or (await client.models.list()).data[0].id
        stream = await client.chat.completions.create(
            model=name, messages=[*said, {"role": "user", "content": message}], stream=True, max_tokens=1000
        )
        text = ""
        async for part in stream:
            text += (part.choices[0].delta.content or "") if part.choices else ""
            yield text
    except OpenAIError as error:
        raise gr.Error(f"The model does not answer: {error}") from None


def plain(content) -> str:
    """A message's text; its content may be a list of parts."""
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content if isinstance(part, dict))


demo = gr.ChatInterface(fn=reply, title="Chat", concurrency_limit=None, api_name="chat")

if __name__ == "__main__":
    demo.launch(share=False, run_history=False)
