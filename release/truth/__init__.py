"""What a release must prove: records that make sense, every figure computed again, and one manifest that binds all of it."""
