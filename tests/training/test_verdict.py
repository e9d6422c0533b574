"""Better or worse, computed: the same rows before and after, with the doubt that so many rows leave."""

import json
import random
from pathlib import Path
from runpy import run_path
from typing import Any

import pytest

from tools.evaluation import LEAST_ROWS, change, verdict


def judged(
    folder: Path, before: dict[str, Any], after: dict[str, Any], metric: str = "exact_match", **more: Any
) -> Any:
    told = {"metric": metric, "higher_is_better": metric != "loss", "before": before, "after": after, **more}
    (folder / "eval.json").write_text(json.dumps(told))
    return verdict(folder)


def test_clearly_more_right_answers_are_a_win(tmp_path: Path) -> None:
    told = judged(tmp_path, {"exact_match": [0.0] * 30}, {"exact_match": [1.0] * 20 + [0.0] * 10})
    assert (told["verdict"], told["metric"]) == ("WIN", "exact_match")
    assert "0 → 0.6667 on 30 rows" in told["reason"]


def test_a_gain_that_is_sure_but_tiny_is_marginal(tmp_path: Path) -> None:
    told = judged(tmp_path, {"loss": [2.0] * 50}, {"loss": [1.99] * 50}, "loss")
    assert told["verdict"] == "MARGINAL" and "by little" in told["reason"]


def test_answers_that_got_worse_are_a_regression(tmp_path: Path) -> None:
    told = judged(tmp_path, {"exact_match": [1.0] * 30}, {"exact_match": [1.0] * 15 + [0.0] * 15})
    assert told["verdict"] == "REGRESSION"


def test_noise_is_no_evidence_but_for_one_time_in_twenty(tmp_path: Path) -> None:
    draw, words = random.Random(1), []
    for _ in range(100):
        before, after = ([float(draw.random() < 0.5) for _ in range(40)] for _ in range(2))
        words.append(judged(tmp_path, {"exact_match": before}, {"exact_match": after})["verdict"])
    assert words.count("NO EVIDENCE") >= 90
    assert words.count("WIN") <= 6 and words.count("REGRESSION") <= 6


def test_a_lower_loss_alone_is_marginal_and_a_higher_one_a_regression(tmp_path: Path) -> None:
    same = {"exact_match": [0.0] * 20}
    told = judged(tmp_path, {**same, "loss": [3.0] * 20}, {**same, "loss": [2.0] * 20})
    assert told["verdict"] == "MARGINAL" and "but loss (lower is better) 3 → 2" in told["reason"]
    assert told["metric"] == "loss"  # which decided, though exact_match is the task's own
    assert judged(tmp_path, {**same, "loss": [2.0] * 20}, {**same, "loss": [3.0] * 20})["verdict"] == "REGRESSION"


def test_a_win_bought_with_a_worse_loss_says_so(tmp_path: Path) -> None:
    before = {"exact_match": [0.0] * 20, "loss": [2.0] * 20}
    told = judged(tmp_path, before, {"exact_match": [1.0] * 20, "loss": [3.0] * 20})
    assert told["verdict"] == "WIN" and "But loss" in told["reason"]


@pytest.mark.parametrize("rows", [1, LEAST_ROWS - 1])
def test_few_rows_are_no_evidence_whatever_they_say(tmp_path: Path, rows: int) -> None:
    told = judged(tmp_path, {"exact_match": [0.0] * rows}, {"exact_match": [1.0] * rows})
    assert told["verdict"] == "NO EVIDENCE" and f"only {rows} held-out rows" in told["reason"]


def test_rows_are_compared_with_themselves_and_those_without_a_number_left_out(tmp_path: Path) -> None:
    before = [float(n) for n in range(20)]
    after: list[Any] = [n + 0.5 for n in before]
    after[3], after[4] = None, float("nan")
    told = judged(tmp_path, {"loss": before}, {"loss": after}, "loss")
    assert told["changes"][0]["rows"] == 18
    assert told["verdict"] == "REGRESSION"  # by 0.5 on every row, though rows differ by far more among themselves


def test_without_a_measurement_there_is_no_evidence(tmp_path: Path) -> None:
    assert verdict(tmp_path)["verdict"] == "NO EVIDENCE"
    (tmp_path / "eval.json").write_text('{"metric": "loss", "rows": [], "before": {"loss": [1.0]}}')
    assert "before training" in verdict(tmp_path)["reason"]
    assert judged(tmp_path, {"loss": [None]}, {"loss": [1.0]}, "loss")["verdict"] == "NO EVIDENCE"


