from urllib.error import URLError

import pytest
import torch
from torchvision.models import _api, resnet18, resnet34

from s4aug_train.errors import WeightsError
from s4aug_train.model import UNet, load_encoder_weights, read_encoder_weights
from s4aug_train.model.weights import fit_bands


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory):
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(resnet18(weights=None).state_dict(), path)
    return path


def test_none_reads_nothing():
    assert read_encoder_weights("resnet18", "none") is None


def test_a_file_of_torchvisions_state_dict_is_loaded(weights_file):
    network = UNet(4, encoder="resnet18")
    load_encoder_weights(network.encoder, read_encoder_weights("resnet18", str(weights_file)))
    expected = torch.load(weights_file, weights_only=True)
    for name, value in network.encoder.state_dict().items():
        assert torch.equal(value, expected[name]), name


def test_imagenet_goes_through_torchvisions_own_loader(weights_file, monkeypatch):
    asked = []

    def download(url, *args, **kwargs):
        asked.append(url)
        return torch.load(weights_file, weights_only=True)

    monkeypatch.setattr(_api, "load_state_dict_from_url", download)
    state = read_encoder_weights("resnet18", "imagenet")
    assert asked == ["https://download.pytorch.org/models/resnet18-f37072fd.pth"]
    load_encoder_weights(UNet(4, encoder="resnet18").encoder, state)


def test_without_internet_the_error_names_both_other_ways(monkeypatch):
    def offline(*args, **kwargs):
        raise URLError("no route")

    monkeypatch.setattr(_api, "load_state_dict_from_url", offline)
    with pytest.raises(WeightsError, match=r"--weights none.*--weights PATH"):
        read_encoder_weights("resnet50", "imagenet")


@pytest.mark.parametrize("content", [b"", b"no weights", b"PK\x03\x04 cut short"])
def test_a_damaged_file_that_torch_keeps_is_told_by_its_name(tmp_path, monkeypatch, content):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    kept = tmp_path / "hub" / "checkpoints" / "resnet18-f37072fd.pth"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(content)
    with pytest.raises(WeightsError, match=f"in {kept} .*; remove that file, train from scratch") as error:
        read_encoder_weights("resnet18", "imagenet")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("first", [torch.zeros(3), torch.zeros(64, 0, 7, 7), torch.zeros(())])
def test_a_first_convolution_of_another_shape_is_refused(first):
    state = {**resnet18(weights=None).state_dict(), "conv1.weight": first}
    with pytest.raises(WeightsError, match="do not fit"):
        load_encoder_weights(UNet(4, encoder="resnet18").encoder, state)


def test_names_that_are_no_text_are_no_state_dict(tmp_path):
    torch.save({0: torch.zeros(2)}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="is not a state dict"):
        read_encoder_weights("resnet18", str(tmp_path / "w.pth"))


def test_weights_of_another_encoder_are_refused(tmp_path):
    path = tmp_path / "resnet34.pth"
    torch.save(resnet34(weights=None).state_dict(), path)
    with pytest.raises(WeightsError, match="do not fit"):
        load_encoder_weights(UNet(4, encoder="resnet18").encoder, read_encoder_weights("resnet18", str(path)))


@pytest.mark.parametrize("content", [b"", b"not weights", None])
def test_a_file_that_is_no_state_dict_is_told_in_one_line(tmp_path, content):
    path = tmp_path / "weights.pth"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(WeightsError) as error:
        read_encoder_weights("resnet18", str(path))
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)


def test_a_pickle_that_runs_code_is_refused(tmp_path):
    import os
    import pickle

    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "exploded"),)

    path = tmp_path / "bomb.pth"
    path.write_bytes(pickle.dumps({"conv1.weight": Bomb()}))
    with pytest.raises(WeightsError):
        read_encoder_weights("resnet18", str(path))
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("bands", [1, 2, 4, 13])
def test_more_bands_keep_the_response_to_a_constant_image(bands):
    weight = torch.randn(64, 3, 7, 7, dtype=torch.float64)
    grey = weight.sum(1)
    fitted = fit_bands(weight, bands)
    assert fitted.shape == (64, bands, 7, 7)
    if bands % 3 == 0:
        torch.testing.assert_close(fitted.sum(1), grey)
    # Each band holds one of the old ones, scaled by old / new count.
    for band in range(bands):
        torch.testing.assert_close(fitted[:, band] * bands / 3, weight[:, band % 3])
