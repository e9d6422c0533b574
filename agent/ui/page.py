"""The frame that Gradio carries: theme and title, and a place where our own scripts build everything that is alive.

No Gradio event function: each would be a public endpoint, and the guard serves none. `gr.HTML` is left out too, for its
templates are evaluated as code, which the Content-Security-Policy forbids; app.js mounts its elements in `#ms`.
"""

from typing import Any

import gradio as gr

LOOK: dict[str, Any] = {"head": '<script type="module" src="/x/static/app.js"></script>'}


def build() -> gr.Blocks:
    with gr.Blocks(title="Modelsmith", analytics_enabled=False) as demo:
        with gr.Column(elem_id="ms"):
            gr.Markdown("# Modelsmith")
    return demo
