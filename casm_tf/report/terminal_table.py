"""What the evaluator says on the terminal."""

_COLUMNS = {
    "LE": "LE",
    "LE_mean_rule": "LE (mean)",
    "OM": "OM",
    "F1": "F1",
    "MaxBoxAcc": "MaxBox",
    "PxAP": "PxAP",
    "top1_masked_in": "in",
    "top1_masked_out": "out",
    "mask_mean": "size",
    "mask_std": "std",
    "mask_entropy": "entropy",
    "mask_tv": "TV",
}


def text(results):
    """The table of `Comparison.compute`'s results, and who is ahead, for a terminal."""
    rows = {name: values for name, values in results.items() if isinstance(values, dict)}
    columns = {key: title for key, title in _COLUMNS.items() if key in results["casm"]}
    lines = ["", f"{'':16}" + "".join(f"{title:>10}" for title in columns.values())]
    for name, values in rows.items():
        lines.append(f"{name:16}" + "".join(f"{values[key]:10.3f}" for key in columns))
    casm = results["casm"]
    lines += ["", f"top-1 {casm['top1']:.3f}, before the alternation {casm['top1_before']:.3f}"]
    for key, best in [("LE", min), ("F1", max), ("PxAP", max)]:
        if key in casm:
            values = {name: found[key] for name, found in rows.items()}
            leader = best(values, key=values.get)
            ahead = values[leader] == casm[key]
            rest = (
                "ahead of every other row" if ahead else f"{leader} is ahead: {values[leader]:.3f}"
            )
            lines.append(f"{key:5}{casm[key]:.3f}  {rest}")
    return "\n".join(lines)
