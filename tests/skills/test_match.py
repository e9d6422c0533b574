"""Which skills a task calls for. A set as it could be, and requests as people write them: most for one skill, many for
none. What is measured is what a session does: at most two, whole bodies, within a budget."""

import json
import statistics
import time
from pathlib import Path

import pytest

from agent.skills import Skills
from agent.skills.skill import tokens

SET = {
    "llm-trainer": (
        "Use this skill when the person wants to train or fine-tune a language model: SFT on instructions or "
        "chats, DPO on preference pairs, GRPO with reward functions, KTO, reward models, LoRA and QLoRA "
        "adapters, on this machine or on Hugging Face Jobs. Not for images, embeddings or evaluation alone."
    ),
    "vision-trainer": (
        "Use this skill when the person wants to train a model on images: object detection with bounding "
        "boxes, image classification, segmentation with SAM masks. Knows the dataset layouts, augmentation "
        "and mAP."
    ),
    "embedding-trainer": (
        "Use this skill when the person wants to train or fine-tune sentence embeddings, a bi-encoder, a "
        "reranker (cross-encoder) or a sparse SPLADE encoder for semantic search, retrieval or RAG, with hard"
        " negatives."
    ),
    "dataset-builder": (
        "Use this skill when the person wants to inspect, clean, deduplicate, filter, convert, split or "
        "upload a dataset, or to look at rows and columns of one on the Hub: JSONL, CSV, Parquet, chat "
        "templates."
    ),
    "trackio": (
        "Use this skill when the person wants to log, chart or compare experiment metrics, set alerts on a "
        "loss, or read what earlier runs did with Trackio, the local experiment tracker."
    ),
    "hub": (
        "Use this skill when the person wants to do something on the Hugging Face Hub with the hf command "
        "line or Python: log in, download or upload files, make, rename or delete repositories, branches, "
        "tags, discussions, cache, buckets."
    ),
    "papers": (
        "Use this skill when the person wants to find, read, summarise or cite research papers from arXiv or "
        "the Hub, link a paper to models and datasets, or publish a paper page."
    ),
    "gradio-apps": (
        "Use this skill when the person wants a web demo or user interface in Python with Gradio: chat "
        "interfaces, Blocks, components, events, streaming, and hosting it on a Space."
    ),
    "tool-builder": (
        "Use this skill when the person wants command line tools made from an HTTP API or OpenAPI "
        "description: small composable scripts with JSON output that call an API."
    ),
    "kernel-builder": (
        "Use this skill when the person wants to write, check, benchmark or publish a GPU kernel in Triton or"
        " CUDA: RMSNorm, softmax, attention, fused operations, speedup over torch.compile."
    ),
    "local-models": (
        "Use this skill when the person wants to run or serve an open model on their own machine: which model"
        " fits the memory, quantization, llama.cpp, Ollama, vLLM, Apple silicon, an OpenAI-compatible server."
    ),
    "evaluation": (
        "Use this skill when the person wants to evaluate or benchmark a language model: accuracy on MMLU, "
        "GSM8K, lighteval or inspect-ai tasks, comparing a base model with a tuned one, leaderboards."
    ),
    "gguf-export": (
        "Use this skill when the person wants to convert a model to GGUF, merge an adapter into its base, "
        "quantize to Q4_K_M or Q8_0, and publish the files for llama.cpp."
    ),
}

