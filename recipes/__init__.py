"""Recipes that ship with wavellama, as YAML files to run or to copy."""
