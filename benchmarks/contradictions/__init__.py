"""Where the paper agrees with itself and where not: one function a check, by what is checked."""
