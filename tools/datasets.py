"""Judging a dataset before anything is trained on it, and making it fit.

`inspect_dataset` reads everything once and changes nothing; `prepare_dataset` writes a new folder and leaves the source
alone. Only mappings written here run on this machine: a mapping of your own belongs into the sandbox.
"""

from tools import envelope
from tools.declare import tool


@tool(risk="free")
def inspect_dataset(
    path: str, method: str | None = None, tokenizer: str | None = None, max_length: int = 2048, split: str | None = None
) -> dict:
    """Audit a dataset: what it can train, what is wrong and the cure, lengths, duplicates, leaks, personal data.

    Every row is read and checked. Token lengths are counted on a sample of about 20,000 rows (without a tokenizer:
    estimated), languages guessed on the same sample; near duplicates are found by estimated similarity.

    Args:
        path: A file or folder (jsonl, json, csv, tsv, parquet, arrow, txt; gz, zst, xz, bz2; images in folders; COCO's
            json beside its pictures), or a dataset of the Hub: "owner/name", "owner/name/subset", "hf://datasets/owner/name@revision/folder".
        method: sft, dpo, grpo, kto, reward, distillation, cpt, classification, token_classification, embeddings,
            image_classification, object_detection, vision_sft or vision_dpo. Left out: the one the data is made for.
            Rows are checked against it.
        tokenizer: A folder, a tokenizer.json or a model id, to count tokens.
        max_length: Tokens a row may have; what it would cut is told.
        split: Look only at this split.

    Returns:
        A report with `verdicts` (method: verdict, reason, confidence, mapping as code), `problems` (each with count,
        where, and a cure for prepare_dataset), `rows`, `splits`, `schema`, `examples`, `labels`, `languages`,
        `lengths`, `fingerprint`, `license`, `picture` of the lengths, and `prepare_first`: why the data must go through
        prepare_dataset before it is trained on ("" when it need not).
    """
    from tools.data import audit, lengths, report

    facts = audit.audit(path, method, tokenizer, max(1, max_length), split)
    measured = facts["lengths"]
    picture = envelope.plot("Token lengths", lengths.picture(measured)) if measured else None
    return envelope.report(report.markdown(facts), f"Dataset {path}", **facts, picture=picture)


@tool(risk="free")
def prepare_dataset(
    path: str,
    method: str | None = None,
    cures: list[dict] | None = None,
    mapping: dict[str, str] | None = None,
    out: str | None = None,
    split: str | None = None,
    seed: int = 0,
) -> dict:
    """Write a dataset in the form a method trains on, with cures applied: parquet files and a manifest.

    The same input, cures and seed give the same bytes. The source stays as it is.

    Args:
        path: As for inspect_dataset.
        method: What it is for; left out: what the data is made for.
        cures: What inspect_dataset proposed, such as [{"do": "dedupe"}, {"do": "split", "validation": 0.1}]. Left out:
            drop_broken, drop_empty, dedupe, split. Others: dedupe_near, drop_long (max_tokens, tokenizer), mask,
            drop_private, drop_leaks, balance (most), sample (rows). They work in a fixed order.
        mapping: Columns by role where the names are not understood, such as {"prompt": "q", "completion": "a"}.
        out: The folder to write; left out: named after data and method, in the working folder.
        split: Take only this split.
        seed: For sample, balance and split.

    Returns:
        A report with `folder`, `files` (rows, bytes, sha256), `rows_in`, `dropped`, `changed`, `mapping`, `manifest`.
    """
    from tools.data import prepare, report

    folder, manifest = prepare.prepare(path, method, cures, mapping, out, split, seed)
    told = {name: manifest[name] for name in ("files", "rows_in", "dropped", "changed", "mapping", "method", "labels")}
    shown = report.prepared(str(folder), manifest)
    where = str(folder / prepare.MANIFEST)
    return envelope.report(shown, f"Prepared {path}", folder=str(folder), manifest=where, **told)
