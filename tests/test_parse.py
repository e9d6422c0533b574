"""A table of answers as models really write them, and what each one asks for. The code must come out exactly."""

import time

import pytest

from agent.loop.parse import parse
from agent.models.blocks import Watch
from agent.models.thoughts import strip

F = "```"
MARKDOWN = (
    f'from pathlib import Path\nPath("README.md").write_text("""# Model\n\n{F}python\nimport torch\n{F}\n\nDone.\n""")'
)

CODE = [
    ("tags", "<code>\nprint(1)\n</code>", "print(1)"),
    ("tags after a thought", "Thought: print it.\n<code>\nprint(1)\n</code>", "print(1)"),
    ("tags on one line", "<code>print(1)</code>", "print(1)"),
    ("tags after a sentence on the same line", "I print it. <code>print(1)</code>", "print(1)"),
    ("tags in capitals", "<CODE>\nprint(1)\n</CODE>", "print(1)"),
    ("tag with an attribute", '<code lang="python">\nprint(1)\n</code>', "print(1)"),
    ("closing tag cut to </code", "<code>\nprint(1)\n</code", "print(1)"),
    ("closing tag cut to </", "<code>\nprint(1)\n</", "print(1)"),
    ("closing tag cut to <", "<code>\nprint(1)\n<", "print(1)"),
    ("closing tag taken by a stop string", "<code>\nprint(1)\n", "print(1)"),
    ("closed by a second opening tag", "<code>\nprint(1)\n<code>", "print(1)"),
    ("closed by end_code", f"{F}py\nprint(1)\n{F}<end_code>", "print(1)"),
    ("end_code alone", "<code>\nprint(1)\n<end_code>", "print(1)"),
    ("language word after the tag", "<code>python\nprint(1)\n</code>", "print(1)"),
    ("carriage returns", "<code>\r\nx = 1\r\nprint(x)\r\n</code>\r\n", "x = 1\nprint(x)"),
    ("python fence", f"{F}python\nprint(1)\n{F}", "print(1)"),
    ("py fence", f"{F}py\nprint(1)\n{F}", "print(1)"),
    ("Python fence", f"{F}Python\nprint(1)\n{F}", "print(1)"),
    ("python3 fence", f"{F}python3\nprint(1)\n{F}", "print(1)"),
    ("ipython fence with a magic", f"{F}ipython\n%time x = 1\nx\n{F}", "%time x = 1\nx"),
    ("tool_code fence", f"{F}tool_code\nprint(1)\n{F}", "print(1)"),
    ("bare fence", f"{F}\nprint(1)\n{F}", "print(1)"),
    ("tilde fence", "~~~python\nprint(1)\n~~~", "print(1)"),
    ("four backticks", f"{F}`python\nprint(1)\n{F}`", "print(1)"),
    ("fence with a space", f"{F} python\nprint(1)\n{F}", "print(1)"),
    ("braced language", f"{F}{{.python}}\nprint(1)\n{F}", "print(1)"),
    ("language with a file name", f"{F}python:train.py\nprint(1)\n{F}", "print(1)"),
    ("language with a title", f'{F}python title="a.py"\nprint(1)\n{F}', "print(1)"),
    ("code on the opening line", f"{F}python import os\nprint(os.sep)\n{F}", " import os\nprint(os.sep)".strip()),
    ("fence ending the last line", f"{F}python\nprint(1){F}", "print(1)"),
    ("fence in one line", f"{F}python print(1){F}", "print(1)"),
    (
        "indented fence in a list",
        f"1. First:\n\n   {F}python\n   if True:\n       print(1)\n   {F}",
        "if True:\n    print(1)",
    ),
    ("fence right after a list marker", f"- {F}python\n  print(1)\n  {F}", "print(1)"),
    ("quoted fence", f"> {F}python\n> print(1)\n> {F}", "print(1)"),
    ("fence after text on its line", f"Here it is: {F}python\nprint(1)\n{F}", "print(1)"),
    ("fence never closed", f"{F}python\nprint(1)\n", "print(1)"),
    ("fence half closed", f"{F}python\nprint(1)\n``", "print(1)"),
    ("closing fence with prose behind it", f"{F}python\nprint(1)\n{F} That prints one.", "print(1)"),
    ("fence closed by a tag", f"{F}python\nprint(1)\n</code>", "print(1)"),
    ("tag closed by a fence", f"<code>\nprint(1)\n{F}", "print(1)"),
    ("fence inside tags", f"<code>\n{F}python\nprint(1)\n{F}\n</code>", "print(1)"),
    ("bare fence inside tags", f"<code>\n{F}\nprint(1)\n{F}\n</code>", "print(1)"),
    ("fence inside tags, tag missing", f"<code>\n{F}python\nprint(1)\n{F}", "print(1)"),
    ("fence inside tags, fence not closed", f"<code>\n{F}python\nprint(1)\n</code>", "print(1)"),
    ("fence right behind the tag", f"<code>{F}python\nprint(1)\n{F}</code>", "print(1)"),
    ("tags inside a fence", f"{F}python\n<code>\nprint(1)\n</code>\n{F}", "print(1)"),
    ("closed think before", f"<think>draft {F}python\nbad()\n{F}</think>\n<code>\nprint(1)\n</code>", "print(1)"),
    ("think with tags in it", "<think><code>bad()</code></think><code>print(1)</code>", "print(1)"),
    ("thinking tag", "<thinking>hm</thinking>\n<code>\nprint(1)\n</code>", "print(1)"),
    ("bracket think", "[THINK]hm[/THINK]<code>\nprint(1)\n</code>", "print(1)"),
    ("closing think alone", "I could <code>bad()</code> but no\n</think>\n\n<code>\nprint(1)\n</code>", "print(1)"),
    (
        "think after a first sentence",
        "Sure.\n<think>bad: <code>bad()</code></think>\n<code>\nprint(1)\n</code>",
        "print(1)",
    ),
    (
        "reasoning channel",
        "<|channel|>analysis<|message|>I draft <code>bad()</code><|end|><|start|>assistant<|channel|>final<|message|>"
        "<code>\nprint(1)\n</code><|return|>",
        "print(1)",
    ),
    (
        "think tags in a string",
        '<code>\nrow = "<think>a</think>b"\nprint(row)\n</code>',
        'row = "<think>a</think>b"\nprint(row)',
    ),
    (
        "think lines in a long string",
        '<code>\nrow = """\n<think>\na\n</think>\n"""\n</code>',
        'row = """\n<think>\na\n</think>\n"""',
    ),
    ("end token after the code", f"{F}python\nprint(1)\n{F}<|im_end|>", "print(1)"),
    ("end token instead of a closing mark", "<code>\nprint(1)\n<|im_end|>", "print(1)"),
    (
        "chat tokens in a string",
        '<code>\nt = "<|im_start|>user<|im_end|>"\n</code>',
        't = "<|im_start|>user<|im_end|>"',
    ),
    ("two blocks", "<code>\nprint(1)\n</code>\nThen\n<code>\nprint(2)\n</code>", "print(1)"),
    ("two fences", f"{F}python\nprint(1)\n{F}\nThen\n{F}python\nprint(2)\n{F}", "print(1)"),
    ("shell block first, then Python", f"{F}bash\npip install x\n{F}\n{F}python\nprint(1)\n{F}", "print(1)"),
    ("quoted output first, then Python", f"It said\n{F}\n42\n{F}\nso\n{F}python\nprint(1)\n{F}", "print(1)"),
    ("tags named in prose first", "I use `<code>` tags.\n<code>\nprint(1)\n</code>", "print(1)"),
    ("invented observation", "<code>\nprint(1)\n</code>\nObservation: 1\n<code>\nprint(2)\n</code>", "print(1)"),
    ("invented observation, code not closed", "<code>\nprint(1)\nObservation: 1", "print(1)"),
    (
        "invented logs, code not closed",
        f"{F}python\nprint(1)\nExecution logs:\n1\nLast output from code snippet:\nNone",
        "print(1)",
    ),
    ("Observation in a string", '<code>\nprint("""\nObservation: 1\n""")\n</code>', 'print("""\nObservation: 1\n""")'),
    (
        "name that reads like a heading",
        "<code>\nOutput: dict = {}\nprint(Output)\n</code>",
        "Output: dict = {}\nprint(Output)",
    ),
    (
        "closing tag in a string",
        '<code>\nprint("end with </code> please")\n</code>',
        'print("end with </code> please")',
    ),
    (
        "closing tag in a long string",
        '<code>\ns = """\n</code>\n"""\nprint(s)\n</code>',
        's = """\n</code>\n"""\nprint(s)',
    ),
    ("closing tag in a comment", "<code>\n# not </code> yet\nprint(1)\n</code>", "# not </code> yet\nprint(1)"),
    ("closing tag behind a comment", "<code>\nprint(1)  # done</code>", "print(1)  # done"),
    ("fences in a string, tags", f"<code>\n{MARKDOWN}\n</code>", MARKDOWN),
    ("fences in a string, fence", f"{F}python\n{MARKDOWN}\n{F}", MARKDOWN),
    (
        "fences in an f-string",
        f'{F}python\nx = f"""\n{F}\n{{1 + 1}}\n{F}\n"""\n{F}',
        f'x = f"""\n{F}\n{{1 + 1}}\n{F}\n"""',
    ),
    ("shell line", "<code>\n!pip install -q trl\nimport trl\n</code>", "!pip install -q trl\nimport trl"),
    ("shell line with a quote", '<code>\n!echo "it\'s"\nprint(1)\n</code>', '!echo "it\'s"\nprint(1)'),
    ("magic line", f"{F}python\n%matplotlib inline\nprint(1)\n{F}", "%matplotlib inline\nprint(1)"),
    ("shell output in a name", "<code>\nout = !ls\nprint(out)\n</code>", "out = !ls\nprint(out)"),
    (
        "cell magic with a fence",
        f"<code>\n%%writefile a.md\n# A\n{F}\nx\n{F}\n</code>",
        f"%%writefile a.md\n# A\n{F}\nx\n{F}",
    ),
    ("top-level await", "<code>\nawait go()\n</code>", "await go()"),
    ("interpreter prompts", f"{F}python\n>>> x = 1\n>>> print(x)\n1\n{F}", "x = 1\nprint(x)"),
    ("all lines indented", "<code>\n    x = 1\n    print(x)\n</code>", "x = 1\nprint(x)"),
    ("a syntax error is for the execution to tell", "<code>\nprint(1\nx = = 2\n</code>\nthen", "print(1\nx = = 2"),
    ("a string never closed", '<code>\nprint("a)\n</code>\nObservation: a', 'print("a)'),
    ("a long string never closed", '<code>\nprint("""a)\n</code>', 'print("""a)'),
    (
        "final answer with text",
        "Done.\n<code>\nfinal_answer('All good: 3 rows.')\n</code>",
        "final_answer('All good: 3 rows.')",
    ),
    ("Code: heading", f"Thought: x\nCode:\n{F}py\nprint(1)\n{F}", "print(1)"),
    ("not ASCII", "思考\n<code>\nprint('你好')\n</code>", "print('你好')"),
    (
        "HTML in a string",
        '<code>\nh = "<pre><code>x</code></pre>"\nprint(h)\n</code>',
        'h = "<pre><code>x</code></pre>"\nprint(h)',
    ),
]
PROSE = [
    ("plain answer", "The dataset has 300 rows and no duplicates."),
    ("one word", "Done"),
    ("a question", "Which column holds the answer?"),
    ("a question that names a step", "Shall I start? I will load the data first, OK?"),
    ("an offer", "The model is trained. Let me know if you want me to run the evaluation."),
    ("what comes when the person replies", "If you send me the file, I will load it."),
    ("inline code", "Use `load_dataset` for that."),
    ("a name in tags", "Use <code>load_dataset</code> for that."),
    ("quoted output", f"The result is:\n{F}\n42\n{F}"),
    ("quoted tree", f"The folder:\n{F}\nruns/\n  a/\n{F}\nThat is all."),
    ("a text block", f"The log ends with\n{F}text\nloss 0.2\n{F}"),
    ("a diff", f"I changed this:\n{F}diff\n- a\n+ b\n{F}"),
    (
        "settings with an explanation",
        f'These settings gave the best result, with a loss of 0.2:\n{F}json\n{{"lr": 1e-4}}\n{F}',
    ),
    ("thoughts, then an answer", "<think>easy</think>\nIt is 4."),
    ("a table", "| a | b |\n|---|---|\n| 1 | 2 |"),
    ("Chinese", "数据集有 300 行。"),
    ("end token", "It is 4.<|im_end|>"),
    ("a summary", "I loaded the data and trained for 3 epochs. Now the loss is 0.2."),
]
REPAIR = [
    ("nothing", "", "held nothing"),
    ("blanks", " \n\n ", "held nothing"),
    ("thoughts only", "<think>I should print.</think>", "only thoughts"),
    ("thoughts never closed", "<think>I should print.\n<code>\nprint(1)\n</code>", "only thoughts"),
    ("a step announced", "I will now load the dataset and look at its columns.", "announced"),
    ("a step announced after a finding", "The file is there.\n\nLet me inspect it first.", "announced"),
    ("Thought only", "Thought: I need to check the GPU.", "announced"),
    ("ends in a colon", "Here is the code:", "announced"),
    ("JSON tool call", '{"name": "inspect_dataset", "arguments": {"name": "a"}}', "tool calls"),
    ("JSON tool call in a fence", f'{F}json\n{{"name": "x", "arguments": {{}}}}\n{F}', "tool calls"),
    ("JSON action", '{"action": "search", "action_input": "qwen"}', "tool calls"),
    ("tool_call tags", '<tool_call>\n{"name": "x", "arguments": {}}\n</tool_call>', "tool calls"),
    (
        "function tags",
        "<tool_call>\n<function=x>\n<parameter=a>\n1\n</parameter>\n</function>\n</tool_call>",
        "tool calls",
    ),
    ("ReAct", "Action: search\nAction Input: qwen", "tool calls"),
    ("Calling tools", "Calling tools:\n[{'id': 'call_1', 'function': {}}]", "tool calls"),
    ("structured output", '{"thought": "x", "code": "print(1)"}', "tool calls"),
    ("JSON alone", f'{F}json\n{{"lr": 1}}\n{F}', "JSON"),
    ("shell block", f"Install it:\n{F}bash\npip install trl\n{F}", "shell"),
    ("shell block in tags", f"<code>\n{F}bash\nls\n{F}\n</code>", "shell"),
    ("console block", f"{F}console\n$ ls\n{F}", "shell"),
    ("code in no block", "import os\nprint(os.getcwd())", "in no block"),
    ("final answer in no block", "The answer is clear.\nfinal_answer(42)", "in no block"),
    ("empty block", f"{F}python\n{F}", "empty"),
    ("empty tags", "<code>\n</code>", "empty"),
    ("cut in the middle of code", "<code>\nfor x in range(3):\n    print(", "no end"),
    ("cut in a string", f'{F}python\nprint("""abc', "no end"),
]


