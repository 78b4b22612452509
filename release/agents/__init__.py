"""The project's skill for agents: checked against the public specification, bundled for a Hub's bucket, and rehearsed."""
