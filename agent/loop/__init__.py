"""The agent's loop: prompt, parsing, executor and the bridge to host tools."""
