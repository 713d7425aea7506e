"""Files of torch that are handed over hold plain tensors that are all there, or are refused."""

import warnings
import zipfile

import pytest
import torch

from s4aug_train.tensors import read_tensors

LARGE = torch.zeros(1).expand(1 << 40)


@pytest.mark.parametrize("legacy", [False, True])
def test_what_was_saved_is_read_without_a_warning(tmp_path, legacy):
    content = {"a": torch.arange(6.0).reshape(2, 3).T, "b": [torch.tensor(1)], "c": (None, "x", 2)}
    torch.save(content, tmp_path / "a.pt", _use_new_zipfile_serialization=not legacy)
    read = read_tensors(tmp_path / "a.pt")
    assert torch.equal(read["a"], content["a"])
    assert (read["b"], read["c"]) == (content["b"], content["c"])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"a": {"b": [LARGE]}}, "not all there"),
        ((torch.zeros(4, device="meta"),), "meta"),
        ([torch.zeros(2, 2).to_sparse()], "sparse"),
        ({LARGE[0]: 1, "x": {1: LARGE}}, "not all there"),
    ],
)
def test_a_tensor_that_is_not_what_it_claims_is_refused(tmp_path, content, reason):
    torch.save(content, tmp_path / "a.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match=reason):
            read_tensors(tmp_path / "a.pt")


def test_a_compressed_archive_is_refused_before_it_fills_the_memory(tmp_path):
    torch.save({"a": torch.zeros(1000)}, tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "a.pt") as plain, zipfile.ZipFile(tmp_path / "b.pt", "w") as packed:
        for name in plain.namelist():
            packed.writestr(name, plain.read(name), zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match="compressed"):
        read_tensors(tmp_path / "b.pt")
