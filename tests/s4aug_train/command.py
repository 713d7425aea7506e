"""The command line as a user calls it, in this process."""

from click.testing import CliRunner

from s4aug_train.cli import main


def call(*arguments, code=0):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output + result.stderr
    assert "Traceback" not in result.output + result.stderr
    return result


def failure(*arguments, code=1):
    """The error line of a command that must fail."""
    result = call(*arguments, code=code)
    lines = [line for line in result.stderr.splitlines() if line.lower().startswith("error")]
    assert len(lines) == 1, result.stderr
    return lines[0]