FOR_ONE = [
    ("fine-tune Qwen3-0.6B on my-data.jsonl", "llm-trainer"),
    ("Finetune a small LLM on our support chats with LoRA please", "llm-trainer"),
    ("I have preference pairs, chosen and rejected. Run DPO on the instruct model", "llm-trainer"),
    ("Use GRPO to teach the model arithmetic, I have a reward function", "llm-trainer"),
    ("do supervised fine tuning of llama on these instructions", "llm-trainer"),
    ("train a reward model from these comparisons", "llm-trainer"),
    ("train an object detector for helmets, labels are COCO boxes", "vision-trainer"),
    ("classify photos of leaves into 12 diseases, train something", "vision-trainer"),
    ("fine-tune SAM to segment cells in microscope images", "vision-trainer"),
    ("what mAP does a detection model reach on this dataset of images?", "vision-trainer"),
    ("train a reranker for our product search", "embedding-trainer"),
    ("I need sentence embeddings tuned on medical question pairs", "embedding-trainer"),
    ("mine hard negatives and fine-tune a bi-encoder", "embedding-trainer"),
    ("improve retrieval in our RAG by training the embedding model", "embedding-trainer"),
    ("remove duplicates from data.jsonl and make a train/test split", "dataset-builder"),
    ("show me the first rows and columns of the dataset stanfordnlp/imdb", "dataset-builder"),
    ("convert this CSV to a chat dataset and upload it", "dataset-builder"),
    ("my parquet files have broken rows, clean them", "dataset-builder"),
    ("compare the metrics of my last three runs", "trackio"),
    ("log the loss with trackio and alert me when it diverges", "trackio"),
    ("plot the experiment metrics of yesterday's run", "trackio"),
    ("upload this folder to a new private repository on the Hub", "hub"),
    ("delete the branch 'old' of my model repository", "hub"),
    ("how do I log in to hugging face from the command line", "hub"),
    ("download the model files of bert-base to ./models with hf", "hub"),
    ("find recent papers about speculative decoding", "papers"),
    ("summarise arXiv 2305.18290", "papers"),
    ("link our paper to the model page", "papers"),
    ("make a gradio demo for my classifier", "gradio-apps"),
    ("build a chat interface with streaming and put it on a Space", "gradio-apps"),
    ("I want a web UI with a slider and an image output", "gradio-apps"),
    ("turn this OpenAPI description into command line tools", "tool-builder"),
    ("make a small script that calls the weather API and prints JSON", "tool-builder"),
    ("write a Triton kernel for RMSNorm", "kernel-builder"),
    ("my softmax is slow on H100, fuse it in CUDA", "kernel-builder"),
    ("benchmark the attention kernel against torch.compile", "kernel-builder"),
    ("which model can I run on a laptop with 16 GB of memory?", "local-models"),
    ("serve Qwen3 with vLLM as an OpenAI-compatible server", "local-models"),
    ("set up llama.cpp on my mac", "local-models"),
    ("evaluate the tuned model on GSM8K", "evaluation"),
    ("run MMLU on both checkpoints and tell me which one wins", "evaluation"),
    ("benchmark the base model against the finetuned one with lighteval", "evaluation"),
    ("convert my model to GGUF", "gguf-export"),
    ("quantise the merged model to Q4_K_M", "gguf-export"),
    ("merge the adapter into the base and export for llama.cpp", "gguf-export"),
    ("teach llama 3 to answer like our support team, examples in chats.jsonl", "llm-trainer"),
    ("run QLoRA on a 7B with my instructions", "llm-trainer"),
    ("align my chatbot with human preferences", "llm-trainer"),
    ("tune a model so it writes SQL from questions", "llm-trainer"),
    ("detect cars in drone footage, annotations included", "vision-trainer"),
    ("train an image classifier on cats and dogs", "vision-trainer"),
    ("segmentation of roads in satellite pictures", "vision-trainer"),
    ("make a semantic search model for legal texts", "embedding-trainer"),
    ("train a cross-encoder on MS MARCO", "embedding-trainer"),
    ("SPLADE on my documents", "embedding-trainer"),
    ("what columns does HuggingFaceH4/ultrachat have?", "dataset-builder"),
    ("filter short answers out of my data set", "dataset-builder"),
    ("turn this excel into jsonl for training", "dataset-builder"),
    ("which run had the lowest loss?", "trackio"),
    ("open the dashboard of my experiments", "trackio"),
    ("push my checkpoint to the hub", "hub"),
    ("create a private repo and upload weights", "hub"),
    ("clear the huggingface cache", "hub"),
    ("what do people write about mixture of experts, any new papers?", "papers"),
    ("read the LoRA paper and tell me the main result", "papers"),
    ("demo page where people can upload a photo and get a label", "gradio-apps"),
    ("chat UI for my finetuned model", "gradio-apps"),
    ("generate a CLI from petstore openapi.json", "tool-builder"),
    ("write a fused layer norm kernel", "kernel-builder"),
    ("speed up this matmul in triton", "kernel-builder"),
    ("run Qwen on ollama", "local-models"),
    ("how do I serve a model on two 3090s", "local-models"),
    ("is my new model better than the base on math?", "evaluation"),
    ("score the model on hellaswag with lighteval", "evaluation"),
    ("make a Q5_K_M gguf of my merged model", "gguf-export"),
]

