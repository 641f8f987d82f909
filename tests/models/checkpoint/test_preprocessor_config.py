import json
from pathlib import Path

import pytest
import transformers

from models.checkpoint.preprocessor_config import DEIT, SEGFORMER, VIT, document, parse
from models.errors import CheckpointError
from models.preprocessing import BICUBIC, HALF, IMAGENET_MEAN, IMAGENET_STD, Preprocessing

OLD_VIT = {
    "do_normalize": True,
    "do_resize": True,
    "feature_extractor_type": "ViTFeatureExtractor",
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "resample": 2,
    "size": 384,
}
OLD_DEIT = {
    "crop_size": 224,
    "do_center_crop": True,
    "do_normalize": True,
    "do_resize": True,
    "feature_extractor_type": "DeiTFeatureExtractor",
    "image_mean": list(IMAGENET_MEAN),
    "image_std": list(IMAGENET_STD),
    "resample": 3,
    "size": 256,
}
OLD_SEGFORMER = {
    "do_normalize": True,
    "do_resize": True,
    "feature_extractor_type": "SegformerFeatureExtractor",
    "image_mean": list(IMAGENET_MEAN),
    "image_std": list(IMAGENET_STD),
    "reduce_labels": True,
    "resample": 2,
    "size": 512,
}


def test_the_old_style_of_vit():
    assert parse(OLD_VIT, SEGFORMER) == Preprocessing(size=(384, 384))


def test_the_old_style_of_deit():
    assert parse(OLD_DEIT, VIT) == Preprocessing(
        processor=DEIT,
        size=(256, 256),
        resample=BICUBIC,
        crop_size=(224, 224),
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
    )


def test_the_old_style_of_segformer_keeps_its_reduced_labels():
    assert parse(OLD_SEGFORMER, VIT) == Preprocessing(
        processor=SEGFORMER,
        size=(512, 512),
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        reduce_labels=True,
    )


@pytest.mark.parametrize(
    "name",
    ["ViTImageProcessor", "ViTImageProcessorFast", "ViTImageProcessorPil", "ViTFeatureExtractor"],
)
def test_a_processor_goes_by_all_its_historical_names(name):
    assert parse({"image_processor_type": name}, DEIT) == Preprocessing()


@pytest.mark.parametrize(
    ("processor", "reference"),
    [
        (VIT, transformers.ViTImageProcessorPil),
        (DEIT, transformers.DeiTImageProcessorPil),
        (SEGFORMER, transformers.SegformerImageProcessorPil),
    ],
)
def test_what_is_absent_or_null_is_as_the_reference_has_it(processor, reference, tmp_path):
    reference().save_pretrained(tmp_path)
    complete = json.loads((tmp_path / "preprocessor_config.json").read_text())
    assert complete["image_processor_type"] == processor
    assert parse({}, processor) == parse(complete, VIT)
    assert parse(dict.fromkeys(complete), processor) == parse(complete, VIT)


@pytest.mark.parametrize(
    ("size", "fields"),
    [
        (224, {"size": (224, 224)}),
        ([200, 300], {"size": (200, 300)}),
        ({"height": 200, "width": 300}, {"size": (200, 300)}),
        ({"shortest_edge": 256}, {"size": None, "shortest_edge": 256}),
        (
            {"shortest_edge": 256, "longest_edge": 500},
            {"size": None, "shortest_edge": 256, "longest_edge": 500},
        ),
    ],
)
def test_every_form_of_a_size_is_understood(size, fields):
    assert parse({"size": size}, VIT) == Preprocessing(**fields)


def test_a_single_size_is_the_shortest_edge_where_the_document_says_so():
    preprocessing = parse({"size": 256, "default_to_square": False}, VIT)
    assert preprocessing == Preprocessing(size=None, shortest_edge=256)


def test_steps_that_are_switched_off_are_none():
    off = dict.fromkeys(("do_resize", "do_rescale", "do_normalize", "do_center_crop"), False)
    assert parse(off, DEIT) == Preprocessing(
        processor=DEIT, size=None, resample=BICUBIC, rescale_factor=None, mean=None, std=None
    )


def test_segformer_never_crops_as_its_reference_never_does():
    crop = {"do_center_crop": True, "crop_size": 100}
    assert parse(crop, SEGFORMER).crop_size is None
    assert parse(crop, VIT).crop_size == (100, 100)


def test_one_number_serves_all_three_colours():
    assert parse({"image_mean": 0, "image_std": 1}, VIT) == Preprocessing(
        mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)
    )


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ({"image_processor_type": "CLIPImageProcessor"}, "'CLIPImageProcessor' is not supported"),
        ({"image_processor_type": 3}, "3 is not supported"),
        ({"size": 0}, "size 0 is not understood"),
        ({"size": True}, "size True is not understood"),
        ({"size": [224]}, "size .* is not understood"),
        ({"size": [224.0, 224.0]}, "size .* is not understood"),
        ({"size": {"longest_edge": 224}}, "size .* is not understood"),
        ({"size": {"shortest_edge": 224, "height": 3}}, "size .* is not understood"),
        ({"size": {"shortest_edge": "224"}}, "size .* is not understood"),
        ({"do_center_crop": True}, "crop_size None is not understood"),
        (
            {"do_center_crop": True, "crop_size": {"shortest_edge": 3}},
            "crop_size .* not understood",
        ),
        ({"do_resize": "yes"}, "do_resize must be true or false, not 'yes'"),
        ({"do_pad": True}, "do_pad is not supported"),
        ({"resample": 6}, "resample 6 is no filter"),
        ({"resample": "bilinear"}, "resample 'bilinear' is no filter"),
        ({"rescale_factor": 0}, "rescale_factor 0 is not a number above zero"),
        ({"rescale_factor": float("nan")}, "rescale_factor nan"),
        ({"image_mean": [0.5, 0.5]}, "image_mean .* is not three numbers"),
        ({"image_mean": ["0.5"] * 3}, "image_mean .* is not three numbers"),
        ({"image_std": [0.5, 0.5, 0.0]}, "image_std .* is not above zero"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(config, complaint):
    with pytest.raises(CheckpointError, match=complaint):
        parse(config, VIT)


@pytest.mark.parametrize(
    "preprocessing",
    [
        Preprocessing(),
        Preprocessing(processor=SEGFORMER, size=(128, 96), reduce_labels=True),
        Preprocessing(processor=DEIT, size=None, shortest_edge=256, crop_size=(224, 200)),
        Preprocessing(size=None, shortest_edge=256, longest_edge=400, resample=BICUBIC),
        Preprocessing(size=None, rescale_factor=None, mean=None, std=None),
        Preprocessing(mean=None, std=None),
        Preprocessing(rescale_factor=1 / 127.5, mean=HALF, std=IMAGENET_STD),
    ],
)
def test_a_document_is_read_back_as_it_was_written(preprocessing):
    written = json.loads(json.dumps(document(preprocessing)))
    assert parse(written, SEGFORMER) == preprocessing


def test_transformers_reads_our_document(tmp_path: Path):
    preprocessing = Preprocessing(
        processor=DEIT, size=None, shortest_edge=64, crop_size=(48, 56), mean=IMAGENET_MEAN
    )
    text = json.dumps(document(preprocessing))
    (tmp_path / "preprocessor_config.json").write_text(text)
    theirs = transformers.DeiTImageProcessorPil.from_pretrained(tmp_path)
    assert dict(theirs.size) == {"shortest_edge": 64}
    assert dict(theirs.crop_size) == {"height": 48, "width": 56}
    assert (theirs.resample, theirs.image_mean) == (2, IMAGENET_MEAN)
