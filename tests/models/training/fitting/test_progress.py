import io

from rich.console import Console

from models.training.fitting.history import Row
from models.training.fitting.progress import Display, Step, Watcher

ROW = Row(2, 0.5, 1e-3, 0.875, 0.75, 120.0)
STEP = Step(2, 10, 3, 9, 0.5, 1e-3, 120.0)


def report(watcher: Watcher) -> None:
    with watcher:
        watcher.say("it starts [here]")
        watcher.left_out(tuple(f"file {n} is broken" for n in range(7)))
        watcher.checking(3, 7)
        watcher.stepped(STEP)
        watcher.stepped(STEP._replace(done=4))
        watcher.measuring(5, 5)
        watcher.measured(ROW, 10, "segment")
        watcher.measured(ROW, 10, "classify")


def shown(*, terminal: bool) -> str:
    console = Console(file=io.StringIO(), force_terminal=terminal, width=120)
    report(Display(console))
    return console.file.getvalue()


def test_without_a_terminal_there_is_a_line_per_epoch_and_no_bar():
    assert shown(terminal=False).splitlines() == [
        "it starts [here]",
        *(f"left out: file {n} is broken" for n in range(5)),
        "left out: 2 more",
        "epoch 2 of 10: loss 0.5000, held-out mean IoU 0.7500, pixel accuracy 0.8750, 120 images/s",
        "epoch 2 of 10: loss 0.5000, held-out accuracy 0.8750, 120 images/s",
    ]


def test_on_a_terminal_a_bar_shows_loss_rate_and_speed():
    text = shown(terminal=True)
    assert "loss 0.500" in text
    assert "rate 1.0e-03" in text
    assert "120 img/s" in text
    assert "epoch 2 of 10" in text


def test_the_base_class_prints_nothing(capsys):
    report(Watcher())
    assert capsys.readouterr() == ("", "")
