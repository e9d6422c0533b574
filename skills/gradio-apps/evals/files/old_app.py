import gradio as gr


def reply(message, history):
    return message[::-1]


with gr.Blocks(theme=gr.themes.Soft(), css="footer {display: none}") as demo:
    gr.ChatInterface(reply, type="messages", api_name="chat")

if __name__ == "__main__":
    demo.launch()
