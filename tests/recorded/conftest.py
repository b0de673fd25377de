"""The scripts that record need what the tests do without."""

collect_ignore = ["make_torch_applications.py", "make_torch_values.py"]
