"""The other servers, each a program: FOLDER PORT RUNTIME. They serve our code where they can."""
