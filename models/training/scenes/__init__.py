"""Generated scenes: shapes, layout, textures, and files and plots of them."""
