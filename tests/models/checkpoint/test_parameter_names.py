from dataclasses import replace

import pytest

from models.checkpoint.parameter_names import match_stored_names, possible_names, translate
from models.errors import CheckpointError
from models.segformer import Segformer, SegformerClassifier, SegformerConfig
from models.vit import ViT, ViTConfig
from models.vit_segmenter import ViTSegmenter, ViTSegmenterConfig

VIT = "ViTForImageClassification"
SEGFORMER = "SegformerForSemanticSegmentation"
SMALL = ViTConfig(
    image_size=(16, 16),
    patch_size=8,
    hidden_size=8,
    num_layers=2,
    num_heads=2,
    mlp_size=8,
    num_labels=3,
)
DISTILLED = replace(SMALL, distillation_token=True)
STAGES = SegformerConfig(hidden_sizes=(8, 8, 8, 8), num_heads=(1, 1, 1, 1), decoder_hidden_size=8)
PARAMETERS = {
    VIT: list(ViT(SMALL).state_dict()),
    "DeiTForImageClassification": list(ViT(DISTILLED).state_dict()),
    "DeiTForImageClassificationWithTeacher": list(
        ViT(replace(DISTILLED, distillation_head=True)).state_dict()
    ),
    "ViTMSNForImageClassification": list(ViT(SMALL).state_dict()),
    "SiglipForImageClassification": list(ViT(replace(SMALL, pooling="mean")).state_dict()),
    "Dinov2ForImageClassification": list(ViT(replace(SMALL, pooling="class_mean")).state_dict()),
    "Dinov2WithRegistersForImageClassification": list(
        ViT(
            replace(SMALL, pooling="class_mean", num_registers=2, mlp="swiglu", antialias=True)
        ).state_dict()
    ),
    SEGFORMER: list(Segformer(STAGES).state_dict()),
    "SegformerForImageClassification": list(SegformerClassifier(STAGES).state_dict()),
    "PatchserveViT": list(ViT(replace(SMALL, head="mlp", patch_embedding="hybrid")).state_dict()),
    "PatchserveViTSegmenter": list(
        ViTSegmenter(ViTSegmenterConfig(num_layers=1, hidden_size=8)).state_dict()
    ),
}


def stored(architecture, version):
    return [translate(name, architecture)[version] for name in PARAMETERS[architecture]]


@pytest.mark.parametrize("architecture", PARAMETERS)
@pytest.mark.parametrize("version", [0, 1], ids=["legacy", "modern"])
def test_every_parameter_has_a_unique_legacy_and_modern_name(architecture, version):
    names = stored(architecture, version)
    assert len(set(names)) == len(names)
    found = match_stored_names(PARAMETERS[architecture], names, architecture)
    assert list(found.values()) == names


@pytest.mark.parametrize(
    ("architecture", "ours", "legacy", "modern"),
    [
        (
            VIT,
            "encoder.blocks.11.attention.query.weight",
            "vit.encoder.layer.11.attention.attention.query.weight",
            "vit.layers.11.attention.q_proj.weight",
        ),
        (
            "DeiTForImageClassificationWithTeacher",
            "distillation_head.bias",
            "distillation_classifier.bias",
            "distillation_classifier.bias",
        ),
        (
            SEGFORMER,
            "encoder.stages.3.blocks.10.attention.reduction.convolution.weight",
            "segformer.encoder.block.3.10.attention.self.sr.weight",
            "segformer.stages.3.blocks.10.attention.sequence_reduction.sequence_reduction.weight",
        ),
    ],
)
def test_a_name_is_translated_with_its_indices(architecture, ours, legacy, modern):
    assert translate(ours, architecture) == (legacy, modern)


def test_an_unknown_parameter_raises_a_key_error():
    with pytest.raises(KeyError, match=r"encoder\.blocks\.0\.gate\.weight is not a known"):
        translate("encoder.blocks.0.gate.weight", VIT)


def test_a_checkpoint_may_mix_legacy_and_modern_names():
    names = [translate(name, VIT)[i % 2] for i, name in enumerate(PARAMETERS[VIT])]
    assert list(match_stored_names(PARAMETERS[VIT], names, VIT).values()) == names


def test_norms_may_have_tensorflow_names():
    names = [
        name.replace("layernorm_before.weight", "layernorm_before.gamma").replace(
            "layernorm_after.bias", "layernorm_after.beta"
        )
        for name in stored(VIT, 0)
    ]
    assert list(match_stored_names(PARAMETERS[VIT], names, VIT).values()) == names
    assert set(possible_names("head.weight", VIT)) == {"classifier.weight"}


def test_the_pooler_and_the_counters_are_ignored():
    extra = ["vit.pooler.dense.weight", "vit.pooler.dense.bias"]
    assert match_stored_names(PARAMETERS[VIT], stored(VIT, 0) + extra, VIT)
    counters = [n for n in stored(SEGFORMER, 0) if not n.endswith("num_batches_tracked")]
    assert match_stored_names(PARAMETERS[SEGFORMER], counters, SEGFORMER)


def test_missing_and_unexpected_keys_have_their_stored_names():
    names = set(stored(VIT, 0)) - {"vit.layernorm.weight"} | {"vit.layernorm.scale"}
    with pytest.raises(CheckpointError) as caught:
        match_stored_names(PARAMETERS[VIT], names, VIT)
    assert "missing keys: vit.layernorm.weight" in str(caught.value)
    assert "unexpected keys: vit.layernorm.scale" in str(caught.value)
    assert "head" not in str(caught.value)


def test_a_parameter_stored_under_both_names_is_an_unexpected_key():
    names = [*stored(VIT, 0), "vit.layers.0.mlp.fc1.bias"]
    with pytest.raises(CheckpointError, match=r"unexpected keys: vit\.layers\.0\.mlp\.fc1\.bias$"):
        match_stored_names(PARAMETERS[VIT], names, VIT)


@pytest.mark.parametrize(
    ("architecture", "head"), [(VIT, "classifier"), (SEGFORMER, "decode_head")]
)
def test_a_missing_head_is_reported(architecture, head):
    names = [name for name in stored(architecture, 0) if not name.startswith(head)]
    with pytest.raises(CheckpointError, match="no complete trained head"):
        match_stored_names(PARAMETERS[architecture], names, architecture)


def test_a_bare_backbone_is_reported_in_a_short_message():
    names = [n.removeprefix("vit.") for n in stored(VIT, 0) if not n.startswith("classifier")]
    with pytest.raises(CheckpointError, match=r"and 20 more.*bare backbone") as caught:
        match_stored_names(PARAMETERS[VIT], names, VIT)
    assert len(str(caught.value)) < 3000
