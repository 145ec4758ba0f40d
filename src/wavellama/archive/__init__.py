"""Archives: a job of very many files, which workers on any number of machines share."""
