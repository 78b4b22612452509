"""The handlers of the routes, by area; every handler is a function of a `RequestContext`."""
