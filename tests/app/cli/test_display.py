"""The summary, and what is printed where."""

from app.cli.display import Display


def test_the_summary_counts_images_and_failures(capsys):
    with Display(2000) as display:
        display.ready()
        for _ in range(1999):
            display.advance()
        display.advance("a.png: it is broken")
        display.print("b.png  disc")
    assert capsys.readouterr() == ("b.png  disc\n", "a.png: it is broken\n")
    summary = display.summary()
    assert summary.startswith("2,000 images in ")
    assert " images/s), start-up " in summary
    assert summary.endswith(" s, 1 failed")


def test_one_image_has_no_summary():
    with Display(1) as display:
        display.ready()
        display.advance()
    assert display.summary() == ""
