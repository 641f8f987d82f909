"""Other servers as programs: FOLDER PORT RUNTIME. Where possible they run our network."""
