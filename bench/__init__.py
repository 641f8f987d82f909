"""The measurements behind the project's figures; each module that names RESULTS keeps its own."""
