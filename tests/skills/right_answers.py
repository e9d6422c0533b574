# ruff: noqa: E501
"""What a good model would do in each eval case: code for the sandbox, and what it says. They show that checks can hold."""

SH = "import subprocess\ndef sh(line): subprocess.run(line, shell=True, check=True, env={**__import__('os').environ, 'OMP_NUM_THREADS': '1'})\n"
DATA, TOOLS = "/home/user/.skills/dataset-builder/scripts", "/home/user/.skills/tool-builder/scripts"
GGUF, LOCAL = "/home/user/.skills/gguf-export/scripts", "/home/user/.skills/local-models/scripts"
LLM, VISION = "/home/user/.skills/llm-trainer/scripts", "/home/user/.skills/vision-trainer/scripts"
PAPERS, TRACKIO = "/home/user/.skills/papers/scripts", "/home/user/.skills/trackio/scripts"
EVALUATION, GRADIO = "/home/user/.skills/evaluation/scripts", "/home/user/.skills/gradio-apps"


def file(path: str, text: str) -> str:
    return f"import pathlib; p = pathlib.Path({path!r}); p.parent.mkdir(exist_ok=True); p.write_text({text!r})\n"


APP = """import gradio as gr
demo = gr.Interface(lambda text: text.upper(), "text", "text", api_name="shout")
demo.launch()
"""
CHAT = """import gradio as gr
def reply(message, history):
    yield f"{len(message.split())} words"
demo = gr.ChatInterface(reply, api_name="chat")
demo.launch()
"""
MENDED = """import gradio as gr
def reply(message, history):
    return message[::-1]
with gr.Blocks() as demo:
    gr.ChatInterface(reply, api_name="chat")
if __name__ == "__main__":
    demo.launch(theme=gr.themes.Soft(), css="footer {display: none}")
"""
ADDER = "import gradio as gr\ngr.Interface(lambda a, b: a + b, ['number', 'number'], 'number').launch()\n"
SPACE = "---\ntitle: Adder\nsdk: gradio\nsdk_version: 6.31.0\napp_file: app.py\n---\n# Adder\n"
RMS = """import torch
def rms_norm(x, weight, eps=1e-6):
    wide = x.float()
    return weight * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)).to(x.dtype)
"""
SCORE = """import re
def right(said, wanted):
    numbers = re.findall(r"-?[0-9][0-9,]*(?:[.][0-9]+)?", said.rpartition("</think>")[2])
    return bool(numbers) and float(numbers[-1].replace(",", "")) == float(wanted.replace(",", ""))
"""
RECALL = """def recall_at(k, similarities):
    hits = [i in sorted(range(len(row)), key=lambda j: -row[j])[:k] for i, row in enumerate(similarities)]
    return sum(hits) / len(hits)
"""
LOGGED = """import os
os.environ["TRACKIO_DIR"] = os.path.abspath("trackio")
import trackio
trackio.init(project="sums", name="first")
for step in range(10):
    trackio.log({"train/loss": 1.0 - step * 0.1})
trackio.finish()
"""
WATCHED = """import os
os.environ["TRACKIO_DIR"] = os.path.abspath("trackio")
import trackio
trackio.init(project="watched", name="one")
for loss in (1.0, 0.5, float("nan")):
    trackio.log({"train/loss": loss})
    if loss != loss:
        trackio.alert("loss is NaN", level=trackio.AlertLevel.ERROR)
trackio.finish()
"""
SERVED = """import json, subprocess, sys, threading
from http.server import BaseHTTPRequestHandler, HTTPServer
class Handler(BaseHTTPRequestHandler):
    def log_message(self, *args): pass
    def do_GET(self):
        data = json.dumps([{"id": 1, "name": "Rex"}, {"id": 2, "name": "Mia"}]).encode()
        self.send_response(200); self.send_header("content-length", str(len(data))); self.end_headers(); self.wfile.write(data)
server = HTTPServer(("127.0.0.1", 8811), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
env = {**__import__("os").environ, "API_URL": "http://127.0.0.1:8811"}
out = subprocess.run([sys.executable, "tools/list-pets.py"], capture_output=True, text=True, check=True, env=env).stdout
json.dump([pet["name"] for pet in json.loads(out)], open("names.json", "w"))
server.shutdown()
"""
BAR = 'import json; json.dump({%s}, open("%s", "w"))\n'
BUILD = f'sh("python {TOOLS}/build_tools.py petstore.json --into tools")\n'

