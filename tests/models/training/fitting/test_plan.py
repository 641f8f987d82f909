import pytest

from models import checkpoint
from models.training.data import open_data
from models.training.fitting.plan import Plan


def test_the_recipe_follows_from_where_it_begins_and_what_is_said():
    assert Plan("d", model="vit-ti/16").recipe.body == 1
    assert Plan("d", source="x/y").recipe.body == 0.1
    said = Plan("d", source="x/y", preset="article", epochs=3, batch_size=4, learning_rate=0.5)
    recipe = said.recipe
    assert (recipe.optimizer, recipe.epochs, recipe.batch_size) == ("adam", 3, 4)
    assert recipe.learning_rate == 0.5


def test_the_article_brings_its_network():
    assert Plan("d", preset="article").name == "vit-segmenter"
    assert Plan("d", preset="article", model="segformer-b0").name == "segformer-b0"
    assert Plan("d", preset="article", source="x/y").name is None


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ({}, "say --from"),
        ({"model": "vit-ti/16", "source": "x/y"}, "exclude"),
        ({"source": "x/y", "options": {"num_layers": "1"}}, "exclude"),
        ({"model": "vit-ti/16", "preset": "best"}, "no preset 'best'"),
    ],
)
def test_what_contradicts_itself_or_is_missing_is_refused(said, error):
    with pytest.raises(ValueError, match=error):
        Plan("data", **said)


def test_the_task_is_what_is_said_or_the_datas_or_the_networks(pets_folder, tmp_path):
    pets = str(pets_folder(tmp_path / "pets", train=1, test=1))
    assert Plan(pets, model="mit-b0").task_for(None) == "segment"
    assert Plan(pets, model="mit-b0", task="classify").task_for(None) == "classify"
    assert Plan("scenes", model="segformer-b0").task_for(None) == "segment"
    loaded = checkpoint.load(checkpoint.bundled("classify"))
    assert Plan("scenes", source="bundled").task_for(loaded) == "classify"


def test_the_bundled_checkpoint_of_the_task_is_one_to_begin_from(labelled_folder, tmp_path):
    plan = Plan(str(labelled_folder(tmp_path / "data", 2)), source="bundled")
    loaded = plan.load()
    assert loaded.name == "shapes-vit"
    data = open_data(plan.data, plan.task_for(loaded), seed=plan.seed)
    assert plan.start(data, loaded).about == "shapes-vit, with a new head"
    assert Plan("scenes", source="bundled", task="segment").load().name == "shapes-segformer"
    with pytest.raises(ValueError, match="say --task"):
        Plan("scenes", source="bundled").load()


def test_the_command_line_names_folders_but_not_where_they_are(tmp_path):
    (tmp_path / "my data").mkdir()
    plan = Plan(
        str(tmp_path / "my data"),
        model="vit-ti/16",
        options={"num_layers": "3"},
        learning_rate=1e-3,
        seed=2,
    )
    assert plan.command("runs/x") == (
        "patchserve train --data 'my data' --model vit-ti/16 --option num_layers=3 "
        "--learning-rate 0.001 --seed 2 --out runs/x"
    )
    assert "--from google/vit" in Plan("scenes", source="google/vit").command("runs/x")
    assert "--seed" not in Plan("scenes", source="google/vit").command("runs/x")


def test_a_plan_is_the_same_read_back_and_from_any_folder(tmp_path, monkeypatch):
    for name in ("data", "model"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    plan = Plan("data", source="model").anchored()
    assert (plan.data, plan.source) == (str(tmp_path / "data"), str(tmp_path / "model"))
    assert Plan(**plan.document()) == plan
    assert plan.contradicts({"data": "data", "source": "model", "epochs": None}) is None
    assert plan.contradicts({"epochs": 3}) == "it began with epochs None, not 3"
    assert Plan("scenes", source="x/y").anchored() == Plan("scenes", source="x/y")
