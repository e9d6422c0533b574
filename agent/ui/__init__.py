"""The page in the browser: a Gradio frame, our own routes under /x/ and one WebSocket per open session."""
