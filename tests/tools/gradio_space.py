"""A tiny Space: run as a program, it prints its address when it answers."""

import time
from pathlib import Path

import gradio as gr


def greet(name: str, times: int = 1) -> str:
    return " ".join([f"Hello {name}!"] * int(times))


def shout(document: str) -> str:
    target = Path(document).with_name("loud report.txt")
    target.write_text(Path(document).read_text().upper())
    return str(target)


def wait(seconds: float) -> str:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.05)
    return "done"


def fail(reason: str) -> str:
    raise gr.Error(reason)


def headers(request: gr.Request) -> dict:
    return dict(request.headers)


with gr.Blocks() as demo:
    text, number, document = gr.Textbox(label="Name"), gr.Number(value=1), gr.File()
    answer, produced, record = gr.Textbox(), gr.File(), gr.JSON()
    gr.Button().click(greet, [text, number], answer, api_name="greet")
    gr.Button().click(shout, document, produced, api_name="shout")
    gr.Button().click(wait, number, answer, api_name="wait")
    gr.Button().click(fail, text, answer, api_name="fail")
    gr.Button().click(headers, None, record, api_name="headers")

if __name__ == "__main__":
    _, url, _ = demo.launch(prevent_thread_lock=True, quiet=True, show_error=True)
    print(url, flush=True)
    demo.block_thread()
