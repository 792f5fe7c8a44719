from pathlib import Path

from common.data.specs import SPECS
from common.data.table import page, state

PAGE = Path(__file__).resolve().parents[3] / "docs" / "datasets.md"


def test_the_page_in_docs_is_the_one_the_table_makes():
    assert PAGE.read_text() == page(), "run python -m common.data table"


def test_the_page_names_every_set_url_and_checksum():
    text = page()
    for spec in SPECS.values():
        assert f"| `{spec.name}` | {spec.title} |" in text
        assert all(f"<{url}>" in text for url in spec.urls) and all(
            f"MD5 `{md5}`" in text for md5 in spec.md5s.values()
        )
    assert "iSUN.tar.gz>, no published checksum" in text


def test_state_tells_found_incomplete_and_missing(noise, small, tmp_path):
    small("isun", test=2)
    assert state(SPECS["isun"], tmp_path) == "missing"
    noise("isun/1.jpeg")
    assert state(SPECS["isun"], tmp_path) == "incomplete: 1 of 2"
    noise("isun/2.jpeg")
    assert state(SPECS["isun"], tmp_path) == "found, 2 images"


def test_state_of_pickled_sets_goes_by_their_files(tmp_path):
    (tmp_path / "cifar-10-batches-py").mkdir()
    (tmp_path / "cifar-10-batches-py" / "test_batch").touch()
    assert state(SPECS["cifar10"], tmp_path) == "incomplete: 1 of 7 files"
    (tmp_path / "cifar100-test").mkdir()
    assert state(SPECS["cifar100"], tmp_path) == "test set only"


def test_an_imagenet_subset_is_looked_for_in_the_whole(tmp_path):
    (tmp_path / "imagenet1k").mkdir()
    assert state(SPECS["imagenet100"], tmp_path) == "in imagenet1k, not counted"
