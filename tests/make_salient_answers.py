"""Make tests/data/salient_answers.json: PYTHONPATH=. python tests/make_salient_answers.py

The answers of PySODMetrics 1.6.2 (pip install --no-deps pysodmetrics==1.6.2), for the test where
it is not: every release of it wants a NumPy below 2 or below 2.3.5, which is not the one here.
"""

import json
import pathlib

import py_sod_metrics
import salient_scenes

OUTPUT = pathlib.Path(__file__).parent / "data" / "salient_answers.json"


def main():
    measures = {
        "MAE": (py_sod_metrics.MAE(), lambda found: found["mae"]),
        "maxF": (py_sod_metrics.Fmeasure(0.3), lambda found: found["fm"]["curve"].max()),
        "S": (py_sod_metrics.Smeasure(), lambda found: found["sm"]),
        "E": (py_sod_metrics.Emeasure(), lambda found: found["em"]["curve"].mean()),
    }
    for mask, truth in salient_scenes.scenes():
        for measure, _ in measures.values():
            measure.step(mask, truth.astype(mask.dtype) * 255)
    answers = {key: float(of(measure.get_results())) for key, (measure, of) in measures.items()}
    OUTPUT.write_text(json.dumps(answers, indent=2) + "\n")
    print(f"made  {OUTPUT}: {answers}")


if __name__ == "__main__":
    main()
