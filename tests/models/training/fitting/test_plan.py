import pytest

from models import checkpoint
from models.training.data.sources import open_data
from models.training.fitting.plan import Plan


def test_the_recipe_depends_on_the_start_and_the_options():
    assert Plan("d", model="vit-ti/16").recipe.body == 1
    assert Plan("d", source="x/y").recipe.body == 0.1
    plan = Plan("d", source="x/y", preset="article", epochs=3, batch_size=4, learning_rate=0.5)
    recipe = plan.recipe
    assert (recipe.optimizer, recipe.epochs, recipe.batch_size) == ("adam", 3, 4)
    assert recipe.learning_rate == 0.5


def test_the_article_has_its_own_network():
    assert Plan("d", preset="article").name == "vit-segmenter"
    assert Plan("d", preset="article", model="segformer-b0").name == "segformer-b0"
    assert Plan("d", preset="article", source="x/y").name is None


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({}, "--from CHECKPOINT is required"),
        ({"model": "vit-ti/16", "source": "x/y"}, "exclude"),
        ({"source": "x/y", "options": {"num_layers": "1"}}, "exclude"),
        ({"model": "vit-ti/16", "preset": "best"}, "no preset is called 'best'"),
    ],
)
def test_contradictory_or_missing_options_are_refused(options, error):
    with pytest.raises(ValueError, match=error):
        Plan("data", **options)


def test_the_task_is_the_given_one_or_that_of_data_or_network(pets_folder, tmp_path):
    pets = str(pets_folder(tmp_path / "pets", train=1, test=1))
    assert Plan(pets, model="mit-b0").task_for(None) == "segment"
    assert Plan(pets, model="mit-b0", task="classify").task_for(None) == "classify"
    assert Plan("scenes", model="segformer-b0").task_for(None) == "segment"
    loaded = checkpoint.load(checkpoint.bundled("classify"))
    assert Plan("scenes", source="bundled").task_for(loaded) == "classify"


def test_the_bundled_checkpoint_of_the_task_can_start_a_run(labelled_folder, tmp_path):
    plan = Plan(str(labelled_folder(tmp_path / "data", 2)), source="bundled")
    loaded = plan.load()
    assert loaded.name == "shapes-vit"
    data = open_data(plan.data, plan.task_for(loaded), seed=plan.seed)
    assert plan.start(data, loaded).about == "shapes-vit, with a new head"
    assert Plan("scenes", source="bundled", task="segment").load().name == "shapes-segformer"
    with pytest.raises(ValueError, match="--task is required"):
        Plan("scenes", source="bundled").load()


def test_the_command_line_has_the_quoted_arguments(tmp_path):
    (tmp_path / "my data").mkdir()
    plan = Plan(
        str(tmp_path / "my data"),
        model="vit-ti/16",
        options={"num_layers": "3"},
        learning_rate=1e-3,
        seed=2,
    )
    assert plan.command("runs/x") == (
        f"patchserve train --data '{tmp_path}/my data' --model vit-ti/16 --option num_layers=3 "
        "--learning-rate 0.001 --seed 2 --out runs/x"
    )
    assert "--from google/vit" in Plan("scenes", source="google/vit").command("runs/x")
    assert "--seed" not in Plan("scenes", source="google/vit").command("runs/x")


def test_a_plan_is_read_back_and_compared_from_any_folder(tmp_path, monkeypatch):
    for name in ("data", "model"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    plan = Plan("data", source="model").absolute()
    assert (plan.data, plan.source) == (str(tmp_path / "data"), str(tmp_path / "model"))
    assert Plan(**plan.document()) == plan
    assert plan.difference({"data": "data", "source": "model", "epochs": None}) is None
    assert plan.difference({"epochs": 3}) == "it started with epochs None, not 3"
    assert Plan("scenes", source="x/y").absolute() == Plan("scenes", source="x/y")