MAPPED = """def to_rows(row):
    names = {"human": "user", "gpt": "assistant", "system": "system"}
    turns = [{"role": names[turn["from"]], "content": turn["value"]} for turn in row["conversations"]]
    return [{"messages": turns}] if turns[-1]["role"] == "assistant" else []
"""
REWARDED = """import re
def reward(completions, answer, **_):
    texts = [one if isinstance(one, str) else one[-1]["content"] for one in completions]
    found = [re.search(r"<answer>(.*?)</answer>", text, re.DOTALL) for text in texts]
    return [float(bool(one) and one.group(1).strip() == wanted) for one, wanted in zip(found, answer)]
"""
LOOKED = """def to_rows(row):
    said = [{"role": "user", "content": row["question"]}, {"role": "assistant", "content": row["answer"]}]
    return [{"images": [row["image"]], "messages": said}]
"""
PREFERRED = """def to_rows(row):
    asked = [{"role": "user", "content": row["question"]}]
    better, worse = ([{"role": "assistant", "content": row[key]}] for key in ("better", "worse"))
    return [{"images": [row["image"]], "prompt": asked, "chosen": better, "rejected": worse}]
"""
PAIRED = """def to_rows(row):
    asked = [{"role": "user", "content": row["question"]}]
    good, bad = ([{"role": "assistant", "content": row[key]}] for key in ("good_answer", "bad_answer"))
    return [{"prompt": asked, "chosen": good, "rejected": bad}]
"""


def script(path: str, mapping: str = "", **constants: object) -> str:
    """Copies a skill's script with its kit to my-run/train.py, with other constants and another to_rows()."""
    return (
        "import pathlib, re, shutil\npathlib.Path('my-run').mkdir()\n"
        f"for kit in pathlib.Path({LLM!r}).glob('kit_*.py'): shutil.copy(kit, 'my-run')\n"
        f"text = pathlib.Path({path!r}).read_text()\n"
        f"for name, value in {constants!r}.items():\n"
        "    text, found = re.subn(rf'^{name} = .*$', lambda match: f'{name} = {value}', text, flags=re.M); assert found, name\n"
        f"if {mapping!r}: text = re.sub(r'^def to_rows.*?(?=\\n# --- end)', lambda match: {mapping!r}, text, flags=re.M | re.S)\n"
        "pathlib.Path('my-run/train.py').write_text(text)\n"
    )


CPU = {"DTYPE, BF16, FP16, ATTENTION, CHECKPOINTING": "'float32', False, False, 'sdpa', False"}
TINY = {"MODEL, REVISION": "'tiny', None", "ADAPTER": "'none'", "BATCH, ACCUMULATION": "4, 1", **CPU}
GO = 'sh("HF_HUB_OFFLINE=1 RUN_FOLDER=my-run python my-run/train.py")\n'

