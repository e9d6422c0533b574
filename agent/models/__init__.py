"""The way to a language model: find one, name one, talk to it, check it.

`resolve` turns what the person asked for into a Choice, `chat` streams from any OpenAI-compatible server, `local`
runs a model in this process, `discover` looks on loopback, `probe` says what is wrong with a server and how to mend
it.
"""
