"""The frame that Gradio carries: theme, title and head, around one element that our own modules bring to life.

No Gradio event function: each would be a public endpoint, and the guard serves none. `gr.HTML` is left out too, for its
templates are evaluated as code, which the Content-Security-Policy forbids; app.js mounts `<ms-app>` over the frame.
"""

from pathlib import Path
from typing import Any

import gradio as gr

TITLE = "Modelsmith"
# Before the modules are there and around them: no flash of another colour, no padding, no scroll bar of the frame.
CSS = """
:root { color-scheme: light dark; }
html, body, gradio-app { background: light-dark(#f7f7f5, #131518) !important; }
body { margin: 0; overflow: hidden; }
gradio-app { visibility: hidden; }
ms-app { position: fixed; inset: 0; display: block; z-index: 1; }
"""
STATIC = Path(__file__).parent / "static"
# Named at once, the modules are fetched together and not one import after the other.
MODULES = sorted(path.relative_to(STATIC).as_posix() for path in STATIC.rglob("*.js"))
PRELOADS = "".join(f'<link rel="modulepreload" href="x/static/{name}">\n' for name in MODULES)
HEAD = f"""
<meta name="viewport" content="width=device-width, initial-scale=1, interactive-widget=resizes-content">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="x/static/icon.svg" type="image/svg+xml">
{PRELOADS}<script type="module" src="x/static/app.js"></script>
"""
THEME = gr.themes.Base(font=["Inter", "system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
LOOK: dict[str, Any] = {"theme": THEME, "css": CSS, "head": HEAD}


def build() -> gr.Blocks:
    with gr.Blocks(title=TITLE, analytics_enabled=False, fill_width=True) as demo:
        gr.Column(elem_id="ms")
    return demo
