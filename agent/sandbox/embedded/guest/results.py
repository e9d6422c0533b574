"""A Jupyter message as the lines of an /execute answer."""

import time

FIELDS = {
    "text/plain": "text",
    "text/html": "html",
    "text/markdown": "markdown",
    "image/svg+xml": "svg",
    "image/png": "png",
    "image/jpeg": "jpeg",
    "application/pdf": "pdf",
    "text/latex": "latex",
    "application/json": "json",
    "application/javascript": "javascript",
    "e2b/data": "data",
    "e2b/chart": "chart",
}


def line(message: dict) -> dict | None:
    """None for what a client is not told: states, comms, updates of earlier displays."""
    content = message["content"]
    match message["msg_type"]:
        case "execute_input":
            return {"type": "number_of_executions", "execution_count": content["execution_count"]}
        case "stream":
            return {"type": content["name"], "text": content["text"], "timestamp": time.time_ns()}
        case "execute_result":
            return result(content["data"], main=True)
        case "display_data":
            return result(content["data"], main=False)
        case "error":
            return error(content["ename"], content["evalue"], "\n".join(content["traceback"]))
    return None


def error(name: str, value: str, traceback: str = "") -> dict:
    return {"type": "error", "name": name, "value": value, "traceback": traceback or f"{name}: {value}"}


def result(data: dict, main: bool) -> dict:
    """One displayed object; MIME types without a field of their own travel in `extra`."""
    told = {"type": "result", "is_main_result": main}
    extra = {}
    for mime, value in data.items():
        if mime in FIELDS:
            told[FIELDS[mime]] = value
        else:
            extra[mime] = value
    if "text" in told:
        told["text"] = unquoted(str(told["text"]))
    if extra:
        told["extra"] = extra
    return told


def unquoted(text: str) -> str:
    """A string's repr without its outer quotes, as clients of E2B know it."""
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1]
    return text