RIGHT: dict[str, dict[str, tuple[str, str]]] = {
    "local-models": {
        "card-of-24-gb": (f'sh("python {LOCAL}/choose.py --gib 24")', "Qwen3.8-27B: `llama-server -hf unsloth/Qwen3.8-27B-GGUF:UD-Q4_K_XL --ctx-size 65536`"),
        "does-it-fit": (f'sh("python {LOCAL}/fits.py --config config.json --params-billion 0.6 --gib 8 > fit.json")', "It fits."),
        "does-not-fit": (f'sh("python {LOCAL}/fits.py --config config.json --params-billion 70 --bits 8.5 --context 16384 --gib 48 > fit.json")', "No."),
        "ollama-forgets": ("", "Its window is 4k there. Set OLLAMA_CONTEXT_LENGTH=64000 before `ollama serve`."),
        "many-gpus": (file("serve.sh", "vllm serve Qwen/Qwen3.8-27B-FP8 --max-model-len 65536 --reasoning-parser qwen3 --tensor-parallel-size 2\n"), "Written."),
        "thinking-off": (file("request.json", '{"model": "qwen", "messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 200, "chat_template_kwargs": {"enable_thinking": false}}'), "Written."),
    },
    "hub": {
        "private-upload": ("", 'hf upload acme/tiny ./out . --private --exclude "checkpoint-*"'),
        "dataset-download": (file("get.sh", "hf download acme/faq --type dataset --revision v2 --local-dir ./faq\n"), "Written."),
        "card-metadata": ("from huggingface_hub import ModelCard\ncard = ModelCard.load('README.md')\ncard.data.license, card.data.language, card.data.base_model = 'apache-2.0', 'en', 'Qwen/Qwen3-0.6B'\ncard.save('README.md')", "Changed."),
        "clean-cache": ("", "```bash\nhf cache ls --sort size\nhf cache rm model/gpt2 --dry-run\n```"),
        "job-with-limit": ("", "`hf jobs uv run --flavor l4x1 --timeout 3h --secrets HF_TOKEN --detach train.py`"),
    },
    "papers": {
        "link-card": (f'sh("""python {PAPERS}/link_paper.py README.md --paper 2305.18290 --title "Direct Preference Optimization" --authors "Rafailov, Rafael and Sharma, Archit" --year 2023""")', "Done."),
        "bibtex": (file("cite.bib", "@misc{rafailov2023,\n title = {Direct Preference Optimization},\n author = {Rafailov, Rafael and Sharma, Archit},\n year = {2023},\n eprint = {2305.18290}\n}\n"), "Written."),
        "commands": ("", '```bash\nhf papers search "test-time training" --limit 10\nhf papers read 2407.04620\n```'),
        "honest-summary": (file("summary.md", "Routing by surprise. Perplexity falls from 12.4 to 11.1 for 9 % more memory. On code there is no gain."), "See summary.md."),
        "publish-by-hand": ("", "I cannot. Open https://huggingface.co/papers/submit, then click your name and claim authorship."),
    },
    "trackio": {
        "best-run": (f'sh("python make_runs.py")\nimport json\nout = subprocess.run("python {TRACKIO}/compare_runs.py --project demo --metric train/loss --dir trackio", shell=True, capture_output=True, text=True, check=True).stdout\ntold = json.loads(out)\nbest = next(run for run in told["runs"] if run["run"] == told["best_run"])\njson.dump({{"best_run": best["run"], "best": best["best"]}}, open("best.json", "w"))', "lr-2e-4"),
        "log-a-loop": (file("log.py", LOGGED) + 'sh("python log.py")', "Logged."),
        "alert-on-nan": (file("watch.py", WATCHED) + 'sh("python watch.py")', "Alerted."),
        "commands": ("", "```bash\ntrackio list runs --project demo --json\ntrackio get metric --project demo --run lr-2e-4 --metric train/loss --json\n```"),
        "trainer-arguments": (file("args.json", '{"report_to": "trackio", "project": "sums", "run_name": "lr-2e-5", "push_to_hub": true, "trackio_static_space_id": false}'), "Written."),
    },
    "dataset-builder": {
        "csv-to-chat": (f'sh("""python {DATA}/convert.py faq.csv chat.jsonl --user question --assistant answer --system "Answer briefly." """)', "Done."),
        "split-without-leaks": (f'sh("python {DATA}/convert.py faq.csv chat.jsonl --user question --assistant answer")\nsh("python {DATA}/split.py chat.jsonl --into data --test 0.2")', "Split."),
        "sharegpt-roles": (f'sh("python {DATA}/convert.py sharegpt.json ready.jsonl")', "Ready."),
        "find-broken-rows": (f'import json\nout = subprocess.run("python {DATA}/check.py broken.jsonl", shell=True, capture_output=True, text=True).stdout\njson.dump({{"bad": [one["row"] for one in json.loads(out)["problems"]]}}, open("bad.json", "w"))', "Row 2 is empty, row 3 has the role human, row 5 has no answer."),
        "pairs-for-dpo": (f'sh("python {DATA}/convert.py pairs.csv dpo.jsonl --to dpo --prompt q --chosen good --rejected bad")', "Done."),
    },
    "gradio-apps": {
        "form": (file("app.py", APP), "Run python app.py."),
        "streaming-chat": (file("chat.py", CHAT), "Run python chat.py."),
        "mend-an-old-app": (file("old_app.py", MENDED), "Mended."),
        "space-folder": (file("app/app.py", ADDER) + file("app/requirements.txt", "numpy\n") + file("app/README.md", SPACE), "```bash\nhf repos create acme/adder --type space --sdk gradio --private\nhf upload acme/adder ./app . --type space\n```"),
        "safe-to-show": ("", "Not safe: share=True puts it on the Internet, and allowed_paths shows everyone your files. Bind to 127.0.0.1."),
    },
    "evaluation": {
        "score-a-server": (f'import sys, time\nserver = subprocess.Popen([sys.executable, "talker.py", "8765", "half"])\nimport socket\nwhile True:\n    try: socket.create_connection(("127.0.0.1", 8765)).close(); break\n    except OSError: time.sleep(0.1)\nsh("python {EVALUATION}/evaluate.py --data sums.jsonl --url http://127.0.0.1:8765/v1 --scorer number --out result.json")\nserver.kill()', "0.5"),
        "compare": (f'import json\nout = subprocess.run("python {EVALUATION}/compare.py base.json tuned.json", shell=True, capture_output=True, text=True, check=True).stdout\ntold = json.loads(out[:out.rindex("VERDICT")])\njson.dump({{"delta": told["delta"], "significant": told["significant"]}}, open("verdict.json", "w"))', "The difference is not significant."),
        "scorer": (file("score.py", SCORE), "Written."),
        "publish-yaml": ("import yaml\nfrom huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml\nentry = EvalResultEntry(dataset_id='openai/gsm8k', task_id='gsm8k', value=41.2, date='2026-11-21', notes='n=1319, greedy')\nyaml.safe_dump(eval_result_entries_to_yaml([entry]), open('gsm8k.yaml', 'w'))", "Written."),
        "enough-rows": ("", "No, not with 50 rows: the standard error is 0.07, the difference 0.04."),
    },
    "gguf-export": {
        "f16": (f'sh("python make_model.py")\nsh("python {GGUF}/to_gguf.py model model-f16.gguf")', "Written."),
        "q8": (f'sh("python make_model.py")\nsh("python {GGUF}/to_gguf.py model model-q8.gguf --type q8_0")', "Written."),
        "merge-first": (f'sh("python make_model.py")\nsh("python {GGUF}/merge.py adapter merged")\nsh("python {GGUF}/to_gguf.py merged tuned.gguf")', "Merged."),
        "which-quant": ("", "Q5_K_M: `llama-quantize model-f16.gguf model-q5_k_m.gguf Q5_K_M`"),
        "refuse-llama": ("", "No. Use llama.cpp's convert_hf_to_gguf.py."),
    },
    "tool-builder": {
        "all-operations": (BUILD, "Four tools."),
        "dry-run-post": (BUILD + 'sh("python tools/create-pet.py --name Rex --vaccinated true --dry-run > request.json")', "Saved."),
        "only-what-is-needed": (f'sh("python {TOOLS}/build_tools.py petstore.json --into read-only --only listPets --only getPet")', "Two tools."),
        "wrong-choice": (BUILD + 'import json\ncode = subprocess.run("python tools/list-pets.py --status gone", shell=True).returncode\njson.dump({"code": code}, open("code.json", "w"))', "2"),
        "a-pipe": (BUILD + SERVED, "Rex and Mia."),
    },
    "kernel-builder": {
        "oracle": (file("reference.py", RMS), "Written."),
        "cases": (file("cases.py", "SHAPES = [(0, 8), (1, 1), (1, 1023), (1, 1024), (1, 1025), (3, 7), (17, 4096), (64, 4097)]\n"), "Written."),
        "bound": (BAR % ('"us": 4096 * 4096 * 2 * 2 / 3.35e12 * 1e6', "bound.json"), "No: it is below the bound."),
        "build-toml": (file("build.toml", '[general]\nname = "fused-norm"\nversion = 1\nlicense = "Apache-2.0"\nbackends = ["cuda"]\nedition = 5\n\n[torch-noarch]\n'), "Written."),
        "honest-speed": ("", "Speed: not measured yet; checked in the Triton interpreter only."),
    },
    "llm-trainer": {
        "train-sft": ('sh("python make_model.py")\n' + script(f"{LLM}/sft.py", **TINY, **{"DATASET, CONFIG, SPLIT": "'chats.jsonl', None, 'train'", "EPOCHS, MAX_STEPS": "1.0, 4"}) + GO, "Trained."),
        "prepare-dpo": ('sh("python make_model.py")\n' + script(f"{LLM}/dpo.py", PAIRED, **TINY, **{"DATASET, CONFIG, SPLIT": "'preferences.jsonl', None, 'train'"}), "Ready."),
        "map-sharegpt": (file("mapping.py", MAPPED), "Written."),
        "write-reward": (file("reward.py", REWARDED), "Written."),
        "out-of-memory": (BAR % ('"batch": 4, "accumulation": 4, "max_length": 4096', "next.json"), "Half the batch, twice the accumulation."),
        "grpo-learns-nothing": ("", "Not the loss, the reward: frac_reward_zero_std is 1, so there is no signal. Do SFT first."),
    },
    "vision-trainer": {
        "train-classifier": ('load_skill("llm-trainer")\nsh("python make_model.py")\n' + script(f"{VISION}/image_classification.py", **CPU, **{"MODEL, REVISION": "'tiny-vit', None", "DATASET, CONFIG, SPLIT": "'pictures.parquet', None, 'train'", "EVAL_SPLIT, EVAL_SHARE": "None, 0.2", "LEARNING_RATE, WARMUP_STEPS, SCHEDULER": "1e-3, 0.1, 'cosine'", "BATCH, ACCUMULATION": "8, 1", "EPOCHS, MAX_STEPS": "1.0, 12"}) + GO, "Trained."),
        "rows-of-answers": (file("mapping.py", LOOKED), "Written."),
        "rows-of-preferences": (file("mapping.py", PREFERRED), "Written."),
        "no-mirror": (script(f"{VISION}/image_classification.py", **{"MODEL, REVISION": "'tiny-vit', None", "DATASET, CONFIG, SPLIT": "'signs.parquet', None, 'train'"}) + "text = ''.join(line for line in text.splitlines(True) if 'ImageOps' not in line)\npathlib.Path('my-run/train.py').write_text(text)\n", "Ready."),
        "new-head": (BAR % ('"r": 16, "lora_alpha": 32, "target_modules": "all-linear", "modules_to_save": ["classifier"]', "lora.json"), "Written."),
        "long-rows": ("", "No: half of a picture's tokens is worse than none. Drop the very long rows beforehand."),
        "no-segmentation": ("", "There is no tested script for segmentation here."),
    },
    "embedding-trainer": {
        "pairs": ("import csv, json\nrows = [{'anchor': r['question'], 'positive': r['answer']} for r in csv.DictReader(open('pairs.csv'))]\nopen('pairs.jsonl', 'w').writelines(json.dumps(r) + chr(10) for r in rows)", "Six pairs."),
        "split-by-anchor": ("import csv, json\nrows = [{'anchor': r['question'], 'positive': r['answer']} for r in csv.DictReader(open('pairs.csv'))]\nlast = {'cancel my plan', 'delete my account'}\nfor name, side in (('train', False), ('test', True)):\n    open(name + '.jsonl', 'w').writelines(json.dumps(r) + chr(10) for r in rows if (r['anchor'] in last) == side)", "Split by anchor."),
        "recall": (file("recall.py", RECALL), "Written."),
        "pooling": ("", "last: Qwen3 only looks back, so the last token alone has seen the whole text."),
        "no-reranker": ("", "There is no tested script for SPLADE here."),
    },
}  # fmt: skip
