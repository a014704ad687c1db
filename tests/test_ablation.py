"""The ablation as a process, with two steps on 32x32 scenes."""

import csv
import json

import programs
import pytest

SETTINGS = ("--dataset=digit_scenes/tiny", "--pretraining_steps=2", "--seeds=0,1")
ROWS = "E_shared_FL,C_separate_L100"


def call(runs_dir, data_dir, *arguments):
    where = (f"--runs_dir={runs_dir}", f"--data_dir={data_dir}")
    return programs.call("benchmarks.ablation", *SETTINGS, *where, *arguments)


def last_line(done):
    return json.loads(done.stdout.splitlines()[-1])


def lines(runs_dir):
    with (runs_dir / "ablation.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def ablation(tiny_data_dir, tmp_path_factory):
    """Where two rows are through, and how that call ended."""
    runs_dir = tmp_path_factory.mktemp("ablation")
    return runs_dir, call(runs_dir, tiny_data_dir, "--steps=2", f"--rows={ROWS}")


@pytest.mark.long
def test_each_run_that_is_through_has_its_line(ablation):
    runs_dir, done = ablation
    assert done.returncode == 0, done.stdout + done.stderr
    results = last_line(done)
    # Neither row decides, so the second seed is not for them.
    assert results["executed"] == ["E_shared_FL_seed0", "C_separate_L100_seed0"]
    assert results["failed"] == []
    first, second = lines(runs_dir)
    found = [first[key] for key in ("score", "shared", "thinning", "every", "lambda_size")]
    assert found == ["E", "True", "FL", "", "6.75"]
    found = [second[key] for key in ("score", "shared", "thinning", "every", "steps", "seed")]
    assert found == ["C", "False", "L100", "1", "2", "0"]
    for line, name in ((first, "E_shared_FL"), (second, "C_separate_L100")):
        run_dir = runs_dir / f"{name}_seed0"
        scores = json.loads((run_dir / "evaluation.json").read_text())["casm"]
        trained = json.loads((run_dir / "run.json").read_text())["flags"]
        for key in ("LE", "OM", "F1", "top1", "mask_mean"):
            assert float(line[key]) == scores[key] == results["rows"][name][key][0]
        assert str(trained["lambda_size"]) == line["lambda_size"]
        assert trained["shared_encoder"] == (line["shared"] == "True")
        assert {"E": "entropy", "C": "classification"}[line["score"]] == trained["score"]
        assert trained["thinning"] == (f"L{line['every']}" if line["every"] else "FL")


@pytest.mark.long
def test_what_is_in_the_table_is_not_done_again(ablation, tiny_data_dir):
    runs_dir, first = ablation
    before = (runs_dir / "ablation.csv").read_bytes()
    done = call(runs_dir, tiny_data_dir, "--steps=2", f"--rows={ROWS}")
    assert done.returncode == 0, done.stderr
    assert last_line(done)["executed"] == []
    assert last_line(done)["rows"] == last_line(first)["rows"]
    assert (runs_dir / "ablation.csv").read_bytes() == before


@pytest.mark.long
def test_other_settings_are_refused(ablation, tiny_data_dir):
    runs_dir, _ = ablation
    done = call(runs_dir, tiny_data_dir, "--steps=3", f"--rows={ROWS}")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "E_shared_FL_seed0 with steps 2; found 3" in done.stderr


@pytest.mark.long
def test_a_run_that_fails_is_named_and_the_others_go_on(ablation, tiny_data_dir):
    runs_dir, _ = ablation
    before = lines(runs_dir)
    (runs_dir / "E_separate_L_seed0").write_text("no directory")
    done = call(runs_dir, tiny_data_dir, "--steps=2", f"--rows=E_separate_L,C_shared_F,{ROWS}")
    assert done.returncode == 1
    assert "1 of 2 runs failed: E_separate_L_seed0" in done.stderr
    assert "is not a directory" in done.stdout
    results = last_line(done)
    assert results["failed"] == ["E_separate_L_seed0"]
    assert results["executed"] == ["C_shared_F_seed0"]
    assert lines(runs_dir)[:2] == before
    assert [line["thinning"] for line in lines(runs_dir)] == ["FL", "L100", "F"]


def test_an_unknown_row_is_a_users_mistake(tiny_data_dir, tmp_path):
    done = call(tmp_path / "runs", tiny_data_dir, "--rows=E_shared_L10")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "rows are of E_shared_F" in done.stderr
    assert not (tmp_path / "runs").exists()
