"""What the evaluator says on the terminal."""

from casm_tf.report import tables

_COLUMNS = {
    "LE": "LE",
    "LE_mean_rule": "LE (mean)",
    "OM": "OM",
    "F1": "F1",
    "MaxBoxAcc": "MaxBox",
    "PxAP": "PxAP",
    **{"MAE": "MAE", "maxF": "maxF", "S": "S", "E": "E", "IoU": "IoU", "pixel_accuracy": "pixels"},
    "top1_masked_in": "in",
    "top1_masked_out": "out",
    "mask_mean": "size",
    "mask_std": "std",
    "mask_entropy": "entropy",
    "mask_tv": "TV",
}
_STANDINGS = {
    "ahead": "casm is ahead of all others in",
    "level": "level with the best other in",
    "behind": "behind in",
}


def text(results):
    """The table of `Comparison.compute`'s results, and what CASM wins and loses, for a terminal."""
    methods = {name: values for name, values in results.items() if isinstance(values, dict)}
    casm = methods["casm"]
    columns = {key: title for key, title in _COLUMNS.items() if key in casm}
    width = max(15, *map(len, methods))
    widths = {key: max(6, 1 + len(title)) for key, title in columns.items()}
    head = "".join(f"{title:>{widths[key]}} " for key, title in columns.items())
    lines = ["", " " * width + head]
    best = {key: tables.best(key, methods) for key in columns}
    for name, values in methods.items():
        cells = (
            f"{tables.number(key, values[key]):>{widths[key]}}{'*' if name in best[key] else ' '}"
            for key in columns
        )
        lines.append(f"{name:{width}}" + "".join(cells))
        if values.get("standard_error"):
            cells = (f"{tables.error(key, values):>{widths[key]}} " for key in columns)
            lines.append(" " * width + "".join(cells))
    if any(best.values()):
        lines.append("* the best of its column")
    if casm.get("standard_error"):
        lines.append(f"{tables.PLUS_MINUS} the standard error, as the pictures are few")
    top1 = f"top-1 {_with_error('top1', casm)}"
    if "top1_before" in casm:
        before = f"before the alternation {_with_error('top1_before', casm)}"
        lines += ["", f"{top1}, {before}"]
    else:
        right = "no labels: right is what the classifier said before the alternation"
        lines += ["", f"{right}; {top1}"]
    if "true_box_area" in casm:
        lines.append(f"true boxes cover {casm['true_box_area']:.0%} of a picture (median)")
    return "\n".join(line.rstrip() for line in [*lines, *_standings(methods)])


def _with_error(key, values):
    return f"{tables.number(key, values[key])} {tables.error(key, values)}".rstrip()


def _standings(methods):
    """What CASM is ahead in and what it is not, a line a measure."""
    standings = tables.standings(methods)
    measures = [key for keys in standings.values() for key in keys]
    if not measures:
        return
    titles = {key: tables.RANKED[key].title for key in measures}
    others = {
        key: f"{name} {tables.number(key, methods[name][key])}"
        for keys in standings.values()
        for key, name in keys.items()
    }
    first, second = (max(map(len, words.values())) for words in (titles, others))
    for standing, keys in standings.items():
        if keys:
            yield f"{_STANDINGS[standing]} {len(keys)} of {len(measures)} measures:"
        for key in keys:
            casm = tables.number(key, methods["casm"][key])
            yield (
                f"  {titles[key]:{first}}  {casm:>6}  {others[key]:{second}}  "
                f"{tables.RANKED[key].better} is better"
            )
    if methods["casm"].get("standard_error"):
        yield "Level is what differs by no more than its standard error; what has none is left out."
    yield "A trivial mask, such as full_image, may win a single measure: read them together."