FOR_NONE = [
    "What is 17 times 23?",
    "hello",
    "thanks, that was great",
    "write a poem about autumn",
    "What's the capital of Mongolia?",
    "sort this list of names alphabetically: Zoe, Adam, Mia",
    "translate 'good morning' into Japanese",
    "explain what a monad is in simple words",
    "how many days are there between 3 March and 9 October?",
    "write a function that reverses a string",
    "fix the bug in utils.py, the date is parsed wrongly",
    "plan a birthday dinner for eight people, two of them vegetarian",
    "what is the difference between TCP and UDP?",
    "read notes.txt and tell me who attended the meeting",
    "compute the standard deviation of 3, 5, 8, 13",
    "refactor this class so that it uses dataclasses",
    "what time is it in Tokyo?",
    "draw a red circle on a white background",
    "who wrote The Name of the Rose?",
    "add type hints to parser.py",
    "list the files in this folder, largest first",
    "delete the old log files in ./tmp",
    "convert 5 miles to kilometres",
    "merge these two dictionaries in Python",
    "compare a.txt with b.txt and print the lines that differ",
    "open the CSV and give me the sum of the second column",
    "plot y = x squared from -3 to 3",
    "count the words on this page",
    "write a regular expression for phone numbers",
    "how much memory does this machine have free?",
    "download https://example.org/list.txt and count its lines",
    "my Python script is slow, make it faster",
    "search for a good restaurant in Lyon",
    "summarise this e-mail in two sentences",
    "solve x^2 - 5x + 6 = 0",
    "simulate a dice game a thousand times and show the mean",
    "set an alarm for seven",
    "publish the release notes of our company",
    "make the image in logo.png half as large",
    "train times from Hamburg to Berlin tomorrow",
    "what's the weather in Paris",
    "rename all .jpeg files to .jpg",
    "write unit tests for this function",
    "how do I exit vim",
    "give me three names for a cat",
    "draft an e-mail to my landlord",
    "explain recursion",
    "what is 2^20",
    "make a bar chart of these numbers: 3,4,5",
    "parse this JSON and print the id",
    "is 97 prime?",
    "unzip archive.zip",
    "who are you?",
    "undo the last change",
    "generate a random password",
    "what does this error mean: KeyError 'a'",
    "scrape the titles from this page",
    "write a haiku about GPUs",
    "sum the numbers from 1 to 100",
    "check whether the site is up",
]


def put(root: Path, name: str, description: str, body: str = "", triggers: list[str] | None = None) -> Path:
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "SKILL.md").write_text(
        f"---\nname: {name}\ndescription: {json.dumps(description)}\n---\n\n{body}\n", "utf-8"
    )
    if triggers:
        (folder / "evals").mkdir()
        rows = [{"query": query, "should_trigger": True} for query in triggers]
        (folder / "evals" / "triggers.json").write_text(json.dumps(rows))
    return folder


