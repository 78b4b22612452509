"""A release rehearsed from end to end: all that a family names, in small, on an embedded Hub; then the unchanged verbs."""
