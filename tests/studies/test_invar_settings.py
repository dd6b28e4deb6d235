"""Settings of the study of Invar-RAG that do not fit, or have no effect, are refused."""

import pytest

from tilefold.studies.invar import InvarSettings


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"variants": ["no lora"]}, "variants: expected 'full' among them"),
        (
            {"families": ["typo"], "unseen_families": ["typo"]},
            "expected none of families, got typo",
        ),
        ({"divergence": "mse"}, "divergence: mse is for representations"),
        ({"group_negatives": 11, "depth": 10}, "group_negatives: expected at most depth, 10"),
        ({"warmup_share": 0.7, "ramp_share": 0.4}, "ramp_share: expected at most 1 - warmup_share"),
        ({"lora_dropout": 1.5}, "lora_dropout: expected a number at least 0 and at most 1"),
        ({"lora_dropout": 1.0}, "lora_dropout: expected a number below 1"),
        ({"temperature": 0.0}, "temperature: expected a number above 0"),
        ({"training_windows": [8], "n_views": 2}, "training_windows: expected as many widths"),
        ({"sweep_weights": [0.0]}, "sweep_weights: expected numbers above 0"),
        ({"seeds": []}, "seeds: expected one or more"),
        ({"lora_targets": []}, "lora_targets: expected one or more"),
        ({"lora_targets": ["q_proj", "query"]}, "lora_targets: expected all-linear or some of"),
        ({"lora_targets": ["all-linear", "q_proj"]}, "or names of layers, got both"),
        ({"pooling": "mean"}, "pooling: not with world"),
        ({"warmup_share": 1.0, "ramp_share": 0.0}, "warmup_share: expected a number below 1"),
        ({"alignment_weight": 0.0}, "variants: 'no alignment' is the same as 'full'"),
        ({"invariance_weight": 0.0}, "variants: 'no invariance' is the same as 'full'"),
        ({"rerank_depth": 9}, "rerank_depth: expected a number at least 10 and at most 100, got 9"),
        ({"cutoff": 101}, "cutoff: expected a number at least 1 and at most 100, got 101"),
        ({"families": []}, "families: expected one or more"),
        ({"rewrites": "r", "families": ["typo"]}, "families: not with rewrites, a file"),
        ({"rewrites": "r", "n_rewrites": 2}, "n_rewrites: not with rewrites, a file"),
        (
            {"unseen_rewrites": "r", "unseen_families": ["order"]},
            "unseen_families: not with unseen_rewrites, a file",
        ),
        (
            {"world": None, **dict.fromkeys(["model", "coarse", "data", "test"], "a")}
            | {"sweep_views": [3]},
            "sweep_views: expected at most n_rewrites, 1, got 3",
        ),
        ({"generator_variants": [], "gold_share": 0.1}, "gold_share: has no effect without gener"),
        ({"beta": 0.5}, "beta: has no effect without top_patterns"),
        ({"invariance_temperature": 0.0}, "invariance_temperature: expected a number above 0"),
        ({"invariance_mask": "queries"}, "invariance_mask: is of the form risk"),
        ({"generator_variants": ["full", "no lora"]}, "expected variants with an adapter"),
        ({"generator_variants": ["no invariance"]}, "generator_variants: expected 'full' among"),
        (
            {"variants": ["full"], "generator_variants": ["full", "augmentation"]},
            "generator_variants: expected some of variants",
        ),
        ({"dtype": "bfloat16"}, "dtype: expected float32, as the variant 'no lora'"),
        (
            {"generator_variants": [], "retrieval_in_generation": "merged"},
            "retrieval_in_generation: has no effect without generator_variants",
        ),
        ({"refresh_steps": 2, "alignment": "likelihood"}, "refresh_steps: expected 0 with"),
        ({"baselines": ["x"]}, "baselines: not with world"),
        ({"top_patterns": 2, "invariance": "risk"}, "top_patterns: is of the form consistency"),
        ({"representation_temperature": 1.0}, "representation_temperature: is of alignment"),
        ({"template": "popqa"}, "template: not with world"),
        ({"n_unseen": 5}, "n_unseen: not with world"),
        ({"n_views": 3}, "n_views: expected 1, as a world has one rewrite"),
        ({"model": "x"}, "model: not with world"),
        ({"answers": "x"}, "answers: not with world"),
        ({"world": None}, "expected world; or model, coarse, data, test"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        InvarSettings(**{"world": "tiny", **changes})
