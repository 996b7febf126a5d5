"""The networks of the paper's tables, one file each; `gidrn.zoo` lists them by name."""