@pytest.mark.parametrize(("text", "code"), [pytest.param(t, c, id=i) for i, t, c in CODE])
def test_the_code_comes_out_exactly(text, code):
    answer = parse(text)
    assert (answer.kind, answer.code) == ("code", code)
    assert "bad()" not in answer.prose


@pytest.mark.parametrize("text", [pytest.param(t, id=i) for i, t in PROSE])
def test_prose_that_is_an_answer_is_one(text):
    answer = parse(text)
    assert (answer.kind, answer.code) == ("prose", None), answer.problem
    assert answer.prose and "<think>" not in answer.prose and "<|" not in answer.prose


@pytest.mark.parametrize(("text", "why"), [pytest.param(t, w, id=i) for i, t, w in REPAIR])
def test_a_failed_attempt_is_asked_for_again(text, why):
    answer = parse(text)
    assert (answer.kind, answer.code) == ("repair", None), answer
    assert why in answer.problem and "<code>" in answer.problem


@pytest.mark.parametrize(("text", "code"), [pytest.param(t, c, id=i) for i, t, c in CODE])
def test_reading_along_never_stops_before_the_end_of_the_code(text, code):
    """Thoughts are taken out before the watch sees a stream; what it lets through must parse to the same code."""
    text = strip(text.replace("\r\n", "\n"))[0]
    for size in (1, 7):
        watch, kept = Watch(), ""
        for at in range(0, len(text), size):
            piece = text[at : at + size]
            keep = watch.feed(piece)
            kept += piece if keep is None else piece[:keep]
            if keep is not None:
                break
        assert parse(kept).code == code


def test_ids_are_unique():
    ids = [row[0] for row in [*CODE, *PROSE, *REPAIR]]
    assert len(ids) == len(set(ids)) >= 70


def test_the_thought_before_the_code_is_kept_as_prose():
    assert parse("Thought: count.\nCode:\n<code>\nprint(1)\n</code>").prose == "Thought: count."


def test_several_blocks_and_invented_output_are_told_to_the_model():
    assert "only the first was run" in parse("<code>\na = 1\n</code>\n<code>\nb = 2\n</code>").problem
    assert "output after the code" in parse("<code>\nprint(1)\n</code>\nObservation: 1").problem
    assert parse("<code>\nprint(1)\n</code>\nThat prints one.").problem is None


def test_a_huge_answer_full_of_fences_is_parsed_in_bounded_time():
    text = '<code>\ns = """\n' + f"{F}python\nx = 1\n{F}\n" * 4000
    begin = time.process_time()
    parse(text)
    assert time.process_time() - begin < 3
