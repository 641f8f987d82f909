"""The files of the page: HTML, style sheet, script, and sample images."""
