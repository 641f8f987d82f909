import numpy as np
import pytest

from models.checkpoint import Checkpoint
from models.training.confusion import Confusion
from models.training.data.examples import Data
from models.training.fitting.model_card import Fitted, model_card, recipe_text
from models.training.fitting.networks import network_named, preprocessing_for, task_of
from models.training.fitting.recipe import RECIPES

TINY = {"num_layers": "1", "hidden_size": "24", "num_heads": "3", "mlp_size": "24"}
LABELS = ("a", "b")


def card(name: str, **options: str) -> str:
    options = ({} if "-b0" in name else TINY) | options
    network = network_named(name, num_labels=2, image_size=32, options=options)
    preprocessing, task = preprocessing_for(name, 32, as_is=False), task_of(name)
    checkpoint = Checkpoint(network, LABELS, preprocessing, task, name="mine")
    fitted = Fitted(
        checkpoint=checkpoint,
        data=Data(task, LABELS, [], [0, 0, 0], "The folder `data`."),
        recipe=RECIPES["article" if task == "segment" else "fine-tune"],
        about="the origin",
        source="/my runs/mine",
        command="patchserve train --data data",
        seed=4,
        minutes=2.0,
        quality=Confusion(LABELS, np.array([[3, 1], [0, 4]])),
    )
    return model_card(fitted)


def test_the_card_reports_data_recipe_command_and_quality():
    text = card("vit-ti/8")
    for line in (
        "library_name: transformers",
        "pipeline_tag: image-classification",
        "ViTForImageClassification",
        "The folder `data`.",
        "patchserve train --data data",
        "patchserve serve --classifier '/my runs/mine'",
        "Seed 4; 2.0 minutes",
        "**accuracy 0.8750**",
        "| a | 0.7500 |",
        "the origin",
    ):
        assert line in text
    assert "{" not in text


@pytest.mark.parametrize(
    ("name", "options"), [("vit-ti/8", {"head": "mlp"}), ("vit-segmenter", {})]
)
def test_the_card_of_a_network_of_patchserve_does_not_name_transformers(name, options):
    text = card(name, **options)
    assert "library_name: patchserve" in text
    assert "transformers" not in text


def test_the_card_says_that_transformers_ignores_the_aligned_upsampling():
    text = card("segformer-b0", aligned_upsampling="true")
    assert "transformers' `SegformerForSemanticSegmentation`, which ignores" in text
    assert "which ignores" not in card("segformer-b0")
    assert "which ignores" not in card("mit-b0", aligned_upsampling="true")


def test_the_quality_of_a_segmenter_is_its_iou_at_the_measured_size():
    text = card("vit-segmenter")
    assert "patchserve serve --segmenter '/my runs/mine'" in text
    assert "used for training, at the input size:" in text
    assert "**mean IoU 0.7750, pixel accuracy 0.8750**" in text


def test_the_text_of_a_recipe_is_complete():
    assert recipe_text(RECIPES["article"]) == (
        "50 epochs in batches of 64, cross-entropy; Adam, learning rate 0.0004, times 0.8 every 12 "
        "epochs; images mirrored with probability 0.5, contrast changed by up to 30%."
    )
    fine = recipe_text(RECIPES["fine-tune"])
    assert "0.1 of it for the weights from the checkpoint" in fine
    assert "weights averaged over 2% of the steps" in fine