@pytest.fixture(autouse=True)
def nobody_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No skills but those a test writes."""
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    monkeypatch.setattr("agent.skills.find.BUILT_IN", tmp_path / "none-built-in")


def discover(home: Path) -> Skills:
    return Skills.discover(home / "elsewhere", home)


@pytest.fixture
def skills(tmp_path: Path) -> Skills:
    for name, description in SET.items():
        put(tmp_path / "skills", name, description, f"# {name}\n\nWhat to do.\n")
    return discover(tmp_path)


def names(found: list) -> list[str]:  # type: ignore[type-arg]
    return [skill.name for skill in found]


def test_the_right_skill_is_among_the_two_that_are_proposed(skills: Skills) -> None:
    missed = [
        (task, name, names(skills.match(task))) for task, name in FOR_ONE if name not in names(skills.match(task))
    ]
    assert len(missed) <= 0.05 * len(FOR_ONE), missed


def test_most_often_it_is_the_first(skills: Skills) -> None:
    first = [names(skills.match(task))[:1] == [name] for task, name in FOR_ONE]
    assert sum(first) >= 0.85 * len(FOR_ONE)


def test_a_task_that_needs_no_skill_gets_none(skills: Skills) -> None:
    injected = [(task, names(skills.match(task))) for task in FOR_NONE if skills.match(task)]
    assert len(injected) <= 0.1 * len(FOR_NONE), injected


def test_example_requests_help_to_find_a_skill(tmp_path: Path) -> None:
    task = "my gizmo sputters"
    put(tmp_path / "skills", "repair", "Use this skill to mend appliances.")
    assert names(discover(tmp_path).match(task)) == []
    put(
        tmp_path / "other" / "skills",
        "repair",
        "Use this skill to mend appliances.",
        triggers=["the gizmo is sputtering"],
    )
    assert names(discover(tmp_path / "other").match(task)) == ["repair"]


def test_what_only_a_false_friend_says_speaks_against_a_skill(tmp_path: Path) -> None:
    folder = put(tmp_path / "skills", "kernel-builder", SET["kernel-builder"])
    task = "restart the jupyter kernel of my notebook"
    assert names(discover(tmp_path).match(task)) == ["kernel-builder"]
    (folder / "evals").mkdir()
    rows = [{"query": "the kernel of Jupyter hangs", "should_trigger": False}]
    (folder / "evals" / "triggers.json").write_text(json.dumps(rows))
    assert names(discover(tmp_path).match(task)) == []
    assert names(discover(tmp_path).match("write a Triton kernel")) == ["kernel-builder"]


def test_a_match_takes_under_20_milliseconds_for_30_skills(tmp_path: Path) -> None:
    for number in range(30):
        name, description = list(SET.items())[number % len(SET)]
        put(tmp_path / "skills", f"{name}-{number}", description, "# Heading\n\ntext\n" * 100, [description] * 10)
    skills = discover(tmp_path)
    skills.match("warm up")
    seconds = []
    for task, _ in FOR_ONE:
        start = time.perf_counter()
        skills.match(task)
        seconds.append(time.perf_counter() - start)
    assert statistics.median(seconds) < 0.020


def test_only_whole_bodies_within_the_budget_are_proposed(tmp_path: Path) -> None:
    put(tmp_path / "skills", "gguf-export", SET["gguf-export"], "word " * 2000)
    put(tmp_path / "skills", "local-models", SET["local-models"], "word " * 100)
    skills = discover(tmp_path)
    task = "quantize my model to GGUF and serve it with Ollama and llama.cpp on my machine"
    assert set(names(skills.match(task, 10_000))) == {"gguf-export", "local-models"}
    assert names(skills.match(task, 1000)) == ["local-models"]
    assert skills.match(task, 10) == []


def test_a_skill_called_by_name_wins_over_what_the_words_say(skills: Skills) -> None:
    assert names(skills.match("/papers fine-tune Qwen3 with LoRA and DPO")) == ["papers"]
    assert names(skills.match("please use $hub, then /trackio.", 0)) == ["hub", "trackio"]


@pytest.mark.parametrize("task", ["read /papers/list.txt", "cd /hub/", "look at a/hub", "/nothing here", "it costs $5"])
def test_a_path_is_no_call_by_name(skills: Skills, task: str) -> None:
    assert names(skills.named(task)) == []


def test_the_catalog_has_one_line_for_each_and_tells_where_the_folders_are(skills: Skills) -> None:
    rows = skills.catalog(10_000).splitlines()
    assert "/home/user/.skills/<name>" in rows[0]
    assert [row.split(":")[0] for row in rows[1:]] == [f"- {name}" for name in sorted(SET)]
    said, once, what = SET["hub"].partition("wants to ")
    assert once and f"- hub: {what}" in rows and said not in "".join(rows), "the common beginning is said once, above"


@pytest.mark.parametrize("count", [1, 13, 60, 250])
@pytest.mark.parametrize("budget", [60, 300, 1200])
def test_the_catalog_stays_in_its_budget_whatever_the_number(tmp_path: Path, count: int, budget: int) -> None:
    for number in range(count):
        put(tmp_path / "skills", f"skill-{number}", "Über alles " * 80)
    skills = discover(tmp_path)
    text = skills.catalog(budget)
    assert text and tokens(text) <= budget
    listed = text.count("\n- ")
    assert listed == count or text.endswith(f"… and {count - listed} more")


def test_no_skills_no_catalog(tmp_path: Path) -> None:
    assert discover(tmp_path).catalog() == ""


def test_a_loaded_skill_names_its_folder_and_files(tmp_path: Path) -> None:
    folder = put(tmp_path / "skills", "hub", SET["hub"], "Do it.")
    (folder / "scripts").mkdir()
    (folder / "scripts" / "go.py").write_text("print(1)\n")
    text = discover(tmp_path).load_skill("hub")
    assert text.startswith('<skill_content name="hub" folder="/home/user/.skills/hub">\nDo it.\n')
    assert "<file>scripts/go.py</file>" in text and "SKILL.md" not in text


def test_a_huge_body_is_cut_and_can_be_read_on(tmp_path: Path) -> None:
    put(tmp_path / "skills", "hub", SET["hub"], "word " * 20_000 + "THE END")
    skills = discover(tmp_path)
    assert len(skills.load_skill("hub")) < 33_000
    offset, whole = 0, ""
    while "THE END" not in whole:
        piece = skills.read_skill_file("hub", "SKILL.md", offset)
        whole += piece
        offset += 32_000
        assert offset < 200_000
