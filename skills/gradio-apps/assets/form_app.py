"""A form: inputs, one button, an output. Replace `predict`."""

import gradio as gr


def predict(text: str, times: float) -> str:
    if not text.strip():
        raise gr.Error("Write something first.")
    return " ".join([text] * int(times))


with gr.Blocks(title="Demo") as demo:
    gr.Markdown("# Demo\nWrite a text and choose how often it is repeated.")
    with gr.Row():
        text = gr.Textbox(label="Text", lines=3)
        times = gr.Slider(1, 5, value=2, step=1, label="Times")
    button = gr.Button("Run", variant="primary")
    result = gr.Textbox(label="Result")
    gr.on([button.click, text.submit], predict, [text, times], result, api_name="predict", concurrency_limit=4)

if __name__ == "__main__":
    demo.launch(share=False, run_history=False)
