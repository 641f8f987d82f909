"""HTTP as the routes see it: parameters, bodies, responses, errors, the OpenAPI document."""