def test_the_interval_is_the_same_every_time_and_narrows_with_the_rows() -> None:
    draw = random.Random(2)
    pairs = [(draw.random(), draw.random() + 0.1) for _ in range(400)]
    few, many = change("score", pairs[:40], True), change("score", pairs, True)
    assert change("score", pairs, True) == many
    assert many.high - many.low < (few.high - few.low) / 2
    assert many.low < many.gain < many.high
    mean = sum(after - before for before, after in pairs) / len(pairs)
    error = (sum((after - before - mean) ** 2 for before, after in pairs) / len(pairs) ** 2) ** 0.5
    assert many.low == pytest.approx(mean - 1.96 * error, abs=error / 5)  # the known formula agrees


@pytest.mark.parametrize(("better", "worse", "word"), [(4, 0, "NO EVIDENCE"), (5, 0, "NO EVIDENCE"), (6, 0, "WIN")])
@pytest.mark.parametrize("rows", [10, 200])
def test_answers_that_turned_right_must_be_more_than_chance_makes(
    tmp_path: Path, better: int, worse: int, word: str, rows: int
) -> None:
    """McNemar's exact test by hand: 4 of 4 changes in one direction have p = 1/8, 5 have 1/16, 6 have 1/32."""
    after = [1.0] * better + [0.0] * (rows - better)
    told = judged(tmp_path, {"exact_match": [0.0] * rows}, {"exact_match": after})
    assert told["verdict"] == word
    assert told["changes"][0]["p"] == pytest.approx(2 / 2**better, rel=0.25)


def test_known_data_give_the_known_interval_and_p() -> None:
    """Student's sleep data, paired: mean 1.58, 95 % from 0.700 to 2.460, p of the sign-flip test 2 in 2^9."""
    first = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
    second = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    found = change("hours", list(zip(first, second, strict=True)), True)
    assert found.gain == pytest.approx(1.58)
    assert (found.low, found.high) == (pytest.approx(0.700, abs=0.01), pytest.approx(2.460, abs=0.01))
    assert found.p == pytest.approx(2 / 2**9, abs=0.003) and found.better


@pytest.mark.parametrize("rows", [10, 15, 40])
@pytest.mark.parametrize("kind", ["normal", "skewed"])
def test_the_interval_holds_the_truth_about_nineteen_times_in_twenty(rows: int, kind: str) -> None:
    draw, held = random.Random(rows), 0
    for _ in range(150):
        gains = [draw.gauss(1, 2) if kind == "normal" else draw.expovariate(1) for _ in range(rows)]
        found = change("score", [(0.0, one) for one in gains], True)
        held += found.low <= 1 <= found.high
    assert held >= (138 if kind == "normal" else 129)  # the bootstrap alone: 131 and 125 of 10 rows


def test_small_samples_of_noise_seldom_win(tmp_path: Path) -> None:
    draw, words = random.Random(5), []
    for _ in range(150):
        rows = [(float(draw.random() < 0.3), float(draw.random() < 0.3)) for _ in range(12)]
        before, after = zip(*rows, strict=True)
        words.append(judged(tmp_path, {"exact_match": list(before)}, {"exact_match": list(after)})["verdict"])
    assert words.count("WIN") + words.count("REGRESSION") <= 9


def test_samples_stand_side_by_side_those_that_moved_first(tmp_path: Path) -> None:
    rows = [{"prompt": f"q{n}", "reference": f"r{n}"} for n in range(12)]
    before = {"exact_match": [0.0] * 12, "answers": ["x"] * 11 + [None]}
    after = {"exact_match": [0.0] * 7 + [1.0] + [0.0] * 4, "answers": ["x"] * 7 + ["r7"] + ["x"] * 2 + ["y", None]}
    samples = judged(tmp_path, before, after, rows=rows)["samples"]
    assert samples[0] == {"row": 7, "prompt": "q7", "reference": "r7", "before": "x", "after": "r7"}
    assert samples[1]["row"] == 10 and len(samples) == 5


def test_the_evaluation_skill_compares_two_results_by_the_same_rule(tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "skills" / "evaluation" / "scripts" / "compare.py"
    compared = run_path(str(script))["judged"]
    cases = {(8, 8, 0): "NO EVIDENCE", (12, 4, 0): "NO EVIDENCE", (40, 14, 2): "WIN", (40, 2, 14): "REGRESSION"}
    cases |= {(600, 9, 0): "MARGINAL", (60, 20, 14): "NO EVIDENCE", (200, 0, 0): "NO EVIDENCE", (12, 12, 0): "WIN"}
    for (rows, better, worse), word in cases.items():
        changes = [1] * better + [-1] * worse + [0] * (rows - better - worse)
        before = {"exact_match": [float(one < 0) for one in changes]}
        after = {"exact_match": [float(one > 0) for one in changes]}
        assert judged(tmp_path, before, after)["verdict"] == word, (rows, better, worse)
        assert compared(changes)[0] == word, (rows, better, worse)
