"""The picture of the README: an example with planted effects, as the engine estimates and draws it today."""

from docs.proof import EXAMPLE, PICTURE, picture


def test_the_picture_of_the_readme_is_what_is_drawn_today() -> None:
    """And it says of each journey what was planted, so that nobody takes it for a result of ours."""
    drawn = picture()

    assert PICTURE.read_text(encoding="utf-8") == drawn, "run `make docs`"
    assert drawn.count("truth ") == len(EXAMPLE) + 1
    assert "An example with planted effects" in drawn
