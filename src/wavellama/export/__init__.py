"""Models in the forms of other programs; imported by the command ``asset convert`` alone."""
