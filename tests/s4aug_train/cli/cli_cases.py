"""Arguments of small runs."""

QUICK = ["--preset", "quick", "--weights", "none", "--crop", "64", "--labeled", "4", "--val", "2"]
TINY = [*QUICK, "--set", "train.window=64", "--set", "train.stride=64", "--set", "train.log_every=1"]


def fit_arguments(data, out, *more):
    return ["fit", "--data", data, "--out", out, *TINY, *more]
