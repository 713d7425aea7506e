"""`python -m s4aug_train`, the same as `s4aug-train`."""

from .cli import main

if __name__ == "__main__":
    main(prog_name="s4aug-train")
