"""From a name to a model: cards, training runs, and the files that hold weights."""
