"""Methods of token reduction, one file each."""
