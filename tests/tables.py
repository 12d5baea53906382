"""Truth tables written to a file."""


def written(folder, text, name="truth.csv"):
    path = folder / name
    path.write_text(text)
    return path
