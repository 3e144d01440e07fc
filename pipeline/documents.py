"""Reading TOML and YAML that people write: every complaint names the file and the line.

Used for personas, scenarios and settings. `read(path, Model)` returns the validated, frozen pydantic model or raises
`DocumentError`, whose text reads `clinic.toml:7: unknown key "greting" (did you mean "greeting"?)`.
"""
