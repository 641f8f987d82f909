"""The files of the API documentation in a browser, besides those of Swagger UI."""
